"""Random changes of training crops: TAO's augmentation, each doing what its name says.

The order is a camera's: where things are (warp), what covers them (patch), light and film (tone), optics (resizing,
blur), sensor (noise). Picture and points go through the same matrix on pixel centres. Plain functions on OpenCV: a crop
takes some 40 microseconds, of which albumentations' frame alone would be as much again.
"""

from __future__ import annotations

import math
import random

import cv2
import numpy as np
from numpy.typing import NDArray

from ..configs.fpenet.schema import AugmentConfig
from ..errors import ConfigError
from .sample import ByteArray, FloatArray, PointState

cv2.setNumThreads(0)  # crops are too small for threads, and loader processes fork: OpenCV's pool would not survive that

SMALLEST_PATCH = 10  # pixels, the reference's
GREYS = np.arange(256.0)

Hole = tuple[int, int, int, int]  # left, top, right, bottom


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
        self.augment, self.size, self.margin = augment, size, margin
        self._permutation = None if flip is None else np.asarray(flip)

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
        draw, augment = random.Random(seed), self.augment
        mirrored = self._permutation is not None and draw.random() < augment.hflip_prob
        matrix = self._matrix(draw, mirrored)
        image = cv2.warpAffine(crop, matrix, (self.size, self.size), flags=cv2.INTER_LINEAR)
        if mirrored:
            points, states = points[self._permutation], states[self._permutation]
        points = ((points + np.float32(self.margin)) @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        states = states.astype(np.int8)
        if draw.random() < augment.patch_prob:
            hole = self._patch(draw, image)
            if augment.mask_augmentation_patch:
                states = covered(points, states, hole)
        image = cv2.LUT(image, self._tone(draw))
        if draw.random() < augment.resize_prob:
            image = self._resized(image)
        if draw.random() < augment.blur_prob:
            kernel = draw.choice(augment.blur_kernel_sizes)
            image = cv2.blur(image, (kernel, kernel))
        if draw.random() < augment.noise_prob:
            image = _noisy(draw, image, 255 * draw.uniform(0.0, augment.noise_std_max))
        return image, points, states

    def _matrix(self, draw: random.Random, mirrored: bool) -> FloatArray:
        """[2, 3]: mirror, box shift, rotation, zoom and translation, from pixel centres of the margin crop to those of
        the crop."""
        augment, size = self.augment, self.size
        shift_x = shift_y = growth = 0.0
        if draw.random() < augment.shift_prob:
            shift_x, shift_y, growth = (_spread(draw, augment.shift_percent_max) for _ in range(3))
        angle = _spread(draw, augment.rotate_rad_max)
        zoom = draw.uniform(augment.zoom_min, augment.zoom_max)
        move_x, move_y = _spread(draw, augment.translate_max_x), _spread(draw, augment.translate_max_y)
        # A square that lies shift to the right and is 1 + growth as large shows everything so much further left and
        # smaller. The share that it grows by is kept away from -1.
        scale = 1 / max(1 + growth, 0.1)
        c, s = zoom * math.cos(angle), zoom * math.sin(angle)
        # All of it acts on pixel edges, where the crop is [0, S] and its centre S / 2. A pixel of the margin crop at u
        # has its centre at u + edge; the mirror and the square's move take that to sign scale u + x0.
        edge, centre, sign = 0.5 - self.margin, size / 2, -1.0 if mirrored else 1.0
        x0 = scale * (sign * edge + (size if mirrored else 0.0) - shift_x * size) - centre
        y0 = scale * (edge - shift_y * size) - centre
        across, down = sign * scale, scale
        return np.array(
            [
                [c * across, -s * down, c * x0 - s * y0 + centre + move_x - 0.5],
                [s * across, c * down, s * x0 + c * y0 + centre + move_y - 0.5],
            ]
        )

    def _patch(self, draw: random.Random, image: ByteArray) -> Hole:
        """Covers a rectangle with flat grey or with noise; tells which."""
        largest = self.augment.size_to_image_ratio * self.size
        smallest = min(SMALLEST_PATCH, largest)
        width, height = (max(1, int(draw.uniform(smallest, largest))) for _ in range(2))
        left, top = draw.randint(0, self.size - width), draw.randint(0, self.size - height)
        central = self.augment.patch == "centre"
        if central:
            left, top = (self.size - width) // 2, (self.size - height) // 2
        hole = image[top : top + height, left : left + width]
        if central or draw.random() < 0.5:
            hole[:] = draw.randrange(256)
        else:
            hole[:] = np.frombuffer(draw.randbytes(height * width), np.uint8).reshape(height, width)
        return left, top, left + width, top + height

    def _tone(self, draw: random.Random) -> ByteArray:
        """[256] what becomes of each grey value: gamma, then contrast about a grey value, then added light."""
        augment, table = self.augment, GREYS
        if draw.random() < augment.gamma_prob:
            if augment.gamma_type == "uniform":
                gamma = draw.uniform(augment.gamma_min, augment.gamma_max)
            else:
                gamma = abs(draw.gauss(augment.gamma_mu, augment.gamma_std))
            table = 255 * (table / 255) ** gamma
        contrast = 1 + _spread(draw, augment.contrast_scale_max)
        light = 255 * _spread(draw, augment.brightness_scale_max)
        return _bytes(table * contrast + ((1 - contrast) * augment.contrast_center + light))

    def _resized(self, image: ByteArray) -> ByteArray:
        """Resizing there and back."""
        size = self.size
        side = max(1, round(size * self.augment.resize_scale))
        between = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if side < size else cv2.INTER_LINEAR)
        return cv2.resize(between, (size, size), interpolation=cv2.INTER_LINEAR)


def covered(points: FloatArray, states: np.ndarray, hole: Hole) -> np.ndarray:
    """The states [K] int8, visible points [K, 2] under the rectangle occluded."""
    left, top, right, bottom = hole
    x, y = points[:, 0] + 0.5, points[:, 1] + 0.5
    hit = (x >= left) & (x < right) & (y >= top) & (y < bottom) & (states == PointState.VISIBLE)
    return np.where(hit, PointState.OCCLUDED, states).astype(np.int8)


def _noisy(draw: random.Random, image: ByteArray, deviation: float) -> ByteArray:
    """With sensor noise of a standard deviation in grey values."""
    normal = np.random.default_rng(draw.getrandbits(64)).standard_normal(image.shape, np.float32)
    return _bytes(image + np.float32(deviation) * normal)


def _bytes(values: NDArray[np.floating]) -> ByteArray:
    """Rounded, and clipped to 0..255."""
    values += 0.5
    np.maximum(values, 0, out=values)  # np.clip takes twice as long as all the rest for 256 values
    np.minimum(values, 255, out=values)
    return values.astype(np.uint8)


def _spread(draw: random.Random, largest: float) -> float:
    return draw.uniform(-largest, largest)


def _check_blur(augment: AugmentConfig, size: int) -> None:
    """Raises ConfigError when there is no kernel to draw, or one larger than the crop."""
    sizes = augment.blur_kernel_sizes
    if augment.blur_prob > 0 and (not sizes or max(sizes) > size):
        raise ConfigError(f"augment.blur_kernel_sizes={list(sizes)}: expected odd numbers from 3 to {size}, as [3, 5]")
