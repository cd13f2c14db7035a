"""Faces written in the formats that others label in, by the formats' own words and not with our code: for tests.

Every function writes `faces` to a file in `folder`, whose pictures the faces' names start from.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facetrain.configs.fpenet.schema import SourceConfig
from facetrain.datasets.sample import FaceSample
from facetrain.tests.datasets.records import example, write_records


def size_of(face: FaceSample) -> tuple[int, int]:
    from PIL import Image

    with Image.open(face.image) as image:
        return image.size


def wflw(folder: Path, faces: Sequence[FaceSample]) -> SourceConfig:
    """A box around the points, attributes of 0, 98 points: the first one again where a face has fewer."""
    lines = []
    for face in faces:
        points = np.concatenate([face.points, np.repeat(face.points[:1], 98 - len(face.points), axis=0)])
        box = [*np.floor(points.min(axis=0)), *np.ceil(points.max(axis=0))]
        words = [repr(float(value)) for value in points.ravel()] + [f"{int(value)}" for value in box] + ["0"] * 6
        lines.append(" ".join([*words, face.name]))
    (folder / "list.txt").write_text("\n".join(lines) + "\n")
    return SourceConfig(format="wflw", path="list.txt")


def cofw(folder: Path, faces: Sequence[FaceSample]) -> SourceConfig:
    """The first 29 points; pictures as they are. MATLAB writes its axes the other way round, and counts from 1."""
    import h5py

    from facetrain.datasets.image import read_image

    with h5py.File(folder / "COFW_train_color.mat", "w") as file:
        references = []
        for n, face in enumerate(faces):
            picture = file.create_dataset(f"#refs#/{n}", data=read_image(face.image, grey=False).transpose(2, 1, 0))
            references.append(picture.ref)
        file.create_dataset("IsTr", data=np.array([references], h5py.ref_dtype), dtype=h5py.ref_dtype)
        rows = [[*(face.points[:29] + 1).T.ravel(), *(face.states[:29] == 1)] for face in faces]
        file.create_dataset("phisTr", data=np.array(rows, np.float64).T)
        boxes = [[*(face.points.min(axis=0) + 1), *np.ptp(face.points, axis=0)] for face in faces]
        file.create_dataset("bboxesTr", data=np.array(boxes, np.float64).T)
    return SourceConfig(format="cofw", path="COFW_train_color.mat")


def coco(folder: Path, faces: Sequence[FaceSample]) -> SourceConfig:
    images, annotations = [], []
    for n, face in enumerate(faces):
        width, height = size_of(face)
        images.append({"id": n, "file_name": face.name, "width": width, "height": height})
        rows = [
            [float(x), float(y), int(state)] if state else [0, 0, 0]
            for (x, y), state in zip(face.points, face.states, strict=True)
        ]
        entry: dict[str, Any] = {"id": n, "image_id": n, "category_id": 1, "iscrowd": 0}
        entry |= {"keypoints": [v for row in rows for v in row], "num_keypoints": len(rows)}
        annotations.append(entry)
    category = {"id": 1, "name": "face", "keypoints": [f"p{n}" for n in range(len(faces[0].points))], "skeleton": []}
    value = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "labels.json").write_text(json.dumps(value, indent=1))
    return SourceConfig(format="coco_keypoints", path="labels.json")


def label_studio(folder: Path, faces: Sequence[FaceSample], *, minimal: bool = False) -> SourceConfig:
    """Points labelled 1 to K; the picture's left edge is at 0 percent, so that pixel x is at (x + 0.5) / width."""
    tasks: list[dict[str, Any]] = []
    for n, face in enumerate(faces):
        width, height = size_of(face)
        shown = {"original_width": width, "original_height": height}
        values = []
        for number, (point, state) in enumerate(zip(face.points, face.states, strict=True), start=1):
            if state:
                x, y = (float(point[0]) + 0.5) / width * 100, (float(point[1]) + 0.5) / height * 100
                values.append({"x": x, "y": y, "width": 0.3, "keypointlabels": [str(number)]})
        if minimal:
            tasks.append({"image": face.name, "id": n, "kp": [{**value, **shown} for value in values]})
            continue
        result = [
            {"id": f"r{i}", "type": "keypointlabels", "from_name": "kp", "to_name": "image", "image_rotation": 0}
            | shown | {"value": value}
            for i, value in enumerate(values)
        ]  # fmt: skip
        address = f"/data/local-files/?d=root/{face.name}"
        annotations = [{"id": 7, "was_cancelled": False, "ground_truth": False, "result": result}]
        tasks.append({"id": n, "data": {"image": address}, "annotations": annotations, "predictions": []})
    (folder / "export.json").write_text(json.dumps(tasks))
    return SourceConfig(format="label_studio", path="export.json")


def label_studio_min(folder: Path, faces: Sequence[FaceSample]) -> SourceConfig:
    return label_studio(folder, faces, minimal=True)


def table(folder: Path, faces: Sequence[FaceSample]) -> SourceConfig:
    count = len(faces[0].points)
    with (folder / "faces.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *(f"{axis}{n}" for n in range(1, count + 1) for axis in "xyv")])
        for face in faces:
            rows = zip(face.points.tolist(), face.states.tolist(), strict=True)
            writer.writerow(
                [face.name, *(v for (x, y), state in rows for v in ((x, y, state) if state else ("", "", 0)))]
            )
    return SourceConfig(format="csv", path="faces.csv")


def tfrecords(folder: Path, faces: Sequence[FaceSample]) -> SourceConfig:
    """As TAO's sheet has it, but with the fractions of pixels that TAO drops."""
    records = []
    for face in faces:
        width, height = size_of(face)
        known = face.points[face.states > 0]
        (x0, y0), (x1, y1) = np.floor(known.min(axis=0)), np.ceil(known.max(axis=0))
        features: dict[str, list[Any]] = {
            "train/image_frame_name": [face.name.encode()],
            "train/image_frame_width": [width],
            "train/image_frame_height": [height],
            "train/landmarks": [float(value) for value in np.nan_to_num(face.points).ravel()],
            "train/landmarks_occ": [int(state == 1) for state in face.states],
        }
        box = dict(zip("xywh", (x0, y0, x1 - x0, y1 - y0), strict=True))
        records.append(example(features | {f"train/facebbx_{key}": [int(value)] for key, value in box.items()}))
    write_records(folder / "data.tfrecords", *records)
    return SourceConfig(format="fpenet_tfrecords", path="data.tfrecords")


WRITERS: dict[str, Callable[[Path, Sequence[FaceSample]], SourceConfig]] = {
    "wflw": wflw,
    "cofw": cofw,
    "coco_keypoints": coco,
    "label_studio": label_studio,
    "label_studio_min": label_studio_min,
    "csv": table,
    "fpenet_tfrecords": tfrecords,
}
