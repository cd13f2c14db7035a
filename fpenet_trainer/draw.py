"""Keypoints drawn on pictures."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..datasets.sample import ByteArray, PointState

# RGB. Blue, orange and yellow stay apart for colour-blind readers, and none of them is a colour of skin in grey light.
VISIBLE = (0, 170, 255)
OCCLUDED = (255, 110, 0)
TRUTH = (255, 240, 60)
BOX = (240, 240, 240)  # of a detector
_EDGE = (0, 0, 0)
_SHIFT = 4  # OpenCV draws at 1/16 pixel when coordinates are given so


def draw_points(
    image: ByteArray,
    points: NDArray[np.floating],
    states: NDArray | None = None,
    truth: NDArray[np.floating] | None = None,
) -> ByteArray:
    """A copy of the picture with a dot at every point.

    Visible points are blue, occluded ones orange. True points are smaller yellow dots, each joined to its prediction,
    so that the line is the error. Dots grow with the face.

    Args:
        image: [H, W, 3] uint8 RGB.
        points: [K, 2] (x, y) in pixels of `image`; a point that is not finite is not drawn.
        states: [K] `PointState` (integers; missing points are not drawn), or [K] probabilities of being visible
            (floats; occluded below 0.5), or None: all are visible.
        truth: [K, 2] the true points, NaN where unknown.

    Returns:
        [H, W, 3] uint8 RGB.
    """
    canvas = np.ascontiguousarray(image).copy()
    drawn, visible = _select(points, states)
    radius = _radius(points[drawn], max(canvas.shape[:2]))
    if truth is not None:
        for i in np.flatnonzero(drawn & np.isfinite(truth).all(axis=1)):
            _line(canvas, points[i], truth[i], max(1, round(radius / 2)))
    for i in np.flatnonzero(drawn):
        _dot(canvas, points[i], radius, VISIBLE if visible[i] else OCCLUDED)
    if truth is not None:
        for point in truth[np.isfinite(truth).all(axis=1)]:
            _dot(canvas, point, 0.7 * radius, TRUTH)
    return canvas


def _select(points: NDArray, states: NDArray | None) -> tuple[NDArray, NDArray]:
    """[K] which points are drawn, and [K] which of them count as visible."""
    drawn = np.isfinite(points).all(axis=1)
    if states is None:
        return drawn, np.ones(len(points), bool)
    if np.issubdtype(states.dtype, np.floating):
        return drawn, states >= 0.5
    return drawn & (states != PointState.MISSING), states == PointState.VISIBLE


def _radius(points: NDArray, side: int) -> float:
    """A dot's radius, about 1/110 of the face; a face is at most as large as the picture. Of a small one, only as much
    as can still be seen: the dots must not hide it.
    """
    extent = float(np.ptp(points, axis=0).max()) if len(points) else 0.0
    least = min(max(extent / 60, 0.5), 1.2) if len(points) > 1 else 1.2
    return max(least, min(extent, side) / 110)


def _fixed(point: NDArray) -> tuple[int, int]:
    # Beyond this OpenCV's 32-bit arithmetic overflows; nothing that far away can be seen.
    x, y = np.clip(np.asarray(point, np.float64), -30000, 30000) * 2**_SHIFT
    return round(float(x)), round(float(y))


def _dot(canvas: ByteArray, point: NDArray, radius: float, colour: tuple[int, int, int]) -> None:
    edge = max(0.3 * radius, min(0.5, 0.4 * radius))
    for size, fill in ((radius + edge, _EDGE), (radius, colour)):
        cv2.circle(canvas, _fixed(point), round(size * 2**_SHIFT), fill, -1, cv2.LINE_AA, _SHIFT)


def _line(canvas: ByteArray, start: NDArray, end: NDArray, width: int) -> None:
    cv2.line(canvas, _fixed(start), _fixed(end), TRUTH, width, cv2.LINE_AA, _SHIFT)
