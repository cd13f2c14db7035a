"""How far predicted keypoints lie from the labels: the model card's KPI, the field's NME, and visibility.

Everything is computed over all faces at once, from errors in pixels of the source picture. A point whose label is
missing takes no part in anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..datasets.sample import PointState
from ..errors import FacetrainError
from .schemes import Scheme

Floats = NDArray[np.float64]
NORMALISERS = ("interocular", "interpupil", "diagonal")
THRESHOLDS = (8, 10)  # percent of the inter-ocular distance, as in the 300-W and WFLW papers


@dataclass(frozen=True)
class FaceErrors:
    """The errors of N faces, and every figure that is made of them.

    Attributes:
        scheme: regions, and the points that normalise.
        distances: [N, K] Euclidean error in source pixels, NaN where the label is missing.
        states: [N, K] `PointState` of the labels.
        normalisers: name -> [N] length in source pixels; NaN where the face does not have it. A name that the scheme
            has no points for is absent.
        visibility: [N, K] predicted probabilities of being visible, or None.
        unseen_as_zero: a point that is visible in no face has the error 0 among the visible ones, as TAO has it.
    """

    scheme: Scheme
    distances: Floats
    states: NDArray[np.integer]
    normalisers: dict[str, Floats]
    visibility: NDArray[np.floating] | None = None
    unseen_as_zero: bool = False

    def __len__(self) -> int:
        return len(self.distances)

    def select(self, faces: NDArray) -> FaceErrors:
        """The errors of some faces, by index or mask."""
        return replace(
            self,
            distances=self.distances[faces],
            states=self.states[faces],
            normalisers={name: length[faces] for name, length in self.normalisers.items()},
            visibility=None if self.visibility is None else self.visibility[faces],
        )

    def per_point(self, visible_only: bool = False) -> Floats:
        """[K] mean error of each point in source pixels; NaN for a point with no sample in the selection."""
        if not visible_only:
            return column_means(self.distances)
        means = column_means(np.where(self.states == PointState.VISIBLE, self.distances, np.nan))
        return np.nan_to_num(means, nan=0.0) if self.unseen_as_zero else means

    def per_region(self, visible_only: bool = False) -> dict[str, float]:
        """Region -> unweighted mean of its points' mean errors in source pixels.

        Points with no sample are left out (but see `unseen_as_zero`); a region with none is NaN.
        """
        means = self.per_point(visible_only)
        return {name: _mean(means[list(points)]) for name, points in self.scheme.regions.items()}

    def nme(self, normaliser: str = "interocular") -> Floats:
        """[N] mean error of each face's labelled points in percent of a length; NaN where the face lacks it."""
        return 100 * column_means(self.distances.T) / self.normalisers[normaliser]

    @property
    def main_normaliser(self) -> str:
        """The one to rank faces by: the first of `NORMALISERS` that the layout has points for."""
        return next(name for name in NORMALISERS if name in self.normalisers)

    def summary(self) -> dict[str, float]:
        """Every figure under a flat name, for trackers and tables. A figure that does not exist is left out.

        `error_{region}` and `error_visible_{region}` are source pixels; `nme_*` and `failure_*` (share of faces beyond
        that inter-ocular NME) are percent; `auc_*` and the visibility figures lie in 0..1; `faces` and `skipped_*`
        (faces without that normaliser) are counts.
        """
        figures: dict[str, float] = {"faces": float(len(self))}
        for name in self.normalisers:
            nme = self.nme(name)
            figures[f"nme_{name}"] = _mean(nme)
            figures[f"skipped_{name}"] = float(np.isnan(nme).sum())
        if "interocular" in self.normalisers:
            nme = self.nme("interocular")
            figures |= {f"failure_{limit}": 100 * failure_rate(nme, limit) for limit in THRESHOLDS}
            figures |= {f"auc_{limit}": auc(nme, limit) for limit in THRESHOLDS}
        figures |= {f"error_{name}": value for name, value in self.per_region().items()}
        figures |= {f"error_visible_{name}": value for name, value in self.per_region(visible_only=True).items()}
        if self.visibility is not None:
            figures |= visibility_figures(self.visibility, self.states)
        return {name: float(value) for name, value in figures.items() if np.isfinite(value)}


