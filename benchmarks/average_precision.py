"""Average precision over many detections, beside faster-coco-eval.

    python benchmarks/average_precision.py [--detections 100000] [--rounds 3]

Both begin with the arrays of every picture and end with a number: ours with AP at IoU 0.5, faster-coco-eval with its
AP at the same single IoU and all detections of a picture, so that both do the same work. It is timed with and without
making the dictionaries that it takes as its input. The faces lie apart from each other, where both rules of matching
agree; the APs differ by COCO's 101 recalls only, and are printed beside each other with ours at those recalls.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from facetrain.configs.facenet.schema import MetricsConfig
from facetrain.datasets.sample import DetectionSample
from facetrain.facenet_trainer.matching import PictureDetections
from facetrain.facenet_trainer.metrics import detection_results

SIDE, CELL = 640, 80  # a face in each cell of a grid, or none
A_PICTURE = 50  # detections, on average


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detections", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    pictures = [draw(rng) for _ in range(arguments.detections // A_PICTURE)]
    samples, predictions = [p[0] for p in pictures], [p[1] for p in pictures]
    total = sum(len(prediction.scores) for prediction in predictions)
    print(f"{total:,} detections of {sum(len(s.boxes) for s in samples):,} faces in {len(samples):,} pictures")
    rounds = []
    for _ in range(arguments.rounds):
        start = time.perf_counter()
        results = detection_results(samples, predictions, ["face"], MetricsConfig())
        curve = results.curve(0)
        ours = curve.average_precision()
        matched = time.perf_counter()
        truth, found = coco_input(samples, predictions)
        made = time.perf_counter()
        theirs = coco_ap(truth, found)
        rounds.append((matched - start, time.perf_counter() - made, time.perf_counter() - matched))
    reached = np.searchsorted(curve.recall, np.linspace(0, 1, 101))
    sampled = np.append(np.maximum.accumulate(curve.precision[::-1])[::-1], 0)[reached].mean()
    own, bare, whole = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"ours              {own:6.3f} s   AP {ours:.5f}, at COCO's recalls {sampled:.5f}")
    print(f"faster-coco-eval  {bare:6.3f} s   AP {theirs:.5f}   {whole:.3f} s with its input")
    ratios = [statistics.median(row[i] / row[0] for row in rounds) for i in (1, 2)]
    print(f"median ratio {ratios[0]:.1f}, with its input {ratios[1]:.1f}, of {arguments.rounds} rounds")


def draw(rng: np.random.Generator) -> tuple[DetectionSample, PictureDetections]:
    """A picture with a face in about half of the cells of a grid, most of them found, some twice, and some beside."""
    corner = np.stack(np.meshgrid(np.arange(SIDE // CELL), np.arange(SIDE // CELL)), axis=-1).reshape(-1, 2) * CELL
    boxes = np.concatenate([corner + rng.uniform(5, 20, corner.shape), corner + rng.uniform(45, 75, corner.shape)], 1)
    is_face = rng.uniform(size=len(boxes)) < 0.5
    spoken = np.flatnonzero(rng.uniform(size=len(boxes)) < np.where(is_face, 0.85, 0.5))
    which = np.concatenate([spoken, spoken[rng.uniform(size=len(spoken)) < 0.15]])
    found = (boxes[which] + rng.normal(0, 2.5, (len(which), 4))).astype(np.float32)
    scores = rng.uniform(size=len(which)) * np.where(is_face[which], 1, 0.7)
    faces = boxes[is_face].astype(np.float32)
    sample = DetectionSample(
        Path(), faces, np.zeros(len(faces), np.int64), np.zeros((0, 4), np.float32), size=(SIDE, SIDE)
    )
    return sample, PictureDetections(found, scores, np.zeros(len(which), np.int64), (SIDE, SIDE))


def coco_input(
    samples: list[DetectionSample], predictions: list[PictureDetections]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same labels and detections as COCO's dictionaries."""
    shared: dict[str, Any] = {
        "images": [{"id": i, "width": SIDE, "height": SIDE} for i in range(1, len(samples) + 1)],
        "categories": [{"id": 1, "name": "face"}],
    }
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for i, (sample, prediction) in enumerate(zip(samples, predictions, strict=True), start=1):
        for x1, y1, x2, y2 in sample.boxes.tolist():
            truth.append(annotation(i, len(truth) + 1, [x1, y1, x2 - x1, y2 - y1]))
        for (x1, y1, x2, y2), score in zip(prediction.boxes.tolist(), prediction.scores.tolist(), strict=True):
            found.append(annotation(i, len(found) + 1, [x1, y1, x2 - x1, y2 - y1]) | {"score": score})
    return {**shared, "annotations": truth}, {**shared, "annotations": found}


def annotation(image: int, number: int, box: list[float]) -> dict[str, Any]:
    return {"image_id": image, "id": number, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}


def coco_ap(truth: dict[str, Any], found: dict[str, Any]) -> float:
    """AP at IoU 0.5 over faces of all sizes and all detections."""
    evaluation = COCOeval_faster(COCO(truth), COCO(found), iouType="bbox")
    evaluation.params.iouThrs = np.array([0.5])
    evaluation.params.areaRng = evaluation.params.areaRng[:1]
    evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
    evaluation.params.maxDets = [1000]
    evaluation.evaluate()
    evaluation.accumulate()
    return float(np.mean(evaluation.eval["precision"][0, :, 0, 0, 0]))


if __name__ == "__main__":
    main()
