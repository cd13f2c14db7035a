"""What the checks have to know of a keypoint layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..datasets.drawn.face_template import NUM_POINTS, TEMPLATE

BUILT_IN = (68, 80, 104)  # each begins with the one before, and the template has them all


@dataclass(frozen=True)
class Layout:
    """A layout of K points.

    Attributes:
        names: K names.
        flip: K indices that change left and right; None where the layout has no mirror image.
        eyes: the outer eye corners, whose distance measures how far labels differ; None where it lacks them.
        template: [K, 3] a head in space (x right, y down, z towards the camera), to read the pose from; None where the
            layout is not one of those that facetrain draws.
    """

    names: tuple[str, ...]
    flip: tuple[int, ...] | None
    eyes: tuple[int, int] | None
    template: NDArray[np.float64] | None


def template_rows(num_keypoints: int, source_points: Sequence[int], own_scheme: bool) -> NDArray[np.float64] | None:
    """The drawn head's points of a layout: the built-in ones, or the chosen of them."""
    if own_scheme:
        return None
    if source_points:
        rows = list(source_points)
        return np.asarray(TEMPLATE[rows], np.float64) if max(rows) < NUM_POINTS else None
    return np.asarray(TEMPLATE[:num_keypoints], np.float64) if num_keypoints in BUILT_IN else None
