"""Faults of faces that their labels alone show: points in one place, mirrored, in the wrong order, outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..datasets.sample import FaceSample
from .findings import Finding
from .layout import Layout
from .shape import Complex, Fit, Floats, ShapeModel, as_complex, fit_shape, framed, learn_shape, misfit

# Measured on the 5,430 faces of 300-W and YouTube Faces, profiles and grimaces among them: shares of the face's size.
MIRRORED = 0.5  # of the misfit, that exchanging left and right leaves; right labels get at least five times worse
OTHER_LAYOUT = 0.1  # of the mean of a set from the drawn head's; 300-W and YouTube Faces have 0.02
UNLIKE = 0.09  # mean distance from the fitted shape; right labels stay below 0.05, machine-made ones below 0.08
MOVED = 0.04  # mean distance of points that stand where others belong, and the share that a new order leaves
RESOLVED = 0.5
TOO_SMALL = 4.0  # pixels: of a face whose points all lie within, nothing can be learnt
TOGETHER = 0.25  # share of the points that may lie on one spot
NAMED = 4  # points told of in one message


@dataclass(frozen=True)
class Faces:
    """What is known of the faces of a set.

    Attributes:
        samples: the faces.
        parts: "train", "val" or "test" of each.
        sizes: (width, height) of each one's picture; (0, 0) where it cannot be read.
    """

    samples: Sequence[FaceSample]
    parts: Sequence[str]
    sizes: Sequence[tuple[int, int]]

    def finding(self, kind: str, index: int, detail: str, badness: float = 0.0, other: int | None = None) -> Finding:
        """A finding of face `index`."""
        sample = self.samples[index]
        file = sample.label or f"{sample.source}/{sample.name}"
        detail = f"{sample.name}: {detail}" if sample.label and sample.name not in file else detail
        return Finding(kind, self.parts[index], sample.source, file, sample.line, detail, index, other, badness)


def check_points(faces: Faces, layout: Layout, out_of_place: float) -> tuple[list[Finding], Floats]:
    """Faults of the points of every labelled face, and how far each face's worst point is out of place: [N] shares of
    the face's size, NaN where there is no telling.

    `out_of_place`: from which share on that is suspicious.
    """
    worst = np.full(len(faces.samples), np.nan)
    findings = [finding for i in _labelled(faces) for finding in _frame_faults(faces, i)]
    collapsed = {i: detail for i in _labelled(faces) if (detail := _collapsed(faces.samples[i]))}
    findings += [faces.finding("collapsed points", i, detail, 1.0) for i, detail in collapsed.items()]
    rest = [i for i in _labelled(faces) if i not in collapsed]
    points = as_complex(np.stack([faces.samples[i].points for i in rest])) if rest else np.zeros((0, 1), complex)
    start = None if layout.template is None else as_complex(layout.template[:, :2])
    model = learn_shape(points, start)
    if model is None:
        return findings, worst
    exchanged = np.array(layout.flip or [], np.int64)
    fit = fit_shape(model, points)
    mean = model.mean if start is None else framed(start)
    ratio = _mirror_ratio(mean, points, exchanged)
    if start is not None and not _mirror_ratio(mean, model.mean[None], exchanged)[0] < MIRRORED:
        findings += _other_layout(faces, mean, model, rest)
    for row, i in enumerate(rest):
        known = np.isfinite(fit.error[row])
        worst[i] = fit.error[row][known].max(initial=0.0)
        if ratio[row] < MIRRORED:
            detail = f"exchanging left and right leaves {ratio[row]:.0%} of the distance from the mean shape"
            findings.append(faces.finding("mirrored points", i, detail, 1 - ratio[row]))
        elif detail := _wrong_order(fit, row, layout):
            findings.append(faces.finding("wrong order", i, detail, worst[i]))
        elif worst[i] > out_of_place:
            point = int(np.nanargmax(fit.error[row]))
            detail = f"point {point + 1} ({layout.names[point]}), by {worst[i]:.0%} of the face's size"
            findings.append(faces.finding("point out of place", i, detail, worst[i]))
    return findings, worst


def _labelled(faces: Faces) -> list[int]:
    return [i for i, sample in enumerate(faces.samples) if sample.labelled and sample.states.any()]


def _frame_faults(faces: Faces, index: int) -> list[Finding]:
    """Points outside the picture or the box."""
    sample, (width, height) = faces.samples[index], faces.sizes[index]
    known = sample.points[np.isfinite(sample.points).all(axis=1)] + 0.5
    findings = []
    outside = ((known < 0) | (known > (width, height))).any(axis=1)
    if width and outside.any():
        detail = f"{outside.sum()} of {len(known)} points, picture {width} x {height}"
        findings.append(faces.finding("points outside the picture", index, detail, float(outside.mean())))
    if sample.box is not None:
        # A box drawn by hand ends somewhere near the outermost points: only what is clearly outside counts.
        slack = 0.1 * float((sample.box[2:] - sample.box[:2]).max())
        outside = ((known < sample.box[:2] - slack) | (known > sample.box[2:] + slack)).any(axis=1)
        if outside.any():
            kind = "points in another box" if outside.mean() > 0.5 else "points outside the box"
            findings.append(
                faces.finding(kind, index, f"{outside.sum()} of {len(known)} points", float(outside.mean()))
            )
    return findings


def _collapsed(sample: FaceSample) -> str:
    """What is wrong where points lie on one spot; "" where they do not."""
    known = sample.points[np.isfinite(sample.points).all(axis=1)]
    if len(known) < 3:
        return ""
    side = float(np.ptp(known, axis=0).max())
    if side < TOO_SMALL:
        return f"all {len(known)} points lie within {side:.1f} pixels"
    _, counts = np.unique(np.rint(known * 100), axis=0, return_counts=True)
    if counts.max() > max(TOGETHER * len(known), 2):
        return f"{counts.max()} of {len(known)} points lie on one spot"
    return ""


def _other_layout(faces: Faces, mean: Complex, model: ShapeModel, rest: Sequence[int]) -> list[Finding]:
    """A finding where the mean of all faces is no face of the layout: then the labels are of another one."""
    off = float(misfit(mean, model.mean[None])[0])
    if off < OTHER_LAYOUT:
        return []
    names = ", ".join(dict.fromkeys(faces.samples[i].source for i in rest))
    detail = (
        f"the mean of all faces is {off:.0%} of their size off the layout of {len(mean)} points: their points are of "
        "another one, see data.train[].points and model.scheme"
    )
    return [Finding("wrong order", faces.parts[rest[0]], faces.samples[rest[0]].source, names, detail=detail)]


def _mirror_ratio(mean: Complex, points: Complex, exchanged: np.ndarray) -> Floats:
    """[N] the misfit with left and right exchanged over that without; infinite where there is no exchange."""
    if not len(exchanged):
        return np.full(len(points), np.inf)
    return misfit(mean, points[:, exchanged]) / np.maximum(misfit(mean, points), 1e-9)


def _wrong_order(fit: Fit, row: int, layout: Layout) -> str:
    """What is wrong where points stand in each other's places; "" where they do not."""
    known = np.flatnonzero(np.isfinite(fit.error[row]))
    error = fit.error[row][known]
    if not len(known) or error.max() < MOVED:
        return ""
    if error.mean() > UNLIKE:
        return f"on average {error.mean():.0%} of the face's size off the fitted shape"
    distance = np.abs(fit.found[row][known][:, None] - fit.place[row][known][None])
    found, place = linear_sum_assignment(distance)
    moved = found != place
    before = error[moved].mean() if moved.any() else 0.0
    if before < MOVED or distance[found, place][moved].mean() > RESOLVED * before:
        return ""
    moved &= error > MOVED  # neighbours that barely change places are tremor, and not worth a word
    pairs = [f"{known[a] + 1} ({layout.names[known[a]]}) where {known[b] + 1} belongs"
             for a, b in zip(found[moved], place[moved], strict=True)]  # fmt: skip
    return f"point {', '.join(pairs[:NAMED])}" + (", ..." if len(pairs) > NAMED else "")
