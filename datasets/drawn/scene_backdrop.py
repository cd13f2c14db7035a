"""What a drawn scene shows besides faces: light, shapes, patterns, and round things of the colour of skin."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..sample import FloatArray

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_SHIFT = 4  # fractional bits of OpenCV's coordinates


def draw_backdrop(rng: np.random.Generator, width: int, height: int) -> FloatArray:
    """A picture [height, width, 3] of 0..1 without a face, more or less out of focus."""
    defocus = float(rng.choice([1.0, 1.0, 0.5, 0.25]))  # drawn smaller, then enlarged: cheap blur
    picture = _clouds(rng, round(width * defocus), round(height * defocus))
    for _ in range(rng.integers(0, 26)):
        draw = (_polygon, _polygon, _pattern, _line, _ball)[rng.integers(5)]
        draw(rng, picture)
    if defocus == 1:
        return picture
    soft = cv2.GaussianBlur(picture, (0, 0), 1.0)  # or the small picture's pixels would show
    return cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)


def skin_tint(rng: np.random.Generator) -> FloatArray:
    """Red, green and blue of skin of brightness 1."""
    green = rng.uniform(0.68, 0.85)
    return _of_luma_one(np.array([1.0, green, green - rng.uniform(0.06, 0.24)], np.float32))


def hair_tint(rng: np.random.Generator) -> FloatArray:
    green = rng.uniform(0.72, 1.0)
    return _of_luma_one(np.array([1.0, green, green - rng.uniform(0.0, 0.3)], np.float32))


def cloth_tint(rng: np.random.Generator) -> FloatArray:
    return _of_luma_one(1 + rng.uniform(0, 1) ** 2 * rng.uniform(-0.8, 0.8, 3).astype(np.float32))


def _of_luma_one(colour: FloatArray) -> FloatArray:
    return colour / (colour @ LUMA)


def _colour(rng: np.random.Generator) -> FloatArray:
    return np.clip(rng.uniform(0, 1) * cloth_tint(rng), 0, 1)


def _clouds(rng: np.random.Generator, width: int, height: int) -> FloatArray:
    """Two colours in soft clouds, over a slope of light."""
    low, high = _colour(rng), _colour(rng)
    share = np.zeros((height, width), np.float32)
    for cells, weight in ((3, 1.0), (9, 0.5), (28, 0.25)):
        noise = rng.normal(size=(cells, 2 * cells)).astype(np.float32)
        share += weight * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    slope = rng.normal(0, 0.25, 2)
    share += slope[0] * np.linspace(-1, 1, width, dtype=np.float32)
    share += slope[1] * np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    share = np.clip(0.5 + 0.3 * share, 0, 1)
    return cv2.merge([low[c] + (high[c] - low[c]) * share for c in range(3)])


def _polygon(rng: np.random.Generator, picture: FloatArray) -> None:
    cv2.fillConvexPoly(picture, _outline(rng, picture), _colour(rng).tolist(), cv2.LINE_AA, _SHIFT)


def _line(rng: np.random.Generator, picture: FloatArray) -> None:
    height, width = picture.shape[:2]
    first, last = np.rint(rng.uniform(-0.1, 1.1, (2, 2)) * (width, height)).astype(int).tolist()
    cv2.line(picture, first, last, _colour(rng).tolist(), int(rng.integers(1, max(width // 60, 3))), cv2.LINE_AA)


def _pattern(rng: np.random.Generator, picture: FloatArray) -> None:
    """A shape in stripes, checks, dots or grain."""
    mask = np.zeros(picture.shape[:2], np.uint8)
    outline = _outline(rng, picture)
    cv2.fillConvexPoly(mask, outline, 255, cv2.LINE_AA, _SHIFT)
    x, y, w, h = cv2.boundingRect(outline >> _SHIFT)
    left, top = max(x, 0), max(y, 0)
    part = (slice(top, max(y + h + 1, 0)), slice(left, max(x + w + 1, 0)))
    rows, columns = mask[part].shape
    if not rows or not columns:
        return
    pitch = rng.uniform(0.008, 0.06) * picture.shape[1]
    turn = rng.uniform(0, np.pi)
    across = np.arange(columns, dtype=np.float32) * np.float32(2 * np.pi / pitch)
    down = np.arange(rows, dtype=np.float32)[:, None] * np.float32(2 * np.pi / pitch)
    kind = rng.integers(4)
    if kind == 0:
        wave = np.sin(np.float32(np.cos(turn)) * across + np.float32(np.sin(turn)) * down)
    elif kind == 1:
        wave = np.sign(np.sin(across)) * np.sign(np.sin(down))
    elif kind == 2:
        wave = np.sin(across) * np.sin(down)
    else:
        wave = rng.standard_normal((rows, columns), np.float32)
    one, other = _colour(rng), _colour(rng)
    share = 0.5 + 0.5 * np.clip(wave, -1, 1)
    cover = mask[part].astype(np.float32) / 255
    for c in range(3):
        picture[part][..., c] += cover * (one[c] + (other[c] - one[c]) * share - picture[part][..., c])


def _ball(rng: np.random.Generator, picture: FloatArray) -> None:
    """A round thing, lit from one side, often of the colour of skin and with a cap of that of hair: a head's outline
    without a face in it."""
    height, width = picture.shape[:2]
    radius = width * np.exp(rng.uniform(np.log(0.01), np.log(0.12)))
    axes = np.rint(radius * rng.uniform((0.7, 0.8), (1.0, 1.3)) * 2**_SHIFT).astype(int)
    centre = rng.uniform(0, 1, 2) * (width, height)
    tint = skin_tint(rng) if rng.random() < 0.6 else cloth_tint(rng)
    tone, turn = rng.uniform(0.25, 0.9), rng.uniform(-30, 30)
    light = rng.uniform(-0.35, 0.35, 2) * radius
    for share in (1.0, 0.85, 0.65, 0.4):
        place = np.rint((centre + (1 - share) * light) * 2**_SHIFT).astype(int).tolist()
        colour = np.clip(tone * (1.15 - 0.35 * share) * tint, 0, 1).tolist()
        cv2.ellipse(picture, place, (axes * share).astype(int).tolist(), turn, 0, 360, colour, -1, cv2.LINE_AA, _SHIFT)
    if rng.random() < 0.5:
        place = np.rint(centre * 2**_SHIFT).astype(int).tolist()
        first, colour = turn + rng.uniform(170, 200), (rng.uniform(0.02, 0.4) * hair_tint(rng)).tolist()
        around = first + rng.uniform(140, 190)
        cv2.ellipse(picture, place, axes.tolist(), turn, first, around, colour, -1, cv2.LINE_AA, _SHIFT)


def _outline(rng: np.random.Generator, picture: FloatArray) -> NDArray[np.int32]:
    """A convex outline [N, 1, 2] in fixed-point coordinates."""
    height, width = picture.shape[:2]
    spread = rng.normal(0, np.exp(rng.uniform(np.log(0.02), np.log(0.3))), (rng.integers(3, 7), 2))
    places = (rng.uniform(-0.1, 1.1, 2) * (width, height) + spread * width) * 2**_SHIFT
    return np.asarray(cv2.convexHull(np.rint(places).astype(np.int32)), np.int32)
