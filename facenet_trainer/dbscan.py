"""DBSCAN over boxes: neighbours by IoU, density by coverage (gridbox §7.2), with scikit-learn's results.

scikit-learn wants the whole matrix of distances. Here only boxes that can be neighbours are compared: of two boxes,
the part of the left one that lies left of the other is outside their intersection, so

    IoU <= 1 - (x1' - x1) / (x2 - x1)

and a box's neighbours begin within eps times its width. Sorted by x1 they are one stretch of the list.
"""

from __future__ import annotations

import numpy as np

from .boxes import Floats, Indices, stretches

NOISE = -1

# 1 - IoU of float64 boxes is off by some 1e-16: without this, 1 - 0.85 would not be at most 0.15.
EPS_SLACK = 1e-12


def dbscan(boxes: Floats, coverage: Floats, eps: float, min_weight: float) -> Indices:
    """The cluster of every box, as `sklearn.cluster.DBSCAN(metric="precomputed")` gives it.

    A box is a core when the coverage of its neighbours and its own sum up to at least `min_weight`. Cores that are
    neighbours are one cluster, however long the chain. A neighbour of cores that is none itself joins the first of
    their clusters; the others are noise. Boxes are neighbours when 1 - IoU <= eps.

    Args:
        boxes: [M, 4] (x1, y1, x2, y2), finite, x2 > x1 and y2 > y1.
        coverage: [M] weights, 0 or more.

    Returns:
        [M] clusters, numbered from 0 by their first core in the order of the boxes; `NOISE` where a box has none.
    """
    m = len(boxes)
    first, second = neighbours(boxes, eps)
    weight = coverage + np.bincount(first, coverage[second], m) + np.bincount(second, coverage[first], m)
    core = weight >= min_weight
    first_core, second_core = core[first], core[second]
    both, one = first_core & second_core, first_core ^ second_core
    roots = connected_components(m, first[both], second[both])
    is_root = core & (roots == np.arange(m))

    # Numbers grow with the root's index, so the smallest number around is the cluster that a scan reaches first.
    number = np.where(core, np.cumsum(is_root)[roots] - 1, m)
    first, second, first_core = first[one], second[one], first_core[one]
    inside, border = np.where(first_core, first, second), np.where(first_core, second, first)
    np.minimum.at(number, border, number[inside])
    return np.where(number < m, number, NOISE)


def neighbours(boxes: Floats, eps: float) -> tuple[Indices, Indices]:
    """Every pair of boxes [M, 4] with 1 - IoU <= eps, each pair once, as two arrays of indices."""
    m = len(boxes)
    order = np.argsort(boxes[:, 0])
    x1, y1, x2, y2 = np.ascontiguousarray(boxes[order].T)
    width = x2 - x1
    area = width * (y2 - y1)
    # At eps 1 boxes that do not touch are neighbours too. The slack is for the rounding of these few operations.
    reach = x1 + (eps + 1e-9) * width if eps < 1 else np.full(m, np.inf)
    after = np.arange(1, m + 1)
    count = np.searchsorted(x1, reach, side="right") - after
    left, right = stretches(after, count)
    overlap_x = np.minimum(x2[left], x2[right]) - x1[right]
    overlap_y = np.minimum(y2[left], y2[right]) - np.maximum(y1[left], y1[right])
    intersection = np.maximum(overlap_x, 0) * np.maximum(overlap_y, 0)
    near = 1 - intersection / (area[left] + area[right] - intersection) <= eps + EPS_SLACK
    return order[left[near]], order[right[near]]


def connected_components(size: int, first: Indices, second: Indices) -> Indices:
    """[size] the smallest index of each node's component in the graph of the edges (first[i], second[i]).

    Trees of nodes: every edge hangs the larger of its ends' roots below the smaller, then all paths are shortened.
    """
    root = np.arange(size)
    a, b = first, second
    while True:
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while not ((shorter := root[root]) == root).all():
            root = shorter
        a, b = root[first], root[second]
        if (a == b).all():
            return root
