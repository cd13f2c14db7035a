"""Random changes of training crops: TAO's augmentation, each doing what its name says.

The order is a camera's: where things are (warp), what covers them (patch), light and film (tone), optics (resizing,
blur), sensor (noise). Picture and points go through the same matrix on pixel centres.
"""

from __future__ import annotations

import os
import random
from typing import Any

import cv2
import numpy as np

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it asks a server for its newest version on import otherwise
import albumentations as A

from ..configs.fpenet.schema import AugmentConfig
from ..errors import ConfigError
from .sample import ByteArray, FloatArray, PointState

cv2.setNumThreads(0)  # crops are too small for threads, and loader processes fork: OpenCV's pool would not survive that

SMALLEST_PATCH = 10  # pixels, the reference's

Parameters = dict[str, Any]


class FaceAugment:
    """The changes of `AugmentConfig`, for crops of one size.

    Args:
        augment: the ranges.
        size: side S of the crop that comes out.
        margin: pixels m around it in the crop that goes in, for the warp to draw from; beyond them it is black.
        flip: the keypoint scheme's permutation, new[i] = old[flip[i]]; None: never mirror.
    """

    def __init__(self, augment: AugmentConfig, size: int, margin: int, flip: list[int] | None) -> None:
        _check_blur(augment, size)
        self.size, self.margin = size, margin
        self._warp = _Warp(augment, size, margin, flip)
        self._patch = _Patch(augment, size)
        steps = [self._warp, self._patch, _Tone(augment), _Degrade(augment, size)]
        # Points are moved here, by the parameters that the steps drew: Compose's own handling of them takes 100 us.
        self._pipeline = A.Compose(steps + _optics(augment), is_check_shapes=False)

    def __call__(
        self, crop: ByteArray, points: FloatArray, states: np.ndarray, seed: int
    ) -> tuple[ByteArray, FloatArray, np.ndarray]:
        """A changed copy; a pure function of its arguments.

        Args:
            crop: grey [S + 2m, S + 2m].
            points: [K, 2] in pixels of the inner S x S crop, NaN where missing. They may lie outside.
            states: [K] of `PointState`.
            seed: 0 or more.

        Returns the crop [S, S], the points [K, 2] in its pixels (unclipped, NaN where missing) and the states [K] int8.
        """
        # One stream of random numbers for all steps. (Compose.set_random_seed would hand every step the same stream,
        # so that the picture is mirrored exactly when it is also blurred.)
        self._pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        image = self._pipeline(image=crop[..., None])["image"][..., 0]
        points, states = self._warp.move(points, states)
        return image, points, self._patch.cover(points, states)


def _optics(augment: AugmentConfig) -> list[A.BasicTransform]:
    """What albumentations has as it is needed here: blur and noise."""
    steps: list[A.BasicTransform] = []
    if augment.blur_prob > 0:
        steps.append(A.OneOf([A.Blur((k, k), p=1.0) for k in augment.blur_kernel_sizes], p=augment.blur_prob))
    if augment.noise_prob > 0:
        steps.append(A.GaussNoise(std_range=(0.0, augment.noise_std_max), p=augment.noise_prob))
    return steps


class _Warp(A.ImageOnlyTransform):
    """Mirror, box shift, rotation, zoom and translation as one interpolation from the margin crop to the crop."""

    def __init__(self, augment: AugmentConfig, size: int, margin: int, flip: list[int] | None) -> None:
        super().__init__(p=1.0)
        self.augment, self.size, self.margin = augment, size, margin
        self.permutation = None if flip is None else np.asarray(flip)

    def get_params(self) -> Parameters:
        draw, augment, size = self.py_random, self.augment, self.size
        mirrored = self.permutation is not None and draw.random() < augment.hflip_prob
        shift_x = shift_y = growth = 0.0
        if draw.random() < augment.shift_prob:
            shift_x, shift_y, growth = (_spread(draw, augment.shift_percent_max) for _ in range(3))
        matrix = similarity(
            size,
            angle=_spread(draw, augment.rotate_rad_max),
            zoom=draw.uniform(augment.zoom_min, augment.zoom_max),
            shift=(_spread(draw, augment.translate_max_x), _spread(draw, augment.translate_max_y)),
        )
        # A square that lies shift to the right and is 1 + growth as large shows everything so much further left and
        # smaller. The share that it grows by is kept away from -1.
        scale = 1 / max(1 + growth, 0.1)
        moved_square = np.diag([scale, scale, 1.0])
        moved_square[:2, 2] = -shift_x * size * scale, -shift_y * size * scale
        flip = np.array([[-1.0, 0, size], [0, 1, 0], [0, 0, 1]]) if mirrored else np.eye(3)
        # Those act on pixel edges, where the crop is [0, S]; images and points are warped by pixel centres.
        to_edges, to_centres = np.eye(3), np.eye(3)
        to_edges[:2, 2], to_centres[:2, 2] = 0.5 - self.margin, -0.5
        return {"matrix": to_centres @ matrix @ moved_square @ flip @ to_edges, "mirrored": mirrored}

    def apply(self, img: ByteArray, matrix: FloatArray, **_: Any) -> ByteArray:
        return cv2.warpAffine(img, matrix[:2], (self.size, self.size), flags=cv2.INTER_LINEAR)[..., None]

    def move(self, points: FloatArray, states: np.ndarray) -> tuple[FloatArray, np.ndarray]:
        """The points [K, 2] and states [K] of the crop that was warped last."""
        drawn = self.params
        if drawn["mirrored"]:
            points, states = points[self.permutation], states[self.permutation]
        matrix = drawn["matrix"]
        moved = (points + self.margin) @ matrix[:2, :2].T + matrix[:2, 2]
        return moved.astype(np.float32), states.astype(np.int8)


