"""The one definition of what the network sees of a face. Training, evaluation, inference, calibration and the exported
files all take it from here, and it travels in the model file.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ModelFileError
from .sample import ByteArray, FaceSample, FloatArray

LUMA = (0.299, 0.587, 0.114)
RESIZE = "antialiased bilinear"

Square = tuple[float, float, float]  # x1, y1, side in pixel edges of the full picture


@dataclass(frozen=True)
class Preprocessing:
    """How a face becomes a crop.

    Attributes:
        size: side of the crop, pixels.
        crop_source: what the square is laid around: the "points" or the label's or detector's "box".
        enlarge: side of the square as a multiple of the longer side of that.
        shift_x, shift_y: shift of its centre, as a share of that longer side.
        channels, colour_weights: one channel of luma.
        resize: the interpolation. What lies outside the picture is 0.
        scale, mean: the network is fed scale * (value - mean).
    """

    size: int = 80
    crop_source: str = "points"
    enlarge: float = 1.25
    shift_x: float = 0.0
    shift_y: float = 0.0
    channels: int = 1
    colour_weights: tuple[float, float, float] = LUMA
    resize: str = RESIZE
    scale: float = 1.0
    mean: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"colour_weights": list(self.colour_weights)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """Raises ModelFileError on a key or a value that this version would not honour."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ModelFileError(f"preprocessing: unknown key {unknown[0]!r}; update facetrain to use this model")
        if absent := sorted(known - set(values)):
            raise ModelFileError(f"preprocessing: {absent[0]!r} is missing; the model file is damaged")
        try:
            weights = tuple(float(weight) for weight in values["colour_weights"])
            result = cls(**values | {"colour_weights": weights})
            result._check()
        except (TypeError, ValueError) as error:
            raise ModelFileError(f"preprocessing: {error}") from error
        return result

    def _check(self) -> None:
        honoured = {
            "crop_source": ("points", "box"),
            "channels": (1,),
            "colour_weights": (LUMA,),
            "resize": (RESIZE,),
            "scale": (1.0,),
            "mean": (0.0,),
        }
        for name, accepted in honoured.items():
            if (value := getattr(self, name)) not in accepted:
                raise ValueError(f"{name}={value!r} is not known here; accepted: {', '.join(map(str, accepted))}")
        if not (isinstance(self.size, int) and self.size > 0):
            raise ValueError(f"size={self.size!r} is not a positive whole number")
        for name in ("enlarge", "shift_x", "shift_y"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and math.isfinite(value)):
                raise ValueError(f"{name}={value!r} is not a number")
        if self.enlarge <= 0:
            raise ValueError(f"enlarge={self.enlarge!r} is not positive")

    def square(self, points: FloatArray | None, box: FloatArray | None) -> Square | None:
        """The square to cut out for a face, in pixel edges: (x1, y1, side).

        Args:
            points: [K, 2] pixels, NaN where missing.
            box: [x1, y1, x2, y2] pixel edges.

        Returns None when neither has an extent. The other one stands in where `crop_source` is missing.
        """
        boxes = [_points_box(points), _usable(box)]
        if self.crop_source == "box":
            boxes.reverse()
        for found in boxes:
            if found is not None:
                x1, y1, x2, y2 = found
                longer = max(x2 - x1, y2 - y1)
                side = longer * self.enlarge
                centre_x = (x1 + x2) / 2 + self.shift_x * longer
                centre_y = (y1 + y2) / 2 + self.shift_y * longer
                return centre_x - side / 2, centre_y - side / 2, side
        return None


def square_of(sample: FaceSample, preprocessing: Preprocessing) -> Square | None:
    """The square of a face: the one that its crop was cut by, else `Preprocessing.square`."""
    return preprocessing.square(sample.points, sample.box) if sample.cut is None else sample.cut.square


def to_crop(points: FloatArray, square: Square, size: int) -> FloatArray:
    """Pixels of the full picture [..., 2] -> pixels of the crop."""
    x1, y1, side = square
    corner = np.array([x1, y1])
    return ((points + 0.5 - corner) * (size / side) - 0.5).astype(np.float32)


def to_image(points: FloatArray, square: Square, size: int) -> FloatArray:
    """Pixels of the crop [..., 2] -> pixels of the full picture."""
    x1, y1, side = square
    corner = np.array([x1, y1])
    return ((points + 0.5) * (side / size) + corner - 0.5).astype(np.float32)


def cut(image: ByteArray, square: Square, size: int, margin: int = 0) -> ByteArray:
    """The square as a crop of [size + 2 margin] pixels a side; grey [H, W] or RGB [H, W, 3] in, the same kind out.

    The margin lies around the square on the same pixel grid: the middle of a margin crop is the crop without one.
    What lies outside the picture is 0, so that no face at the border is lost.
    """
    x1, y1, side = square
    step = side / size
    reach = max(step, 1.0)  # of the antialiased triangle
    left, top = x1 - margin * step, y1 - margin * step
    width = side + 2 * margin * step
    # Only the pixels that matter, cut at whole pixels: small numbers keep Pillow's 32-bit box exact.
    column, row = math.floor(left - reach), math.floor(top - reach)
    columns, rows = math.ceil(left + width + reach) - column, math.ceil(top + width + reach) - row
    patch = np.zeros((rows, columns, *image.shape[2:]), np.uint8)
    inside_rows = slice(max(row, 0), max(min(row + rows, image.shape[0]), 0))
    inside_columns = slice(max(column, 0), max(min(column + columns, image.shape[1]), 0))
    part = image[inside_rows, inside_columns]
    if part.size:
        y, x = inside_rows.start - row, inside_columns.start - column
        patch[y : y + part.shape[0], x : x + part.shape[1]] = part
    pixels = size + 2 * margin
    box = (left - column, top - row, left - column + width, top - row + width)
    return np.array(Image.fromarray(patch).resize((pixels, pixels), Image.Resampling.BILINEAR, box=box))


def _points_box(points: FloatArray | None) -> NDArray[np.float64] | None:
    """The box of the known points in pixel edges, through the points' centres."""
    if points is None:
        return None
    known = points[np.isfinite(points).all(axis=-1)]
    if not len(known):
        return None
    return _usable(np.concatenate([known.min(axis=0), known.max(axis=0)]).astype(np.float64) + 0.5)


def _usable(box: NDArray[np.floating] | None) -> NDArray[np.float64] | None:
    """The box in double precision, or None where it has no extent."""
    if box is None:
        return None
    wide = np.asarray(box, np.float64)
    return wide if np.isfinite(wide).all() and max(wide[2] - wide[0], wide[3] - wide[1]) > 0 else None
