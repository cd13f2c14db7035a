"""COCO's JSON from samples: boxes, as `coco` reads them, and keypoints, as `coco_keypoints` does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..image import image_size
from ..sample import DetectionSample, FaceSample, FloatArray, PointState
from ..whole_file import whole_file
from .label_names import name_from
from .write_fpenet_json import decimal

Entry = dict[str, Any]
COCO_STATE = {PointState.MISSING: 0, PointState.OCCLUDED: 1, PointState.VISIBLE: 2}
SIDE = 1e-3  # pixels: least width and height of a box that is laid around a face's points


def write_coco(path: Path, samples: Sequence[DetectionSample], classes: Sequence[str], image_root: Path) -> None:
    """Writes pictures and boxes, an entry a line, in their order; whole or not at all.

    File names are relative to `image_root`; category n + 1 is class n. Ignore regions are crowds (`iscrowd`) of the
    first class, that an evaluation by COCO's rules passes over as well. What labels say besides of a box, such as its
    occlusion, stands in the annotation's `attributes`.

    Raises DataError for a picture that is no file or cannot be read, WriteError where the disk refuses.
    """
    categories = [{"id": n, "name": name, "supercategory": ""} for n, name in enumerate(classes, start=1)]
    images = (
        _image(n, name_from(sample, image_root), sample.size or image_size(Path(str(sample.image))))
        for n, sample in enumerate(samples, start=1)
    )
    _write(path, images, _boxes(samples), categories)


def write_coco_keypoints(path: Path, samples: Sequence[FaceSample], names: Sequence[str], image_root: Path) -> None:
    """Writes faces, an entry a line, in their order; whole or not at all. Several faces may be of one picture.

    Args:
        names: of the K points.
        image_root: file names are relative to it.

    COCO counts keypoints in pixel indices too; v is 0 where missing, 1 occluded, 2 visible. COCO has no face without a
    box: one that lacks it is given that of its points, and one without either is left out.

    Raises DataError for a picture that is no file or cannot be read, WriteError where the disk refuses.
    """
    numbers: dict[str, int] = {}
    placed = []
    for sample in samples:
        if (box := _face_box(sample)) is not None:
            number = numbers.setdefault(name_from(sample, image_root), len(numbers) + 1)
            placed.append((number, sample, box))
    images = (_image(number, name, image_size(image_root / name)) for name, number in numbers.items())
    faces = (
        _annotation(n, picture, 1, box, keypoints=_keypoints(sample), num_keypoints=int((sample.states > 0).sum()))
        for n, (picture, sample, box) in enumerate(placed, start=1)
    )
    categories = [{"id": 1, "name": "face", "supercategory": "", "keypoints": list(names), "skeleton": []}]
    _write(path, images, faces, categories)


def _write(path: Path, images: Iterable[Entry], annotations: Iterable[Entry], categories: list[Entry]) -> None:
    with whole_file(path) as file:
        file.write(b"{")
        for name, entries in (("images", images), ("annotations", annotations), ("categories", categories)):
            file.write(f'"{name}": ['.encode())
            _lines(file, entries)
            file.write(b"\n]}\n" if name == "categories" else b"\n],\n")


def _lines(file: BinaryIO, entries: Iterable[Entry]) -> None:
    for number, entry in enumerate(entries):
        file.write((",\n" if number else "\n").encode() + json.dumps(entry, ensure_ascii=False).encode())


def _image(number: int, name: str, size: tuple[int, int]) -> Entry:
    return {"id": number, "file_name": name, "width": size[0], "height": size[1]}


def _boxes(samples: Iterable[DetectionSample]) -> Iterator[Entry]:
    number = 0
    for picture, sample in enumerate(samples, start=1):
        for i, (box, label) in enumerate(zip(sample.boxes, sample.labels, strict=True)):
            said = {name: float(decimal(v[i])) for name, v in sample.attributes.items() if np.isfinite(v[i])}
            number += 1
            entry = _annotation(number, picture, int(label) + 1, box)
            yield {**entry, "attributes": said} if said else entry
        for box in sample.ignore:
            number += 1
            yield _annotation(number, picture, 1, box, crowd=True)


def _annotation(number: int, picture: int, category: int, box: FloatArray, crowd: bool = False, **more: Any) -> Entry:
    x1, y1, x2, y2 = map(decimal, box)
    sides = [float(value) for value in (x1, y1, x2 - x1, y2 - y1)]
    area = float((x2 - x1) * (y2 - y1))
    return {
        "id": number,
        "image_id": picture,
        "category_id": category,
        "bbox": sides,
        "area": area,
        "iscrowd": int(crowd),
        **more,
    }


def _keypoints(sample: FaceSample) -> list[float]:
    rows: list[float] = []
    for point, state in zip(sample.points, sample.states, strict=True):
        x, y = (0.0, 0.0) if state == PointState.MISSING else (float(decimal(value)) for value in point)
        rows += [x, y, COCO_STATE[PointState(state)]]
    return rows


def _face_box(sample: FaceSample) -> FloatArray | None:
    """The face's box, else that of its points in pixel edges."""
    if sample.box is not None:
        return sample.box
    known = sample.points[sample.states != PointState.MISSING]
    if not len(known):
        return None
    low, high = known.min(axis=0) + 0.5, known.max(axis=0) + 0.5
    return np.concatenate([low, np.maximum(high, low + SIDE)]).astype(np.float32)
