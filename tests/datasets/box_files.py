"""Pictures with boxes, written in the formats that others label in, by the formats' own words and not with our code.

Every function writes `pictures` to files in `folder`; the pictures themselves are below `images`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from xml.sax.saxutils import escape

from facetrain.configs.facenet.schema import SourceConfig
from facetrain.datasets.formats.labelled import LabelledPicture
from facetrain.tests.datasets.records import example, write_records

OPEN_IMAGES = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
)

Pictures = Sequence[LabelledPicture]


def stem(picture: LabelledPicture) -> str:
    return PurePosixPath(picture.name).with_suffix("").as_posix()


def label_file(folder: Path, picture: LabelledPicture, suffix: str) -> Path:
    path = folder / "labels" / (stem(picture) + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def kitti(folder: Path, pictures: Pictures, images: Path) -> SourceConfig:
    for picture in pictures:
        lines = ["{} 0.00 0 0.00 {} {} {} {} 0 0 0 0 0 0 0\n".format(box.name, *box.box) for box in picture.boxes]
        label_file(folder, picture, ".txt").write_text("".join(lines))
    return SourceConfig(format="kitti", path="labels", images=str(images))


def voc(folder: Path, pictures: Pictures, images: Path) -> SourceConfig:
    """Pixels count from 1, and a box ends with its last one."""
    for picture in pictures:
        objects = []
        for box in picture.boxes:
            x1, y1, x2, y2 = box.box
            sides = f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
            marks = f"<difficult>{int(box.marked)}</difficult>"
            objects.append(f"<object><name>{escape(box.name)}</name>{marks}<bndbox>{sides}</bndbox></object>\n")
        size = "<size><width>{}</width><height>{}</height><depth>3</depth></size>\n".format(*picture.size)
        text = f"<annotation>\n<filename>x.jpg</filename>{size}{''.join(objects)}</annotation>\n"
        label_file(folder, picture, ".xml").write_text(text)
    return SourceConfig(format="voc", path="labels", images=str(images))


def coco(folder: Path, pictures: Pictures, images: Path) -> SourceConfig:
    shown = [
        {"id": n, "file_name": picture.name, "width": picture.size[0], "height": picture.size[1]}
        for n, picture in enumerate(pictures)
    ]
    annotations = [
        {"id": 1, "image_id": n, "category_id": 1, "iscrowd": int(box.marked),
         "bbox": [box.box[0], box.box[1], box.box[2] - box.box[0], box.box[3] - box.box[1]]}
        for n, picture in enumerate(pictures) for box in picture.boxes
    ]  # fmt: skip
    value = {"images": shown, "annotations": annotations, "categories": [{"id": 1, "name": "face"}]}
    (folder / "labels.json").write_text(json.dumps(value, indent=1))
    return SourceConfig(format="coco", path="labels.json", images=str(images))


def wider(folder: Path, pictures: Pictures, images: Path) -> SourceConfig:
    lines = []
    for picture in pictures:
        lines += [picture.name, str(len(picture.boxes))]
        for box in picture.boxes:
            x1, y1, x2, y2 = box.box
            lines.append(f"{x1} {y1} {x2 - x1} {y2 - y1} 0 0 0 {int(box.marked)} 0 0 ")
    (folder / "wider.txt").write_text("\n".join(lines) + "\n")
    return SourceConfig(format="wider", path="wider.txt", images=str(images))


def yolo(folder: Path, pictures: Pictures, images: Path) -> SourceConfig:
    for picture in pictures:
        width, height = picture.size
        lines = []
        for box in picture.boxes:
            x1, y1, x2, y2 = box.box
            shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            lines.append("0 " + " ".join(f"{share:.8f}" for share in shares) + "\n")
        label_file(folder, picture, ".txt").write_text("".join(lines))
    (folder / "data.yaml").write_text("nc: 1\nnames: [face]\n")
    return SourceConfig(format="yolo", path="labels", images=str(images))


def open_images(folder: Path, pictures: Pictures, images: Path) -> SourceConfig:
    lines = [OPEN_IMAGES]
    for picture in pictures:
        width, height = picture.size
        for box in picture.boxes:
            x1, y1, x2, y2 = box.box
            sides = f"{x1 / width:.8f},{x2 / width:.8f},{y1 / height:.8f},{y2 / height:.8f}"
            lines.append(f"{stem(picture)},xclick,/m/0dzct,1,{sides},0,0,{int(box.marked)},0,0")
    (folder / "boxes.csv").write_text("\n".join(lines) + "\n")
    (folder / "class-descriptions-boxable.csv").write_text("/m/0dzct,face\n/m/04hgtk,Human head\n")
    return SourceConfig(format="open_images", path="boxes.csv", images=str(images))


def fddb(folder: Path, pictures: Pictures, images: Path) -> SourceConfig:
    """Ellipses that lie or stand, so that their axes are the box's."""
    lines = []
    for picture in pictures:
        lines += [stem(picture), str(len(picture.boxes))]
        for box in picture.boxes:
            x1, y1, x2, y2 = box.box
            axes = ((x2 - x1) / 2, (y2 - y1) / 2)
            angle = 0.0 if axes[0] >= axes[1] else 1.5707963267948966
            lines.append(f"{max(axes)} {min(axes)} {angle} {(x1 + x2) / 2 - 0.5} {(y1 + y2) / 2 - 0.5}  1")
    (folder / "FDDB-fold-01-ellipseList.txt").write_text("\n".join(lines) + "\n")
    return SourceConfig(format="fddb", path="FDDB-fold-01-ellipseList.txt", images=str(images))


