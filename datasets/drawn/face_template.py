"""A head to draw: a smooth surface wound round an upright axis, and 104 keypoints that lie on it.

**Chart.** A place on the surface is (s, y): s is the angle about the head's axis times 1.5, the radius of the front of
the face, so that lengths near the nose are true; y runs down. Units are the distance between the eyes' centres
(about 63 mm); (0, 0) lies between the eyes. Space is (x right, y down, z towards the camera), origin on the axis.
Features are painted in the chart and keypoints are marked in it, so picture and labels go through one mapping.

**Keypoints 0:68** are iBUG's. The meaning of 68:104 is not published beyond "pupils", "ears" and "extra eye points";
this reading is ours, and its order fits the published flip permutation:

* 68:72, 72:76  left, top, right, bottom of the iris as far as the lids leave it open; image-left eye first.
* 76:78, 78:80  top and lobe of the ear; image-left ear first.
* 80:83, 91:94  lower lid between the iBUG points, from the outer corner to the inner.
* 83:90, 94:101 upper lid in seven even steps, from image left to image right.
* 90, 101       centre of the eye opening.
* 102, 103      the caruncle, where the white begins beside the inner corner; image-left eye first.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

NUM_POINTS = 104
FRONT_RADIUS = 1.5
CELLS_S, CELLS_Y = 64, 56  # cells of the surface grid, narrow where the features are
IRIS_RADIUS = 0.094  # 5.9 mm

# What is hand-set: the middle line and the image-right half, runs of (s, y) by their first index. The rest is mirrored.
# fmt: off
_RIGHT_HALF: dict[int, list[tuple[float, float]]] = {
    8: [(0, 1.75), (0.30, 1.71), (0.66, 1.57), (1.16, 1.38), (1.68, 1.14),
        (1.95, 0.87), (2.12, 0.58), (2.21, 0.29), (2.27, 0.0)],
    22: [(0.20, -0.25), (0.40, -0.325), (0.64, -0.35), (0.88, -0.31), (1.10, -0.19)],
    27: [(0, -0.03), (0, 0.165), (0, 0.36), (0, 0.555)],
    33: [(0, 0.735), (0.105, 0.71), (0.205, 0.67)],
    42: [(0.315, 0.03), (0.455, -0.064), (0.625, -0.066), (0.785, 0.0), (0.645, 0.062), (0.475, 0.066)],
    51: [(0, 0.945), (0.115, 0.918), (0.265, 0.955), (0.43, 1.025), (0.275, 1.165), (0.125, 1.235), (0, 1.248)],
    62: [(0, 1.03), (0.115, 1.02), (0.36, 1.03), (0.115, 1.062), (0, 1.068)],
    78: [(2.56, -0.14), (2.46, 0.56)],
}
_MIRRORED = {
    **{i: 16 - i for i in range(8)}, **{i: 43 - i for i in range(17, 22)}, 31: 35, 32: 34,
    36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46, 48: 54, 49: 53, 50: 52, 58: 56, 59: 55, 60: 64, 61: 63, 67: 65,
    76: 78, 77: 79,
}
# fmt: on
LIDS = ((36, 37, 38, 39, 40, 41), (45, 44, 43, 42, 47, 46))  # outer corner, upper lid, inner corner, lower lid


@cache
def _catmull_rom(steps: int) -> Array:
    """[steps, 4]: what each of four points in a row counts at steps from the second towards the third."""
    t = (np.arange(steps) / steps)[:, None]
    curve = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
    return t ** np.arange(4) @ curve


def spline(points: Array, steps: int = 6) -> Array:
    """A smooth line through points [N,2], `steps` places a segment: [(N - 1) * steps + 1, 2]."""
    p = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    fours = p[np.arange(len(points) - 1)[:, None] + np.arange(4)]
    return np.concatenate([(_catmull_rom(steps) @ fours).reshape(-1, 2), points[-1:]])


def lid_lines(chart: Array, eye: int) -> tuple[Array, Array]:
    """Upper and lower lid of eye 0 (image left) or 1 as lines from the outer to the inner corner, [25,2] and [25,2]."""
    corner = LIDS[eye]
    upper = spline(chart[list(corner[:4])], 8)
    return upper, spline(chart[[corner[0], corner[5], corner[4], corner[3]]], 8)


def along(line: Array, parts: Array) -> Array:
    """The places at fractions [M] of the horizontal way along a line [N,2] whose s is monotonous: [M,2]."""
    s = line[0, 0] + parts * (line[-1, 0] - line[0, 0])
    order = np.argsort(line[:, 0])
    return np.stack([s, np.interp(s, line[order, 0], line[order, 1])], axis=1)


def add_eye_points(chart: Array, gaze: Array) -> tuple[Array, Array]:
    """Fill 68:76 and 80:104 of chart [104,2] from the lids 36:48 and the gaze [2].

    Returns the irises' centres [2,2] and how far the eyes are open [2].
    """
    irises, openness = np.zeros((2, 2)), np.zeros(2)
    for eye in range(2):
        upper, lower = lid_lines(chart, eye)
        centre = np.mean([along(upper, np.array([0.5]))[0], along(lower, np.array([0.5]))[0]], axis=0)
        irises[eye] = iris = centre + gaze + (0, -0.012)
        top, bottom = (_height(line, iris[0]) for line in (upper, lower))
        rim = np.clip(iris[0] + np.array([-1, 1]) * IRIS_RADIUS, *np.sort(upper[[0, -1], 0]))
        middle = np.clip(iris[1], top, bottom)
        openness[eye] = bottom - top
        chart[68 + 4 * eye : 72 + 4 * eye] = [
            (rim[0], middle),
            (iris[0], max(top, iris[1] - IRIS_RADIUS)),
            (rim[1], middle),
            (iris[0], min(bottom, iris[1] + IRIS_RADIUS)),
        ]
        first = 80 + 11 * eye
        chart[first : first + 3] = along(lower, np.array([0.16, 0.5, 0.84]))
        steps = along(upper, np.arange(1, 8) / 8)
        chart[first + 3 : first + 10] = steps if eye == 0 else steps[::-1]
        chart[first + 10] = centre
        chart[102 + eye] = np.mean([along(line, np.array([0.86]))[0] for line in (upper, lower)], axis=0)
    return irises, openness


def _height(line: Array, s: float) -> float:
    order = np.argsort(line[:, 0])
    return float(np.interp(s, line[order, 0], line[order, 1]))


def _template_chart() -> Array:
    chart = np.zeros((NUM_POINTS, 2))
    for first, run in _RIGHT_HALF.items():
        chart[first : first + len(run)] = run
    for index, partner in _MIRRORED.items():
        chart[index] = chart[partner] * (-1, 1)
    add_eye_points(chart, np.zeros(2))
    return chart


def _bump(s: Array, y: Array, at: tuple[float, float], size: tuple[float, float], height: float) -> Array:
    """A rounded hill on both sides of the face."""
    return height * np.exp(-0.5 * (((np.abs(s) - at[0]) / size[0]) ** 2 + ((y - at[1]) / size[1]) ** 2))


_HEIGHTS = [-2.25, -2.2, -2.0, -1.7, -1.3, -0.9, -0.35, -0.05, 0.3, 0.7, 0.92, 1.05, 1.17, 1.36, 1.55, 1.72, 1.85, 3.7]
_FRONT = [0.05, 0.4, 0.86, 1.14, 1.34, 1.44, 1.51, 1.42, 1.44, 1.49, 1.53, 1.51, 1.52, 1.42, 1.47, 1.42, 1.34, 1.3]
_WIDTH = [0.05, 0.4, 0.82, 1.04, 1.18, 1.22, 1.21, 1.18, 1.16, 1.10, 1.05, 1.02, 0.99, 0.95, 0.91, 0.88, 0.86, 0.8]
_BACK = [0.05, 0.5, 1.05, 1.35, 1.55, 1.62, 1.60, 1.52, 1.40, 1.15, 1.0, 0.95, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]
_JAW_S = [0.0, 0.30, 0.66, 1.16, 1.68, 1.95, 2.2, 2.5, 4.4]
_JAW_Y = [1.81, 1.77, 1.64, 1.46, 1.24, 1.0, 0.8, 0.62, 0.7]


def jaw_height(s: Array) -> Array:
    """y of the lower edge of the jaw below chart abscissa s."""
    return np.interp(np.abs(s), _JAW_S, _JAW_Y)


def _oval(s: Array, width: Array, front: Array, back: Array) -> Array:
    angle = s / FRONT_RADIUS
    depth = np.where(np.cos(angle) > 0, front, back)
    return ((np.abs(np.sin(angle)) / width) ** 2.15 + (np.abs(np.cos(angle)) / depth) ** 2.15) ** (-1 / 2.15)


def surface_radius(s: Array, y: Array) -> Array:
    """Distance of the template's surface from the head's axis at chart places s, y (any equal shapes)."""
    head = _oval(s, *(np.interp(y, _HEIGHTS, column) for column in (_WIDTH, _FRONT, _BACK)))
    neck = _oval(s, np.full_like(y, 0.80), np.full_like(y, 0.74), np.full_like(y, 0.95))
    shoulders = _oval(s, np.full_like(y, 2.6), np.full_like(y, 1.2), np.full_like(y, 1.0))
    neck = neck + (shoulders - neck) * np.clip((y - 2.1) / 0.6, 0, 1) ** 1.7
    rise = np.clip((jaw_height(s) + 0.08 - y) / 0.16, 0, 1)
    radius = neck + (head - neck) * rise * rise * (3 - 2 * rise)
    ridge = np.interp(
        y, [-0.2, 0, 0.2, 0.4, 0.53, 0.61, 0.68, 0.75, 0.82], [0, 0.06, 0.17, 0.29, 0.39, 0.40, 0.24, 0.07, 0]
    )
    radius += ridge * np.exp(-0.5 * (s / np.interp(y, [0, 0.3, 0.55, 0.7], [0.085, 0.10, 0.14, 0.15])) ** 2)
    radius += _bump(s, y, (0.165, 0.61), (0.06, 0.075), 0.13)  # wings of the nose
    radius += _bump(s, y, (0.47, 0.0), (0.22, 0.13), -0.14) + _bump(s, y, (0.53, 0.0), (0.14, 0.09), 0.08)  # eyes
    radius += _bump(s, y, (0.55, -0.27), (0.32, 0.09), 0.04) + _bump(s, y, (0.82, 0.45), (0.25, 0.24), 0.07)
    radius += _bump(s, y, (0, 0.975), (0.24, 0.045), 0.05) + _bump(s, y, (0, 1.165), (0.2, 0.055), 0.06)  # lips
    radius += _bump(s, y, (0, 1.6), (0.22, 0.12), 0.05)
    return radius + 0.2 * np.exp(-0.5 * ((np.abs(s) - 2.56) / 0.13) ** 2 - ((y - 0.2) / 0.37) ** 4)  # ears


def to_space(s: Array, y: Array, radius: Array) -> Array:
    """Chart places and radii (any equal shape) to points [..., 3]."""
    angle = s / FRONT_RADIUS
    return np.stack([radius * np.sin(angle), y, radius * np.cos(angle)], axis=-1)


_u = np.linspace(-1, 1, CELLS_S + 1)
GRID_S: Array = 4.32 * (0.6 * _u + 0.4 * _u**3)
GRID_Y: Array = np.interp(np.linspace(0, 1, CELLS_Y + 1), [0, 0.14, 0.78, 1], [-2.25, -0.65, 1.85, 3.7])
_COLUMNS, _ROWS = np.arange(CELLS_S + 1.0), np.arange(CELLS_Y + 1.0)
TEMPLATE_CHART: Array = _template_chart()
TEMPLATE: Array = to_space(TEMPLATE_CHART[:, 0], TEMPLATE_CHART[:, 1], surface_radius(*TEMPLATE_CHART.T))


def grid_place(chart: Array) -> Array:
    """Chart places [N,2] as fractional (column, row) of the surface grid."""
    place = np.empty((len(chart), 2))
    place[:, 0] = np.interp(chart[:, 0], GRID_S, _COLUMNS)
    place[:, 1] = np.interp(chart[:, 1], GRID_Y, _ROWS)
    return place
