"""A label against its picture: can the picture be opened, is the face in it, do the points lie on it?"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .image import image_size
from .sample import FaceSample, PointState

Array = NDArray[np.floating]
Fault = tuple[str, str]  # reason, detail

FARTHEST = 1e7  # pixels; a coordinate beyond is no number of pixels, and 32 bits would round it


def fit_to_picture(sample: FaceSample, min_visible_fraction: float) -> FaceSample | Fault:
    """The sample, with points outside the picture marked occluded; or why it cannot be used.

    Outside by more than the size of the face is a broken label. A face whose box (else its points' box) lies in the
    picture by less than `min_visible_fraction` of its area is cut off. Only the picture's head is read.
    """
    extent = _extent(sample)
    if isinstance(extent, tuple):
        return extent
    if fault := _implausible(sample):
        return "broken label", fault
    edges = sample.points.astype(np.float64) + 0.5
    beyond = np.maximum(-edges, edges - extent).max(axis=1, initial=0.0)  # [K] pixels outside; NaN where missing
    outside = beyond > 0
    face = sample.box if sample.box is not None else _box_of(edges[beyond <= 0])
    size = 0.0 if face is None else max(face[2] - face[0], face[3] - face[1])
    if outside.any() and np.nanmax(beyond) > size:
        worst = int(np.nanargmax(beyond))
        x, y = sample.points[worst]
        detail = f"point {worst + 1} at ({x:g}, {y:g}), picture {extent[0]:g} x {extent[1]:g}"
        return "point outside the picture", detail
    box = sample.box if sample.box is not None else _box_of(edges[np.isfinite(beyond)])
    if box is not None and (visible := _visible_fraction(box, extent)) < min_visible_fraction:
        return "cut off by the frame", f"{visible:.0%} of the face is in the picture"
    return replace(sample, states=np.where(outside, PointState.OCCLUDED, sample.states).astype(np.int8))


def _extent(sample: FaceSample) -> Array | Fault:
    """(width, height) of the upright picture."""
    if not isinstance(sample.image, Path):
        return np.array(sample.image.shape[1::-1], np.float64)
    if not os.path.isfile(sample.image):  # Path.is_file raises on names that the system cannot have
        return "image missing", f"no such file: {sample.image}"
    try:
        return np.array(image_size(sample.image), np.float64)
    except DataError as error:
        return "picture unreadable", str(error)


def _implausible(sample: FaceSample) -> str:
    """What is no number of pixels, "" where all are."""
    known = sample.points[sample.states != PointState.MISSING]
    if not (np.abs(known) <= FARTHEST).all():
        return f"a point at {known[~(np.abs(known) <= FARTHEST).all(axis=1)][0].tolist()}"
    if sample.box is not None:
        x1, y1, x2, y2 = sample.box.tolist()
        if not (np.abs(sample.box) <= FARTHEST).all() or x2 <= x1 or y2 <= y1:
            return f"the box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) has no area, or no end"
    return ""


def _visible_fraction(box: Array, extent: Array) -> float:
    sides = box[2:] - box[:2]
    if (sides <= 0).any():
        return 1.0  # no area, such as a single point: the points above have been looked at
    seen = np.clip(np.minimum(box[2:], extent) - np.maximum(box[:2], 0), 0, None)
    return float(np.prod(seen / sides))


def _box_of(edges: Array) -> Array | None:
    return np.concatenate([edges.min(axis=0), edges.max(axis=0)]) if len(edges) else None
