"""Which detection found which face: one table of labelled boxes, one of detections, over all pictures (gridbox §8.1).

A detection belongs to the labelled box of its class, in its picture, that it overlaps most, if IoU reaches the
threshold; the most confident one that belongs to a box has found it, the others are false positives. This is PASCAL
VOC's rule and TAO's. (COCO's lets the second one try the next box; with faces, which hardly overlap each other by a
half, that makes no difference.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..datasets.sample import DetectionSample
from ..errors import FacetrainError
from .boxes import NONE, Floats, Indices, best_overlaps

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PictureDetections:
    """What was found in one picture.

    Attributes:
        boxes: [D, 4] float (x1, y1, x2, y2), pixel edges of the full picture.
        scores: [D] confidences.
        labels: [D] int, the index of each box's class.
        size: (width, height) of the picture in pixels.
    """

    boxes: NDArray[np.floating]
    scores: NDArray[np.floating]
    labels: NDArray[np.integer]
    size: tuple[int, int]


@dataclass(frozen=True)
class Labelled:
    """The G labelled boxes and M ignore regions of all pictures.

    Attributes:
        boxes: [G, 4], pixels of their picture.
        picture, labels: [G] the index of the picture and of the class.
        attributes: [G] each, by name; NaN where the label says nothing.
        regions: [M, 4] ignore regions, of every class.
        region_picture: [M].
    """

    boxes: Floats
    picture: Indices
    labels: Indices
    attributes: dict[str, Floats]
    regions: Floats
    region_picture: Indices


@dataclass(frozen=True)
class Found:
    """The D detections of all pictures, the most confident first, and what each is worth.

    Attributes:
        boxes: [D, 4], pixels of their picture.
        picture, labels: [D] the index of the picture and of the class.
        scores: [D], falling; of equal ones that of the first picture comes first.
        face: [D] the row of the labelled box that it belongs to, or `NONE`.
        hit: [D] it found that box.
        covered: [D] it lies in an ignore region, and so is no false positive: as with COCO's crowds, what counts is
            the part of its own area that one region covers.
    """

    boxes: Floats
    picture: Indices
    labels: Indices
    scores: Floats
    face: Indices
    hit: Mask
    covered: Mask


def gather_labels(samples: Sequence[DetectionSample]) -> Labelled:
    """The labels of all pictures in one table."""
    names = dict.fromkeys(name for sample in samples for name in sample.attributes)
    attributes = {
        name: _joined([sample.attributes.get(name, np.full(len(sample.boxes), np.nan)) for sample in samples], (0,))
        for name in names
    }
    return Labelled(
        boxes=_joined([sample.boxes for sample in samples], (0, 4)),
        picture=np.repeat(np.arange(len(samples)), [len(sample.boxes) for sample in samples]),
        labels=_joined([sample.labels for sample in samples], (0,)).astype(np.intp),
        attributes=attributes,
        regions=_joined([sample.ignore for sample in samples], (0, 4)),
        region_picture=np.repeat(np.arange(len(samples)), [len(sample.ignore) for sample in samples]),
    )


def match(
    labelled: Labelled, predictions: Sequence[PictureDetections], iou_thresholds: Floats, whole_pixels: bool = False
) -> Found:
    """The detections of all pictures, ranked and matched.

    Args:
        iou_thresholds: [C] least overlap of each class.
        whole_pixels: edges are rounded first, halves to the even pixel, and the last pixel belongs to the box, as TAO
            has it.

    Raises:
        FacetrainError: a box or a score is not finite. It would otherwise be ranked at random.
    """
    boxes = _joined([prediction.boxes for prediction in predictions], (0, 4))
    scores = _joined([prediction.scores for prediction in predictions], (0,))
    labels = _joined([prediction.labels for prediction in predictions], (0,)).astype(np.intp)
    picture = np.repeat(np.arange(len(predictions)), [len(prediction.scores) for prediction in predictions])
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise FacetrainError("a detection's box or confidence is not finite: the network's weights are damaged")
    order = np.argsort(-scores, kind="stable")
    boxes, picture, labels, scores = boxes[order], picture[order], labels[order], scores[order]

    classes = 1 + max(labels.max(initial=0), labelled.labels.max(initial=0))
    ours, theirs = (_whole(edges) if whole_pixels else edges for edges in (boxes, labelled.boxes))
    nearest, overlap = best_overlaps(
        ours, picture * classes + labels, theirs, labelled.picture * classes + labelled.labels
    )
    least = iou_thresholds[labels]
    face = np.where(overlap >= least, nearest, NONE)
    hit = np.zeros(len(face), bool)
    first = np.unique(face, return_index=True)[1]
    hit[first] = face[first] != NONE
    _, inside = best_overlaps(boxes, picture, labelled.regions, labelled.region_picture, over_own_area=True)
    return Found(boxes, picture, labels, scores, face, hit, inside >= least)


def _whole(boxes: Floats) -> Floats:
    """Boxes whose area counts pixels: from the first one's edge to the far edge of the last one."""
    return np.asarray(np.rint(boxes) + np.array([0, 0, 1, 1]))


def _joined(parts: Sequence[NDArray], empty: tuple[int, ...]) -> Floats:
    """The rows of all pictures as float64; `empty` is the shape of none."""
    return np.concatenate([np.zeros(empty), *parts])