def label_studio(folder: Path, pictures: Pictures, images: Path) -> SourceConfig:
    tasks: list[dict[str, Any]] = []
    for n, picture in enumerate(pictures):
        width, height = picture.size
        result = []
        for i, box in enumerate(picture.boxes):
            x1, y1, x2, y2 = box.box
            value = {"x": x1 / width * 100, "y": y1 / height * 100, "width": (x2 - x1) / width * 100,
                     "height": (y2 - y1) / height * 100, "rotation": 0, "rectanglelabels": [box.name]}  # fmt: skip
            result.append({"id": f"r{i}", "type": "rectanglelabels", "from_name": "label", "to_name": "image",
                           "original_width": width, "original_height": height, "image_rotation": 0,
                           "value": value})  # fmt: skip
        annotations = [{"id": n, "was_cancelled": False, "ground_truth": False, "result": result}]
        address = f"/data/local-files/?d=root/{picture.name}"
        tasks.append({"id": n, "data": {"image": address}, "annotations": annotations})
    (folder / "export.json").write_text(json.dumps(tasks, indent=1))
    return SourceConfig(format="label_studio", path="export.json", images=str(images))


def detectnet_tfrecords(folder: Path, pictures: Pictures, images: Path) -> SourceConfig:
    records = []
    for picture in pictures:
        count = len(picture.boxes)
        features: dict[str, list[Any]] = {
            "frame/id": [stem(picture).encode()],
            "frame/width": [picture.size[0]],
            "frame/height": [picture.size[1]],
            "target/object_class": [box.name.encode() for box in picture.boxes],
            "target/truncation": [0.0] * count,
            "target/occlusion": [0] * count,
        }
        for i, side in enumerate(("x1", "y1", "x2", "y2")):
            features[f"target/coordinates_{side}"] = [float(box.box[i]) for box in picture.boxes]
        records.append(example(features))
    (folder / "tfrecords").mkdir(exist_ok=True)
    write_records(folder / "tfrecords" / "a-fold-000-of-002-shard-00000-of-00001", *records[::2])
    write_records(folder / "tfrecords" / "a-fold-001-of-002-shard-00000-of-00001", *records[1::2])
    return SourceConfig(format="detectnet_tfrecords", path="tfrecords", images=str(images))


WRITERS: dict[str, Callable[[Path, Pictures, Path], SourceConfig]] = {
    "kitti": kitti,
    "voc": voc,
    "coco": coco,
    "wider": wider,
    "yolo": yolo,
    "open_images": open_images,
    "fddb": fddb,
    "label_studio": label_studio,
    "detectnet_tfrecords": detectnet_tfrecords,
}
