"""Spectacles and sunglasses: drawn in the picture from a frame that is turned and projected with the head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .face_shape import FaceShape, surface_points
from .face_template import Array

_SHIFT = 4


@dataclass(frozen=True)
class Glasses:
    """A pair of glasses in the head's own space.

    Attributes:
        rims: [2, N, 3] outlines of the lenses, image-left first.
        wires: the bridge and the two arms, each [N, 3].
        frame, thickness: brightness and width (units) of the frame.
        lens, opacity: brightness of the lenses, and how much they hide (0: clear).
    """

    rims: Array
    wires: tuple[Array, ...]
    frame: float
    thickness: float
    lens: float
    opacity: float


def random_glasses(rng: np.random.Generator, shape: FaceShape) -> Glasses:
    """A random pair that sits on this nose and these ears; one in four is dark."""
    eyes = surface_points(shape.grid, shape.chart[[90, 101]])
    ears = surface_points(shape.grid, shape.chart[[76, 78]])
    bridge = surface_points(shape.grid, np.array([[0.0, 0.05]]))[0]
    dark = rng.random() < 0.25
    half = rng.uniform((0.33, 0.2), (0.43, 0.36 if dark else 0.3))
    turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    unit = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    unit = np.sign(unit) * np.abs(unit) ** rng.uniform(0.5, 1.0)
    depth = bridge[2] + 0.06
    rims = np.empty((2, 32, 3))
    for eye in range(2):
        out = (-1, 1)[eye] * (half[0] + 0.1 + max(0.0, abs(eyes[eye, 0]) - 0.5))
        rims[eye, :, 0] = out + half[0] * unit[:, 0]
        rims[eye, :, 1] = eyes[eye, 1] + 0.05 + half[1] * unit[:, 1]
    rims[..., 2] = depth - 0.16 * np.abs(rims[..., 0]) ** 2
    inner, outer = rims[:, :, 0].max(axis=1)[0], rims[1, :, 0].max()
    y = rims[0, :, 1].mean()
    across = np.linspace(inner, -inner, 5)
    wires = [np.stack([across, y - 0.06 - 0.03 * (1 - (across / inner) ** 2), np.full(5, depth)], axis=1)]
    for eye, side in enumerate((-1, 1)):
        hinge = np.array([side * outer, y - 0.08, depth - 0.16 * outer**2])
        ear = ears[eye] * (1, 1, 1) + (0, 0.02, 0)
        wires.append(hinge + np.linspace(0, 1, 12)[:, None] * (ear - hinge))
    opacity = rng.uniform(0.88, 1) if dark else rng.uniform(0, 0.12)
    lens = rng.uniform(0.02, 0.15) if dark else rng.uniform(0.3, 1)
    frame = rng.uniform(0.02, 0.2) if rng.random() < 0.7 else rng.uniform(0.2, 0.9)
    return Glasses(rims, tuple(wires), frame, rng.uniform(0.02, 0.075), lens, opacity)


def draw_glasses(
    glasses: Glasses,
    grey: Array,
    place: Callable[[Array], tuple[Array, NDArray[np.bool_]]],
    scale: float,
) -> NDArray[np.uint8]:
    """Draw into grey [H,W]; `place` maps points [N,3] to pixels [N,2] and whether the head hides them.

    Returns a mask [H,W], not 0 where dark lenses hide what is behind them.
    """
    hides = np.zeros(grey.shape, np.uint8)
    frame = np.zeros(grey.shape, np.uint8)
    width = max(1, round(glasses.thickness * scale))
    for rim in glasses.rims:
        pixels, hidden = place(rim)
        lens = np.zeros(grey.shape, np.uint8)
        cv2.fillPoly(lens, [_fixed(pixels)], 255, cv2.LINE_AA, _SHIFT)
        share = lens.astype(np.float32) * (glasses.opacity / 255)
        grey += share * (glasses.lens * np.linspace(1.3, 0.7, len(grey), dtype=np.float32)[:, None] - grey)
        np.maximum(hides, lens, out=hides)
        _draw_seen(frame, np.append(pixels, pixels[:1], axis=0), np.append(hidden, hidden[0]), width)
    for wire in glasses.wires:
        _draw_seen(frame, *place(wire), width)
    grey += frame.astype(np.float32) / 255 * (glasses.frame - grey)
    return hides if glasses.opacity > 0.5 else np.zeros_like(hides)


def _fixed(pixels: Array) -> NDArray[np.int32]:
    return np.rint(pixels * 2**_SHIFT).astype(np.int32)


def _draw_seen(mask: NDArray[np.uint8], pixels: Array, hidden: NDArray[np.bool_], width: int) -> None:
    """The parts of a line [N,2] that are not hidden."""
    fixed = _fixed(pixels)
    parts = [fixed[i : i + 2] for i in range(len(fixed) - 1) if not (hidden[i] or hidden[i + 1])]
    cv2.polylines(mask, parts, False, 255, width, cv2.LINE_AA, _SHIFT)
