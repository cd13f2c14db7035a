"""Pictures as bytes: what every script begins with."""

import math
import sys
from pathlib import Path

import numpy as np


def read(path):
    """Bytes [H, W, ...] of a .npy array, a PPM or PGM file; of any other picture where Pillow is installed."""
    if path.endswith(".npy"):
        return np.load(path)
    data = Path(path).read_bytes()
    words = [word for line in data[:999].splitlines() for word in line.partition(b"#")[0].split()]
    if words[:1] in ([b"P5"], [b"P6"]) and words[3:4] == [b"255"]:
        shape = int(words[2]), int(words[1]), 3 if words[0] == b"P6" else 1
        return np.frombuffer(data[-math.prod(shape) :], np.uint8).reshape(shape)
    try:
        from PIL import Image, ImageOps
    except ImportError:
        sys.exit(f"{path}: give a .npy array or an 8-bit PPM or PGM file, or `pip install pillow` for other formats")
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "black"), image))[..., :3]


def luma(image):
    """Grey [H, W] of RGB or grey."""
    grey = image @ np.array([19595, 38470, 7471]) + 0x8000 >> 16 if image.shape[2:] == (3,) else image
    return grey.astype(np.uint8).reshape(image.shape[:2])


def resized(image, width, height, box=None):
    """The part `box` (x1, y1, x2, y2) of bytes [H, W, ...] by Pillow's antialiased triangle, to the bit."""
    x1, y1, x2, y2 = np.float32(box or (0, 0, image.shape[1], image.shape[0]))
    turned = image.shape[0] - height > max(2 * (image.shape[1] - width), 0)  # when Pillow 13 begins with y
    for axis, low, high, size in ((1, x1, x2, width), (0, y1, y2, height))[:: -1 if turned else 1]:
        step = float(high - low) / size
        reach = max(step, 1.0)
        centre = low + (np.arange(size)[:, None] + 0.5) * step
        first, last = (np.floor(centre + side + 0.5).clip(0, image.shape[axis]) for side in (-reach, reach))
        pixel = first + np.arange(int(2 * reach) + 2)
        weight = np.maximum(1 - np.abs(pixel + 0.5 - centre) / reach, 0) * (pixel < last)
        weight = np.floor(weight / weight.sum(axis=1, keepdims=True) * 2**22 + 0.5)
        lines, pixel = np.moveaxis(image, axis, -1), pixel.clip(max=image.shape[axis] - 1).astype(int)
        total = sum(lines[..., pixel[:, tap]] * weight[:, tap] for tap in range(pixel.shape[1]))
        image = np.moveaxis(np.floor(total / 2**22 + 0.5).clip(0, 255).astype(np.uint8), -1, axis)
    return image
