"""A set of faces after prediction, and the files that `evaluate` writes of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.faces import FaceDataset
from ..datasets.preprocessing import Square, to_crop, to_image
from ..datasets.sample import ByteArray, FaceSample, PointState, Rejection
from ..datasets.store.views import picked
from .metrics import FaceErrors, face_errors
from .predictor import FacePoints, Predictor

KPI = "kpi_testing"  # how TAO's files begin


@dataclass(frozen=True)
class FaceResults:
    """N faces with labels and predictions.

    Attributes:
        samples: the N faces.
        crops: [N, S, S] uint8, what the network saw.
        squares: N crop squares (x1, y1, side) in pixel edges of the source picture.
        labels: [N, K, 2] in pixels of the crop, NaN where missing.
        predicted: in pixels of the crop.
        errors: in pixels of the source picture.
        rejections: faces that could not be read or cropped.
    """

    samples: Sequence[FaceSample]
    crops: ByteArray
    squares: Sequence[Square]
    labels: NDArray[np.float32]
    predicted: FacePoints
    errors: FaceErrors
    rejections: Sequence[Rejection] = ()

    def sources(self) -> dict[str, NDArray]:
        """Name of the data source -> the indices of its faces."""
        names = [sample.source for sample in self.samples]
        return {name: np.flatnonzero([n == name for n in names]) for name in dict.fromkeys(names)}


def predict_faces(
    predictor: Predictor, samples: Sequence[FaceSample], batch_size: int = 64, unseen_as_zero: bool = False
) -> FaceResults:
    """Predicts every labelled face once, the last, smaller batch included. Nothing is augmented.

    Args:
        unseen_as_zero: see `FaceErrors`.

    Raises:
        FacetrainError: the network's points are not finite.
    """
    size, k = predictor.preprocessing.size, predictor.scheme.num_keypoints
    labelled = picked(samples, lambda sample: sample.labelled and len(sample.points) > 0)
    dataset = FaceDataset(labelled, predictor.preprocessing, None, seed=0, cache=True)
    kept = dataset.samples
    items = [dataset[(0, i)] for i in range(len(kept))]
    crops = np.array([item["image"][0].numpy() for item in items], np.uint8).reshape(-1, size, size)
    squares: list[Square] = [(x1, y1, side) for x1, y1, side in (item["square"].tolist() for item in items)]
    predicted = predictor.predict(crops, batch_size)
    in_source = [to_image(p, s, size) for p, s in zip(predicted.points, squares, strict=True)]
    errors = face_errors(
        np.array(in_source).reshape(-1, k, 2),
        np.array([sample.points for sample in kept]).reshape(-1, k, 2),
        np.array([sample.states for sample in kept]).reshape(-1, k),
        predictor.scheme,
        predicted.visibility,
        unseen_as_zero,
    )
    labels = np.array([to_crop(sample.points, s, size) for sample, s in zip(kept, squares, strict=True)])
    return FaceResults(kept, crops, squares, labels.reshape(-1, k, 2), predicted, errors, dataset.rejections)


def write_kpi_files(folder: Path, results: FaceResults) -> None:
    """TAO's three files, its columns first and ours behind them."""
    _write_csv(folder / f"{KPI}_error_per_point.csv", point_rows(results.errors))
    _write_csv(folder / f"{KPI}_error_per_region.csv", region_rows(results.errors))
    nme = {name: results.errors.nme(name) for name in results.errors.normalisers}
    data = [
        _face_record(results, i) | {"nme": {name: _listed(values[i]) for name, values in nme.items()}}
        for i in range(len(results.samples))
    ]
    (folder / f"{KPI}_all_data.json").write_text(json.dumps(data, allow_nan=False), encoding="utf-8")


def point_rows(errors: FaceErrors) -> list[list[Any]]:
    """Header and K rows. A point without visible samples has -1 of them, as TAO writes it, and an error of nan, or of 0
    as in TAO's (see `unseen_as_zero`)."""
    rows: list[list[Any]] = [
        ["Error per point", "mean_pxl_err_xy_all", "mean_pxl_err_xy_non_occ", "num_samples_non_occluded",
         "name", "num_samples"]
    ]  # fmt: skip
    every, visible = errors.per_point(), errors.per_point(visible_only=True)
    num_visible = (errors.states == PointState.VISIBLE).sum(axis=0)
    num_labelled = (errors.states != PointState.MISSING).sum(axis=0)
    for i, name in enumerate(errors.scheme.names):
        rows.append([i, every[i], visible[i], int(num_visible[i]) or -1, name, int(num_labelled[i])])
    return rows


def region_rows(errors: FaceErrors) -> list[list[Any]]:
    """Header and one row a region, under TAO's names; nan where no point of the region has a sample."""
    rows: list[list[Any]] = [
        ["Error per region", "mean_region_err_xy_all", "mean_region_err_xy_non_occ", "num_points"]
    ]  # fmt: skip
    visible = errors.per_region(visible_only=True)
    for name, error in errors.per_region().items():
        rows.append([region_title(name), error, visible[name], len(errors.scheme.regions[name])])
    return rows


def region_title(name: str) -> str:
    """The region's name as TAO's files have it: All, Eyes, HP, ..."""
    return "HP" if name == "hp" else name.replace("_", " ").capitalize()


def _write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([float(cell) if isinstance(cell, np.floating) else cell for cell in row] for row in rows)


def _face_record(results: FaceResults, i: int) -> dict[str, Any]:
    """One face of the JSON. The first six keys are TAO's, points in pixels of the crop; null where there is none."""
    sample, (x1, y1, side) = results.samples[i], results.squares[i]
    states = results.errors.states[i]
    predicted = results.predicted
    size = results.crops.shape[-1]
    record = {
        "image_path": str(sample.image) if isinstance(sample.image, Path) else sample.name,
        "face_box": _listed(np.array([x1, y1, side, side])),
        "gt_keypoints": _listed(results.labels[i]),
        "pred_keypoints": _listed(predicted.points[i]),
        "gt_occlusions": (states == PointState.VISIBLE).astype(int).tolist(),  # 1 = visible, whatever the name says
        "pred_conf": _listed(predicted.confidence[i]),
        "name": sample.name,
        "source": sample.source,
        "states": states.tolist(),
        "gt_points_image": _listed(sample.points),
        "pred_points_image": _listed(to_image(predicted.points[i], results.squares[i], size)),
    }
    if predicted.visibility is not None:
        record["pred_visibility"] = _listed(predicted.visibility[i])
    return record


def _listed(values: NDArray | np.floating) -> Any:
    """Numbers with 4 decimals, None for NaN, as nested lists."""
    rounded = np.asarray(np.round(np.asarray(values, np.float64), 4))
    numbers = np.asarray(rounded.astype(object))
    numbers[~np.isfinite(rounded)] = None
    return numbers.tolist()
