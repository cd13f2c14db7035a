"""Where a face looks, from its points alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def head_pose(points: NDArray[np.floating], template: Floats) -> Floats:
    """Degrees [N, 3] of roll, yaw and pitch of faces [N, K, 2]; NaN where fewer than 6 points are known.

    The template's points [K, 3] (x right, y down, z towards the camera) are laid over the face by the affine camera of
    least squares, whose 2 x 3 matrix is then replaced by the nearest scaled rotation. Expression and the person's own
    proportions shift the angles by some degrees. Roll turns clockwise in the picture, yaw to the picture's right, pitch
    upwards; the head is thought to be pitched first, then turned, then rolled.
    """
    camera = _cameras(np.asarray(points, np.float64), template)
    angles = np.full((len(points), 3), np.nan)
    known = np.isfinite(camera).all(axis=(1, 2))
    if not known.any():
        return angles
    left, singular, right = np.linalg.svd(camera[known], full_matrices=False)
    turn: Floats = left @ right
    turn[singular[:, 1] < 1e-6 * singular[:, 0]] = np.nan  # points on a line
    ahead: Floats = np.cross(turn[:, 0], turn[:, 1])  # third row: where each axis points in depth
    yaw = np.arcsin(np.clip(-ahead[:, 0], -1, 1))
    pitch = np.arctan2(ahead[:, 1], ahead[:, 2])
    roll = np.arctan2(turn[:, 1, 0], turn[:, 0, 0])
    angles[known] = np.degrees(np.stack([roll, yaw, pitch], axis=1))
    return angles


def _cameras(points: Floats, template: Floats) -> Floats:
    """[N, 2, 3] the affine camera of each face, over its known points."""
    weights: Floats = np.asarray(np.isfinite(points).all(axis=2), np.float64)
    counts: Floats = weights.sum(axis=1)
    total: Floats = np.maximum(counts, 1)[:, None]
    known = np.where(weights[..., None] > 0, points, 0)
    flat = known - weights[..., None] * (known.sum(axis=1) / total)[:, None]
    space = weights[..., None] * (template[None] - (weights @ template / total)[:, None])
    normal = np.einsum("nka,nkb->nab", space, space)
    few = (counts < 6) | (np.linalg.cond(normal) > 1e8)
    normal[few] = np.eye(3)
    camera = np.linalg.solve(normal, np.einsum("nka,nkc->nac", space, flat)).transpose(0, 2, 1)
    camera[few] = np.nan
    return camera
