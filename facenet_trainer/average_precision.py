"""Precision, recall and average precision of one class from its ranked detections (gridbox §8.1, §8.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """How precision falls as recall rises: one point for every detection taken in, the most confident first.

    Attributes:
        scores: [D] confidence of the detection, falling.
        precision: [D] share of the detections so far that found a face, 0 to 1.
        recall: [D] share of the faces that are found so far, 0 to 1.
        faces: how many there are to find. Without any, recall has no meaning and is NaN.
    """

    scores: Floats
    precision: Floats
    recall: Floats
    faces: int

    def average_precision(self, kind: str = "voc") -> float:
        """0 to 1, by the name of `metrics.average_precision`; NaN without faces, 0 without detections."""
        if not self.faces:
            return float("nan")
        area = {"voc": voc, "tao_sample": tao_sample, "tao_integrate": tao_integrate}[kind]
        return area(self.precision, self.recall) if len(self.scores) else 0.0

    def best_f1(self) -> tuple[float, float]:
        """The highest harmonic mean of precision and recall, 0 to 1, and the score to cut at for it; NaN if none."""
        best = self.best()
        if best is None:
            return float("nan"), float("nan")
        return float(_f1(self.precision[best], self.recall[best])), float(self.scores[best])

    def best(self) -> int | None:
        """The place on the curve with the best F1; None without faces or detections."""
        if not self.faces or not len(self.scores):
            return None
        # A threshold keeps all of equal scores or none, so only the last of each can be cut after.
        last = np.flatnonzero(np.append(np.diff(self.scores) != 0, True))
        return int(last[np.argmax(_f1(self.precision[last], self.recall[last]))])

    def steps(self) -> NDArray[np.intp]:
        """The places where recall rises, one for every face found, and the end: all that AP depends on."""
        rises = np.flatnonzero(np.diff(self.recall, prepend=0) > 0)
        return np.union1d(rises, np.arange(len(self.recall))[-1:])


def precision_recall(scores: NDArray[np.floating], hits: NDArray[np.bool_], faces: int) -> Curve:
    """The curve of D detections.

    Args:
        scores: [D] confidences in any order; equal ones keep theirs.
        hits: [D] whether the detection found a face that no more confident one had found.
        faces: how many there are to find.
    """
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(hits[order])
    precision = found / np.arange(1, len(found) + 1)
    recall = found / faces if faces else np.full(len(found), np.nan)
    return Curve(scores[order].astype(np.float64), precision, recall, faces)


def voc(precision: Floats, recall: Floats) -> float:
    """PASCAL VOC since 2010: the area under the envelope, which at each recall is the best precision from there on."""
    return float(np.sum(np.diff(recall, prepend=0) * _envelope(precision)))


def tao_sample(precision: Floats, recall: Floats) -> float:
    """TAO's SAMPLE, PASCAL VOC 2007: the mean of the envelope at 11 recalls.

    The recalls are summed-up tenths as there, so that 0.3 is a hair above 3 / 10: with 10 faces a curve that ends at
    recall 0.3 does not reach it.
    """
    reached = np.searchsorted(recall, np.arange(0.0, 1.1, 0.1), side="left")
    return float(np.append(_envelope(precision), 0.0)[reached].sum() / 11)


def tao_integrate(precision: Floats, recall: Floats) -> float:
    """TAO's INTEGRATE: nearly the area under the envelope (§8.2).

    Each step of recall has the envelope at its left end, the step from 0 to the first recall is left out, and so are
    the precisions from the highest recall on: one face that is found at once has 0.
    """
    recalls, first = np.unique(recall, return_index=True)
    if len(recalls) < 2:
        return 0.0
    return float(np.sum(np.diff(recalls) * _envelope(precision[: first[-1]])[first[:-1]]))


def _envelope(precision: Floats) -> Floats:
    """[D] the highest precision from each place on."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def _f1(precision: Floats, recall: Floats) -> Floats:
    return 2 * precision * recall / np.maximum(precision + recall, 1e-12)
