"""The one definition of what the detector sees of a picture. Training, validation, evaluation, inference and
calibration all take it from here, and it travels in the model file.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from PIL import Image

from ..errors import ModelFileError
from .image import luma
from .sample import ByteArray, FloatArray

STRIDE = 16
POLICIES = ("letterbox", "fit", "stretch", "pad_crop")


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in the network's input: input = picture * scale + shift, in pixel edges."""

    scale_x: float
    scale_y: float
    shift_x: float
    shift_y: float

    def to_input(self, boxes: FloatArray) -> FloatArray:
        """Boxes [..., 4] in pixels of the picture -> of the input, unclipped."""
        return (np.asarray(boxes, np.float64) * self._scales() + self._shifts()).astype(np.float32)

    def to_picture(self, boxes: FloatArray) -> FloatArray:
        """Boxes [..., 4] in pixels of the input -> of the picture, unclipped."""
        return ((np.asarray(boxes, np.float64) - self._shifts()) / self._scales()).astype(np.float32)

    def _scales(self) -> np.ndarray:
        return np.array([self.scale_x, self.scale_y] * 2)

    def _shifts(self) -> np.ndarray:
        return np.array([self.shift_x, self.shift_y] * 2)


@dataclass(frozen=True)
class PicturePreprocessing:
    """How a picture becomes the network's input (§4.5, §4.6).

    Attributes:
        width, height: of the input, pixels, divisible by 16.
        grayscale: luma in all three channels.
        resize: letterbox: the whole picture, centred on black; fit: the same, but a picture that is smaller keeps its
            size; stretch: the whole picture, its shape changed; pad_crop: not resized, black to the right and below,
            what is too wide or too high cut off there.
    """

    width: int
    height: int
    grayscale: bool = False
    resize: str = "letterbox"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PicturePreprocessing:
        """Raises ModelFileError on a key or a value that this version would not honour."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ModelFileError(f"preprocessing: unknown key {unknown[0]!r}; update facetrain to use this model")
        if absent := sorted(known - set(values)):
            raise ModelFileError(f"preprocessing: {absent[0]!r} is missing; the model file is damaged")
        result = cls(**values)
        for name in ("width", "height"):
            value = getattr(result, name)
            if type(value) is not int or value <= 0 or value % STRIDE:
                raise ModelFileError(f"preprocessing: {name}={value!r} is not a positive multiple of {STRIDE}")
        if type(result.grayscale) is not bool:
            raise ModelFileError(f"preprocessing: grayscale={result.grayscale!r} is neither true nor false")
        if result.resize not in POLICIES:
            raise ModelFileError(f"preprocessing: resize={result.resize!r}; accepted: {', '.join(POLICIES)}")
        return result

    def place(self, width: int, height: int) -> Placement:
        """Where a picture of this size, pixels, comes to lie."""
        if self.resize == "pad_crop":
            return Placement(1.0, 1.0, 0.0, 0.0)
        columns, rows = self.width, self.height
        if self.resize != "stretch":
            scale = min(self.width / width, self.height / height)
            scale = min(scale, 1.0) if self.resize == "fit" else scale
            columns, rows = max(round(width * scale), 1), max(round(height * scale), 1)
        left, top = (self.width - columns) // 2, (self.height - rows) // 2
        return Placement(columns / width, rows / height, float(left), float(top))

    def cuts_off(self, width: int, height: int) -> bool:
        """Whether a part of a picture of this size, pixels, is lost."""
        return self.resize == "pad_crop" and (width > self.width or height > self.height)

    def apply(self, image: ByteArray) -> tuple[ByteArray, Placement]:
        """The input [height, width, 3] uint8 of a picture, RGB [H, W, 3] or grey [H, W], and where the picture lies."""
        rows, columns = image.shape[:2]
        place = self.place(columns, rows)
        if self.grayscale:
            image = luma(image)
        if self.resize == "pad_crop":
            part = image[: self.height, : self.width]
        else:
            size = round(columns * place.scale_x), round(rows * place.scale_y)
            part = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))  # antialiased
        result = np.zeros((self.height, self.width, 3), np.uint8)
        left, top = round(place.shift_x), round(place.shift_y)
        result[top : top + part.shape[0], left : left + part.shape[1]] = three_channels(part)
        return result, place


def three_channels(image: ByteArray) -> ByteArray:
    """[H, W, 3], a view, of grey [H, W] or of RGB."""
    return image if image.ndim == 3 else np.broadcast_to(image[..., None], (*image.shape, 3))
