"""One drawn face as a patch: the painted surface turned, lit, projected and splatted into pixels.

The surface's grid cells that face the camera are written far to near, each as SAMPLES x SAMPLES dots, into an index
picture at twice the resolution; colour, depth and coverage are read through that one index, so that the keypoints,
which go through the same projection, agree with the picture and know what hides them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..sample import FloatArray, PointState
from .face_canvas import SAMPLES
from .face_glasses import draw_glasses, random_glasses
from .face_hair import Painting, paint_face
from .face_shape import random_shape, surface_points
from .face_template import CELLS_S, CELLS_Y, Array

_SUPER = 2
_HIDDEN = 0.1  # a surface this much nearer than a keypoint hides it
_CLOSED = 0.03  # height of an eye opening that shows no iris
_AROUND = np.array([[(x, y) for x in (-2, 0, 2) for y in (-2, 0, 2)]])
_SPLIT = 2  # stretched cells are divided into this many tiles each way


def _shares(rows: Array, columns: Array) -> Array:
    """[rows * columns, 4]: places in a cell as shares of its corners (i,j) (i,j+1) (i+1,j) (i+1,j+1)."""
    shares = [np.outer(down, across).ravel() for down in (1 - rows, rows) for across in (1 - columns, columns)]
    return np.stack(shares, axis=1).astype(np.float32)


_inner = (np.arange(SAMPLES) + 0.5) / SAMPLES
_DOTS = _shares(_inner, _inner)
_WHOLE = np.arange(SAMPLES * SAMPLES).reshape(1, -1)
_parts = [(i, j) for i in range(_SPLIT) for j in range(_SPLIT)]
_TILE_CORNERS = np.stack([_shares(np.array([i, i + 1]) / _SPLIT, np.array([j, j + 1]) / _SPLIT) for i, j in _parts])
_nearest = [((i + _inner) / _SPLIT * SAMPLES).astype(int) for i in range(_SPLIT)]
_TILE_DOTS = np.stack([np.add.outer(_nearest[i] * SAMPLES, _nearest[j]).ravel() for i, j in _parts])  # of the cell's


@dataclass(frozen=True)
class FacePatch:
    """A face to lay over a background.

    Attributes:
        grey: [H, W] float32, 0 (black) to 1, where alpha is not 0.
        alpha: [H, W] float32, 0 (background) to 1.
        points: [104, 2] float32 pixel indices of the patch, in or outside it.
        states: [104] int8 of `PointState`, by what the head itself hides: pose, lids, hair, glasses, a mask.
        skin: brightness of the skin, for hands.
    """

    grey: FloatArray
    alpha: FloatArray
    points: FloatArray
    states: NDArray[np.int8]
    skin: float


def render_face(rng: np.random.Generator, size: int, face: float, centre: tuple[float, float]) -> FacePatch:
    """Draw a random face, with hair, neck and shoulders, into a square of `size` pixels.

    Args:
        rng: decides everything random.
        size: side of the patch.
        face: longer side of the tight box of points 0:68, in pixels.
        centre: where the middle of that box goes, in pixels.
    """
    shape = random_shape(rng)
    painting = paint_face(rng, shape)
    turn = _random_pose(rng)
    turned, lifted = turn(shape.grid), turn(_puff(shape.grid, painting.lift))
    distance = rng.uniform(6, 14)
    placed = surface_points(turned, shape.chart)
    flat = _project(placed, distance)
    low, high = flat[:68].min(axis=0), flat[:68].max(axis=0)
    scale = face / (high - low).max()
    offset = np.asarray(centre) - scale * (low + high) / 2
    points = scale * flat + offset
    pixels = scale * _project(lifted, distance) + offset
    shade, gloss = _light(rng, lifted)
    splat = _splat((pixels + 0.5) * _SUPER - 0.5, lifted[..., 2], shade, gloss, painting, size * _SUPER)
    grey, alpha = _flatten(splat, size)
    hidden = _behind(splat, points, placed[:, 2]) | painting.hides(shape.chart)
    for eye in range(2):
        hidden[[*range(68 + 4 * eye, 72 + 4 * eye), 102 + eye]] |= shape.openness[eye] < _CLOSED
    if rng.random() < 0.22:

        def place(space: Array) -> tuple[Array, NDArray[np.bool_]]:
            at = turn(space)
            pixels = scale * _project(at, distance) + offset
            return pixels, _behind(splat, pixels, at[:, 2])

        lenses = draw_glasses(random_glasses(rng, shape), grey, place, scale)
        x, y = np.clip(np.rint(points), 0, size - 1).astype(int).T
        hidden |= lenses[y, x] > 127
    states = np.where(hidden, PointState.OCCLUDED, PointState.VISIBLE).astype(np.int8)
    return FacePatch(grey, alpha, points.astype(np.float32), states, painting.skin)


def _random_pose(rng: np.random.Generator) -> Callable[[Array], Array]:
    """Turns points [...,3] into a random pose; shoulders follow the head only in part."""
    yaw = rng.uniform(-62, 62) if rng.random() < 0.17 else np.clip(rng.normal(0, 20), -62, 62)
    pitch, roll = np.clip(rng.normal(0, (9, 9)), -25, 25)
    full = _rotation(yaw, pitch, roll)
    body = _rotation(0.4 * yaw, 0.2 * pitch, 0.15 * roll)

    def turn(space: Array) -> Array:
        share = np.clip((space[..., 1:2] - 1.9) / 0.6, 0, 1)
        return (space @ full.T) * (1 - share) + (space @ body.T) * share

    return turn


def _puff(grid: Array, lift: Array) -> Array:
    """The grid with the volume of hair and clothes."""
    outward = grid * (1, 0, 1)
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True) + 1e-6
    return grid + outward * lift[..., None]


def _rotation(yaw: float, pitch: float, roll: float) -> Array:
    a, b, c = np.radians((yaw, pitch, roll))
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def _project(space: Array, distance: float) -> Array:
    return space[..., :2] * (distance / (distance - space[..., 2:]))


def _light(rng: np.random.Generator, grid: Array) -> tuple[Array, Array]:
    """Diffuse factor and gloss at the grid points [rows, columns]: a main light, a fill light, ambient."""
    grid = grid.astype(np.float32)
    normal = np.cross(np.gradient(grid, axis=1), np.gradient(grid, axis=0))
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-9
    main = rng.normal((0, -0.55, 1.0), (0.75, 0.4, 0.25))
    fill = rng.normal((0, -0.2, 0.7), (1.0, 0.3, 0.3))
    main, fill = main / np.linalg.norm(main), fill / np.linalg.norm(fill)
    ambient = rng.uniform(0.25, 0.7)
    lit = np.clip(normal @ main, 0, 1) + rng.uniform(0, 0.4) * np.clip(normal @ fill, 0, 1)
    shade = ambient + (1.05 - ambient) * lit + 0.1 * (1 - np.clip(normal[..., 2], 0, 1)) * rng.uniform(-1, 0.5)
    half = main + np.array((0, 0, 1))
    gloss = rng.uniform(0, 0.28) * np.clip(normal @ (half / np.linalg.norm(half)), 0, 1) ** 24
    return shade, gloss


@dataclass(frozen=True)
class _Splat:
    """Index picture [size,size] of dots (-1: none), brightness of the dots [M*D], depths of tiles' corners [M,4]."""

    dots: NDArray[np.int32]
    brightness: Array
    corner_depths: Array

    def depth(self, dots: NDArray[np.int32]) -> Array:
        """Depth of dots [...]: [...]."""
        tile, dot = np.divmod(dots, len(_DOTS))
        return (_DOTS[dot] * self.corner_depths[tile]).sum(axis=-1)


