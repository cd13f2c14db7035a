"""How well faces are found: average precision, recall, precision, COCO's figures (gridbox §8).

Everything is measured over all pictures at once, in their pixels or those of a `Frame`. What counts neither for nor
against a detection:

* a labelled box outside the limits of `MetricsConfig`, or occluded with `occluded=ignore`, and what belongs to it (see
  `matching`);
* a detection outside those limits that belongs to no labelled box;
* a detection that lies in an ignore region and found nothing.

With `outside=drop` the first two are taken away before anything is matched, as TAO does it: a detection just inside a
limit, of a face just outside it, is then a false positive. Limits are those of edges before they are rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..configs.facenet.per_class import each_class
from ..configs.facenet.schema import MetricsConfig
from ..datasets.sample import DetectionSample
from .average_precision import Curve, precision_recall
from .boxes import NONE, Floats
from .coco import coco_figures
from .matching import Found, Labelled, Mask, PictureDetections, gather_labels, match

MIN_HEIGHT = 20.0  # pixels; smaller ones are beyond most detectors, and often left out of published figures


@dataclass(frozen=True)
class DetectionResults:
    """G labelled boxes, D detections, and every figure that is made of them.

    Attributes:
        classes: the target classes.
        config: thresholds and kinds of figures.
        labelled, found: the two tables.
        sizes: [P, 2] width and height of the pictures, pixels.
        counted: [G] labelled boxes that are to be found.
        countable: [D] detections that are false positives if they belong to no labelled box and no ignore region.
    """

    classes: tuple[str, ...]
    config: MetricsConfig
    labelled: Labelled
    found: Found
    sizes: Floats
    counted: Mask
    countable: Mask

    def scored(self, counted: Mask | None = None, countable: Mask | None = None) -> Mask:
        """[D] the detections that count, for or against; a group of faces has its own `counted` and `countable`."""
        counted = self.counted if counted is None else counted
        countable = self.countable if countable is None else countable
        belongs = self.found.face != NONE
        takes_part = np.where(belongs, np.append(counted, False)[self.found.face], countable)
        return takes_part & ~(self.found.covered & ~self.found.hit)

    def curve(self, label: int, counted: Mask | None = None, countable: Mask | None = None) -> Curve:
        """Precision and recall of one class, of all its faces or of a group as `scored` has it."""
        scored = self.scored(counted, countable) & (self.found.labels == label)
        faces = (self.counted if counted is None else counted) & (self.labelled.labels == label)
        return precision_recall(self.found.scores[scored], self.found.hit[scored], int(faces.sum()))

    def curves(self) -> dict[str, Curve]:
        """The curve of every class."""
        return {name: self.curve(label) for label, name in enumerate(self.classes)}

    def average_precision(self, counted: Mask | None = None, countable: Mask | None = None) -> float:
        """Mean over the classes, 0 to 1, of all faces (see `mean_average_precision`) or of a group; NaN without any."""
        curves = [self.curve(label, counted, countable) for label in range(len(self.classes))]
        kind = self.config.average_precision
        if counted is None:
            return mean_average_precision(curves, kind)
        return _mean([curve.average_precision(kind) for curve in curves])

    def at_least(self, height: float) -> tuple[Mask, Mask]:
        """[G] and [D]: `counted` and `countable` of the boxes that are so high, pixels."""
        labelled, found = (heights(boxes) >= height for boxes in (self.labelled.boxes, self.found.boxes))
        return self.counted & labelled, self.countable & found

    def recall(self, counted: Mask, min_scores: float | Floats = 0.0) -> float:
        """Share of these labelled boxes that are found, 0 to 1, by detections of `mistakes`; NaN if there are none."""
        hit = self.found.hit & self.confident(min_scores)
        return _ratio(int(np.sum(hit & np.append(counted, False)[self.found.face])), int(counted.sum()))

    def best_scores(self) -> Floats:
        """[C] the confidence at which each class's F1 is best; NaN for a class without faces or detections."""
        return np.array([curve.best_f1()[1] for curve in self.curves().values()])

    def summary(self) -> dict[str, float]:
        """Every figure under a flat name, for trackers and tables. A figure that does not exist is left out.

        `ap` (mean over the classes), `recall` and `precision` (of all detections, whatever their confidence), `ap_20px`
        and `recall_20px` (of faces at least 20 pixels high) and `ap_{class}`, `recall_{class}`, `precision_{class}`;
        `f1_{class}`, the best harmonic mean of precision and recall, and `f1_score_{class}`, the confidence to cut at
        for it; `coco_map`, `coco_map_50`, `coco_map_75`: all 0 to 1 (confidences of summed coverage go beyond).
        `pictures`, `faces`, `faces_20px`, `detections` (those that count) and `false_positives_per_image` are numbers
        of them.
        """
        scored = self.scored()
        hits = int((self.found.hit & scored).sum())
        large = self.at_least(MIN_HEIGHT)
        figures = {
            "ap": self.average_precision(),
            "ap_20px": self.average_precision(*large),
            "recall": self.recall(self.counted),
            "recall_20px": self.recall(large[0]),
            "precision": _ratio(hits, int(scored.sum())),
        }
        for name, curve in self.curves().items():
            figures[f"ap_{name}"] = curve.average_precision(self.config.average_precision)
            figures[f"recall_{name}"] = float(curve.recall[-1]) if len(curve.recall) else _ratio(0, curve.faces)
            figures[f"precision_{name}"] = float(curve.precision[-1]) if len(curve.precision) else float("nan")
            figures[f"f1_{name}"], figures[f"f1_score_{name}"] = curve.best_f1()
        kept = self.countable | (self.found.face != NONE)
        figures |= coco_figures(self.labelled, self.counted, self.found, kept, self.sizes)
        figures |= {
            "pictures": float(len(self.sizes)),
            "faces": float(self.counted.sum()),
            "faces_20px": float(large[0].sum()),
            "detections": float(scored.sum()),
            "false_positives_per_image": _ratio(int(scored.sum()) - hits, len(self.sizes)),
        }
        return {name: value for name, value in figures.items() if np.isfinite(value)}

    def mistakes(self, min_scores: float | Floats = 0.0) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """[P] faces not found and [P] false positives of each picture.

        Args:
            min_scores: least confidence of a detection that is taken, or [C] that of each class; NaN takes none.
        """
        taken = self.scored() & self.confident(min_scores)
        hit = self.found.hit & taken
        pictures = len(self.sizes)
        faces = np.bincount(self.labelled.picture[self.counted], minlength=pictures)
        missed = faces - np.bincount(self.found.picture[hit], minlength=pictures)
        return missed, np.bincount(self.found.picture[taken & ~hit], minlength=pictures)

    def confident(self, min_scores: float | Floats) -> Mask:
        """[D] the detections of at least that confidence, or [C] that of each class."""
        return self.found.scores >= np.broadcast_to(min_scores, len(self.classes))[self.found.labels]


