"""Reader and augmentation in crops a second on one core, beside the same changes made the plain way.

    python benchmarks/reader.py FOLDER_WITH_PTS [--faces 300] [--rounds 3]

The plain way decodes the full picture at every use, cuts the crop with its margin and runs the same changes as
albumentations' own transforms, with points. Both use the same files, in the same process and run, one thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

import cv2
import numpy as np

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations as A

from facetrain.configs.fpenet.schema import AugmentConfig, SourceConfig
from facetrain.datasets.faces import FaceDataset, margin_for
from facetrain.datasets.formats.pts import read_pts_folder
from facetrain.datasets.preprocessing import Preprocessing
from facetrain.datasets.sample import FaceSample
from facetrain.datasets.transforms import FaceAugment
from facetrain.fpenet_trainer.schemes import load_scheme

SIZE = 80


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--faces", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    samples, _ = read_pts_folder(SourceConfig(format="pts", path="."), arguments.folder)
    samples = samples[: arguments.faces]
    config = AugmentConfig()
    scheme = load_scheme("", 68)
    assert scheme.flip is not None
    preprocessing = Preprocessing(size=SIZE)
    augment = FaceAugment(config, SIZE, margin_for(SIZE), list(scheme.flip))
    start = time.perf_counter()
    cached = FaceDataset(samples, preprocessing, augment, seed=0, cache=True)
    print(
        f"decoding and cutting {len(cached)} faces once, on {os.cpu_count()} cores: {time.perf_counter() - start:.2f} s"
    )
    decoded = FaceDataset(samples, preprocessing, augment, seed=0, cache=False)
    plain = plain_pipeline(config)
    ways = {
        "cached crops": lambda epoch: [cached[(epoch, i)] for i in range(len(cached))],
        "decoding each time": lambda epoch: [decoded[(epoch, i)] for i in range(len(decoded))],
        "plain way": lambda epoch: [plain_item(sample, preprocessing, plain, scheme.flip) for sample in samples],
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for epoch in range(arguments.rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            way(epoch)
            if epoch:
                rates[name].append(len(samples) / (time.process_time() - start))
    for name, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(values, rates["plain way"], strict=True))
        print(f"{name:20} {statistics.median(values):8.0f} crops a second of CPU time, {ratio:5.2f} x the plain way")


def plain_pipeline(config: AugmentConfig) -> A.Compose:
    """The same changes as a user would write them with albumentations."""
    shift = config.translate_max_x / SIZE
    degrees = float(np.rad2deg(config.rotate_rad_max))
    return A.Compose(
        [
            A.HorizontalFlip(p=config.hflip_prob),
            A.Affine(
                scale=(config.zoom_min, config.zoom_max),
                translate_percent=(-shift, shift),
                rotate=(-degrees, degrees),
                p=1.0,
            ),
            A.CoarseDropout(
                num_holes_range=(1, 1),
                hole_height_range=(0.125, config.size_to_image_ratio),
                hole_width_range=(0.125, config.size_to_image_ratio),
                fill="random_uniform",
                p=config.patch_prob,
            ),
            A.RandomGamma(gamma_limit=(100 * config.gamma_min, 100 * config.gamma_max), p=config.gamma_prob),
            A.RandomBrightnessContrast(config.brightness_scale_max, config.contrast_scale_max, p=1.0),
            A.Downscale(scale_range=(config.resize_scale, config.resize_scale), p=config.resize_prob),
            A.Blur(blur_limit=(3, 5), p=config.blur_prob),
        ],
        keypoint_params=A.KeypointParams(format="xy", remove_invisible=False),
        save_applied_params=True,
    )


def plain_item(sample: FaceSample, preprocessing: Preprocessing, pipeline: A.Compose, flip: tuple[int, ...]) -> object:
    """Decode, cut with a margin, change, cut the middle out, put the mirrored points in order."""
    picture = cv2.imread(str(sample.image), cv2.IMREAD_GRAYSCALE)
    square = preprocessing.square(sample.points, sample.box)
    assert picture is not None and square is not None
    x1, y1, side = square
    margin = margin_for(SIZE)
    full = SIZE + 2 * margin
    step = side / SIZE
    matrix = np.array([[1 / step, 0, margin - x1 / step], [0, 1 / step, margin - y1 / step]])
    crop = cv2.warpAffine(picture, matrix, (full, full))
    points = (sample.points + 0.5) @ matrix[:, :2].T + matrix[:, 2] - 0.5
    result = pipeline(image=crop[..., None], keypoints=points)
    moved = np.asarray(result["keypoints"]) - margin
    if any(name == "HorizontalFlip" for name, _ in result["applied_transforms"]):
        moved = moved[list(flip)]
    return result["image"][margin:-margin, margin:-margin], moved


if __name__ == "__main__":
    main()
