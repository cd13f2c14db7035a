"""FPENet's label file: a JSON list of pictures with Sloth's annotation chunks, `FaceBbox` and `FiducialPoints`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.fpenet.schema import SourceConfig
from ...errors import DataError
from ..frame import FARTHEST, fit_to_picture
from ..sample import FaceSample, FloatArray, PointState, Rejection
from ..source_files import picture_name, printable
from .json_list import JsonEntry, JsonList
from .labelled import BrokenLabel

MOST_POINTS = 1000  # as model.num_keypoints; a higher number is a slip and would make every face of the file as long
_TRUTH = {"true": True, "1": True, "false": False, "0": False, "": False, "none": False}

Chunk = dict[str, Any]
Points = tuple[FloatArray, np.ndarray]  # [n, 2] and the states [n]
FaceBox = tuple[FloatArray | None, int]  # [x1, y1, x2, y2] and the occlusion level


class _Fault(Exception):
    """What is wrong with a chunk, and at which key."""

    def __init__(self, reason: str, detail: str, key: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail, self.key = reason, detail, key


def read_fpenet_json(source: SourceConfig, root: Path, num_keypoints: int) -> tuple[list[FaceSample], list[Rejection]]:
    """Every face of the label file, or of all `.json` files below the folder, at `root / source.path`.

    All samples have the same number of points: `num_keypoints`, or more where the labels have more. Points that a
    face lacks are missing. Broken labels, faces outside the source's rules and, in a labelled source, face boxes
    without points are rejections. Raises DataError where a file is no JSON list.
    """
    path = root / source.path
    samples: list[FaceSample] = []
    rejections: list[Rejection] = []
    for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
        image_root = root / source.image_root if source.image_root else file.parent
        for entry in JsonList(file):
            for face in _faces(entry, image_root, source):
                if isinstance(face, FaceSample):
                    samples.append(face)
                else:
                    rejections.append(face)
    width = max([num_keypoints, *(sample.num_keypoints for sample in samples)])
    return [_padded(sample, width) for sample in samples], rejections


def read_face_boxes(path: Path, image_root: Path | None = None) -> list[FaceSample]:
    """The faces of a label file to look at: one sample a `FaceBbox`, its points [0, 2], in the order of the file.

    Names of pictures start from `image_root`, else from the file's folder. Raises DataError at the first broken label.
    """
    samples = []
    for entry in JsonList(path):
        name, boxes, _, rejections = _read(entry)
        if rejections:
            raise DataError(str(rejections[0]))
        samples += [_sample((image_root or path.parent) / name, name, None, box) for box, _ in boxes if box is not None]
    return samples


def _faces(entry: JsonEntry, image_root: Path, source: SourceConfig) -> Iterator[FaceSample | Rejection]:
    """The faces of one picture, each as a sample or as what is wrong with it."""
    name, boxes, faces, rejections = _read(entry)
    yield from rejections
    if not (boxes or faces or rejections):
        yield _rejection(entry, "no points", "no face is labelled")
    for face, (box, level) in _pairs(faces, boxes):
        sample = replace(
            _sample(image_root / name, name, face, box), label=str(entry.file.path), line=entry.line("filename")
        )
        if source.labelled and not sample.states.any():
            yield _rejection(entry, "no points", "a face box without FiducialPoints")
        elif level > source.max_occlusion_level:
            detail = f"{level}, max_occlusion_level is {source.max_occlusion_level}"
            yield _rejection(entry, "occlusion level", detail)
        else:
            checked = fit_to_picture(sample, source.min_visible_fraction)
            yield checked if isinstance(checked, FaceSample) else _rejection(entry, *checked)


def _read(entry: JsonEntry) -> tuple[str, list[FaceBox], list[Points], list[Rejection]]:
    """A picture's name, boxes and points, and the chunks that are broken."""
    boxes: list[FaceBox] = []
    faces: list[Points] = []
    try:
        name, chunks = _picture(entry.value)
    except _Fault as fault:
        return "", boxes, faces, [_rejection(entry, fault.reason, fault.detail, fault.key)]
    rejections = []
    for index, chunk in enumerate(chunks):
        kind = str(chunk.get("class", "")).lower()
        try:
            if "facebbox" in kind:
                boxes.append(_face_box(chunk))
            elif "fiducialpoints" in kind:
                faces.append(_points(chunk))
        except _Fault as fault:
            earlier = sum(fault.key in other for other in chunks[:index])
            rejections.append(_rejection(entry, fault.reason, fault.detail, fault.key, earlier))
    return name, boxes, faces, rejections


def _picture(value: Any) -> tuple[str, list[Chunk]]:
    """The file name and the chunks of one entry of the list."""
    if not isinstance(value, dict):
        raise _Fault("broken label", f"expected an object with filename and annotations, found {value!r:.60}")
    name, chunks = value.get("filename"), value.get("annotations")
    try:
        name = picture_name(name, "filename")
    except BrokenLabel as fault:
        raise _Fault("broken label", fault.detail, "filename") from None
    if not isinstance(chunks, list) or not all(isinstance(chunk, dict) for chunk in chunks):
        raise _Fault("broken label", f"annotations is {chunks!r:.60}, expected a list of objects", "annotations")
    return name, chunks