def _splat(pixels: Array, depth: Array, shade: Array, gloss: Array, painting: Painting, size: int) -> _Splat:
    corners = np.concatenate([pixels, np.stack([depth, shade, gloss], axis=-1)], axis=-1).astype(np.float32)
    cells = np.stack([corners[:-1, :-1], corners[:-1, 1:], corners[1:, :-1], corners[1:, 1:]], axis=2).reshape(-1, 4, 5)
    tiles, cell_of, dots_of = _tiles(cells, size)
    order = np.argsort(tiles[:, 0, 2] + tiles[:, 3, 2], kind="stable")
    tiles = tiles[order]
    x, y, shade, gloss = (tiles[:, :, [0, 1, 3, 4]].transpose(2, 0, 1).reshape(-1, 4) @ _DOTS.T).reshape(4, -1)
    x, y = np.rint(x).astype(np.int32), np.rint(y).astype(np.int32)
    inside = np.flatnonzero((x >= 0) & (x < size) & (y >= 0) & (y < size)).astype(np.int32)
    buffer = np.full(size * size, -1, np.int32)
    buffer[y[inside] * size + x[inside]] = inside  # the last dot written to a pixel, the nearest, stays
    blocks = painting.texture.reshape(CELLS_Y, SAMPLES, CELLS_S, SAMPLES).transpose(0, 2, 1, 3).reshape(len(cells), -1)
    albedo = blocks.ravel().take((cell_of[order] * len(_DOTS))[:, None] + dots_of[order]).ravel()
    return _Splat(_close_gaps(buffer.reshape(size, size)), albedo * shade + gloss, tiles[:, :, 2])


