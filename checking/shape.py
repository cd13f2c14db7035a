"""How the points of a face usually lie: a mean shape and how it varies, learnt from the set's own labels although some
of them are wrong.

Points are complex numbers here, x + iy, so that a similarity z -> a z + b is one product and one sum. A frame is the
mean shape's own: its longer side is 1, so errors in it are shares of the size of the face.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex128]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

FEWEST = 12  # faces that a mean shape can be learnt from
LEARNT_FROM = 4000  # faces; more change nothing
ROUNDS = 6  # alternations of mean and alignment; it stands still after three or four
MODES = 24  # turns of the head, expressions and persons; the rest is a labeller's tremor
FACES_A_MODE = 6  # as many faces at least for each mode, or a mode is one face learnt by heart
TREMOR = 0.012  # of a careful label in the frame, one standard deviation
MOST_USUAL = 4.0  # times the median deviation of a point
OUTLYING = 0.05  # a point this far from its place counts half
CHUNK = 2048  # faces fitted at a time, to bound the memory


@dataclass(frozen=True)
class ShapeModel:
    """A mean shape and its modes of variation.

    Attributes:
        mean: [K] complex, centred, longer side 1.
        modes: [2 K, M] orthonormal columns over (x of all points, y of all points).
        spread: [M] standard deviation of each mode.
    """

    mean: Complex
    modes: Floats
    spread: Floats


@dataclass(frozen=True)
class Fit:
    """A model fitted to N faces.

    Attributes:
        place: [N, K] complex, where each point should lie, in the frame.
        found: [N, K] complex, where it lies; NaN where missing.
        size: [N] pixels of the picture to 1 of the frame.
        error: [N, K] distance between the two.
    """

    place: Complex
    found: Complex
    size: Floats
    error: Floats


def as_complex(points: NDArray[np.floating]) -> Complex:
    """[..., K, 2] to [..., K]; NaN where either coordinate is."""
    wide = np.asarray(points, np.float64)
    return wide[..., 0] + 1j * wide[..., 1]


def align(faces: Complex, shapes: Complex, weights: Floats) -> tuple[Complex, Complex]:
    """The similarity (a, b), [N] each, that takes shape to face with least weighted squares: face ~ a shape + b.

    Args:
        faces: [N, K]; NaN where missing.
        shapes: [K] or [N, K].
        weights: [N, K], 0 where missing. A face of fewer than two points gets a = 0.
    """
    total = np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    z = np.where(weights > 0, faces, 0)
    m = np.broadcast_to(shapes, z.shape)
    z_mean = (weights * z).sum(axis=1, keepdims=True) / total
    m_mean = (weights * m).sum(axis=1, keepdims=True) / total
    z0, m0 = z - z_mean, m - m_mean
    spread = (weights * np.abs(m0) ** 2).sum(axis=1)
    a = (weights * z0 * m0.conj()).sum(axis=1) / np.maximum(spread, 1e-12)
    return a, z_mean[:, 0] - a * m_mean[:, 0]


def learn_shape(faces: Complex, start: Complex | None = None) -> ShapeModel | None:
    """The shape of faces [N, K], NaN where missing, robust to a minority of wrong ones.

    `start` is a first guess of the mean; without it faces are taken as upright. None where there are too few faces.
    """
    faces = _sampled(faces[_usable(faces)])
    if len(faces) < FEWEST or faces.shape[1] < 4:
        return None
    known = np.isfinite(faces)
    mean = framed(_median(_upright(faces)) if start is None else start)
    for _ in range(ROUNDS):
        a, b = align(faces, mean, _robust(faces, mean, known))
        mean = framed(_median((faces - b[:, None]) / a[:, None]))
    weights = _robust(faces, mean, known)
    a, b = align(faces, mean, weights)
    placed = (faces - b[:, None]) / a[:, None]
    off = np.where(known, np.abs(placed - mean), 0)
    typical = np.sqrt((off**2).sum(axis=1) / known.sum(axis=1))
    clean = typical <= np.quantile(typical, 0.95)
    return ShapeModel(mean, *_modes(np.where(known, placed - mean, 0)[clean]))


def fit_shape(model: ShapeModel, faces: Complex) -> Fit:
    """The model fitted to faces [N, K], NaN where missing; points out of place count little."""
    parts = [_fit(model, faces[start : start + CHUNK]) for start in range(0, len(faces), CHUNK)]
    if not parts:
        empty = np.zeros((0, len(model.mean)))
        return Fit(empty.astype(np.complex128), empty.astype(np.complex128), np.zeros(0), empty)
    return Fit(*(np.concatenate([getattr(part, name) for part in parts]) for name in Fit.__dataclass_fields__))


def misfit(mean: Complex, faces: Complex) -> Floats:
    """[N] root mean square distance of faces [N, K] from the mean shape, without modes, shares of the face's size."""
    known = np.isfinite(faces)
    a, b = align(faces, mean, known.astype(np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.abs((faces - b[:, None]) / a[:, None] - mean)
    counts = np.maximum(known.sum(axis=1), 1)
    return np.sqrt(np.where(known, off**2, 0).sum(axis=1) / counts)


def _fit(model: ShapeModel, faces: Complex) -> Fit:
    known = np.isfinite(faces)
    weights = known.astype(np.float64)
    place = np.broadcast_to(model.mean, faces.shape)
    for _ in range(ROUNDS):
        a, b = align(faces, place, weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = (faces - b[:, None]) / a[:, None]
        found = np.where(known & np.isfinite(found), found, np.nan)
        place = model.mean + _explained(model, np.where(np.isfinite(found), found - model.mean, 0), weights)
        error = np.abs(found - place)
        weights = np.where(np.isfinite(error), 1 / (1 + (error / OUTLYING) ** 2), 0)
    return Fit(place, found, np.abs(a), error)


def _explained(model: ShapeModel, off: Complex, weights: Floats) -> Complex:
    """[N, K] what the modes can explain of deviations [N, K], each mode held near its usual range."""
    if not len(model.spread):
        return np.zeros_like(off)
    vector = np.concatenate([off.real, off.imag], axis=1)
    weight = np.concatenate([weights, weights], axis=1)
    normal = np.einsum("nk,ka,kb->nab", weight, model.modes, model.modes, optimize=True)
    normal += np.diag((TREMOR / model.spread) ** 2)
    right = (weight * vector) @ model.modes
    amount = np.linalg.solve(normal, right[..., None])[..., 0]
    amount = np.clip(amount, -3 * model.spread, 3 * model.spread)
    vector = amount @ model.modes.T
    k = off.shape[1]
    return vector[:, :k] + 1j * vector[:, k:]


def _modes(off: Complex) -> tuple[Floats, Floats]:
    """Principal deviations. A point's deviation counts up to a few times its usual one, or a few wrong labels among a
    hundred would be a way for faces to vary."""
    size = np.abs(off)
    most = MOST_USUAL * np.median(size, axis=0)
    off = off * np.minimum(1, most / np.maximum(size, 1e-9))
    vectors = np.concatenate([off.real, off.imag], axis=1)
    count = min(MODES, len(vectors) // FACES_A_MODE)
    _, singular, rows = np.linalg.svd(vectors, full_matrices=False)
    spread = singular[:count] / np.sqrt(max(len(vectors) - 1, 1))
    kept = spread > TREMOR / 2
    return rows[:count][kept].T, spread[kept]


def _robust(faces: Complex, mean: Complex, known: Mask) -> Floats:
    """[N, K] weights of points after two fits to the mean."""
    weights = known.astype(np.float64)
    for _ in range(2):
        a, b = align(faces, mean, weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            off = np.abs((faces - b[:, None]) / a[:, None] - mean)
        weights = np.where(known & np.isfinite(off), 1 / (1 + (off / (2 * OUTLYING)) ** 2), 0)
    return weights


def _usable(faces: Complex) -> Mask:
    """[N] faces with most of their points, not all in one place."""
    known = np.isfinite(faces)
    wide, high = (
        np.where(known, axis, -np.inf).max(axis=1) - np.where(known, axis, np.inf).min(axis=1)
        for axis in (faces.real, faces.imag)
    )
    spread = np.maximum(wide, high)
    return np.asarray((known.mean(axis=1) >= 0.8) & (spread > 1), np.bool_)


def _sampled(faces: Complex) -> Complex:
    if len(faces) <= LEARNT_FROM:
        return faces
    return faces[np.random.default_rng(0).permutation(len(faces))[:LEARNT_FROM]]


def _upright(faces: Complex) -> Complex:
    """Faces of one centre and size, not turned."""
    centred = faces - np.nanmedian(faces.real, axis=1)[:, None] - 1j * np.nanmedian(faces.imag, axis=1)[:, None]
    return centred / np.nanmedian(np.abs(centred), axis=1)[:, None]


def _median(faces: Complex) -> Complex:
    return np.nanmedian(faces.real, axis=0) + 1j * np.nanmedian(faces.imag, axis=0)


def framed(shape: Complex) -> Complex:
    """Centred, longer side 1."""
    side = max(np.ptp(shape.real), np.ptp(shape.imag), 1e-9)
    return (shape - shape.mean()) / side
