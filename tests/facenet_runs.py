"""Small runs of FaceNet: the command line, on painted pictures, with a network of 8 channels, in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from facetrain.configs.facenet.schema import DataConfig, MetricsConfig, SourceConfig
from facetrain.configs.schema import SplitConfig
from facetrain.datasets.detection_sources import read_detection_sets
from facetrain.facenet_trainer.detection_results import predict_pictures
from facetrain.facenet_trainer.network import GridBoxArchitecture, GridBoxNet, start_heads
from facetrain.facenet_trainer.predictor import Predictor
from facetrain.tests.runs import QUICK, facenet
from facetrain.training.model_file import ModelMeta, save_model

WIDTH, HEIGHT = 96, 64
SMALL = (f"input.width={WIDTH}", f"input.height={HEIGHT}", *QUICK)
STILL = (  # no augmentation
    "augment.hflip_probability=0", "augment.zoom_min=1", "augment.zoom_max=1", "augment.translate_max_x=0",
    "augment.translate_max_y=0", "augment.hue_rotation_max=0", "augment.saturation_shift_max=0",
    "augment.contrast_scale_max=0",
)  # fmt: skip
LEARNS = (  # statistics of batch normalisation take hundreds of steps to follow, so they stay
    *STILL, "model.freeze_bn=true", "loss.coverage=focal", "loss.bbox=giou", "loss.bbox_weight=1", "train.epochs=40",
    "train.learning_rate=1e-2", "train.schedule=cosine", "train.batch_size=8", "train.ema=0.9",
    "clustering.algorithm=nms", "clustering.coverage_threshold=0.05",
)  # fmt: skip


def train_arguments(pictures: Path, model: Path | str, folder: Path, *overrides: str) -> list[str]:
    """`train` on a folder of KITTI labels, from a model file; overrides count last."""
    source = "data.train=[{format: kitti, path: .}]"
    return [
        "train", source, f"data.root={pictures}", f"model.pretrained={model}", f"results_dir={folder}", *SMALL,
        *overrides,
    ]  # fmt: skip


def train(pictures: Path, model: Path | str, folder: Path, *overrides: str) -> Path:
    """A run that must succeed, and its folder."""
    assert facenet(*train_arguments(pictures, model, folder, *overrides)) == 0
    return folder


def measured(pictures: Path, model: Path) -> dict[str, float]:
    """What a model file is worth on a folder of KITTI labels."""
    data = DataConfig(root=str(pictures), train=[SourceConfig(format="kitti", path=".")], split=SplitConfig(fraction=0))
    samples = read_detection_sets(data).train
    return predict_pictures(Predictor.load(str(model), "cpu"), samples, data.ignore, MetricsConfig()).results.summary()


def narrow_model(path: Path, *, channels: int = 8, **architecture: Any) -> Path:
    """A model file of ResNet-10 with that many channels in every layer, and random weights."""
    whole = GridBoxArchitecture(num_layers=10)
    torch.manual_seed(0)
    network = GridBoxNet(
        GridBoxArchitecture(num_layers=10, channels=dict.fromkeys(whole.channels, channels), **architecture)
    )
    start_heads(network)
    size = {"width": WIDTH, "height": HEIGHT, "grayscale": False, "resize": "letterbox"}
    built = network.architecture
    save_model(path, network.state_dict(), ModelMeta(built.to_dict(), {"classes": list(built.classes)}, size))
    return path


def kitti_line(box: Any, name: str = "face") -> str:
    """A label of 15 columns."""
    corners = " ".join(f"{value:.2f}" for value in box)
    return f"{name} 0.00 0 0.00 {corners} {' '.join(['0.00'] * 7)}"


def paint_pictures(folder: Path, count: int, seed: int) -> None:
    """Grey noise with one or two bright rectangles apart from each other in every picture, and labels beside them."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        image = rng.integers(20, 90, (HEIGHT, WIDTH, 3), np.uint8)
        lines = []
        for half in range(1 + index % 2):
            width, height = rng.integers(20, 40, 2)
            x, y = rng.integers(48 * half, 48 * half + 48 - width + 1), rng.integers(0, HEIGHT - height + 1)
            image[y : y + height, x : x + width] = rng.integers(180, 256, (height, width, 3))
            lines.append(kitti_line((x, y, x + width, y + height)))
        Image.fromarray(image).save(folder / f"{index:02}.png")
        (folder / f"{index:02}.txt").write_text("\n".join(lines) + "\n")
