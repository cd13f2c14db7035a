"""From lit cells to boxes: DBSCAN, NMS, or NMS within DBSCAN's clusters (gridbox §7).

Thresholds mean the same wherever this is called from: a cell is a candidate above `coverage_threshold`, a box is kept
at its algorithm's confidence threshold or above, and at `minimum_bounding_box_height` or above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import nms

from ..configs.facenet.per_class import each_class
from ..configs.facenet.schema import ClusteringConfig
from ..errors import FacetrainError
from .dbscan import NOISE, Floats, dbscan


@dataclass(frozen=True)
class Detections:
    """D boxes of one class in one picture, the most confident first.

    Attributes:
        boxes: [D, 4] float32 (x1, y1, x2, y2), pixels of the network's input.
        scores: [D] float32 confidences; the summed coverage of `aggregate_cov` can be above 1.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)


def detections(
    boxes: NDArray[np.floating], coverage: NDArray[np.floating], classes: Sequence[str], config: ClusteringConfig
) -> list[Detections]:
    """The detections of one picture, one entry a class.

    Args:
        boxes: [C, M, 4] the box of every cell, pixels of the network's input.
        coverage: [C, M], 0 to 1.
        classes: the C target classes, whose names `config.per_class` uses.

    Raises:
        ConfigError: see `each_class`.
        FacetrainError: see `cluster`.
    """
    return batch_detections(boxes[None], coverage[None], classes, config)[0]


def batch_detections(
    boxes: NDArray[np.floating], coverage: NDArray[np.floating], classes: Sequence[str], config: ClusteringConfig
) -> list[list[Detections]]:
    """`detections` of each of B pictures: boxes [B, C, M, 4], coverage [B, C, M]."""
    configs = each_class(config, classes)
    return [
        [cluster(*cells) for cells in zip(picture_boxes, picture_coverage, configs, strict=True)]
        for picture_boxes, picture_coverage in zip(boxes, coverage, strict=True)
    ]


def cluster(boxes: NDArray[np.floating], coverage: NDArray[np.floating], config: ClusteringConfig) -> Detections:
    """The detections of one class in one picture; `config` is taken as it is, without its `per_class`.

    * dbscan: a box is the coverage-weighted mean of its cluster; its confidence is the sum of the coverages, or their
      mean weighted by themselves.
    * nms: of the cells' own boxes, the most covered first, those that overlap no box kept before by more than
      `nms_iou_threshold`; the confidence is the cell's coverage.
    * hybrid: nms among the members of the clusters that dbscan keeps, so that a lone lit cell still finds nothing.

    Args:
        boxes: [M, 4] the box of every cell, pixels of the network's input. A candidate without area is passed over.
        coverage: [M], 0 to 1, cells row by row: a cell between two clusters joins the one whose core comes first.

    Raises:
        FacetrainError: a coverage, or a candidate's box, is not finite.
    """
    boxes, coverage = _candidates(boxes, coverage, config.coverage_threshold)
    if config.algorithm == "nms":
        return _nms(boxes, coverage, config)
    labels = dbscan(boxes, coverage, config.dbscan_eps, config.dbscan_min_weight)
    means, scores = _merge(boxes, coverage, labels, config.confidence)
    kept = _large_enough(means, config) & (scores >= config.dbscan_confidence_threshold)
    if config.algorithm == "hybrid":
        members = np.append(kept, False)[labels]  # noise, -1, finds the last
        return _nms(boxes[members], coverage[members], config)
    return _sorted(means[kept], scores[kept])


def _candidates(boxes: NDArray[np.floating], coverage: NDArray[np.floating], threshold: float) -> tuple[Floats, Floats]:
    lit = np.flatnonzero(coverage > threshold)
    lit_boxes, lit_coverage = boxes[lit].astype(np.float64), coverage[lit].astype(np.float64)
    if not np.isfinite(lit_boxes.sum() + coverage.sum()):  # one of them not finite makes the sum so
        raise FacetrainError(
            "the network's outputs are not finite: the weights are damaged, or the precision is too low for them"
        )
    with_area = (lit_boxes[:, 2] > lit_boxes[:, 0]) & (lit_boxes[:, 3] > lit_boxes[:, 1])
    return lit_boxes[with_area], lit_coverage[with_area]


def _merge(boxes: Floats, coverage: Floats, labels: NDArray[np.intp], confidence: str) -> tuple[Floats, Floats]:
    """The boxes [D, 4] and confidences [D] of the clusters 0 to D - 1 (§7.2)."""
    members = labels != NOISE
    boxes, coverage, labels = boxes[members], coverage[members], labels[members]
    total = np.asarray(np.bincount(labels, coverage), np.float64)
    means = np.stack([np.bincount(labels, coverage * edge) for edge in boxes.T], axis=1) / total[:, None]
    if confidence == "mean_cov":
        return means, np.bincount(labels, coverage * coverage) / total
    return means, total


def _nms(boxes: Floats, coverage: Floats, config: ClusteringConfig) -> Detections:
    kept = nms(torch.from_numpy(boxes), torch.from_numpy(coverage), config.nms_iou_threshold).numpy()
    boxes, coverage = boxes[kept], coverage[kept]
    kept = _large_enough(boxes, config) & (coverage >= config.nms_confidence_threshold)
    return _sorted(boxes[kept], coverage[kept])


def _large_enough(boxes: Floats, config: ClusteringConfig) -> NDArray[np.bool_]:
    return boxes[:, 3] - boxes[:, 1] >= config.minimum_bounding_box_height


def _sorted(boxes: Floats, scores: Floats) -> Detections:
    order = np.argsort(-scores, kind="stable")
    return Detections(boxes[order].astype(np.float32), scores[order].astype(np.float32))
