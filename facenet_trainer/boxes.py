"""Boxes of many pictures against each other, in numpy. Boxes are (x1, y1, x2, y2), pixel edges, float."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
NONE = -1
MAX_PAIRS = 1 << 14  # compared at a time: their arrays stay in the processor's cache, also of a crowd


def stretches(start: Indices, count: Indices) -> tuple[Indices, Indices]:
    """The numbers start[i], start[i] + 1, ... (`count[i]` of them) of every i, beside the i that each is of."""
    row = np.repeat(np.arange(len(count)), count)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(count) - count - start, count)


def areas(boxes: Floats) -> Floats:
    """[N] square pixels; 0 for a box whose edges are in the wrong order."""
    return np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)


def intersections(first: Floats, second: Floats) -> Floats:
    """[N] square pixels that first[i] and second[i] share."""
    width = np.minimum(first[:, 2], second[:, 2]) - np.maximum(first[:, 0], second[:, 0])
    height = np.minimum(first[:, 3], second[:, 3]) - np.maximum(first[:, 1], second[:, 1])
    return np.maximum(width, 0) * np.maximum(height, 0)


def best_overlaps(
    boxes: Floats, keys: Indices, others: Floats, other_keys: Indices, over_own_area: bool = False
) -> tuple[Indices, Floats]:
    """For each box the one of `others` with the same key that it overlaps most; of equals the first.

    Args:
        boxes, others: [N, 4] and [M, 4].
        keys, other_keys: [N] and [M] what may be compared: the picture, or the picture and the class.
        over_own_area: the overlap is the intersection over the box's own area instead of IoU.

    Returns:
        [N] index into `others`, `NONE` where it overlaps none, and [N] the overlap, 0 to 1.
    """
    order = np.argsort(other_keys, kind="stable")
    sorted_keys = other_keys[order]
    start = np.searchsorted(sorted_keys, keys, side="left")
    count = np.searchsorted(sorted_keys, keys, side="right") - start
    own, other = areas(boxes), areas(others)
    best, value = np.full(len(boxes), NONE), np.zeros(len(boxes))
    for rows in _portions(count):
        row, place = stretches(start[rows], count[rows])
        i, j = rows[row], order[place]
        shared = intersections(boxes[i], others[j])
        whole = own[i] if over_own_area else own[i] + other[j] - shared
        overlap = np.divide(shared, whole, out=np.zeros(len(i)), where=shared > 0)
        np.maximum.at(value, i, overlap)
        highest = np.flatnonzero((overlap == value[i]) & (overlap > 0))[::-1]
        best[i[highest]] = j[highest]  # the last written is the first of equals
    return best, value


def _portions(count: Indices) -> list[Indices]:
    """The rows that have anything to compare, in runs of at most about `MAX_PAIRS` comparisons."""
    rows = np.flatnonzero(count)
    run = (np.cumsum(count[rows]) - count[rows]) // MAX_PAIRS
    return np.split(rows, np.flatnonzero(np.diff(run)) + 1) if len(rows) else []
