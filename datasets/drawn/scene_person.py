"""A drawn face as a person to put into a scene: coloured, and with the box of the face.

**The box.** Tight around the face from the lower edge of the chin to the hair line, as WIDER FACE's annotators draw it:
the extent of iBUG's 68 points and of the hair line above them, whether hair, a hat or another head hides them or not.
Ears, hair and neck lie outside. The drawn points give the 68; the hair line is where the head's template has it, seen
by the camera that fits the 68 best.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from ..sample import ByteArray, FloatArray
from .face_render import FacePatch, render_face
from .face_template import TEMPLATE, Array, surface_radius, to_space
from .scene_backdrop import cloth_tint, hair_tint, skin_tint

SIDE, FACE = 300, 100  # of a drawn patch, and of the face in it, pixels; there is room for hair and shoulders
WHITE = 1.2  # brightness that a byte of 255 stands for
REMEMBERED = 32  # drawn faces
COLLAR = 0.45  # from the chin down, distances between the eyes
_s = np.linspace(-1.3, 1.3, 9)
HAIR_LINE: Array = np.stack([_s, -0.92 + 0.2 * _s**2], axis=1)  # chart places (see face_template)
_HAIR_LINE_SPACE: Array = to_space(HAIR_LINE[:, 0], HAIR_LINE[:, 1], surface_radius(*HAIR_LINE.T))


@dataclass(frozen=True)
class Person:
    """A head with its shoulders.

    Attributes:
        layers: [H, W, 4] bytes: brightness (255 is `WHITE`), coverage, share of skin, share of cloth.
        box: (x1, y1, x2, y2) of the face, pixel edges of the layers.
    """

    layers: ByteArray
    box: FloatArray


@lru_cache(maxsize=REMEMBERED)
def draw_person(seed: int, number: int) -> Person:
    """Person `number` of the endless set `seed`; the last few are remembered, as drawing one takes about 20 ms."""
    patch = render_face(np.random.default_rng([seed, number, 1]), SIDE, FACE, (SIDE / 2 - 0.5, SIDE / 2 - 0.5))
    camera = _camera(patch)
    brow = np.c_[_HAIR_LINE_SPACE, np.ones(len(HAIR_LINE))] @ camera
    skin, cloth = _materials(patch, brow, camera[1])
    grey = np.clip(patch.grey / WHITE, 0, 1)
    layers = 255 * np.stack([grey, patch.alpha, skin, cloth], axis=-1)
    points = np.concatenate([patch.points[:68], brow]) + 0.5
    box = np.concatenate([points.min(axis=0), points.max(axis=0)])
    return _trimmed((layers + 0.5).astype(np.uint8), box)


def colour_person(rng: np.random.Generator, layers: ByteArray) -> tuple[FloatArray, FloatArray]:
    """Colours [H, W, 3] of 0..1, not limited to 1, and coverage [H, W] of 0..1 of a person's layers, in random tints
    and light."""
    grey, alpha, skin, cloth = (layer.astype(np.float32) / 255 for layer in cv2.split(layers))
    grey *= WHITE * rng.uniform(0.65, 1.15)
    of_skin, of_hair, of_cloth = skin_tint(rng), hair_tint(rng), cloth_tint(rng)
    channels = [
        grey * (of_hair[c] + skin * (of_skin[c] - of_hair[c]) + cloth * (of_cloth[c] - of_hair[c])) for c in range(3)
    ]
    return cv2.merge(channels), alpha


def _camera(patch: FacePatch) -> Array:
    """[4, 2]: takes places (x, y, z, 1) of the template to pixels, as the 68 points fit best."""
    space = np.c_[TEMPLATE[:68], np.ones(68)]
    return np.linalg.lstsq(space, patch.points[:68].astype(np.float64), rcond=None)[0]


def _materials(patch: FacePatch, brow: Array, down: Array) -> tuple[Array, Array]:
    """Shares of skin and of cloth [SIDE, SIDE]; `down` [2] is the distance between the eyes, downwards, in pixels."""
    chin = patch.points[8]
    x, y = np.arange(SIDE) - chin[0], np.arange(SIDE)[:, None] - chin[1]
    cloth = np.clip(0.5 + 6 * ((x * down[0] + y * down[1]) / (down @ down) - COLLAR), 0, 1)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    face = np.concatenate([patch.points[:17], brow])
    neck = np.concatenate([patch.points[2:15], patch.points[2:15] + 0.8 * down])
    for outline in (face, neck):
        fixed = np.rint(outline * 16).astype(np.int32)
        cv2.fillConvexPoly(mask, cv2.convexHull(fixed), 255, cv2.LINE_AA, 4)
    skin = cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), 2)
    return skin * (1 - cloth), cloth


def _trimmed(layers: ByteArray, box: Array) -> Person:
    """Only the rows and columns with something in them, down to where the shoulders are widest: what is below them can
    then go on as the last row does."""
    covered = layers[..., 1] > 0
    widths = covered.sum(axis=1)
    chin = int(np.clip(box[3], 0, SIDE - 2))
    bottom = chin + int(np.argmax(widths[chin:] >= 0.97 * widths[chin:].max())) + 1
    covered[bottom:] = False
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    top, left = rows[0], columns[0]
    trimmed = np.ascontiguousarray(layers[top:bottom, left : columns[-1] + 1])
    return Person(trimmed, (box - (left, top, left, top)).astype(np.float32))
