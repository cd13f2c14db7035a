"""The ELT loss: transform a face, and its points must move with it (Honari et al., CVPR 2018, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..configs.fpenet.schema import EltConfig


def sample_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of one face in one epoch, whatever batch or process it falls into."""
    return np.random.default_rng([seed, epoch, index])


def random_similarity(config: EltConfig, size: int, generators: Sequence[np.random.Generator]) -> Tensor:
    """Random similarities [N, 2, 3] on pixel indices of a square crop, one from each generator.

    Rotation and zoom about the crop's centre, then a shift: a point p moves to A p + b.
    """
    draws = torch.tensor(np.array([generator.random(4) for generator in generators]), dtype=torch.float32)

    def uniform(column: int, low: float, high: float) -> Tensor:
        return low + (high - low) * draws[:, column]

    angle = uniform(0, -config.rotate_rad_max, config.rotate_rad_max)
    zoom = uniform(1, config.zoom_min, config.zoom_max)
    shift = torch.stack([uniform(axis, -config.translate_max, config.translate_max) for axis in (2, 3)], dim=1)
    cos, sin = zoom * torch.cos(angle), zoom * torch.sin(angle)
    linear = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], dim=1)
    centre = torch.full((2,), (size - 1) / 2)
    offset = centre - linear @ centre + shift
    return torch.cat([linear, offset[..., None]], dim=2)


def transform_points(points: Tensor, similarity: Tensor) -> Tensor:
    """Points [N, K, 2] under similarities [N, 2, 3]."""
    return points @ similarity[:, :, :2].transpose(1, 2) + similarity[:, None, :, 2]


def transform_images(images: Tensor, similarity: Tensor) -> Tensor:
    """Square images [N, 1, S, S] under similarities [N, 2, 3], bilinear, black outside; pixels and points agree."""
    size = images.shape[-1]
    linear = similarity[:, :, :2]
    inverse = torch.linalg.inv(linear)
    # grid_sample with align_corners=True counts pixel centres from -1 to 1: u = (index - c) / c.
    c = (size - 1) / 2
    centre = torch.full((2,), c, device=images.device)
    offset = (inverse @ (centre - similarity[:, :, 2])[..., None]).squeeze(-1) - centre
    theta = torch.cat([inverse, (offset / c)[..., None]], dim=2)
    grid = F.affine_grid(theta, list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
