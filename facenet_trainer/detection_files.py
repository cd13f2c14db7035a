"""The files that `evaluate` writes of a set of pictures after detection."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .detection_results import FoundPictures
from .detection_tables import KINDS
from .metrics import DetectionResults

METRICS = "metrics.json"


def write_tables(folder: Path, found: FoundPictures) -> None:
    """Four CSV files.

    `average_precision.csv`: a class a row. `precision_recall.csv`: a row for every face found, and the last detection.
    `groups.csv`: a row for each part of the faces that has any. `pictures.csv`: a picture a row, with its mistakes by
    detections at the confidence where F1 is best.
    """
    results = found.results
    _write_csv(folder / "average_precision.csv", ["class", "faces", *KINDS, "best_f1", "confidence"],
               ([name, curve.faces, *map(curve.average_precision, KINDS), *curve.best_f1()]
                for name, curve in results.curves().items()))  # fmt: skip
    _write_csv(folder / "precision_recall.csv", ["class", "confidence", "precision", "recall"],
               ([name, curve.scores[i], curve.precision[i], curve.recall[i]]
                for name, curve in results.curves().items() if curve.faces for i in curve.steps()))  # fmt: skip
    rows = [asdict(row) for row in found.groups if row.faces]
    _write_csv(folder / "groups.csv", list(rows[0]), (list(row.values()) for row in rows))
    faces = np.bincount(results.labelled.picture[results.counted], minlength=len(found.samples))
    counts = np.stack([faces, *results.mistakes(results.best_scores())], axis=1).tolist()
    _write_csv(folder / "pictures.csv", ["picture", "source", "faces", "missed", "false_positives"],
               ([sample.name, sample.source, *row]
                for sample, row in zip(found.samples, counts, strict=True)))  # fmt: skip


def write_metrics(path: Path, about: Mapping[str, Any], metrics: Mapping[str, float], found: FoundPictures) -> None:
    """`about`, the figures by name, `classes` (the three kinds of AP of each) and `groups`."""
    content = {
        **about,
        "metrics": dict(metrics),
        "classes": class_figures(found.results),
        "groups": [asdict(row) for row in found.groups if row.faces],
    }
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def class_figures(results: DetectionResults) -> dict[str, dict[str, float]]:
    """Class -> kind of AP -> 0 to 1; a class without faces has none."""
    return {
        name: {kind: curve.average_precision(kind) for kind in KINDS if curve.faces}
        for name, curve in results.curves().items()
    }


def tao_status(results: DetectionResults) -> dict[str, Any]:
    """What TAO's status.json says of an evaluation (gridbox §5.2): percent, with 4 decimals; a class without faces
    has 0 there."""
    kind = results.config.average_precision
    values = {name: curve.average_precision(kind) for name, curve in results.curves().items()}
    per_class = {name: 0.0 if math.isnan(value) else round(100 * value, 4) for name, value in values.items()}
    return {
        "kpi": {"mean average precision": round(100 * results.average_precision(), 4)},
        "categorical": {"average_precision": per_class},
    }


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows)
