"""The readers of boxes, with right files of each format, for fuzzing."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from facetrain.configs.facenet.schema import DataConfig, SourceConfig
from facetrain.datasets.detection_sources import READERS, ClassMapping
from facetrain.datasets.formats.labelled import LabelledBox, LabelledPicture
from facetrain.datasets.sample import Rejection
from facetrain.tests.datasets.box_files import WRITERS
from facetrain.tests.datasets.fuzzing import Target

WIDTH, HEIGHT = 100, 80
RECORDS = "tfrecords/a-fold-000-of-002-shard-00000-of-00001"
BOXES = LabelledBox("face", (10.0, 20.0, 40.5, 60.0)), LabelledBox("face", (-5.0, 1.0, 9.0, 12.25), marked=True)

Pictures = list[LabelledPicture]
Account = Callable[[bytes, Pictures, list[Rejection]], None]  # asserts that nothing of the file is lost in silence


def prepare(folder: Path) -> Path:
    """The pictures that the right files name, and what else the formats have."""
    images = folder / "images"
    (images / "sub").mkdir(parents=True, exist_ok=True)
    for name in ("a.png", "sub/b.png"):
        Image.new("L", (WIDTH, HEIGHT)).save(images / name)
    for form, write in WRITERS.items():
        (folder / form).mkdir(exist_ok=True)
        write(folder / form, _pictures(images), images)
    return folder


def _pictures(images: Path) -> Pictures:
    shown = (("a.png", BOXES), ("sub/b.png", BOXES[:1]))
    return [LabelledPicture(images / name, name, (WIDTH, HEIGHT), boxes) for name, boxes in shown]


def check_picture(picture: LabelledPicture) -> None:
    """Boxes have an area, are at least partly in the picture, and can be learnt from with 32 bits."""
    assert isinstance(picture.image, Path) and picture.image.is_file() and picture.size == (WIDTH, HEIGHT)
    for box in picture.boxes:
        x1, y1, x2, y2 = box.box
        assert all(math.isfinite(value) and abs(value) <= 1e7 for value in (*box.box, *box.attributes.values()))
        assert x1 < x2 and y1 < y2 and x1 < WIDTH and y1 < HEIGHT and x2 > 0 and y2 > 0
        assert isinstance(box.name, str) and box.name.strip()
        box.name.encode()
    sample = ClassMapping(DataConfig(class_mapping={"face": "face"})).sample(picture, SourceConfig())
    for values in (sample.boxes, sample.ignore, *sample.attributes.values()):
        assert not np.isinf(values).any()


def _read(form: str, file: str, account: Account, folder: Path) -> tuple[Pictures, list[Rejection]]:
    source = SourceConfig(format=form, path=f"{form}/{PATHS[form]}", images="images")
    pictures, rejections = READERS[form](source, folder)
    about = [rejection for rejection in rejections if rejection.file == str(folder / file)]
    account((folder / file).read_bytes(), pictures, about)
    return pictures, rejections


def _of_a(pictures: Pictures) -> Pictures:
    return [picture for picture in pictures if picture.name == "a.png"]


def _per_line(data: bytes, pictures: Pictures, about: list[Rejection]) -> None:
    """KITTI, YOLO: of a kept picture each line is a box or is named; a lost picture is named."""
    if kept := _of_a(pictures):
        lines = [line for line in data.decode("utf-8-sig").splitlines() if line.strip()]
        assert len(kept[0].boxes) + len(about) == len(lines)
    else:
        assert about


def _one(data: bytes, pictures: Pictures, about: list[Rejection]) -> None:
    """VOC: the picture is there or named."""
    assert _of_a(pictures) or about


def _per_row(data: bytes, pictures: Pictures, about: list[Rejection]) -> None:
    """Open Images: each row is a box, or of a picture that is named."""
    rows = sum(bool(row) for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))) - 1
    boxes = sum(len(picture.boxes) for picture in pictures)
    assert boxes <= rows and (boxes == rows or about)


def _per_block(names: tuple[str, ...], data: bytes, pictures: Pictures, about: list[Rejection]) -> None:
    """WIDER, FDDB: a picture whose name stands alone on its line is there, or it or a line below it is named."""
    lines = data.decode("utf-8-sig").splitlines()
    places = [n for n, line in enumerate(lines, start=1) if line.strip() in names]
    told = [rejection.line or 0 for rejection in about]
    kept = {picture.line for picture in pictures}
    for place, end in zip(places, [*places, len(lines) + 1][1:], strict=True):
        assert place in kept or any(place <= line < end for line in told), place


def _per_image(data: bytes, pictures: Pictures, about: list[Rejection]) -> None:
    """COCO: each of the images is a picture or named, and each annotation a box or named."""
    value = json.loads(data.decode("utf-8-sig"))
    boxes = len(value["annotations"]) - sum(len(picture.boxes) for picture in pictures)
    assert boxes >= 0 and (boxes == 0 or about)
    assert len(pictures) + len(about) >= len(value["images"])


def _anything(data: bytes, pictures: Pictures, about: list[Rejection]) -> None:
    """What holds the names of classes: the rest is checked without it."""


def _tasks(data: bytes) -> int:
    return len(json.loads(data.decode("utf-8-sig")))


def _records(data: bytes) -> int:
    count, position = 0, 0
    while position < len(data):
        count, position = count + 1, position + 16 + int.from_bytes(data[position : position + 8], "little")
    return count


PATHS = {
    "kitti": "labels",
    "voc": "labels",
    "yolo": "labels",
    "coco": "labels.json",
    "wider": "wider.txt",
    "open_images": "boxes.csv",
    "fddb": "FDDB-fold-01-ellipseList.txt",
    "label_studio": "export.json",
    "detectnet_tfrecords": RECORDS,
}


def _target(
    form: str, file: str, account: Account = _anything, count: Callable[[bytes], int] = lambda _: 0, kind: str = "text"
) -> Target:
    file = f"{form}/{file}"
    with tempfile.TemporaryDirectory() as place:
        folder = prepare(Path(place))
        seeds = [(folder / file).read_bytes()]
        for pictures in (_pictures(folder / "images")[:1], _pictures(folder / "images")[1:]):
            WRITERS[form](folder / form, pictures, folder / "images")
            seeds.append((folder / file).read_bytes())
    return Target(file, tuple(dict.fromkeys(seeds)), partial(_read, form, file, account), check_picture, count, kind)


TARGETS = {
    "kitti": _target("kitti", "labels/a.txt", _per_line),
    "voc": _target("voc", "labels/a.xml", _one),
    "yolo": _target("yolo", "labels/a.txt", _per_line),
    "yolo_names": _target("yolo", "data.yaml"),
    "coco": _target("coco", "labels.json", _per_image, kind="json"),
    "wider": _target("wider", "wider.txt", partial(_per_block, ("a.png", "sub/b.png"))),
    "open_images": _target("open_images", "boxes.csv", _per_row),
    "open_images_names": _target("open_images", "class-descriptions-boxable.csv"),
    "fddb": _target("fddb", "FDDB-fold-01-ellipseList.txt", partial(_per_block, ("a", "sub/b"))),
    "label_studio_boxes": _target("label_studio", "export.json", _anything, _tasks, "json"),
    "detectnet_tfrecords": _target("detectnet_tfrecords", RECORDS, _anything, _records, "records"),
}