def face_errors(
    predicted: NDArray[np.floating],
    labels: NDArray[np.floating],
    states: NDArray[np.integer],
    scheme: Scheme,
    visibility: NDArray[np.floating] | None = None,
    unseen_as_zero: bool = False,
) -> FaceErrors:
    """Compares predictions with labels.

    Args:
        predicted: [N, K, 2] (x, y) in source pixels.
        labels: [N, K, 2] in source pixels; anything where the state is missing.
        states: [N, K] `PointState` of the labels.
        scheme: the layout of the K points.
        visibility: [N, K] predicted probabilities of being visible, where there is a visibility head.
        unseen_as_zero: see `FaceErrors`.

    Raises:
        FacetrainError: a prediction is not finite. It would otherwise pass for a missing label and flatter the result.
    """
    labelled = states != PointState.MISSING
    finite = np.isfinite(predicted).all(axis=(1, 2))
    if not finite.all():
        raise FacetrainError(
            f"the network's points are not finite for {np.sum(~finite)} of {len(finite)} faces: "
            "the weights are damaged, or the precision is too low for them"
        )
    known = np.where(labelled[..., None], np.asarray(labels, np.float64), np.nan)
    distances = np.linalg.norm(predicted - known, axis=2)
    return FaceErrors(scheme, distances, states, _normalisers(known, labelled, scheme), visibility, unseen_as_zero)


def _normalisers(labels: Floats, labelled: NDArray, scheme: Scheme) -> dict[str, Floats]:
    """Name -> [N] length in source pixels; NaN where a point that it needs is missing, or where it is 0."""
    lengths = {}
    if scheme.eye_corners is not None:
        right, left = scheme.eye_corners
        lengths["interocular"] = np.linalg.norm(labels[:, right] - labels[:, left], axis=1)
    if scheme.eyes is not None:
        right_eye, left_eye = (labels[:, list(eye)].mean(axis=1) for eye in scheme.eyes)
        lengths["interpupil"] = np.linalg.norm(right_eye - left_eye, axis=1)
    low = np.where(labelled[..., None], labels, np.inf).min(axis=1)
    high = np.where(labelled[..., None], labels, -np.inf).max(axis=1)
    lengths["diagonal"] = np.linalg.norm(high - low, axis=1)  # infinite where no point is labelled
    return {name: np.where((length > 0) & np.isfinite(length), length, np.nan) for name, length in lengths.items()}


def failure_rate(nme: Floats, limit: float) -> float:
    """Share, 0 to 1, of the faces with an NME whose NME is beyond `limit` (both in percent); NaN without faces."""
    return _mean((nme[np.isfinite(nme)] > limit).astype(np.float64))


def auc(nme: Floats, limit: float) -> float:
    """Area, 0 to 1, under the cumulative error curve from 0 to `limit`, divided by `limit`; NaN without faces.

    The curve is a staircase that rises by 1/N at each face's NME e, so its exact area is the mean of
    max(0, 1 - e / limit): no grid of thresholds is involved.
    """
    return _mean(np.maximum(0.0, 1 - nme / limit))


def visibility_figures(visibility: NDArray[np.floating], states: NDArray[np.integer]) -> dict[str, float]:
    """How well visible and occluded points are told apart; missing points are left out.

    Returns:
        `visibility_accuracy` at probability 0.5, `visibility_balanced_accuracy` (mean of the two classes' recalls; NaN
        with one class only) and `occlusion_ap`, the average precision of finding the occluded points.
    """
    labelled = states != PointState.MISSING
    occluded = states[labelled] == PointState.OCCLUDED
    score = 1 - np.asarray(visibility, np.float64)[labelled]
    right = np.equal(score > 0.5, occluded)
    return {
        "visibility_accuracy": _mean(right.astype(np.float64)),
        "visibility_balanced_accuracy": (_mean(right[occluded]) + _mean(right[~occluded])) / 2,
        "occlusion_ap": average_precision(score, occluded),
    }


def average_precision(score: Floats, positive: NDArray[np.bool_]) -> float:
    """Sum over the recall steps of step times precision, equal scores taken together; NaN without positives."""
    if not positive.any():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    found = np.cumsum(positive[order])[last_of_tie]
    precision = found / (np.flatnonzero(last_of_tie) + 1)
    return float(np.sum(np.diff(found, prepend=0) * precision) / positive.sum())


def column_means(values: Floats) -> Floats:
    """[columns] mean of each column's numbers, NaN where a column has none (and no warning about it)."""
    present = ~np.isnan(values)
    count = present.sum(axis=0)
    total = np.where(present, values, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(values.shape[1], np.nan), where=count > 0)


def _mean(values: NDArray) -> float:
    """Mean of the numbers among `values`; NaN if there are none."""
    return float(column_means(np.asarray(values, np.float64)[:, None])[0])
