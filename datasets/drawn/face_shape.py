"""Whose face and which expression: random changes of the template's chart (lids, lips, brows) and of its surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .face_template import (
    GRID_S,
    GRID_Y,
    LIDS,
    TEMPLATE_CHART,
    Array,
    add_eye_points,
    along,
    grid_place,
    lid_lines,
    spline,
    surface_radius,
    to_space,
)

_S, _Y = np.meshgrid(GRID_S, GRID_Y)
_GRID = to_space(_S, _Y, surface_radius(_S, _Y))
_SIDE = np.sign(_S)
_BROWS = (np.arange(17, 22), np.arange(22, 27))


@dataclass(frozen=True)
class FaceShape:
    """A person with an expression, not yet posed.

    Attributes:
        chart: [104, 2] places of the keypoints in the chart.
        grid: [rows, columns, 3] the surface's grid points in space.
        irises: [2, 2] places of the irises' centres.
        openness: [2] height of the two eye openings; below 0.03 an eye is closed.
        gape: height of the mouth's opening.
        smile: about -0.4 (sulking) to 1.2.
    """

    chart: Array
    grid: Array
    irises: Array
    openness: Array
    gape: float
    smile: float


def random_shape(rng: np.random.Generator) -> FaceShape:
    """A random person with a random expression."""
    chart = TEMPLATE_CHART.copy()
    smile = float(np.clip(rng.normal(0.32, 0.45), -0.4, 1.2))
    gape = float(np.clip(rng.exponential(0.075), 0.02, 0.3)) if rng.random() < 0.45 + 0.3 * smile else 0.0
    _vary_brows(chart, rng)
    _vary_eyes(chart, rng, smile)
    _vary_mouth(chart, rng, smile, gape)
    gaze = np.clip(rng.normal(0, (0.05, 0.018)), (-0.1, -0.03), (0.1, 0.03))
    irises, openness = add_eye_points(chart, gaze)
    return FaceShape(chart, _vary_surface(rng, smile, gape), irises, openness, gape, smile)


def _vary_brows(chart: Array, rng: np.random.Generator) -> None:
    both = rng.normal(0, (0.045, 0.10, 0.25, 0.04))
    for side in _BROWS:
        lift, tilt, arch, stretch = both + rng.normal(0, (0.012, 0.03, 0.08, 0.01))
        s, y = chart[side].T
        line = np.interp(s, s[[0, -1]], y[[0, -1]])
        away = np.abs(s) - 0.64
        chart[side, 1] = np.minimum(line + (y - line) * max(0.2, 1 + arch) + tilt * away - lift, -0.14)
        chart[side, 0] = np.sign(s) * (0.64 + away * (1 + stretch))


def _vary_eyes(chart: Array, rng: np.random.Generator, smile: float) -> None:
    width, height, tilt = rng.normal((1.05, 0.24, 0.02), (0.06, 0.2, 0.06))
    blink = rng.random()
    for eye, lids in enumerate(LIDS):
        index = list(lids)
        centre = (chart[lids[0]] + chart[lids[3]]) / 2
        away = (chart[index] - centre) * (width, np.exp(height - 0.12 * max(smile, 0)))
        away[:, 1] -= tilt * np.abs(chart[index, 0]) - tilt * abs(centre[0])
        chart[index] = centre + away
        if blink < 0.07 or (0.07 <= blink < 0.09 and eye == 0):
            shut = 1.0
        else:
            shut = float(np.clip(rng.normal(0.05, 0.02), 0, 1)) if blink < 0.8 else 0.7 * (blink - 0.8) / 0.2
        _, lower = lid_lines(chart, eye)
        ends = lower[[0, -1], 0]
        parts = (chart[[lids[1], lids[2]], 0] - ends[0]) / (ends[1] - ends[0])
        target = along(lower, parts) - (0, 0.004)
        chart[[lids[1], lids[2]]] += shut * (target - chart[[lids[1], lids[2]]])


def _vary_mouth(chart: Array, rng: np.random.Generator, smile: float, gape: float) -> None:
    upper, inner_lower, lower = range(49, 54), range(65, 68), range(55, 60)
    full_upper, full_lower, width = np.exp(rng.normal((0, 0, -0.03), (0.22, 0.2, 0.07)))
    chart[list(upper), 1] = 1.03 + (chart[list(upper), 1] - 1.03) * full_upper * (1 - 0.2 * max(smile, 0))
    chart[list(lower), 1] = 1.06 + (chart[list(lower), 1] - 1.06) * full_lower * (1 - 0.12 * max(smile, 0))
    chart[list(inner_lower), 1] += gape - 0.037
    chart[list(lower), 1] += gape * np.array([0.85, 0.97, 1, 0.97, 0.85])
    chart[[61, 63, 65, 67], 0] *= 1 + min(1.8 * gape, 0.5)
    chart[62, 1] -= min(0.15 * gape, 0.015)
    corners = [48, 60, 54, 64]
    chart[corners, 1] += 0.4 * gape - 0.085 * smile
    for index, raised in (([49, 53], 0.035), ([59, 55], 0.045)):
        chart[index, 1] -= raised * smile
    chart[[61, 63, 65, 67], 1] -= 0.012 * smile
    chart[48:68, 0] *= width * (1 - 0.3 * gape) * (1 + 0.13 * smile * np.abs(chart[48:68, 0]) / 0.43)
    if gape == 0:  # the lips meet: one line from corner to corner
        line = spline(chart[60:65], 6)
        meet = along(line, (chart[[67, 66, 65], 0] - line[0, 0]) / (line[-1, 0] - line[0, 0]))
        chart[[67, 66, 65]] = meet + np.array((0, 0.003))


def _near(s: float, y: float, size_s: float, size_y: float) -> Array:
    """A field of 1 at both places (+-s, y), falling off smoothly: [rows, columns]."""
    return np.exp(-0.5 * (((np.abs(_S) - s) / size_s) ** 2 + ((_Y - y) / size_y) ** 2))


_NOSE_TIP, _NOSE = _near(0, 0.58, 0.22, 0.14), _near(0, 0.42, 0.2, 0.28)
_EYES, _SOCKETS, _CHEEKS = _near(0.56, 0, 0.4, 0.2), _near(0.45, -0.02, 0.2, 0.13), _near(0.85, 0.45, 0.35, 0.3)
_MOUTH, _CHIN, _BROW_RIDGE = _near(0, 1.06, 0.55, 0.22), _near(0, 1.62, 0.35, 0.18), _near(0.45, -0.28, 0.4, 0.1)
_EARS = _near(2.56, 0.2, 0.16, 0.4)
_JAW = np.clip((_Y - 0.5) / 1.0, 0, 1) ** 1.5 * np.clip((2.3 - _Y) / 0.4, 0, 1)
_LOWER = np.clip((_Y - 0.1) / 1.6, 0, 1)
_DROP = np.clip((_Y - 1.12) / 0.3, 0, 1) * np.clip((2.4 - _Y) / 0.5, 0, 1) * np.exp(-0.5 * (_S / 1.5) ** 2)
_FOREHEAD = np.clip((-_Y - 0.3) / 1.5, 0, 1)


def _vary_surface(rng: np.random.Generator, smile: float, gape: float) -> Array:
    n = rng.normal(size=18).clip(-2.2, 2.2)
    x, y, z = np.moveaxis(_GRID, -1, 0)
    x = x * (1.045 + 0.05 * n[0] + 0.07 * n[1] * _JAW + 0.05 * n[2] * _FOREHEAD)
    x = x + _SIDE * (0.035 * n[3] * _EYES + 0.05 * n[4] * _CHEEKS + (0.035 + 0.04 * max(n[5], -0.5)) * _EARS)
    x = x * (1 + 0.16 * n[6] * _NOSE_TIP)
    z = z * (1 + 0.05 * n[7]) + 0.05 * n[8] * _NOSE_TIP + 0.04 * n[9] * _NOSE - 0.03 * n[10] * _SOCKETS
    z = z + 0.06 * n[11] * _CHIN + 0.03 * n[12] * _BROW_RIDGE + (0.03 * n[4] + 0.05 * smile) * _CHEEKS
    y = y + 0.10 * n[13] * _LOWER + 0.05 * n[14] * _NOSE_TIP + 0.04 * n[15] * _MOUTH + 0.05 * n[16] * _CHIN
    y = y + 0.75 * gape * _DROP - 0.03 * smile * _CHEEKS - 0.12 * (1 + n[17]) * _FOREHEAD
    z = z - 0.25 * gape * _DROP
    return np.stack([x, y, z], axis=-1) + _lopsided(rng)


def _lopsided(rng: np.random.Generator) -> Array:
    """Small smooth differences between left and right, and whatever the fields above leave out."""
    wave, phase = rng.normal(0, 1.3, (3, 2)), rng.uniform(0, 6.3, 3)
    return 0.016 * np.sin(_S[..., None] * wave[:, 0] + _Y[..., None] * wave[:, 1] + phase)


def surface_points(grid: Array, chart: Array) -> Array:
    """Places [N,2] of the chart on a surface grid [rows, columns, C]: [N, C], as the drawing interpolates it."""
    column, row = grid_place(chart).T
    j = np.clip(column.astype(int), 0, grid.shape[1] - 2)
    i = np.clip(row.astype(int), 0, grid.shape[0] - 2)
    a, b = (column - j)[:, None], (row - i)[:, None]
    return (grid[i, j] * (1 - a) + grid[i, j + 1] * a) * (1 - b) + (
        grid[i + 1, j] * (1 - a) + grid[i + 1, j + 1] * a
    ) * b
