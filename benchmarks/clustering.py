"""Clustering of FaceNet's outputs, 26 x 46 cells a picture, beside scikit-learn's DBSCAN on the matrix of distances.

    python benchmarks/clustering.py [--pictures 20] [--rounds 5]

Both begin with all boxes and coverages of a picture and end with its merged boxes and confidences; scikit-learn's way
includes the matrix, computed in numpy at once, and the weighted means. The two take turns, so that the machine's speed
of the moment is the same for both, and their results must be equal. Prints the median time a picture of each and the
median ratio of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import DBSCAN

from facetrain.configs.facenet.schema import ClusteringConfig
from facetrain.facenet_trainer.clustering import Detections, cluster

ROWS, COLUMNS, STRIDE = 26, 46, 16
FACES = {10: 1, 100: 8, 1000: 60}  # candidate cells -> faces that they point at
CONFIG = ClusteringConfig()
Picture = tuple[NDArray[np.float32], NDArray[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=20, help="a round and number of candidates")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for candidates, faces in FACES.items():
        rng = np.random.default_rng(candidates)
        compare([draw(rng, candidates, faces) for _ in range(arguments.pictures)], candidates, arguments.rounds)


def draw(rng: np.random.Generator, candidates: int, faces: int) -> Picture:
    """Boxes [1196, 4] and coverages [1196] of a picture in which `candidates` cells are lit, each by the nearest face.

    The network's boxes of one face differ by some hundredths of its size; most of its cells are lit well.
    """
    size = np.array([COLUMNS, ROWS]) * STRIDE
    centre, side = rng.uniform(0, size, (faces, 2)), rng.uniform(20, 160, (faces, 1))
    cells = np.stack(np.meshgrid(np.arange(COLUMNS), np.arange(ROWS)), axis=-1).reshape(-1, 2) * STRIDE + STRIDE / 2
    distance = np.linalg.norm(cells[:, None] - centre, axis=2) / side.T
    face = distance.argmin(axis=1)
    boxes = np.concatenate([centre - side / 2, centre + side / 2], axis=1)[face]
    boxes += rng.normal(0, 0.03, boxes.shape) * side[face]
    coverage = np.zeros(len(cells), np.float32)
    lit = np.argsort(distance.min(axis=1))[:candidates]
    coverage[lit] = rng.beta(2, 1, candidates)
    return boxes.astype(np.float32), np.maximum(coverage, 0.01 * (coverage > 0)).astype(np.float32)


def scikit_learn(boxes: NDArray[np.float32], coverage: NDArray[np.float32]) -> Detections:
    """Merged boxes of one picture, as TAO's inference makes them (gridbox §7.2)."""
    lit = coverage > CONFIG.coverage_threshold
    edges, weight = boxes[lit].astype(np.float64), coverage[lit].astype(np.float64)
    x1, y1, x2, y2 = edges.T
    width = np.maximum(np.minimum.outer(x2, x2) - np.maximum.outer(x1, x1), 0)
    height = np.maximum(np.minimum.outer(y2, y2) - np.maximum.outer(y1, y1), 0)
    shared, area = width * height, (x2 - x1) * (y2 - y1)
    distance = 1 - shared / (np.add.outer(area, area) - shared)
    search = DBSCAN(eps=CONFIG.dbscan_eps + 1e-12, min_samples=1, metric="precomputed")
    labels = search.fit_predict(distance, sample_weight=weight)
    members = [labels == k for k in range(labels.max() + 1)]
    means = np.array([np.average(edges[m], axis=0, weights=weight[m]) for m in members]).reshape(-1, 4)
    scores = np.array([weight[m].sum() for m in members])
    high = means[:, 3] - means[:, 1] >= CONFIG.minimum_bounding_box_height
    means, scores = means[high], scores[high]
    order = np.argsort(-scores, kind="stable")
    return Detections(means[order].astype(np.float32), scores[order].astype(np.float32))


def compare(pictures: list[Picture], candidates: int, rounds: int) -> None:
    """Times both, `rounds` times after a first round that warms up and compares their results."""
    for picture in pictures:
        ours, theirs = cluster(*picture, CONFIG), scikit_learn(*picture)
        np.testing.assert_allclose(ours.boxes, theirs.boxes, rtol=1e-6, atol=1e-4)
        np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-6)
    found = statistics.mean(len(cluster(*picture, CONFIG)) for picture in pictures)
    times = [
        (seconds(lambda p: cluster(*p, CONFIG), pictures), seconds(lambda p: scikit_learn(*p), pictures))
        for _ in range(rounds)
    ]
    ours_time, theirs_time = (statistics.median(column) * 1e6 for column in zip(*times, strict=True))
    ratio = statistics.median(theirs / ours for ours, theirs in times)
    print(
        f"{candidates:5} candidates, {found:5.1f} boxes a picture: ours {ours_time:8.0f} us   scikit-learn "
        f"{theirs_time:8.0f} us   ratio {ratio:6.1f}   equal"
    )


def seconds(cluster_one: Callable[[Picture], Detections], pictures: list[Picture]) -> float:
    """Median time of one picture."""
    times = []
    for picture in pictures:
        start = time.perf_counter()
        cluster_one(picture)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    main()
