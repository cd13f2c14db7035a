"""COCO's mean average precision, through faster-coco-eval."""

from __future__ import annotations

from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from .boxes import Floats, areas
from .matching import Found, Labelled, Mask


def coco_figures(labelled: Labelled, counted: Mask, found: Found, kept: Mask, sizes: NDArray) -> dict[str, float]:
    """`coco_map` (mean over IoU 0.5, 0.55, ... 0.95), `coco_map_50` and `coco_map_75`, 0 to 1; NaN without faces.

    They are COCO's own: 101 recalls, its rule of matching, and the 100 most confident detections of a class in a
    picture. A picture with more faces than that cannot reach 1.

    Args:
        counted: [G] labelled boxes that are to be found; the others, and the ignore regions, are given as crowds.
        kept: [D] detections to take in.
        sizes: [P, 2] width and height of each picture, pixels.
    """
    labels = sorted(set(labelled.labels.tolist()) | set(found.labels.tolist()))
    pictures: dict[str, Any] = {
        "images": [{"id": i, "width": int(w), "height": int(h)} for i, (w, h) in enumerate(sizes, start=1)],
        "categories": [{"id": label + 1, "name": str(label)} for label in labels],
    }
    truth = _annotations(labelled.boxes, labelled.picture, labelled.labels, iscrowd=~counted)
    for label in labels:
        crowd = np.ones(len(labelled.regions), bool)
        truth += _annotations(labelled.regions, labelled.region_picture, np.full(len(crowd), label), iscrowd=crowd)
    for number, annotation in enumerate(truth, start=1):
        annotation["id"] = number
    results = _annotations(
        found.boxes[kept], found.picture[kept], found.labels[kept], iscrowd=np.zeros(kept.sum(), bool)
    )
    for number, (annotation, score) in enumerate(zip(results, found.scores[kept].tolist(), strict=True), start=1):
        annotation |= {"id": number, "score": score}
    evaluation = COCOeval_faster(
        COCO({**pictures, "annotations": truth}), COCO({**pictures, "annotations": results}), iouType="bbox"
    )
    evaluation.evaluate()
    evaluation.accumulate()
    # [IoU threshold, recall, class, area range, detections a picture]: areas of all sizes, 100 detections.
    precision = np.asarray(evaluation.eval["precision"])[:, :, :, 0, -1]
    return {
        "coco_map": _known_mean(precision),
        "coco_map_50": _known_mean(precision[0]),
        "coco_map_75": _known_mean(precision[5]),
    }


def _annotations(boxes: Floats, picture: NDArray, labels: NDArray, iscrowd: Mask) -> list[dict[str, Any]]:
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
    columns = zip(picture.tolist(), labels.tolist(), xywh, areas(boxes).tolist(), iscrowd.tolist(), strict=True)
    return [
        {"image_id": i + 1, "category_id": label + 1, "bbox": box, "area": area, "iscrowd": int(crowd)}
        for i, label, box, area, crowd in columns
    ]


def _known_mean(precision: NDArray) -> float:
    """Mean where there are faces: -1 stands where there are none."""
    known = precision[precision > -1]
    return float(known.mean()) if known.size else float("nan")
