"""How far two labels of one photograph differ: the tremor of the labellers, or a slip of one of them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..datasets.preprocessing import Square, cut, to_crop
from ..datasets.sample import ByteArray, FaceSample, FloatArray
from .layout import Layout

SIDE = 96  # pixels of the crops that are laid over each other
STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-4)
LAID = 0.9  # correlation of the crops that tells that they lie on each other

Face = tuple[FaceSample, ByteArray, Square]  # with its grey picture and crop square


def label_difference(one: Face, other: Face, layout: Layout, mirrored: bool) -> float:
    """Mean distance of two faces' points, percent of the inter-ocular distance (of the points' diagonal where the
    layout has no eye corners); NaN where the pictures cannot be laid over each other.

    Their crops are registered by an affine map (enhanced correlation, Evangelidis and Psarakis 2008), so that frames of
    other sizes and crops laid around other labels do not count as a difference.
    """
    crops = [cut(picture, square, SIDE) for _, picture, square in (one, other)]
    points = [to_crop(sample.points, square, SIDE).astype(np.float64) for sample, _, square in (one, other)]
    if mirrored:
        if layout.flip is None:
            return float("nan")
        crops[0] = np.ascontiguousarray(crops[0][:, ::-1])
        points[0] = (points[0] * (-1, 1) + (SIDE - 1, 0))[list(layout.flip)]
    warp = _registered(crops[0], crops[1])
    if warp is None:
        return float("nan")
    moved = points[0] @ warp[:, :2].T + warp[:, 2]
    return point_difference(moved, points[1], layout)


def point_difference(points: NDArray[np.floating], truth: NDArray[np.floating], layout: Layout) -> float:
    """Mean distance of points [K, 2] that both have, percent as in `label_difference`."""
    both = np.isfinite(points).all(axis=1) & np.isfinite(truth).all(axis=1)
    if not both.any():
        return float("nan")
    length = float("nan") if layout.eyes is None else float(np.linalg.norm(np.subtract(*truth[list(layout.eyes)])))
    if not length > 0:
        length = float(np.linalg.norm(np.ptp(truth[both], axis=0)))
    return 100 * float(np.linalg.norm(points[both] - truth[both], axis=1).mean()) / max(length, 1e-6)


def box_difference(one: FloatArray, other: FloatArray) -> tuple[float, int]:
    """Two labels of one picture, boxes [N, 4] and [M, 4] in the same pixels: the mean IoU of boxes that mean the same
    thing (IoU above 0.3, best first; NaN where there are none), and how many boxes only one of them has."""
    overlap = box_iou(one, other)
    matched = []
    for _ in range(min(overlap.shape)):
        i, j = np.unravel_index(int(overlap.argmax()), overlap.shape)
        if overlap[i, j] <= 0.3:
            break
        matched.append(float(overlap[i, j]))
        overlap[i], overlap[:, j] = -1, -1
    alone = len(one) + len(other) - 2 * len(matched)
    return (float(np.mean(matched)) if matched else float("nan")), alone


def box_iou(one: FloatArray, other: FloatArray) -> NDArray[np.float64]:
    """[N, M] intersection over union."""
    a, b = one.astype(np.float64)[:, None], other.astype(np.float64)[None]
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    shared = sides.prod(axis=-1)
    areas = [np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1) for boxes in (a, b)]
    return np.asarray(shared / np.maximum(areas[0] + areas[1] - shared, 1e-9))


def _registered(one: ByteArray, other: ByteArray) -> NDArray[np.float64] | None:
    """[2, 3] that takes pixels of `one` to pixels of `other`; None where no such map is found."""
    start = np.eye(2, 3, dtype=np.float32)
    try:
        alike, warp = cv2.findTransformECC(one, other, start, cv2.MOTION_AFFINE, STEPS, None, 3)
    except cv2.error:  # it does not converge
        return None
    return np.asarray(warp, np.float64) if alike > LAID else None
