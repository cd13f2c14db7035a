"""From lit cells to boxes: a script takes what its model's clustering and graph need."""

import numpy as np


def bbox_cells(found, label, d):
    """The box of every cell, cut at the input's edges, and its coverage."""
    h, w = found["coverage"].shape[2:]
    x, y = np.meshgrid(*(np.arange(cells) * d["stride"] + d["offset"] for cells in (w, h)))
    left, top, right, bottom = d["scale"] * found["bbox"][0, 4 * label : 4 * label + 4]
    boxes = np.stack([x - left, y - top, x + right, y + bottom], axis=-1).reshape(-1, 4)
    return boxes.clip(0, np.array([w, h, w, h]) * d["stride"]), found["coverage"][0, label].ravel()


def boxes_cells(found, label, d):
    """The box of every cell and its score: the graph has decoded them."""
    return found["boxes"][0, label], found["scores"][0, label]


def detections_cells(found, label, d):
    """Boxes and scores: the graph has left out those that overlap."""
    rows = found["detections"]
    rows = rows[(rows[:, 0] == 0) & (rows[:, 6] == label)]
    return rows[:, 1:5], rows[:, 5]


def overlaps(a, b):
    """Intersection over union of boxes [..., 4]."""
    shared = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0).prod(axis=-1)
    return shared / ((a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - shared)


def nms(boxes, scores, c):
    """Boxes [D, 4] and their scores [D]: those that no more confident one overlaps."""
    left, kept = np.argsort(-scores, kind="stable"), []
    while len(left):
        kept.append(left[0])
        left = left[1:][overlaps(boxes[left[0]], boxes[left[1:]]) <= c["nms_iou_threshold"]]
    kept = [i for i in kept if scores[i] >= c["nms_confidence_threshold"]]
    return boxes[kept], scores[kept]


def merged(boxes, coverage, c):
    """Means [D, 4] and scores [D] of DBSCAN's clusters, and which boxes [M, D] are of which."""
    near, none = 1 - overlaps(boxes[:, None], boxes) <= c["dbscan_eps"] + 1e-12, len(boxes)  # the slack is for rounding
    core = near @ coverage >= c["dbscan_min_weight"]
    label, before = np.where(core, np.arange(none), none), None
    while before is None or (before != label).any():  # the smallest number spreads
        before, label = label, np.where(core, np.where(near & core, label, none).min(axis=1, initial=none), none)
    label = np.where(near & core, label, none).min(axis=1, initial=none)
    member = label[:, None] == np.unique(label[label < none])
    weight = member * coverage[:, None]
    means, scores = weight.T @ boxes / weight.sum(axis=0)[:, None], weight.sum(axis=0)
    scores = coverage @ weight / scores if c["confidence"] == "mean_cov" else scores
    kept = scores >= c["dbscan_confidence_threshold"]
    kept &= means[:, 3] - means[:, 1] >= c["minimum_bounding_box_height"]
    return means[kept], scores[kept], member[:, kept]


def dbscan(boxes, coverage, c):
    """Boxes [D, 4] and their scores [D]: one of each cluster."""
    return merged(boxes, coverage, c)[:2]


def hybrid(boxes, coverage, c):
    """Boxes [D, 4] and their scores [D]: of the members of clusters, those that no more confident one overlaps."""
    inside = merged(boxes, coverage, c)[2].any(axis=1)
    return nms(boxes[inside], coverage[inside], c)
