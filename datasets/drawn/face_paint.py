"""The features of a drawn face, painted in the chart of its surface: relief, eyes, brows, mouth."""

from __future__ import annotations

from functools import cache

import numpy as np

from .face_canvas import STREAKS, Canvas, ellipse
from .face_shape import FaceShape
from .face_template import IRIS_RADIUS, TEMPLATE_CHART, Array, jaw_height, lid_lines, spline

_OPEN = 0.012  # height of an eye opening from which something shows between the lids


def paint_features(canvas: Canvas, rng: np.random.Generator, shape: FaceShape, skin: float, hair: float) -> None:
    """Paint everything but hair and clothes; skin and hair are albedos 0..1."""
    depth = rng.uniform(0.6, 1.3)
    canvas.texture *= 1 - depth * (1 - _relief())
    _paint_folds(canvas, shape, depth)
    if rng.random() < 0.3:
        _paint_forehead_lines(canvas)
    iris, lashes = rng.uniform((0.03, 0.01), (0.3, 0.024))
    for eye in range(2):
        _paint_eye(canvas, eye, shape, skin, iris, lashes)
    _paint_brows(canvas, rng, shape, min(hair, 0.9 * skin))
    _paint_mouth(canvas, rng, shape, skin)


def _down(way: float) -> Array:
    return np.array((0, way))


@cache
def _relief() -> Array:
    """Shadows that the coarse surface is too smooth to throw, as a factor of the texture."""
    canvas = Canvas(np.ones((1, 1), np.float32))
    s = np.linspace(-2.4, 2.4, 25)
    below = np.concatenate([np.stack([s, jaw_height(s) + 0.02], axis=1), [[2.4, 2.4], [-2.4, 2.4]]])
    canvas.gain(below, 0.65, 0.07)
    base = TEMPLATE_CHART[31:36]
    canvas.gain(np.concatenate([spline(base), base[::-1] + _down(0.07)]), 0.78, 0.02)
    canvas.gain(spline(base), 0.72, 0.012, 0.012)
    canvas.gain(np.array([[0, 0.79], [0, 0.94]]), 0.9, 0.02, 0.05)  # philtrum
    canvas.gain(ellipse((0, 0.5), 0.07, 0.09), 1.08, 0.04)
    for side in (-1, 1):
        flip = np.array([side, 1])
        canvas.gain(ellipse((side * 0.36, -0.1), 0.13, 0.12), 0.78, 0.06)  # socket
        canvas.gain(ellipse((side * 0.2, 0.3), 0.06, 0.22), 0.87, 0.05)  # side of the nose
        canvas.gain(ellipse((side * 0.95, 0.75), 0.16, 0.2), 0.88, 0.08)  # below the cheekbone
        canvas.gain(spline(np.array([[0.36, 0.11], [0.52, 0.17], [0.72, 0.13]]) * flip), 0.8, 0.02, 0.02)
        canvas.gain(spline(np.array([[0.22, 0.52], [0.265, 0.60], [0.225, 0.68]]) * flip), 0.68, 0.016, 0.02)  # wing
        canvas.gain(ellipse((side * 0.1, 0.69), 0.045, 0.02), 0.4, 0.012)  # nostril
        canvas.gain(ellipse((side * 2.5, 0.14), 0.07, 0.2), 0.6, 0.03)  # ear
        canvas.gain(np.array([[2.3, 0.45], [2.28, 0.0]]) * flip, 0.7, 0.02, 0.03)
    return canvas.texture


def _paint_folds(canvas: Canvas, shape: FaceShape, depth: float) -> None:
    """Lines from the nose to the mouth's corners, which a smile deepens, and below the lower lip."""
    p = shape.chart
    strength = float(np.clip(0.08 + 0.25 * shape.smile * depth, 0.03, 0.4))
    for side, wing, corner in ((-1, p[31], p[48]), (1, p[35], p[54])):
        flip = np.array([side, 1])
        fold = [wing + flip * (0.06, -0.08), (wing + corner) / 2 + flip * (0.2, 0), corner + flip * (0.14, 0.05)]
        canvas.gain(spline(np.array(fold)), 1 - strength, 0.03, 0.03)
    canvas.gain(ellipse((0, p[57, 1] + 0.07), 0.2, 0.035), 1 - 0.3 * depth, 0.03)


def _paint_forehead_lines(canvas: Canvas) -> None:
    for y in (-0.62, -0.78):
        canvas.gain(spline(np.array([[-0.6, y + 0.05], [0, y], [0.6, y + 0.05]])), 0.85, 0.015, 0.015)


