"""Hair, beard, hat and clothes of a drawn head, and the finished painting."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .face_canvas import GRAIN, HEIGHT, STREAKS, WIDTH, Canvas, blur, to_dots
from .face_paint import paint_features
from .face_shape import FaceShape
from .face_template import GRID_S, GRID_Y, Array, jaw_height, spline, surface_radius

_RADIUS = surface_radius(*np.meshgrid(GRID_S, GRID_Y))


@dataclass(frozen=True)
class Painting:
    """A painted surface.

    Attributes:
        texture: [HEIGHT, WIDTH] float32 albedo.
        cover: [HEIGHT, WIDTH] uint8, not 0 where hair or cloth lies over the skin.
        lift: [rows, columns] of the surface grid: how far hair or cloth stands off the skin.
        skin: the skin's albedo.
    """

    texture: Array
    cover: NDArray[np.uint8]
    lift: Array
    skin: float

    def hides(self, chart: Array) -> NDArray[np.bool_]:
        """Which chart places [N,2] lie under hair or cloth: [N]."""
        x, y = np.rint(to_dots(chart)).astype(int).T
        return self.cover[np.clip(y, 0, HEIGHT - 1), np.clip(x, 0, WIDTH - 1)] > 127


def paint_face(rng: np.random.Generator, shape: FaceShape) -> Painting:
    """Paint a random complexion, hair and clothes for this shape."""
    skin = float(rng.uniform(0.3, 0.85))
    hair = float(rng.uniform(0.02, 0.16) if rng.random() < 0.65 else rng.uniform(0.12, 0.75))
    canvas = Canvas((skin * (1 + 0.04 * rng.normal(size=(14, 16)))).astype(np.float32))
    if rng.random() < 0.33:
        _paint_beard(canvas, rng, shape, hair)
    paint_features(canvas, rng, shape, skin, hair)
    canvas.texture *= 1 + 0.03 * canvas.pick(GRAIN, rng)
    layers = Layers(canvas, rng)
    _add_hair(layers, rng, hair)
    _add_clothes(layers, rng)
    return Painting(canvas.texture, layers.cover, layers.lift, skin)


class Layers:
    """What lies over the skin: puts a material into the texture and remembers where, and how thick it is."""

    def __init__(self, canvas: Canvas, rng: np.random.Generator) -> None:
        self.canvas = canvas
        self.streaks = canvas.pick(STREAKS, rng)
        self.cover = np.zeros((HEIGHT, WIDTH), np.uint8)
        self.lift: Array = np.zeros((len(GRID_Y), len(GRID_S)))

    def add(self, outline: Array, material: Array, thickness: float | Array, ragged: float = 0.0) -> None:
        """Cover the inside of an outline [N,2] with an albedo [HEIGHT, WIDTH]; ragged > 0 makes an edge of strands."""
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.fillPoly(mask, [np.rint(to_dots(outline) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        used = np.flatnonzero(mask.any(axis=1))
        rows = slice(max(used[0] - 12, 0), used[-1] + 13)
        share = blur(mask[rows], max(1.0, 6 * ragged)).astype(np.float32) / 255
        if ragged:
            share = np.clip(0.5 + 3 * (share - 0.5 + ragged * (0.25 - (share - 0.5) ** 2) * self.streaks[rows]), 0, 1)
            self.canvas.texture[rows] *= 1 - 0.35 * blur(np.roll(share, 6, axis=0), 5)  # shadow on the skin below
            mask[rows] = 255 * share
        self.canvas.texture[rows] += share * (material[rows] - self.canvas.texture[rows])
        np.maximum(self.cover, mask, out=self.cover)
        # The grid is coarser than the texture: start the volume half a cell inside, so that bare skin stays put.
        coarse = cv2.resize(mask, self.lift.shape[::-1], interpolation=cv2.INTER_AREA) / 255.0
        self.lift = np.maximum(self.lift, np.clip(2 * coarse - 1, 0, 1) * thickness)


def _both_sides(half: Array, rng: np.random.Generator, jitter: float) -> Array:
    """An outline over the whole head from its image-right half [N,2], the two sides a little different."""
    left = (half * (-1, 1) + rng.normal(0, jitter, half.shape))[::-1]
    return np.concatenate([left, half + rng.normal(0, jitter, half.shape)])


def _add_hair(layers: Layers, rng: np.random.Generator, hair: float) -> None:
    style = rng.choice(["none", "short", "long", "behind"], p=[0.06, 0.54, 0.2, 0.2])
    if style == "none":
        return
    top = rng.normal(-0.98, 0.08) if rng.random() < 0.75 else rng.uniform(-0.75, -0.25)
    recess = rng.uniform(-0.15, 0.12)
    front = [(0, top), (0.5, top + 0.5 * recess), (0.95, top + 0.12 + recess), (1.3, max(-0.55, top + 0.2))]
    sideburn = rng.uniform(-0.1, 0.4)
    around_ear = [(2.27, -0.05), (2.34, -0.2), (2.55, -0.3), (2.76, -0.2)]
    inner = rng.uniform(1.75, 2.25)
    below = {
        "short": [
            (1.65, -0.2),
            (2.0, sideburn),
            (2.22, sideburn),
            *around_ear,
            (2.82, 0.25),
            (3.0, 0.65),
            (4.32, 0.75),
        ],
        "long": [
            (1.62, -0.3),
            (inner, 0.2),
            (inner + 0.05, 0.9),
            (inner, 1.6),
            (inner - 0.1, 2.3),
            (inner, 3.7),
            (4.32, 3.7),
        ],
        "behind": [
            (1.65, -0.2),
            (2.1, 0.05),
            *around_ear,
            (2.75, 0.6),
            (2.55, 1.1),
            (2.35, 1.9),
            (2.3, 3.7),
            (4.32, 3.7),
        ],
    }[str(style)]
    line = spline(_both_sides(np.array(front + below, float), rng, 0.03), 4)
    line[:, 1] += rng.normal(0, 0.12) * line[:, 0] * np.exp(-((line[:, 0] / 0.9) ** 2))  # swept to one side
    crown = np.array([[4.32, -2.25], [-4.32, -2.25]])
    volume = rng.uniform(0.05, 0.25) * np.clip(1.1 - 0.15 * GRID_Y, 0.6, 1.4)[:, None]
    if style != "short":  # long hair hangs from the head, not along the neck
        volume = volume + np.clip(1.12 - _RADIUS, 0, 0.5)
    curls = layers.canvas.pick(GRAIN, rng) if rng.random() < 0.25 else layers.streaks
    shade = 1 + rng.uniform(0.08, 0.3) * curls
    layers.add(np.concatenate([line, crown]), np.clip(hair * shade, 0.01, 1), volume, rng.uniform(0.25, 0.8))


def _add_clothes(layers: Layers, rng: np.random.Generator) -> None:
    cloth = rng.uniform(0.03, 0.9) * (1 + rng.uniform(0, 0.1) * layers.canvas.pick(GRAIN, rng))
    collar, dip = rng.uniform(1.95, 2.3), rng.uniform(0, 0.35)
    kind = rng.random()
    if kind < 0.04:  # a scarf over the mouth
        collar, dip = rng.uniform(0.55, 1.0), 0.0
    s = np.linspace(-4.32, 4.32, 40)
    edge = np.stack([s, collar + dip * np.exp(-((s / 0.7) ** 2))], axis=1)
    layers.add(np.concatenate([edge, [[4.32, 3.7], [-4.32, 3.7]]]), cloth, 0.1)
    if 0.04 <= kind < 0.08:  # a surgical mask with its straps
        half = np.array(
            [(0, 0.4), (0.3, 0.5), (1.0, 0.48), (2.4, 0.1), (2.4, 0.14), (1.75, 0.55), (1.7, 1.05), (2.4, 0.5)]
        )
        rest = np.array([(2.4, 0.54), (1.6, 1.2), (1.1, 1.55), (0.6, 1.78), (0, 1.88)])
        half = np.concatenate([half, rest])
        pleats = 1 + 0.06 * np.sin(np.linspace(0, 150, HEIGHT, dtype=np.float32))[:, None] * np.ones(
            (1, WIDTH), np.float32
        )
        layers.add(np.concatenate([half, half[::-1] * (-1, 1)]), rng.uniform(0.3, 0.9) * pleats, 0.08)
    elif kind < 0.16:  # a cap
        brim = rng.uniform(-0.95, -0.5)
        edge = np.stack([s, brim + 0.12 * np.abs(s)], axis=1)
        layers.add(np.concatenate([edge, [[4.32, -2.25], [-4.32, -2.25]]]), cloth[::-1], rng.uniform(0.1, 0.3))


def _paint_beard(canvas: Canvas, rng: np.random.Generator, shape: FaceShape, hair: float) -> None:
    """Stubble or a beard round the mouth and along the jaw, a moustache, or both."""
    mouth = shape.chart[57, 1]
    dense = rng.uniform(0.1, 0.45) if rng.random() < 0.6 else rng.uniform(0.6, 0.95)
    s = np.array([0, 0.5, 1.0, 1.5, 2.0])
    under = np.stack([s, jaw_height(s) + 0.02], axis=1)[::-1]
    chin = [(0, mouth + 0.06), (0.25, mouth + 0.08), (0.5, mouth), (0.55, 1.1)]
    cheek = [(0.85, 1.1), (1.4, 0.95), (1.9, 0.6), (2.1, 0.3)]
    moustache = [(0, 0.78), (0.2, 0.78), (0.48, 0.92), (0.56, 1.15), (0.43, 1.06), (0.27, 0.97), (0, 0.95)]
    kind = rng.integers(3)
    for wanted, half, soft in (((0, 1), [*chin, *cheek, *under], 0.05), ((1, 2), moustache, 0.02)):
        if kind in wanted:
            right = np.array(half, float)
            mask, part = canvas.mask(np.concatenate([right, right[::-1] * (-1, 1)]), soft)
            texture = np.clip(mask * (1 + 0.3 * canvas.pick(GRAIN, rng)[part]), 0, 1)
            canvas.blend(dense * texture, part, hair)
