"""The tables of detections: on the console, in the report and, cell by cell, in the CSV files."""

from __future__ import annotations

import numpy as np

from ..configs.facenet.per_class import each_class
from ..training.report import Row, Table
from .detection_results import FoundPictures
from .metrics import MIN_HEIGHT, DetectionResults, mean_average_precision

KINDS = {"voc": "VOC", "tao_sample": "TAO SAMPLE", "tao_integrate": "TAO INTEGRATE"}


def summary_table(found: FoundPictures) -> Table:
    """The card's KPI, COCO's figures and the false positives, with their units."""
    results = found.results
    figures = found.figures
    kind, iou = KINDS[results.config.average_precision], overlap_words(results)
    high = f"at least {MIN_HEIGHT:g} px high"
    rows: list[Row] = [
        [f"AP at IoU {iou}, all faces", figures.get("ap", np.nan), f"0 to 1, {kind}"],
        [f"AP at IoU {iou}, faces {high}", figures.get("ap_20px", np.nan), f"0 to 1, {kind}"],
        ["COCO mAP, IoU 0.5 to 0.95", figures.get("coco_map", np.nan), "0 to 1"],
        ["COCO AP at IoU 0.5", figures.get("coco_map_50", np.nan), "0 to 1"],
        ["COCO AP at IoU 0.75", figures.get("coco_map_75", np.nan), "0 to 1"],
        ["Recall of all detections, all faces", figures.get("recall", np.nan), "0 to 1"],
        [f"Recall of all detections, faces {high}", figures.get("recall_20px", np.nan), "0 to 1"],
        ["False positives, all detections", figures["false_positives_per_image"], "a picture"],
        ["False positives at best F1", false_positives(results, results.best_scores()), "a picture"],
    ]
    regions = len(results.labelled.regions) + int((~results.counted).sum())
    ignored = f", {regions} ignored" if regions else ""
    caption = (
        f"{int(figures['pictures'])} pictures, {int(figures['faces'])} faces ({int(figures['faces_20px'])} {high})"
        f"{ignored}, {int(figures['detections'])} detections that count."
    )
    return Table(["figure", "value", "unit"], rows, caption)


def overlap_words(results: DetectionResults) -> str:
    """The IoU that counts, such as 0.5; those of the classes where they differ."""
    own = [one.iou_threshold for one in each_class(results.config, results.classes)]
    words = f"{own[0]:g}" if len(set(own)) == 1 else " / ".join(f"{iou:g}" for iou in own)
    return words + (" of whole pixels" if results.config.whole_pixels else "")


def class_table(results: DetectionResults) -> Table:
    """AP of every kind of each class, and the mean (see `mean_average_precision`)."""
    curves = results.curves()
    rows: list[Row] = [[name, curve.faces, *map(curve.average_precision, KINDS)] for name, curve in curves.items()]
    if len(rows) > 1:
        means = [mean_average_precision(list(curves.values()), kind) for kind in KINDS]
        rows.append(["mean", sum(curve.faces for curve in curves.values()), *means])
    caption = (
        f"Average precision at IoU {overlap_words(results)}. VOC: area under the envelope; SAMPLE: mean at 11 "
        "recalls; INTEGRATE: TAO's area, which leaves out the step to the first recall."
    )
    return Table(["class", "faces", *KINDS.values()], rows, caption)


def cut_table(results: DetectionResults) -> Table:
    """Where to cut: the confidence of each class with the best F1, and what is found there."""
    rows: list[Row] = []
    for name, curve in results.curves().items():
        best = curve.best()
        place = [np.nan] * 2 if best is None else [float(curve.precision[best]), float(curve.recall[best])]
        rows.append([name, *reversed(curve.best_f1()), *place])
    caption = "The confidence at which F1, the harmonic mean of precision and recall, is best."
    return Table(["class", "confidence", "F1", "precision", "recall"], rows, caption)


def group_table(found: FoundPictures) -> Table:
    """AP and recall of parts of the faces, told apart in every way that the data allow; empty parts are left out."""
    rows: list[Row] = [
        [row.group, row.name, row.faces, row.ap, row.recall, row.recall_best] for row in found.groups if row.faces
    ]
    caption = (
        "Parts of the faces. Recall is of all detections, then of those at the confidence where F1 over all faces is "
        "best. Levels, such as those of occlusion, are the label's own."
    )
    return Table(["faces by", "which", "faces", "AP", "recall", "at best F1"], rows, caption)


def faceless_table(faceless: FoundPictures, best_scores: np.ndarray) -> Table:
    """False positives on pictures without a face, of all detections and at the confidences [C] where F1 is best."""
    rows: list[Row] = []
    for title, scores in (("all detections", 0.0), (f"at best F1{_scores(best_scores)}", best_scores)):
        _, wrong = faceless.results.mistakes(scores)
        rows.append([title, int(wrong.sum()), float(wrong.mean()), 100 * float((wrong > 0).mean())])
    header = ["detections taken", "false positives", "a picture", "pictures with any, %"]
    return Table(header, rows, f"{len(faceless.samples)} pictures without a face: everything found is a mistake.")


def faceless_figures(faceless: FoundPictures, best_scores: np.ndarray) -> dict[str, float]:
    """`faceless_pictures`, and false positives a picture: of all detections, and at the best F1."""
    return {
        "faceless_pictures": float(len(faceless.samples)),
        "faceless_false_positives_per_image": false_positives(faceless.results, 0.0),
        "faceless_false_positives_per_image_best_f1": false_positives(faceless.results, best_scores),
    }


def false_positives(results: DetectionResults, min_scores: float | np.ndarray) -> float:
    """A picture, by the detections that `DetectionResults.mistakes` takes."""
    return float(results.mistakes(min_scores)[1].mean())


def _scores(scores: np.ndarray) -> str:
    known = [f"{score:.3g}" for score in scores if np.isfinite(score)]
    return f" (confidence {', '.join(known)} and more)" if known else ""