def mean_average_precision(curves: Sequence[Curve], kind: str) -> float:
    """Mean over the classes that have faces, 0 to 1; NaN if none has. A class without any has AP 0 in TAO's kinds."""
    values = [curve.average_precision(kind) for curve in curves]
    if kind.startswith("tao") and np.isfinite(values).any():
        return float(np.mean(np.nan_to_num(values)))
    return _mean(values)


def detection_results(
    samples: Sequence[DetectionSample],
    predictions: Sequence[PictureDetections],
    classes: Sequence[str],
    config: MetricsConfig,
) -> DetectionResults:
    """Compares detections with labels, picture by picture in the same order.

    Raises:
        ConfigError: see `each_class`.
        FacetrainError: a detection is not finite.
    """
    own = each_class(config, classes)
    if len(samples) != len(predictions):
        raise ValueError(f"{len(samples)} labelled pictures and {len(predictions)} predictions")
    labelled = gather_labels(samples)
    if config.outside == "drop":
        labelled = _dropped(labelled, within_limits(labelled.boxes, labelled.labels, own))
        predictions = [_inside(prediction, own) for prediction in predictions]
    found = match(labelled, predictions, np.array([one.iou_threshold for one in own]), config.whole_pixels)
    return DetectionResults(
        classes=tuple(classes),
        config=config,
        labelled=labelled,
        found=found,
        sizes=np.array([prediction.size for prediction in predictions], np.float64).reshape(-1, 2),
        counted=within_limits(labelled.boxes, labelled.labels, own) & ~_left_out(labelled, config),
        countable=within_limits(found.boxes, found.labels, own),
    )


def within_limits(boxes: Floats, labels: NDArray[np.integer], configs: Sequence[MetricsConfig]) -> Mask:
    """[N] boxes [N, 4] whose width and height, in pixels, lie within the limits of their class or on them."""
    inside = np.ones(len(boxes), bool)
    for axis, side in enumerate(("width", "height")):
        length = boxes[:, axis + 2] - boxes[:, axis]
        least, most = (np.array([getattr(one, f"{end}_{side}") for one in configs]) for end in ("minimum", "maximum"))
        inside &= (length >= least[labels]) & (length <= most[labels])
    return inside


def _left_out(labelled: Labelled, config: MetricsConfig) -> Mask:
    """[G] boxes that their labels call occluded, where those are ignored."""
    occlusion = labelled.attributes.get("occlusion", np.zeros(len(labelled.boxes)))
    return np.asarray((occlusion > 0) & (config.occluded == "ignore"))


def heights(boxes: Floats) -> Floats:
    """[N] pixels."""
    return boxes[:, 3] - boxes[:, 1]


def _dropped(labelled: Labelled, kept: Mask) -> Labelled:
    return replace(
        labelled,
        boxes=labelled.boxes[kept],
        picture=labelled.picture[kept],
        labels=labelled.labels[kept],
        attributes={name: values[kept] for name, values in labelled.attributes.items()},
    )


def _inside(prediction: PictureDetections, configs: Sequence[MetricsConfig]) -> PictureDetections:
    kept = within_limits(prediction.boxes.astype(np.float64), prediction.labels, configs)
    return replace(
        prediction, boxes=prediction.boxes[kept], scores=prediction.scores[kept], labels=prediction.labels[kept]
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _mean(values: Sequence[float]) -> float:
    """Mean of the numbers among `values`; NaN if there are none."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
