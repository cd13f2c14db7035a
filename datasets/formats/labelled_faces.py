"""Faces as label files have them, and the checks that the formats share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...configs.fpenet.schema import SourceConfig
from ..frame import FARTHEST, Fault, fit_to_picture
from ..sample import ByteArray, FaceSample, FloatArray, PointState, Rejection
from ..source_files import printable
from .labelled import BrokenLabel

Faces = tuple[list[FaceSample], list[Rejection]]  # what every reader returns


@dataclass(frozen=True)
class FaceEntry:
    """One face as a reader found it in `label` at `line`; `points` [K, 2] in pixels of the upright picture, NaN where
    missing, and `states` [K]."""

    label: Path
    line: int | None
    image: Path | ByteArray
    name: str
    points: FloatArray
    states: NDArray[np.int8]
    box: FloatArray | None = None
    subject: str | None = None


def check_faces(entries: Iterable[FaceEntry | Rejection], source: SourceConfig) -> Faces:
    """The faces that can be used, and the others: in a labelled source those without points, and those that
    `fit_to_picture` refuses. Rejections among the entries are passed on."""
    samples: list[FaceSample] = []
    rejections: list[Rejection] = []
    for entry in entries:
        if isinstance(entry, Rejection):
            rejections.append(entry)
            continue
        checked = _check(entry, source)
        if isinstance(checked, FaceSample):
            samples.append(checked)
        else:
            reason, detail = checked
            rejections.append(Rejection(str(entry.label), entry.line, reason, f"{printable(entry.name)}: {detail}"))
    return samples, rejections


def _check(entry: FaceEntry, source: SourceConfig) -> FaceSample | Fault:
    if source.labelled and not entry.states.any():
        return "no points", "a face without points"
    sample = FaceSample(
        entry.image,
        entry.points,
        entry.states,
        entry.box,
        entry.subject,
        entry.name,
        label=str(entry.label),
        line=entry.line,
    )
    return fit_to_picture(sample, source.min_visible_fraction)


def face_points(points: ArrayLike, occluded: ArrayLike | None = None) -> tuple[FloatArray, NDArray[np.int8]]:
    """Points [K, 2] and their states [K] from coordinates, NaN where a point is missing, and flags [K]."""
    rows = np.array(points, np.float64).reshape(-1, 2)
    states = np.full(len(rows), PointState.VISIBLE, np.int8)
    if occluded is not None:
        states[np.asarray(occluded, bool)] = PointState.OCCLUDED
    missing = np.flatnonzero(np.isnan(rows).any(axis=1))
    rows[missing], states[missing] = np.nan, PointState.MISSING
    return rows.astype(np.float32), states


def face_box(corners: Sequence[float], line: int | None = None) -> FloatArray:
    """[x1, y1, x2, y2]. Raises BrokenLabel when it has no area."""
    x1, y1, x2, y2 = corners
    if x2 <= x1 or y2 <= y1:
        raise BrokenLabel(f"the box is {x2 - x1:g} x {y2 - y1:g} pixels", line)
    return np.array(corners, np.float32)


def pixels(value: object, what: str, line: int | None = None) -> float:
    """A number of pixels, also one in quotes. Raises BrokenLabel, naming `what` it is, where it is none."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= FARTHEST:
        raise BrokenLabel(f"{what} is {value!r:.80}, expected a number of pixels", line)
    return number
