"""Drawn faces: labelled pictures of any number, for tests, examples and training with nothing to download.

A face is drawn by `face_render`; here it gets its surroundings, things in front of it, and a camera's faults.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..sample import ByteArray, FaceSample, FloatArray, PointState
from .face_render import FacePatch, render_face
from .face_template import NUM_POINTS

SIZE = 160  # side of a picture, in pixels


def draw_face(seed: int, index: int, num_keypoints: int = 80) -> FaceSample:
    """Face number `index` of the endless set `seed`: the same face for the same arguments.

    Args:
        seed, index: not negative.
        num_keypoints: 1 to 104; the points are always the first of the same 104 (see `face_template`).

    Returns:
        A sample with a grey [160, 160] picture; points outside it are OCCLUDED, none is MISSING.
    """
    if not 1 <= num_keypoints <= NUM_POINTS:
        raise ValueError(f"num_keypoints is {num_keypoints}; drawn faces have 1 to {NUM_POINTS} keypoints")
    rng = np.random.default_rng([seed, index])
    face = rng.uniform(85, 120)
    patch = render_face(rng, SIZE, face, tuple(SIZE / 2 - 0.5 + np.clip(rng.normal(0, 9, 2), -32, 32)))
    picture = draw_background(rng, SIZE)
    picture += patch.alpha * (patch.grey - picture)
    states = patch.states.copy()
    if rng.random() < 0.18:
        states[draw_occluder(rng, picture, patch)] = PointState.OCCLUDED
    outside = ((patch.points < -0.5) | (patch.points >= SIZE - 0.5)).any(axis=1)
    states[outside] = PointState.OCCLUDED
    points = patch.points[:num_keypoints]
    box = np.concatenate([points.min(axis=0), points.max(axis=0)]) + np.float32(0.5)
    name = f"drawn-{seed}-{index}"
    return FaceSample(photograph(rng, picture), points, states[:num_keypoints], box, subject=name, name=name)


def draw_faces(count: int, seed: int, num_keypoints: int = 80) -> list[FaceSample]:
    """Faces 0 to count - 1 of set `seed`."""
    return [draw_face(seed, index, num_keypoints) for index in range(count)]


def draw_background(rng: np.random.Generator, size: int) -> FloatArray:
    """A picture [size, size] of 0..1 without a face: clouds of grey, shapes, stripes, more or less out of focus."""
    low, high = np.sort(rng.uniform(0, 1, 2))
    picture = np.zeros((size, size), np.float32)
    for cells, weight in ((3, 1.0), (9, 0.5), (28, 0.25)):
        noise = rng.normal(size=(cells, cells)).astype(np.float32)
        picture += weight * cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    picture = (low + (high - low) * (0.5 + 0.3 * picture)).astype(np.float32)
    for _ in range(rng.integers(0, 9)):
        outline = rng.uniform(-0.1, 1.1, 2) + rng.normal(0, rng.uniform(0.05, 0.4), (rng.integers(3, 7), 2))
        hull = cv2.convexHull(np.rint(outline * size * 16).astype(np.int32))
        cv2.fillConvexPoly(picture, hull, rng.uniform(0, 1), cv2.LINE_AA, 4)
    for _ in range(rng.integers(0, 5)):
        ends = np.rint(rng.uniform(-0.1, 1.1, (2, 2)) * size).astype(int)
        cv2.line(picture, ends[0].tolist(), ends[1].tolist(), rng.uniform(0, 1), int(rng.integers(1, 10)), cv2.LINE_AA)
    return cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 5))


def draw_occluder(rng: np.random.Generator, picture: FloatArray, patch: FacePatch) -> NDArray[np.bool_]:
    """Put a hand or a thing in front of the face, into the picture; tells which points [104] it hides."""
    low, high = patch.points[:68].min(axis=0), patch.points[:68].max(axis=0)
    side = float((high - low).max())
    at = rng.uniform(low - 0.1 * side, high + 0.1 * side)
    size = picture.shape[0]
    mask = np.zeros((size, size), np.uint8)
    if rng.random() < 0.5:
        ridges = _draw_hand(rng, mask, at, side)
        tone = np.clip(patch.skin * rng.uniform(0.8, 1.2), 0.1, 0.95)
    else:
        outline = at + side * _slab(rng)
        cv2.fillPoly(mask, [np.rint(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        ridges = cv2.resize(rng.normal(1, 0.12, (6, 6)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
        tone = rng.uniform(0.02, 0.95)
    share = mask.astype(np.float32) / 255
    picture += share * (tone * ridges - picture)
    x, y = np.clip(np.rint(patch.points), 0, size - 1).astype(int).T
    return mask[y, x] > 127


def _slab(rng: np.random.Generator) -> FloatArray:
    """A turned rectangle, or a rounder thing, about the origin: [N, 2], for a face of side 1."""
    turn = rng.uniform(0, 2 * np.pi)
    about = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    around = np.linspace(0, 2 * np.pi, 24, endpoint=False) + np.pi / 4
    round_ = rng.choice([1.0, 0.2])
    unit = np.stack([np.cos(around), np.sin(around)], axis=1)
    unit = np.sign(unit) * np.abs(unit) ** round_
    return (unit * rng.uniform(0.1, 0.32, 2)) @ about


def _draw_hand(rng: np.random.Generator, mask: ByteArray, at: FloatArray, side: float) -> FloatArray:
    """Fingers from `at` outwards into a palm; returns their shading [H, W]."""
    size = len(mask)
    away = at - size / 2 + rng.normal(0, 1, 2)
    away = away / np.linalg.norm(away) + (0, 0.6)
    away /= np.linalg.norm(away)
    across = np.array([-away[1], away[0]])
    width = side * rng.uniform(0.075, 0.1)
    ridges = np.full((size, size), 0.8, np.float32)
    palm = at + away * side * 0.5
    for finger in range(4):
        tip = at + across * width * 1.08 * (finger - 1.5) + away * width * (0.9, 0.2, 0.0, 0.6)[finger]
        root = palm + across * width * 0.95 * (finger - 1.5)
        _stroke(mask, tip, root, 255, width)
        for share, tone in ((1.0, 0.72), (0.78, 0.92), (0.5, 1.02)):
            _stroke(ridges, tip, root, tone, share * width)
    _stroke(mask, palm, palm + away * side, 255, 4.1 * width)
    return cv2.GaussianBlur(ridges, (0, 0), 0.02 * side)


def _stroke(canvas: NDArray[Any], start: NDArray[Any], end: NDArray[Any], tone: float, width: float) -> None:
    first, last = (np.rint(place * 16).astype(int).tolist() for place in (start, end))
    cv2.line(canvas, first, last, tone, max(1, round(width)), cv2.LINE_AA, 4)


def photograph(rng: np.random.Generator, picture: FloatArray) -> ByteArray:
    """Exposure, contrast, blur and noise of a camera: [H, W] of 0..1 to bytes."""
    size = len(picture)
    metered = picture[size // 4 : -size // 4, size // 4 : -size // 4].mean()
    picture = picture * rng.uniform(0.32, 0.6) / max(float(metered), 0.05)
    low, high = rng.uniform(0, 0.06), rng.uniform(0.85, 1.15)
    picture = low + (high - low) * np.clip(picture, 0, 1.2) ** rng.uniform(0.8, 1.4)
    if rng.random() < 0.6:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.3))
    noise = rng.normal(0, 0.002 + rng.exponential(0.007), picture.shape)
    return (255 * np.clip(picture + noise, 0, 1) + 0.5).astype(np.uint8)
