"""Pictures in. Every reader, the data set check and inference open a picture here and nowhere else."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import DataError
from .sample import ByteArray

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
ORIENTATION = 0x0112  # the EXIF tag
# What Pillow raises on damaged files, depending on the format.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, Image.DecompressionBombError)


def read_image(path: Path, *, grey: bool) -> ByteArray:
    """The picture as bytes: [H, W] luma (0.299 R + 0.587 G + 0.114 B) if `grey`, else RGB [H, W, 3].

    It is turned upright as its EXIF tag says; 16 bits are scaled to 8; transparent parts become black, as the padding
    of crops is. Raises DataError when the file is missing, truncated or no picture.
    """
    try:
        with Image.open(path) as image:
            image.load()
            upright = _eight_bits(ImageOps.exif_transpose(image))
            return np.asarray(upright.convert("L" if grey else "RGB"))
    except _BROKEN as error:
        raise DataError(f"{path}: {_reason(path, error)}") from error


@dataclass(frozen=True)
class PictureHead:
    """What a picture's file is, whatever its name says.

    Attributes:
        format: as Pillow names it: "JPEG", "PNG", "BMP", ...
        mode: of its samples, as Pillow names it: "L", "RGB", "RGBA", "CMYK", "P", "I;16", ...
        bits: of a sample.
        transparent: whether it has transparent parts, or could have.
        orientation: its EXIF tag; 1 where it is upright or does not say.
        size: (width, height) of the upright picture.
    """

    format: str
    mode: str
    bits: int
    transparent: bool
    orientation: int
    size: tuple[int, int]


def examine(path: Path, scale: float) -> tuple[PictureHead, ByteArray]:
    """What the file is, and the picture decoded to its end: grey [h, w] as `read_image` makes it, upright.

    A JPEG may come smaller, by a power of 2 and by no more than `scale` (0 to 1) asks for, which takes less time. Grey
    then is the JPEG's own luma, the same but for rounding. Raises DataError as `read_image` does.
    """
    try:
        with Image.open(path) as image:
            rawmode = str(image.tile[0][3]) if image.format == "PNG" else ""  # Pillow makes 8 bits of colours itself
            deep = image.mode.startswith("I") or "16" in rawmode
            orientation = image.getexif().get(ORIENTATION, 1)
            size = image.size if orientation < 5 else (image.height, image.width)
            transparent = image.has_transparency_data
            head = PictureHead(image.format or "", image.mode, 16 if deep else 8, transparent, orientation, size)
            image.draft("L", (round(image.width * scale), round(image.height * scale)))
            image.load()
            return head, np.asarray(_eight_bits(ImageOps.exif_transpose(image)).convert("L"))
    except _BROKEN as error:
        raise DataError(f"{path}: {_reason(path, error)}") from error


def luma(image: ByteArray) -> ByteArray:
    """Grey [H, W] as `read_image` makes it, of RGB [H, W, 3] or of grey."""
    return image if image.ndim == 2 else np.asarray(Image.fromarray(image).convert("L"))


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of the upright picture, read from the file's head only. Raises DataError as `read_image`."""
    (width, height), orientation = stored_size(path)
    return (height, width) if orientation >= 5 else (width, height)


def stored_size(path: Path) -> tuple[tuple[int, int], int]:
    """(width, height) of the picture before its EXIF tag turns it, and the tag, 1 to 8. Raises DataError as
    `read_image`."""
    try:
        with Image.open(path) as image:
            tag = image.getexif().get(ORIENTATION, 1)
            return image.size, tag if isinstance(tag, int) else 1  # a damaged tag may be anything
    except _BROKEN as error:
        raise DataError(f"{path}: {_reason(path, error)}") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """A picture whose samples are bytes and which has no transparency."""
    if image.mode == "F":
        raise ValueError("floating-point samples; save the picture with 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64)
        return Image.fromarray(np.clip(values / 257 + 0.5, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        upper = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", upper.size, "black"), upper)
    return image


def _reason(path: Path, error: Exception) -> str:
    if not os.path.exists(path):  # Path.exists raises on names that the system cannot have
        return "no such picture"
    return f"the picture cannot be read ({error or type(error).__name__}); replace it or take it out of the labels"
