"""The canvas a drawn head is painted on: a texture laid out as the chart of the head's surface, and its brushes."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .face_template import CELLS_S, CELLS_Y, Array, grid_place

SAMPLES = 7  # dots along each side of a cell of the surface grid
HEIGHT, WIDTH = CELLS_Y * SAMPLES, CELLS_S * SAMPLES
UNIT = 98.0  # dots a unit of length near the nose
_SHIFT = 4  # fractional bits of OpenCV's polygon coordinates

Part = tuple[slice, slice]


def _noise(blur_s: float, blur_y: float) -> Array:
    noise = np.random.default_rng(7).normal(size=(2 * HEIGHT, 2 * WIDTH)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), sigmaX=blur_s, sigmaY=blur_y)
    return noise / noise.std()


_turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
_CIRCLE: Array = np.stack([np.cos(_turn), np.sin(_turn)], axis=1)
STREAKS = _noise(1.3, 14)  # hair, which hangs down the chart
GRAIN = _noise(1.2, 1.2)


def to_dots(chart: Array) -> Array:
    """Chart places [N,2] as pixel indices of the texture."""
    return grid_place(chart) * SAMPLES - 0.5


def blur(mask: NDArray[Any], sigma: float) -> NDArray[Any]:
    """Nearly a Gaussian blur, at a cost that doesn't grow with sigma: two running means."""
    if sigma < 1.5:
        return cv2.GaussianBlur(mask, (0, 0), sigma)
    side = 2 * round(sigma * 1.22) + 1
    return cv2.blur(
        cv2.blur(mask, (side, side), borderType=cv2.BORDER_REPLICATE), (side, side), borderType=cv2.BORDER_REPLICATE
    )


def ellipse(centre: Array | tuple[float, float], width: float, height: float) -> Array:
    """An outline [20,2] in chart units."""
    return _CIRCLE * (width, height) + centre


class Canvas:
    """The texture, and brushes that take outlines in chart units."""

    def __init__(self, ground: Array) -> None:
        """ground: coarse albedo [rows, columns] of any size, smoothly enlarged."""
        self.texture: Array = cv2.resize(ground, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)

    def pick(self, bank: Array, rng: np.random.Generator) -> Array:
        """A random part, of the texture's size, of a bank of noise."""
        y, x = rng.integers(0, (HEIGHT, WIDTH))
        return bank[y : y + HEIGHT, x : x + WIDTH]

    def mask(
        self, outline: Array, soft: float, width: float | None = None, part: Part | None = None
    ) -> tuple[Array, Part]:
        """Coverage 0..1 of a filled outline [N,2], or of a line `width` units wide, and where that is."""
        dots = to_dots(outline)
        if part is None:
            reach = int(3 * soft * UNIT + (width or 0) * UNIT) + 2
            low = np.maximum(np.floor(dots.min(axis=0)).astype(int) - reach, 0)
            high = np.minimum(np.ceil(dots.max(axis=0)).astype(int) + reach + 1, (WIDTH, HEIGHT))
            part = (slice(low[1], high[1]), slice(low[0], high[0]))
        mask = np.zeros((part[0].stop - part[0].start, part[1].stop - part[1].start), np.uint8)
        path = [np.rint((dots - (part[1].start, part[0].start)) * 2**_SHIFT).astype(np.int32)]
        if width is None:
            cv2.fillPoly(mask, path, 255, cv2.LINE_AA, _SHIFT)
        else:
            cv2.polylines(mask, path, False, 255, max(1, round(width * UNIT)), cv2.LINE_AA, _SHIFT)
        if soft:
            mask = blur(mask, soft * UNIT)
        return mask.astype(np.float32) / 255, part

    def fill(self, outline: Array, albedo: float | Array, soft: float = 0.0, strength: float = 1.0) -> None:
        mask, part = self.mask(outline, soft)
        self.blend(mask * strength, part, albedo)

    def line(self, path: Array, albedo: float, width: float, soft: float = 0.0, strength: float = 1.0) -> None:
        mask, part = self.mask(path, soft, width)
        self.blend(mask * strength, part, albedo)

    def gain(self, outline: Array, factor: float, soft: float, width: float | None = None) -> None:
        """Darken (factor below 1) or lighten what is there."""
        mask, part = self.mask(outline, soft, width)
        self.texture[part] *= 1 - mask * (1 - factor)

    def blend(self, mask: Array, part: Part, albedo: float | Array) -> None:
        self.texture[part] += mask * (albedo - self.texture[part])
