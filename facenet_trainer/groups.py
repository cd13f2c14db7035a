"""The figures of parts of the faces: small and large ones, and those that a label says something of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .boxes import Floats, areas
from .matching import Mask
from .metrics import MIN_HEIGHT, DetectionResults, heights

HEIGHT, SHARE = "height, px", "share of the picture, %"
HEIGHTS = (0.0, 8.0, 16.0, 32.0, 64.0, 128.0, np.inf)  # pixels
SHARES = (0.0, 0.001, 0.01, 0.1, np.inf)  # FaceNet's model card calls less than a tenth of the picture small
QUARTERS = (0.25, 0.5, 0.75)  # of an attribute that is a share
MAX_LEVELS = 8  # more values than that are no levels


@dataclass(frozen=True)
class GroupFigures:
    """How well the faces of one group are found.

    Attributes:
        group: what the faces are told apart by, such as "height, px".
        name: which of them, such as "16 to 32".
        faces: how many there are.
        ap, recall: 0 to 1; NaN where there are no faces.
        recall_best: recall by detections at the confidence where F1 over all faces is best.
    """

    group: str
    name: str
    faces: int
    ap: float
    recall: float
    recall_best: float


def by_group(results: DetectionResults) -> list[GroupFigures]:
    """AP and recall by height, by share of the picture's area, and by every attribute of the labels.

    A detection that belongs to a face of another group takes no part. One that belongs to no face has a size, and is
    a false positive in the groups of that size only; it has no occlusion or blur, and is a false positive at every
    level of them: there a small group's AP is low whatever the detector does, and recall tells more.
    """
    labelled, found = results.labelled, results.found
    everywhere = np.ones(len(found.scores), bool)
    rows = []
    for group, faces, detections, edges in (
        (HEIGHT, heights(labelled.boxes), heights(found.boxes), HEIGHTS),
        (SHARE, _shares(results, labelled.boxes, labelled.picture),
         _shares(results, found.boxes, found.picture), SHARES),
    ):  # fmt: skip
        percent = 100 if edges is SHARES else 1
        for low, high in pairwise(edges):
            name = f"{percent * low:g} to {percent * high:g}" if high < np.inf else f"{percent * low:g} and more"
            inside = [(values >= low) & (values < high) for values in (faces, detections)]
            rows.append(_figures(results, group, name, *inside))
        if edges is HEIGHTS:
            inside = [values >= MIN_HEIGHT for values in (faces, detections)]
            rows.append(_figures(results, group, f"at least {MIN_HEIGHT:g}", *inside))
    for attribute, values in labelled.attributes.items():
        rows += [_figures(results, attribute, name, level, everywhere) for name, level in levels(values)]
    return rows


def by_source(results: DetectionResults, sources: Sequence[str]) -> list[GroupFigures]:
    """The faces of each data source for itself; `sources`: [P] that of each picture."""
    rows = []
    for name in dict.fromkeys(sources):
        pictures = np.array([source == name for source in sources])
        inside = (pictures[table.picture] for table in (results.labelled, results.found))
        rows.append(_figures(results, "source", name, *inside))
    return rows


def levels(values: Floats) -> Iterator[tuple[str, Mask]]:
    """Name and [G] members of each level of an attribute; of its ranges where it is no small whole number.

    Unknown values, NaN, are in none.
    """
    known = np.unique(values[np.isfinite(values)])
    if len(known) <= MAX_LEVELS and np.array_equal(known, np.round(known)):
        for value in known:
            yield f"{value:g}", values == value
        return
    yield "0", values <= 0
    edges = (0.0, *QUARTERS, np.inf)
    for low, high in pairwise(edges):
        name = f"up to {high:g}" if high < np.inf else f"above {low:g}"
        yield name, (values > low) & (values <= high)


def _figures(results: DetectionResults, group: str, name: str, faces: Mask, detections: Mask) -> GroupFigures:
    counted = results.counted & faces
    ap = results.average_precision(counted, results.countable & detections)
    best = results.recall(counted, results.best_scores())
    return GroupFigures(group, name, int(counted.sum()), ap, results.recall(counted), best)


def _shares(results: DetectionResults, boxes: Floats, picture: np.ndarray) -> Floats:
    """[N] area of each box over that of its picture."""
    return areas(boxes) / results.sizes.prod(axis=1)[picture]
