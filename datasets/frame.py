"""A label against its picture: can the picture be opened, is the face in it, do the points lie on it?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .image import image_size
from .sample import FaceSample, PointState

Array = NDArray[np.floating]
Fault = tuple[str, str]  # reason, detail


def fit_to_picture(sample: FaceSample, min_visible_fraction: float) -> FaceSample | Fault:
    """The sample, with points outside the picture marked occluded; or why it cannot be used.

    Outside by more than the size of the face is a broken label. A face whose box (else its points' box) lies in the
    picture by less than `min_visible_fraction` of its area is cut off. Only the picture's head is read.
    """
    assert isinstance(sample.image, Path)
    if not sample.image.is_file():
        return "image missing", f"no such file: {sample.image}"
    try:
        extent = np.array(image_size(sample.image), np.float64)
    except DataError as error:
        return "picture unreadable", str(error)
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


def _visible_fraction(box: Array, extent: Array) -> float:
    sides = box[2:] - box[:2]
    if (sides <= 0).any():
        return 1.0  # no area, such as a single point: the points above have been looked at
    seen = np.clip(np.minimum(box[2:], extent) - np.maximum(box[:2], 0), 0, None)
    return float(np.prod(seen / sides))


def _box_of(edges: Array) -> Array | None:
    return np.concatenate([edges.min(axis=0), edges.max(axis=0)]) if len(edges) else None