def _paint_eye(canvas: Canvas, eye: int, shape: FaceShape, skin: float, iris: float, lashes: float) -> None:
    upper, lower = lid_lines(shape.chart, eye)
    crease = upper - _down(0.055)
    canvas.gain(np.concatenate([crease, upper[::-1]]), 0.9, 0.02)
    canvas.gain(crease[3:-2], 0.66, 0.009, 0.014)
    if shape.openness[eye] > _OPEN:
        opening = np.concatenate([upper, lower[::-1]])
        canvas.fill(opening, 0.30 + 0.45 * skin**0.5)
        canvas.fill(ellipse(shape.chart[102 + eye], 0.022, 0.018), 0.8 * skin, 0.008, 0.5)
        _paint_iris(canvas, opening, shape.irises[eye], iris)
        canvas.gain(upper + _down(0.012), 0.6, 0.012, 0.03)  # shadow of the lashes
        if shape.openness[eye] > 0.06:
            canvas.fill(ellipse((shape.irises[eye] + (0.03, -0.03)), 0.016, 0.016), 0.95, 0.004, 0.8)
    canvas.line(upper, 0.12 * skin, lashes, 0.004, 0.9)
    canvas.line(lower[2:-2], 0.45 * skin, 0.012, 0.006, 0.6)


def _paint_iris(canvas: Canvas, opening: Array, centre: Array, albedo: float) -> None:
    between_lids, part = canvas.mask(opening, 0.0)
    for size, tone in ((1, 0.6 * albedo), (0.8, 1.3 * albedo + 0.02), (0.42, 0.015)):
        disc, _ = canvas.mask(ellipse(centre, size * IRIS_RADIUS, size * IRIS_RADIUS), 0.006, part=part)
        canvas.blend(disc * between_lids, part, tone)


def _paint_brows(canvas: Canvas, rng: np.random.Generator, shape: FaceShape, hair: float) -> None:
    thick, strength = rng.uniform(0.05, 0.13), rng.uniform(0.55, 0.98)
    streaks = canvas.pick(STREAKS, rng)
    for first in (17, 22):
        line = spline(shape.chart[first : first + 5])
        share = np.abs(line[:, :1]) - np.abs(line[:, :1]).min()
        body = thick * np.clip(1.15 - share / share.max(), 0.25, 0.85)
        lower = line + np.concatenate([0 * body, body], axis=1)
        mask, part = canvas.mask(np.concatenate([line - (0, 0.012), lower[::-1]]), 0.012)
        canvas.blend(strength * np.clip(mask * (1 + 0.18 * streaks[part]), 0, 1), part, hair)


def _paint_mouth(canvas: Canvas, rng: np.random.Generator, shape: FaceShape, skin: float) -> None:
    p = shape.chart
    red = skin * rng.uniform(0.5, 0.9)
    upper, lower = spline(p[48:55]), spline(p[[54, 55, 56, 57, 58, 59, 48]])
    inner_upper, inner_lower = spline(p[60:65]), spline(p[[64, 65, 66, 67, 60]])
    canvas.fill(np.concatenate([upper, lower]), red, 0.006)
    canvas.gain(np.concatenate([upper, inner_upper[::-1]]), 0.82, 0.006)
    canvas.gain(ellipse((0, (p[57, 1] + p[66, 1]) / 2), 0.13, 0.03), 1.2, 0.02)
    if shape.gape:
        inside, part = canvas.mask(np.concatenate([inner_upper, inner_lower]), 0.004)
        canvas.blend(inside, part, 0.05 + 0.1 * skin)
        s = np.linspace(0.8, -0.8, 9) * p[64, 0]
        biting = p[62, 1] + rng.uniform(0.3, 1.1) * min(0.11, 0.8 * shape.gape) * (1 - 0.6 * (s / p[64, 0]) ** 2)
        top = [[s[-1], p[62, 1] - 0.2], [s[0], p[62, 1] - 0.2]]
        teeth, _ = canvas.mask(np.concatenate([np.stack([s, biting], axis=1), top]), 0.006, part=part)
        canvas.blend(teeth * inside, part, rng.uniform(0.4, 0.95))
        canvas.gain(inner_upper, 0.7, 0.008, 0.016)
    else:
        canvas.line(inner_upper, 0.2 * red, 0.014, 0.006, 0.85)
    for corner in (48, 54):
        canvas.gain(ellipse(p[corner], 0.035, 0.025), 0.65, 0.02)
