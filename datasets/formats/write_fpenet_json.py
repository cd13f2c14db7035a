"""FPENet's label file from samples: what `fpenet_json` reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from ..sample import FaceSample, FloatArray, PointState
from ..whole_file import whole_file
from .label_names import name_from

Chunk = dict[str, Any]


def write_fpenet_json(path: Path, samples: Iterable[FaceSample], image_root: Path) -> None:
    """Writes the faces, one entry and one line each, in their order; whole or not at all.

    File names are relative to `image_root`. Several faces of one picture are entries of their own: in one entry, TAO's
    converter hands a face's points on to the next. Read again, points, states and boxes are the same bits; a face
    without a box has none. The format has no place for subjects, weights and occlusion levels.

    Raises DataError for a picture that is no file, WriteError where the disk refuses.
    """
    with whole_file(path) as file:
        file.write(b"[")
        for number, sample in enumerate(samples):
            file.write(b",\n" if number else b"\n")
            file.write(json.dumps(_entry(sample, image_root), ensure_ascii=False).encode())
        file.write(b"\n]\n")


def _entry(sample: FaceSample, image_root: Path) -> dict[str, Any]:
    chunks = [] if sample.box is None else [_box(sample.box)]
    if sample.states.any():
        chunks.append(_points(sample))
    return {"filename": name_from(sample, image_root), "class": "image", "annotations": chunks}


def _box(box: FloatArray) -> Chunk:
    x1, y1, x2, y2 = map(decimal, box)
    sides = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
    return {
        "class": "FaceBbox",
        "tool-version": "1.0",
        **{f"face_tight_bbox{name}": float(value) for name, value in sides.items()},
    }


def _points(sample: FaceSample) -> Chunk:
    return {"class": "FiducialPoints", "tool-version": "1.0"} | dict(_numbers(sample))


def _numbers(sample: FaceSample) -> Iterator[tuple[str, float | bool]]:
    """The keys of the points that are not missing; P1 is row 0."""
    for n, ((x, y), state) in enumerate(zip(sample.points, sample.states, strict=True), start=1):
        if state != PointState.MISSING:
            yield f"P{n}x", float(decimal(x))
            yield f"P{n}y", float(decimal(y))
        if state == PointState.OCCLUDED:
            yield f"P{n}occluded", True


def decimal(value: np.floating) -> Decimal:
    """The shortest decimal that is read as this number: 96.3, not 96.30000305175781."""
    return Decimal(str(value))
