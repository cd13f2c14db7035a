"""What the reports of `train` and `evaluate` say about faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.sample import ByteArray, PointState, Rejection
from ..training import plots
from ..training.report import (
    CurveGroup,
    Figure,
    Pictures,
    Row,
    Section,
    Table,
    curve_section,
    data_section,
    write_run_report,
)
from .draw import draw_points
from .face_results import FaceResults, region_title
from .metrics import THRESHOLDS, FaceErrors, column_means

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot

ZOOM = 4  # pictures of 80 px are drawn at 320
LENGTHS = {"interocular": "inter-ocular distance", "interpupil": "inter-pupil distance", "diagonal": "box diagonal"}
BETWEEN = {
    "interocular": "outer eye corners",
    "interpupil": "centres of the eyes",
    "diagonal": "of the labelled points",
}
# Where the error axis ends at least, percent: a box's diagonal is about twice an inter-ocular distance.
CED_LIMITS = {"interocular": 12.0, "interpupil": 16.0, "diagonal": 6.0}

CURVES = (
    CurveGroup("train", r"(?!learning_rate$).*", "loss", "Training loss and its parts.", log=True),
    CurveGroup("train", "learning_rate", "learning rate", "Learning rate.", log=True),
    CurveGroup("val", "nme_.*", "NME, %", "Normalised mean error on the validation faces, percent of each length.",
               low=0),
    CurveGroup("val", "error_(?!visible_).*", "error, source pixels",
               "Mean error of each region on the validation faces, pixels of the source pictures.", low=0),
    CurveGroup("val", r"failure_\d+", "faces, %",
               "Validation faces whose inter-ocular NME is beyond 8 % and 10 %.", low=0),
    CurveGroup("val", r"auc_\d+", "AUC, 0 to 1",
               "Area under the cumulative error curve up to 8 % and 10 % on the validation faces."),
    CurveGroup("val", "visibility_.*|occlusion_.*", "0 to 1", "Visibility head on the validation faces."),
)  # fmt: skip


def write_training_report(
    run_dir: Path,
    title: str,
    facts: Mapping[str, str],
    log: Sequence[Mapping[str, Any]],
    results: Mapping[str, FaceResults],
    rejections: Sequence[Rejection] = (),
    notes: Sequence[str] = (),
    pictures: int = 24,
) -> None:
    """Writes `report.html` of a training run, and its curves once more as pictures in `plots/`.

    Args:
        log: the records of `metrics.jsonl`.
        results: name of a set of faces, such as "test" -> the saved model's predictions on it.
        rejections, notes: what was left out of the data, and other remarks on them.
        pictures: worst faces to show of each set.
    """
    sections: list[Section] = []
    for name, faces in results.items():
        sections += face_sections(faces, f"{name.capitalize()} faces", pictures)
    left_out = [*rejections, *(rejection for faces in results.values() for rejection in faces.rejections)]
    sections.append(data_section(dict.fromkeys(left_out), notes))  # training has met some of them already
    drawn = {f"ced_{name}": ced_plot(faces) for name, faces in results.items() if len(faces.errors)}
    write_run_report(run_dir, title, facts, curve_section("Training", log, CURVES), drawn, sections)


def face_sections(results: FaceResults, title: str, pictures: int) -> list[Section]:
    """Figures of merit, errors by region and point, and the worst faces."""
    errors = results.errors
    if not len(errors):
        return [Section(title, ["There are no labelled faces."])]
    blocks: list[Any] = [summary_table(errors), ced_figure(results)]
    if len(results.sources()) > 1:
        blocks.insert(1, source_table(results))
    return [
        Section(title, blocks),
        Section(f"{title}: where the errors are", [_region_table(errors), _region_figure(errors), _shape(results)]),
        *([Section(f"{title}: the worst", [_worst(results, pictures)])] if pictures else []),
    ]


def summary_table(errors: FaceErrors) -> Table:
    """The figures that papers and the model card give, with their units."""
    figures = errors.summary()
    rows: list[Row] = []
    for name in errors.normalisers:
        skipped = int(figures[f"skipped_{name}"])
        note = f"; {skipped} faces without it are left out" if skipped else ""
        rows.append([f"NME by {LENGTHS[name]} ({BETWEEN[name]}){note}", figures.get(f"nme_{name}", np.nan), "%"])
    for limit in THRESHOLDS:
        if f"failure_{limit}" in figures:
            rows.append([f"Faces with an inter-ocular NME beyond {limit} %", figures[f"failure_{limit}"], "%"])
            rows.append([f"AUC of the inter-ocular NME up to {limit} %", figures[f"auc_{limit}"], "0 to 1"])
    rows.append(["Mean error, all labelled points", figures.get("error_all", np.nan), "source px"])
    rows.append(["Mean error, visible points", figures.get("error_visible_all", np.nan), "source px"])
    titles = {
        "visibility_accuracy": "Visibility: accuracy",
        "visibility_balanced_accuracy": "Visibility: balanced accuracy",
        "occlusion_ap": "Occluded points: average precision",
    }
    rows += [[title, figures[name], "0 to 1"] for name, title in titles.items() if name in figures]
    return Table(["figure", "value", "unit"], rows, f"{len(errors)} faces, {errors.scheme.num_keypoints} points each.")


def source_table(results: FaceResults) -> Table:
    """The same faces, each data source for itself."""
    main = results.errors.main_normaliser
    columns = {
        f"nme_{main}": f"NME by {LENGTHS[main]}, %",
        "failure_8": "beyond 8 %, %",
        "auc_8": "AUC 8 %",
        "error_all": "error, px",
    }
    parts = {name: results.errors.select(faces).summary() for name, faces in results.sources().items()}
    shown = [key for key in columns if any(key in part for part in parts.values())]
    rows: list[Row] = [
        [name, int(part["faces"]), *(part.get(key, np.nan) for key in shown)] for name, part in parts.items()
    ]
    return Table(["source", "faces", *(columns[key] for key in shown)], rows, "By data source; px are source pixels.")


def ced_plot(results: FaceResults) -> Plot:
    """Cumulative error distribution of all faces and of each data source."""
    main = results.errors.main_normaliser
    nme = results.errors.nme(main)
    series = {"all faces": nme}
    sources = results.sources()
    if 1 < len(sources) < len(plots.COLOURS):
        series |= {name: nme[faces] for name, faces in sources.items()}
    thresholds = THRESHOLDS if main == "interocular" else ()
    known = nme[np.isfinite(nme)]
    limit = max(CED_LIMITS[main], 1.5 * float(np.median(known)) if len(known) else 0.0)
    return plots.ced(series, f"NME, % of {LENGTHS[main]}", limit=limit, thresholds=thresholds)


def ced_figure(results: FaceResults) -> Figure:
    length = LENGTHS[results.errors.main_normaliser]
    caption = (
        f"Cumulative error distribution: share of faces whose mean error, in percent of the {length}, is at most x."
    )
    return Figure(ced_plot(results), caption)


def _region_table(errors: FaceErrors) -> Table:
    visible = errors.per_region(visible_only=True)
    rows: list[Row] = [
        [region_title(name), len(errors.scheme.regions[name]), error, visible[name]]
        for name, error in errors.per_region().items()
    ]
    caption = (
        "Mean error of each region's points in source pixels. Regions overlap; points without a sample are left out."
    )
    return Table(["region", "points", "all labelled", "visible only"], rows, caption)


def _region_figure(errors: FaceErrors) -> Figure:
    selections = {"all labelled": errors.per_region(), "visible only": errors.per_region(visible_only=True)}
    if np.array_equal(errors.per_point(), errors.per_point(visible_only=True), equal_nan=True):
        del selections["visible only"]
    values = {label: {region_title(k): v for k, v in series.items()} for label, series in selections.items()}
    return Figure(plots.bars(values, "mean error, source pixels"), "Mean error of each region in source pixels.")


def _shape(results: FaceResults) -> Figure:
    distances = np.linalg.norm(results.predicted.points - results.labels, axis=2).astype(np.float64)
    k = results.errors.scheme.num_keypoints
    centres = column_means(results.labels.astype(np.float64).reshape(len(results.labels), -1)).reshape(k, 2)
    known = np.isfinite(centres).all(axis=1)
    numbers = [str(i) for i in np.flatnonzero(known)]
    plot = plots.circles(centres[known], column_means(distances)[known], numbers)
    return Figure(plot, "Mean face of the labels with the number of each point. A circle's radius is the mean error of "
                        "its point at the scale of the drawing.")  # fmt: skip


def _worst(results: FaceResults, count: int) -> Pictures:
    main = results.errors.main_normaliser
    nme = results.errors.nme(main)
    order = [i for i in np.argsort(-nme, kind="stable") if np.isfinite(nme[i])][:count]
    pictures = [(face_picture(results, i), f"{results.samples[i].name}: {nme[i]:.1f} %") for i in order]
    who = "label says" if results.predicted.visibility is None else "network says"
    return Pictures(
        pictures,
        f"The {len(pictures)} faces with the largest error, as the network sees them. Blue: predicted, orange where "
        f"the {who} that the point is occluded; yellow: label, with a line to its prediction. The number is the NME "
        f"in percent of the {LENGTHS[main]}.",
    )


def face_picture(results: FaceResults, index: int) -> ByteArray:
    """RGB picture of one face with predicted and true points, `ZOOM` times the crop's size."""
    if results.predicted.visibility is not None:
        states: NDArray = results.predicted.visibility[index]
    else:  # a point without a label is predicted all the same
        known = results.errors.states[index]
        states = np.where(known == PointState.MISSING, PointState.VISIBLE, known)
    return draw_on_crop(results.crops[index], results.predicted.points[index], states, results.labels[index])


def draw_on_crop(crop: ByteArray, points: NDArray, states: NDArray | None, truth: NDArray | None) -> ByteArray:
    """Points [K, 2] in pixels of a grey crop [S, S], drawn on its enlargement [ZOOM S, ZOOM S, 3]."""
    from PIL import Image

    size = crop.shape[0] * ZOOM
    image = np.asarray(Image.fromarray(crop).convert("RGB").resize((size, size), Image.Resampling.BICUBIC))
    return draw_points(image, _enlarged(points), states, None if truth is None else _enlarged(truth))


def _enlarged(points: NDArray) -> NDArray:
    return (points + 0.5) * ZOOM - 0.5