def _tiles(cells: Array, size: int) -> tuple[Array, NDArray[np.intp], NDArray[np.intp]]:
    """What of the cells [N,4,5] to draw: corners [M,4,5], the cell of each tile [M], the colours of its dots [M,D].

    Cells that show their back or lie outside the picture are left out; those that would leave gaps are divided.
    """
    across, down = cells[:, 3, :2] - cells[:, 0, :2], cells[:, 2, :2] - cells[:, 1, :2]
    off_centre = np.abs((cells[:, 0, :2] + cells[:, 3, :2]) / 2 - size / 2)
    reach = np.maximum(np.abs(across), np.abs(down)) / 2
    drawn = (across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0] > 0) & (off_centre - reach < size / 2).all(axis=1)
    stretched = (reach > 0.65 * SAMPLES).any(axis=1) & drawn
    plain, divided = np.flatnonzero(drawn & ~stretched), np.flatnonzero(stretched)
    parts = (_TILE_CORNERS.reshape(-1, 4) @ cells[divided]).reshape(-1, 4, cells.shape[2])
    return (
        np.concatenate([cells[plain], parts]),
        np.concatenate([plain, np.repeat(divided, len(_TILE_DOTS))]),
        np.concatenate([np.repeat(_WHOLE, len(plain), axis=0), np.tile(_TILE_DOTS, (len(divided), 1))]),
    )


def _close_gaps(buffer: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give pixels that no dot hit, but whose surroundings are covered, a neighbour's dot."""
    kernel = np.ones((5, 5), np.uint8)
    covered = cv2.morphologyEx((buffer >= 0).astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    grown = buffer.astype(np.float32)
    grown = np.where(grown < 0, cv2.dilate(grown, kernel), grown)
    return np.where(covered > 0, grown, -1).astype(np.int32)


def _flatten(splat: _Splat, size: int) -> tuple[Array, Array]:
    """Grey and alpha [size,size]."""
    covered = splat.dots >= 0
    fine = np.clip(splat.brightness[np.maximum(splat.dots, 0)], 0, 1.2) * covered
    alpha = cv2.resize(covered.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    grey = cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)
    return grey / np.maximum(alpha, 1e-3), alpha


def _behind(splat: _Splat, points: Array, depth: Array) -> NDArray[np.bool_]:
    """Which points [K,2] of depths [K] lie behind the surface that the picture shows around them."""
    size = len(splat.dots)
    at = np.rint((points + 0.5) * _SUPER - 0.5).astype(int)
    near = np.clip(at[:, None] + _AROUND, 0, size - 1)
    dots = splat.dots[near[..., 1], near[..., 0]]
    shown = splat.depth(np.maximum(dots, 0))
    inside = ((at >= 0) & (at < size)).all(axis=1)
    return inside & (dots >= 0).all(axis=1) & (shown.min(axis=1) > depth + _HIDDEN)