def _face_box(chunk: Chunk) -> FaceBox:
    """The tight box, else the outer one, and the occlusion level (0 where the label has none)."""
    box = _box(chunk, "face_tight_bbox")
    if box is None:
        box = _box(chunk, "face_outer_bbox")
    for key in ("Occlusion", "Occlusionx"):
        if (level := _number(chunk, key)) is not None:
            return box, int(level)
    return box, 0


def _box(chunk: Chunk, prefix: str) -> FloatArray | None:
    keys = [prefix + side for side in ("x", "y", "width", "height")]
    values = [_number(chunk, key) for key in keys]
    if all(value is None for value in values):
        return None
    for key, value in zip(keys, values, strict=True):
        if value is None:
            raise _Fault("broken label", f"{key} is missing", keys[0])
    x, y, width, height = (float(value or 0) for value in values)
    if width <= 0 or height <= 0:
        raise _Fault("broken label", f"the box is {width:g} x {height:g} pixels", keys[2])
    return np.array([x, y, x + width, y + height], np.float32)


def _points(chunk: Chunk) -> Points:
    """The points of one face, as many as its highest number; P1 is row 0."""
    columns: dict[str, dict[int, Any]] = {"x": {}, "y": {}, "occ": {}}
    for key in chunk:
        n, column = _point_key(key)
        if column == "occ":
            columns[column][n] = _truth(chunk, key)
        elif column and (value := _number(chunk, key)) is not None:
            columns[column][n] = value
    x, y = columns["x"], columns["y"]
    if alone := sorted(x.keys() ^ y.keys()):
        key = f"P{alone[0]}{'x' if alone[0] in x else 'y'}"
        raise _Fault("broken label", f"{key} without its other coordinate", key)
    points = np.full((max(x, default=0), 2), np.nan, np.float32)
    states = np.full(len(points), PointState.MISSING, np.int8)
    if x:
        rows = np.fromiter(x, int) - 1
        points[rows] = [(x[n], y[n]) for n in x]
        states[rows] = [PointState.OCCLUDED if columns["occ"].get(n) else PointState.VISIBLE for n in x]
    return points, states


@lru_cache(maxsize=8192)  # a file has the same few hundred keys in every face
def _point_key(key: str) -> tuple[int, str]:
    """The point's number and what of it the key says: "x", "y", "occ" or "" for nothing of interest."""
    word = key.lower()
    if "class" in word or "version" in word:
        return 0, ""
    digits = re.findall(r"[0-9]+", key)
    if len(digits) != 1 or len(digits[0]) > 9 or not 1 <= int(digits[0]) <= MOST_POINTS:
        raise _Fault("broken label", f"{key!r:.80} names no point; expected P1x, P1y, P1occluded, P2x, ...", key)
    return int(digits[0]), next((column for column in ("occ", "x", "y") if column in word), "")


def _number(chunk: Chunk, key: str) -> float | None:
    """A number, also one in quotes; None where there is none."""
    value = chunk.get(key)
    if value is None:
        return None
    try:
        number = math.nan if value is True or value is False else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= FARTHEST:
        raise _Fault("broken label", f"{key} is {value!r:.80}, expected a number", key)
    return number


def _truth(chunk: Chunk, key: str) -> bool:
    word = str(chunk[key]).strip().lower()
    if word not in _TRUTH:
        raise _Fault("broken label", f"{key} is {chunk[key]!r:.80}, expected true or false", key)
    return _TRUTH[word]


def _pairs(faces: list[Points], boxes: list[FaceBox]) -> list[tuple[Points | None, FaceBox]]:
    """Each face with the box that most of its points lie in, in doubt by order; then the boxes that are left."""
    fits = []
    for i, (points, _) in enumerate(faces):
        known = points[np.isfinite(points).all(axis=1)] + 0.5
        for j, (box, _) in enumerate(boxes):
            if box is None or not len(known):
                fits.append((0.0, abs(i - j), i, j))
            elif fit := ((known >= box[:2]) & (known <= box[2:])).all(axis=1).mean():
                fits.append((-float(fit), abs(i - j), i, j))
    chosen: dict[int, int] = {}
    for *_, i, j in sorted(fits):
        if i not in chosen and j not in chosen.values():
            chosen[i] = j
    found = [(face, boxes[chosen[i]] if i in chosen else (None, 0)) for i, face in enumerate(faces)]
    return [*found, *((None, box) for j, box in enumerate(boxes) if j not in chosen.values())]


def _sample(image: Path, name: str, face: Points | None, box: FloatArray | None) -> FaceSample:
    points, states = face or (np.empty((0, 2), np.float32), np.empty(0, np.int8))
    return FaceSample(image, points, states, box, name=name)


def _padded(sample: FaceSample, width: int) -> FaceSample:
    """The sample with missing points added up to `width`."""
    lacking = width - sample.num_keypoints
    points = np.pad(sample.points, ((0, lacking), (0, 0)), constant_values=np.nan)
    states = np.pad(sample.states, (0, lacking), constant_values=PointState.MISSING)
    return replace(sample, points=points, states=states)


def _rejection(entry: JsonEntry, reason: str, detail: str, key: str = "", nth: int = 0) -> Rejection:
    name = entry.value.get("filename", "?") if isinstance(entry.value, dict) else "?"
    return Rejection(str(entry.file.path), entry.line(key, nth), reason, f"{printable(str(name)):.200}: {detail}")
