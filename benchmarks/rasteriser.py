"""The rasteriser on a batch of faces, beside a plain loop over the boxes.

    python benchmarks/rasteriser.py [--images 16] [--faces 40] [--rounds 20]

The plain loop draws one box after the other, each with NumPy over the cells that it reaches. Both make the same targets
of the same boxes, at 736x416, in the same process and in turn; prints milliseconds a batch and the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from facetrain.configs.facenet.schema import RasterizerConfig
from facetrain.facenet_trainer.targets import rasterize

GRID, STRIDE, SCALE, OFFSET = (26, 46), 16, 35.0, 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--faces", type=int, default=40, help="of each image")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    for name, config in {
        "FaceNet's spec": RasterizerConfig(),
        "radius 0.6": RasterizerConfig(cov_radius_x=0.6, cov_radius_y=0.6),
    }.items():
        compare(name, config, arguments.images, arguments.faces, arguments.rounds)


def compare(name: str, config: RasterizerConfig, images: int, faces: int, rounds: int) -> None:
    boxes = random_boxes(images, faces)
    labels = torch.zeros(images, faces, dtype=torch.int64)
    numpy_boxes, numpy_labels = boxes.numpy(), labels.numpy()
    batched, plain = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        targets = rasterize(boxes, labels, [config], grid=GRID)
        middle = time.perf_counter()
        reference = plain_rasterize(numpy_boxes, numpy_labels, config, GRID, 1)
        plain.append(time.perf_counter() - middle)
        batched.append(middle - start)
    for ours, theirs in zip(targets, reference, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6)
    ours, theirs = (1e3 * statistics.median(times) for times in (batched, plain))
    lit = float((targets.coverage > 0).float().mean())
    print(
        f"{name}: {images} images of {faces} faces, {lit:.0%} of the cells covered: batched {ours:.1f} ms, plain loop "
        f"{theirs:.1f} ms, ratio {theirs / ours:.1f}, results equal"
    )


def random_boxes(images: int, faces: int) -> torch.Tensor:
    """[images, faces, 4] of heights log-uniform from 14 to 200 px, anywhere, some over the border."""
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(3, images, faces, generator=generator)
    height = 14 * (200 / 14) ** u[0]
    x, y = u[1] * GRID[1] * STRIDE, u[2] * GRID[0] * STRIDE
    return torch.stack([x - 0.4 * height, y - 0.5 * height, x + 0.4 * height, y + 0.5 * height], dim=2)


def plain_rasterize(
    boxes: np.ndarray, labels: np.ndarray, config: RasterizerConfig, grid: tuple[int, int], classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coverage, coverage_norm and bbox of boxes [B, N, 4], box by box in the order of their bottom edges."""
    planes = (len(boxes), classes, *grid)
    coverage, norm, bbox = np.zeros(planes), np.zeros(planes), np.zeros((len(boxes), classes, 4, *grid))
    for image in range(len(boxes)):
        for index in np.argsort(boxes[image, :, 3], kind="stable"):
            label = labels[image, index]
            if label >= 0:
                plane = (coverage[image, label], norm[image, label], bbox[image, label])
                _draw_box(boxes[image, index].astype(float), config, *plane)
    return coverage, norm, bbox.reshape(len(boxes), classes * 4, *grid)


def _draw_box(
    box: np.ndarray, config: RasterizerConfig, coverage: np.ndarray, norm: np.ndarray, bbox: np.ndarray
) -> None:
    x1, y1, x2, y2 = box / STRIDE
    cx, cy = x1 + config.cov_center_x * (x2 - x1), y1 + config.cov_center_y * (y2 - y1)
    half_x = cx - x1 if config.cov_center_x < 0.5 else x2 - cx
    half_y = cy - y1 if config.cov_center_y < 0.5 else y2 - cy
    ax, ay = max(config.cov_radius_x * half_x, 0.1), max(config.cov_radius_y * half_y, 0.1)
    if ax < config.bbox_min_radius:
        ax, ay = config.bbox_min_radius, ay * (config.bbox_min_radius / ax)
    if ay < config.bbox_min_radius:
        ax, ay = ax * (config.bbox_min_radius / ay), config.bbox_min_radius
    reach = config.deadzone_radius
    dx, dy = max((1 - reach) * ax + reach * half_x, ax), max((1 - reach) * ay + reach * half_y, ay)
    height, width = coverage.shape
    left, right = max(int(np.floor(cx - dx)), 0), min(int(np.ceil(cx + dx)), width)
    top, bottom = max(int(np.floor(cy - dy)), 0), min(int(np.ceil(cy + dy)), height)
    if left >= right or top >= bottom:
        return
    samples_x = np.arange(left, right)[:, None] + (np.arange(4) + 0.5) / 4 - cx
    samples_y = np.arange(top, bottom)[:, None] + (np.arange(4) + 0.5) / 4 - cy

    def share(rx: float, ry: float) -> np.ndarray:
        squares = (samples_x * ry)[None, :, None, :] ** 2 + (samples_y * rx)[:, None, :, None] ** 2
        return (squares < (rx * ry) ** 2).mean(axis=(2, 3))

    lit, dead = share(ax, ay), share(dx, dy)
    here = (slice(top, bottom), slice(left, right))
    most = coverage[here]
    cleared = (dead > 0) & (dead >= most)
    taken = cleared & (lit > 0)
    y, x = np.mgrid[top:bottom, left:right] * STRIDE + OFFSET
    distances = np.stack([x - box[0], y - box[1], box[2] - x, box[3] - y]) / SCALE
    coverage[here] = np.where(cleared, lit, most)
    norm[here] = np.where(cleared, lit / max(4 * ax * ay, 1), norm[here])
    bbox[:, here[0], here[1]] = np.where(taken, distances, np.where(cleared, 0.0, bbox[:, here[0], here[1]]))


if __name__ == "__main__":
    main()
