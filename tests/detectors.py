"""Detectors whose answers are known: each cell of the grid looks at one pixel, and red or green there is a find."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facetrain.configs.facenet.schema import ModelConfig
from facetrain.datasets.resizing import PicturePreprocessing
from facetrain.facenet_trainer.network import GridBoxArchitecture, GridBoxNet, build_model
from facetrain.training.model_file import ModelMeta, save_model

SIZE = (96, 64)
CLUSTERING = {"algorithm": "nms", "coverage_threshold": 0.5}


def write_detector(
    path: Path,
    distances: Sequence[float] = (10, 12, 14, 16),
    classes: Sequence[str] = ("face",),
    size: tuple[int, int] = SIZE,
    metrics: dict[str, float] | None = None,
    **clustering: Any,
) -> Path:
    """A model file that finds the first class where the pixel at the top left of a cell is red, and the second, if
    there is one, where it is green. The box goes from that pixel so many pixels to the left, up, right and down. The
    coverage is sigmoid(20 (r - 0.5)) with r = red - (green + blue) / 2, of channels from 0 to 1.
    """
    full = build_model(ModelConfig(num_layers=10), ["face"]).architecture
    network = GridBoxNet(
        GridBoxArchitecture(num_layers=10, classes=tuple(classes), channels=dict.fromkeys(full.channels, 2))
    )
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.fill_(1.0 if ".bn_" in f".{name}" and name.endswith("weight") else 0.0)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_var.fill_(1 - module.eps)
        network.conv1.weight[0, :, 3, 3] = torch.tensor([1.0, -0.5, -0.5])
        network.conv1.weight[1, :, 3, 3] = torch.tensor([-0.5, 1.0, -0.5])
        for block in network.architecture.sub_blocks():
            network.get_submodule(block.name).conv_shortcut.weight[:, :, 0, 0] = torch.eye(2)
        network.output_cov.weight[:, :, 0, 0] = 20 * torch.eye(2)[: len(classes)]
        network.output_cov.bias.fill_(-10)
        network.output_bbox.bias.copy_(torch.tensor(list(distances) * len(classes)) / 35)
    preprocessing = PicturePreprocessing(*size).to_dict()
    config = {"clustering": CLUSTERING | clustering}
    scheme = {"classes": list(classes)}
    meta = ModelMeta(network.architecture.to_dict(), scheme, preprocessing, config, metrics or {})
    save_model(path, network.state_dict(), meta)
    return path


def marked(*cells: tuple[int, int], size: tuple[int, int] = SIZE, colour: tuple[int, int, int] = (255, 0, 0)):
    """A black picture [H, W, 3] with a mark of 12 pixels about what each (column, row) of the grid looks at."""
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    for column, row in cells:
        mark(picture, column, row, colour)
    return picture


def mark(picture: np.ndarray, column: int, row: int, colour: tuple[int, int, int] = (255, 0, 0)) -> None:
    x, y = 16 * column, 16 * row
    picture[max(y - 6, 0) : y + 6, max(x - 6, 0) : x + 6] = colour
