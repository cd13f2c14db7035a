"""The readers of keypoints, with right files of each format, for fuzzing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facetrain.configs.fpenet.schema import SourceConfig
from facetrain.datasets.formats.coco_keypoints import read_coco_keypoints
from facetrain.datasets.formats.face_csv import read_face_csv
from facetrain.datasets.formats.fpenet_json import read_fpenet_json
from facetrain.datasets.formats.fpenet_tfrecords import read_fpenet_tfrecords
from facetrain.datasets.formats.label_studio_faces import read_label_studio
from facetrain.datasets.formats.pts import read_pts_folder
from facetrain.datasets.formats.tfrecord import read_records
from facetrain.datasets.formats.wflw import read_wflw
from facetrain.datasets.sample import FaceSample
from facetrain.tests.datasets.fuzzing import Result, Target, packed
from facetrain.tests.datasets.records import example

WIDTH, HEIGHT = 100, 80
XY = [[20, 20], [60.5, 20], [40, 60], [35, 40]]


def prepare(folder: Path) -> Path:
    """The pictures that the right files name, and one that is none."""
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    for name in ("a.png", "sub/b.png"):
        Image.new("L", (WIDTH, HEIGHT)).save(folder / name)
    (folder / "c.png").write_bytes(b"no picture")
    return folder


def check_face(face: FaceSample) -> None:
    """Points are known to be numbers near the picture, or are missing and NaN."""
    assert face.points.shape == (len(face.states), 2) and face.points.dtype == np.float32
    assert set(face.states.tolist()) <= {0, 1, 2}
    known = face.points[face.states > 0]
    assert np.isnan(face.points[face.states == 0]).all()
    assert np.isfinite(known).all()
    # A face of which 60 % is in the picture is less than twice as large as it, and a point at most a face outside.
    assert (np.abs(known) < 4 * max(WIDTH, HEIGHT)).all()
    if face.box is not None:
        assert np.isfinite(face.box).all()
        assert (face.box[2:] > face.box[:2]).all()
    assert isinstance(face.image, Path) and face.image.is_file()
    face.name.encode()


def _list_length(data: bytes) -> int:
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return 0
    return len(value) if isinstance(value, list) else 0


def _annotations(data: bytes) -> int:
    try:
        value = json.loads(data.decode("utf-8-sig"))
        return len(value["annotations"])
    except (ValueError, RecursionError, TypeError, KeyError):
        return 0


def _lines(data: bytes) -> int:
    return sum(1 for line in data.decode("utf-8-sig").split("\n") if line.strip())


def _rows(data: bytes) -> int:
    """Of a table without quotes, in which a cell could go over several lines."""
    text = data.decode("utf-8-sig")
    cells = [re.split(r"[,;\t|]", line) for line in re.split(r"\r\n|\r|\n", text)]
    return sum(1 for line in cells if any(cell.strip() for cell in line)) - 1 if '"' not in text else 0


def _records(data: bytes) -> int:
    count, position = 0, 0
    while position < len(data):
        count, position = count + 1, position + 16 + int.from_bytes(data[position : position + 8], "little")
    return count


def _pts() -> list[bytes]:
    rows = "".join(f"{x} {y}\n" for x, y in XY)
    return [f"version: 1\nn_points: 4\n{{\n{rows}}}\n".encode(), rows.encode()]


def _fpenet_json() -> list[bytes]:
    points = {f"P{n}{axis}": value for n, xy in enumerate(XY, start=1) for axis, value in zip("xy", xy, strict=True)}
    face = {"class": "FiducialPoints", "tool-version": "1.0", "P2occluded": True} | points
    sides = {f"face_tight_bbox{side}": value for side, value in zip(("x", "y"), (15.0, "15"), strict=True)}
    sides |= {"face_tight_bboxwidth": 50, "face_tight_bboxheight": 50}
    box = {"class": "FaceBbox", "tool-version": "1.0", "Occlusion": 2} | sides
    entry = {"filename": "a.png", "class": "image", "annotations": [box, face]}
    return [json.dumps([entry, entry], indent=1).encode(), json.dumps([entry]).encode()]


def _wflw() -> list[bytes]:
    points = " ".join(f"{20 + 50 * np.cos(n) ** 2:.3f}" for n in range(196))
    return [f"{points} 15 15 80 80 0 0 1 0 0 0 sub/b.png\n{points} a.png\n".encode()]


def _coco() -> list[bytes]:
    keypoints = [value for n, xy in enumerate(XY) for value in (*xy, 2 - n % 2)]
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [15, 15, 50, 50], "keypoints": keypoints}
    value = {
        "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "annotations": [annotation, annotation | {"iscrowd": 0}],
        "categories": [{"id": 1, "name": "face", "keypoints": ["a", "b", "c", "d"]}],
    }
    return [json.dumps(value).encode(), json.dumps(value, indent=1).encode()]


def _label_studio() -> list[bytes]:
    shown = {"original_width": WIDTH, "original_height": HEIGHT}
    values = [{"x": x, "y": y, "width": 1, "keypointlabels": [str(n)]} for n, (x, y) in enumerate(XY, start=1)]
    box = {"x": 10.0, "y": 10, "width": 60, "height": 60, "rotation": 5, "rectanglelabels": ["Face"]}
    kind = {"type": "keypointlabels", "parentID": "b", "image_rotation": 0} | shown
    result: list[dict[str, Any]] = [kind | {"id": f"p{n}", "value": value} for n, value in enumerate(values)]
    result.append({"id": "b", "type": "rectanglelabels", **shown, "value": box})
    result.append({"type": "relation", "from_id": "p0", "to_id": "b", "direction": "right"})
    task = {"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-a.png"}, "annotations": [{"result": result}]}
    minimal = {"image": "https://host/sub/b.png", "kp": [value | shown for value in values], "box": [box | shown]}
    return [json.dumps([task, task]).encode(), json.dumps([minimal], indent=1).encode()]


def _csv() -> list[bytes]:
    header = "image,subject," + ",".join(f"x{n},y{n},v{n}" for n in range(1, 5)) + ",x_min,y_min,x_max,y_max"
    row = "a.png,ann," + ",".join(f"{x},{y},2" for x, y in XY) + ",15,15,70,70"
    return [f"{header}\n{row}\n{row}\n".encode(), f"{header}\r\n{row}\r\n".replace(",", ";").encode()]


def _record() -> bytes:
    features = {
        "train/image_frame_name": [b"sub/b.png"],
        "train/image_frame_width": [WIDTH],
        "train/image_frame_height": [HEIGHT],
        **{f"train/facebbx_{key}": [value] for key, value in zip("xywh", (20, 20, 41, 41), strict=True)},
        "train/landmarks": [float(value) for xy in XY for value in xy],
        "train/landmarks_occ": [0, 1, 0, 0],
    }
    return example(features)


def _target(
    form: str,
    file: str,
    seeds: list[bytes],
    read: Callable[..., Result],
    entries: Callable[[bytes], int],
    kind: str = "text",
    count: tuple[int, ...] = (),
) -> Target:
    """`count`: of points, for readers that are told."""
    source = SourceConfig(format=form, path="." if form == "pts" else file)
    return Target(file, tuple(seeds), lambda folder: read(source, folder, *count), check_face, entries, kind)


TARGETS = {
    "pts": _target("pts", "a.pts", _pts(), read_pts_folder, lambda data: 1),
    "fpenet_json": _target("fpenet_json", "l.json", _fpenet_json(), read_fpenet_json, _list_length, "json", (4,)),
    "wflw": _target("wflw", "list.txt", _wflw(), read_wflw, _lines),
    "coco_keypoints": _target("coco_keypoints", "c.json", _coco(), read_coco_keypoints, _annotations, "json"),
    "label_studio": _target("label_studio", "e.json", _label_studio(), read_label_studio, _list_length, "json", (4,)),
    "csv": _target("csv", "faces.csv", _csv(), read_face_csv, _rows),
    "fpenet_tfrecords": _target(
        "fpenet_tfrecords", "d.tfrecords", [packed([_record()] * 2)], read_fpenet_tfrecords, _records, "records"
    ),
    "tfrecord": Target(  # the framing alone
        "x.records",
        (packed([example({"a": [1, -1], "b": [1.5], "c": [b"x"]}), b"", _record()]),),
        lambda folder: (list(read_records(folder / "x.records")), []),
        lambda _: None,
        _records,
        "records",
    ),
}