class _Patch(A.ImageOnlyTransform):
    """A rectangle anywhere, flat grey or noise."""

    def __init__(self, augment: AugmentConfig, size: int) -> None:
        super().__init__(p=augment.patch_prob)
        largest = augment.size_to_image_ratio * size
        self.sides = (min(SMALLEST_PATCH, largest), largest)
        self.size, self.mask = size, augment.mask_augmentation_patch

    def get_params(self) -> Parameters:
        draw = self.py_random
        width, height = (max(1, int(draw.uniform(*self.sides))) for _ in range(2))
        left, top = draw.randint(0, self.size - width), draw.randint(0, self.size - height)
        if draw.random() < 0.5:
            fill = np.uint8(draw.randrange(256))
        else:
            fill = self.random_generator.integers(0, 256, (height, width, 1), np.uint8)
        return {"hole": (left, top, left + width, top + height), "fill": fill}

    def apply(self, img: ByteArray, hole: tuple[int, int, int, int], fill: Any, **_: Any) -> ByteArray:
        left, top, right, bottom = hole
        covered = img.copy()
        covered[top:bottom, left:right] = fill
        return covered

    def cover(self, points: FloatArray, states: np.ndarray) -> np.ndarray:
        """The states [K] of points [K, 2] under the rectangle that was drawn last, if one was."""
        if not (self.mask and self.params):
            return states
        left, top, right, bottom = self.params["hole"]
        x, y = points[:, 0] + 0.5, points[:, 1] + 0.5
        hit = (x >= left) & (x < right) & (y >= top) & (y < bottom) & (states == PointState.VISIBLE)
        return np.where(hit, PointState.OCCLUDED, states).astype(np.int8)


class _Tone(A.ImageOnlyTransform):
    """Gamma, then contrast about a grey value, then added light: one table of 256 values."""

    def __init__(self, augment: AugmentConfig) -> None:
        super().__init__(p=1.0)
        self.augment = augment

    def get_params(self) -> Parameters:
        draw, augment = self.py_random, self.augment
        table = np.arange(256.0)
        if draw.random() < augment.gamma_prob:
            if augment.gamma_type == "uniform":
                gamma = draw.uniform(augment.gamma_min, augment.gamma_max)
            else:
                gamma = abs(draw.gauss(augment.gamma_mu, augment.gamma_std))
            table = 255 * (table / 255) ** gamma
        contrast = 1 + _spread(draw, augment.contrast_scale_max)
        light = 255 * _spread(draw, augment.brightness_scale_max)
        table = (table - augment.contrast_center) * contrast + augment.contrast_center + light
        return {"table": np.clip(table + 0.5, 0, 255).astype(np.uint8)}

    def apply(self, img: ByteArray, table: ByteArray, **_: Any) -> ByteArray:
        return table[img]


class _Degrade(A.ImageOnlyTransform):
    """Resizing there and back."""

    def __init__(self, augment: AugmentConfig, size: int) -> None:
        super().__init__(p=augment.resize_prob)
        self.side = max(1, round(size * augment.resize_scale))

    def apply(self, img: ByteArray, **_: Any) -> ByteArray:
        size = img.shape[0]
        smaller = self.side < size
        between = cv2.resize(img, (self.side, self.side), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        return cv2.resize(between, (size, size), interpolation=cv2.INTER_LINEAR)[..., None]


def similarity(size: int, *, angle: float, zoom: float, shift: tuple[float, float]) -> FloatArray:
    """[3, 3] on pixel edges of a crop: rotation by `angle` radians and magnification by `zoom` about the centre
    (size / 2, size / 2), then a shift in pixels."""
    c, s = zoom * np.cos(angle), zoom * np.sin(angle)
    centre = size / 2
    x = centre - c * centre + s * centre + shift[0]
    y = centre - s * centre - c * centre + shift[1]
    return np.array([[c, -s, x], [s, c, y], [0, 0, 1]])


def _spread(draw: random.Random, largest: float) -> float:
    return draw.uniform(-largest, largest)


def _check_blur(augment: AugmentConfig, size: int) -> None:
    """Raises ConfigError when there is no kernel to draw, or one larger than the crop."""
    sizes = augment.blur_kernel_sizes
    if augment.blur_prob > 0 and (not sizes or max(sizes) > size):
        raise ConfigError(f"augment.blur_kernel_sizes={list(sizes)}: expected odd numbers from 3 to {size}, as [3, 5]")
