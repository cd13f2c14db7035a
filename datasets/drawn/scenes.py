"""Drawn scenes: pictures with any number of drawn faces, for tests, examples and training with nothing to download.

Every face's box is true to the pixel; `scene_person` says what it holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..formats.labelled import LabelledBox, LabelledPicture
from ..sample import ByteArray, FloatArray
from .scene_backdrop import LUMA, draw_backdrop
from .scene_person import Person, colour_person, draw_person

NAME = "face"
WIDTH, HEIGHT = 736, 416
SMALLEST, LARGEST = 16.0, 200.0  # longer side of a face's box, pixels
MOST_FACES = 14
EMPTY = 0.12  # share of scenes without a face
CAST = 8  # persons a scene draws its faces from; the next scene shares all but one of them
HIDDEN = 0.3  # largest share of a face's box that others may hide
CUT_OFF = 0.4  # largest share of a face's box outside the picture
TRIES = 15  # places tried for a face before it is left out
BODY = 3.0  # height of a body below the shoulders, boxes


@dataclass
class _Placed:
    """A face in the scene: its box, and the share of it that later persons hide."""

    box: FloatArray
    hidden: float = 0.0


def draw_scene(seed: int, index: int, width: int = WIDTH, height: int = HEIGHT) -> LabelledPicture:
    """Scene number `index` of the endless set `seed`: the same scene for the same arguments.

    Sizes of faces are log-uniform from 16 to 200 pixels, less in a picture lower than 400. Later, larger persons may
    hide up to 30 % of an earlier face. Faces may be cut off at the edge; at least 60 % of a box lies in the picture.
    Scenes of one seed and near indices share faces, in other sizes and tints: validate on another seed.

    Args:
        seed, index: not negative.
        width, height: of the RGB picture, pixels.

    Attributes of the boxes: "occlusion", 0 or 1 (a part is hidden by another person); "truncation", the share of the
    box that is outside the picture.
    """
    rng = np.random.default_rng([seed, index, 2])
    picture = draw_backdrop(rng, width, height)
    placed: list[_Placed] = []
    for size in _sizes(rng, height):
        person = draw_person(seed, index + int(rng.integers(CAST)))
        _place(rng, picture, placed, *_scaled(rng, person, size))
    boxes = [_label(face, width, height) for face in placed]
    return LabelledPicture(_photograph(rng, picture), f"scene-{seed}-{index}", (width, height), tuple(boxes))


def draw_scenes(count: int, seed: int) -> list[LabelledPicture]:
    """Scenes 0 to count - 1 of set `seed`, about 1 MB each."""
    return [draw_scene(seed, index) for index in range(count)]


def _sizes(rng: np.random.Generator, height: int) -> list[float]:
    """Sizes of a scene's faces, the far ones first."""
    if rng.random() < EMPTY:
        return []
    count = min(int(rng.geometric(0.17)), MOST_FACES)
    largest = np.clip(height / 2, SMALLEST, LARGEST)
    return sorted(np.exp(rng.uniform(np.log(SMALLEST), np.log(largest), count)).tolist())


def _scaled(rng: np.random.Generator, person: Person, size: float) -> tuple[ByteArray, FloatArray]:
    """Layers and box of a person whose face is `size` pixels long, mirrored or not, with a body below."""
    rows, columns = person.layers.shape[:2]
    scale = size / float((person.box[2:] - person.box[:2]).max())
    w, h = max(round(columns * scale), 1), max(round(rows * scale), 1)
    layers = cv2.resize(person.layers, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    box = person.box * np.array([w / columns, h / rows] * 2, np.float32)
    if rng.random() < 0.5:
        layers = np.ascontiguousarray(layers[:, ::-1])
        box = np.array([w - box[2], box[1], w - box[0], box[3]], np.float32)
    body = round(BODY * size * rng.uniform(0.3, 1))
    return cv2.copyMakeBorder(layers, 0, body, 0, 0, cv2.BORDER_REPLICATE), box


def _place(
    rng: np.random.Generator, picture: FloatArray, placed: list[_Placed], layers: ByteArray, box: FloatArray
) -> None:
    """Put a person where it hides not too much of the earlier faces; nowhere when no such place is found."""
    height, width = picture.shape[:2]
    for _ in range(TRIES):
        at = _somewhere(rng, box, width, height)
        there = box + np.tile(at, 2).astype(np.float32)
        hides = [_covered(layers, at, face.box) for face in placed]
        if _outside(there, width, height) <= CUT_OFF and all(
            face.hidden + more <= HIDDEN for face, more in zip(placed, hides, strict=True)
        ):
            for face, more in zip(placed, hides, strict=True):
                face.hidden += more
            placed.append(_Placed(there))
            _paste(rng, picture, layers, at)
            return


def _somewhere(rng: np.random.Generator, box: FloatArray, width: int, height: int) -> NDArray[np.int64]:
    """Where the layers' corner goes [2]: the box lies in the picture, or now and then over its edge."""
    sides = box[2:] - box[:2]
    over = 0.4 * sides * (rng.random(2) < 0.1)
    low, high = -over, np.array([width, height]) - sides + over
    return np.rint(rng.uniform(low, np.maximum(low, high)) - box[:2]).astype(np.int64)


def _covered(layers: ByteArray, at: NDArray[np.int64], box: FloatArray) -> float:
    """Share of the box that a person whose layers' corner lies at `at` hides."""
    x1, y1, x2, y2 = np.rint(box - np.tile(at, 2)).astype(int)
    area = max((x2 - x1) * (y2 - y1), 1)
    under = layers[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0), 1]
    return float(np.count_nonzero(under > 127)) / area


def _outside(box: FloatArray, width: int, height: int) -> float:
    """Share of the box that lies outside the picture."""
    box = box.astype(np.float64)  # with single precision on one side only, a whole face would be cut off by 1e-8
    seen = np.clip(box, 0, [width, height, width, height])
    return 1 - float(np.prod(seen[2:] - seen[:2]) / np.prod(box[2:] - box[:2]))


def _paste(rng: np.random.Generator, picture: FloatArray, layers: ByteArray, at: NDArray[np.int64]) -> None:
    (rows, columns), (height, width) = layers.shape[:2], picture.shape[:2]
    x, y = int(at[0]), int(at[1])
    x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + columns, width), min(y + rows, height)
    colours, alpha = colour_person(rng, layers[y1 - y : y2 - y, x1 - x : x2 - x])
    part = picture[y1:y2, x1:x2]
    part += alpha[..., None] * (colours - part)


def _label(face: _Placed, width: int, height: int) -> LabelledBox:
    x1, y1, x2, y2 = (float(value) for value in face.box)
    attributes = {"occlusion": float(face.hidden > 0.01), "truncation": _outside(face.box, width, height)}
    return LabelledBox(NAME, (x1, y1, x2, y2), attributes=attributes)


def _photograph(rng: np.random.Generator, picture: FloatArray) -> ByteArray:
    """Exposure, white balance, blur and noise of a camera: 0..1 to bytes; one picture in eight is grey."""
    height, width = picture.shape[:2]
    gain = rng.uniform(0.75, 1.2) * rng.uniform(0.92, 1.08, 3)
    if rng.random() < 0.125:
        picture = np.repeat((picture @ LUMA)[..., None], 3, axis=-1)
        gain = np.full(3, gain[0])
    picture = picture * gain.astype(np.float32)
    if rng.random() < 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.0))
    noise = rng.standard_normal((height, width, 1), np.float32)
    picture = picture + np.float32(0.002 + rng.exponential(0.008)) * noise
    return (255 * np.clip(picture, 0, 1) + 0.5).astype(np.uint8)
