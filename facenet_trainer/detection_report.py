"""What the reports of `train` and `evaluate` say about detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..datasets.sample import Rejection
from ..training import plots
from ..training.report import CurveGroup, Figure, Section, curve_section, data_section, write_run_report
from .average_precision import Curve
from .boxes import Floats
from .detection_results import FoundPictures
from .detection_tables import class_table, cut_table, faceless_table, group_table, summary_table
from .groups import HEIGHT
from .metrics import MIN_HEIGHT, DetectionResults
from .worst_pictures import worst_pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot

MOST_POINTS = 500  # of a curve in the page
ABOUT_GROUPS = (
    "A detection counts in the part that its face is in. One that belongs to no face is a false positive among faces "
    "of its own size, and at every level of what labels say, such as occlusion: few faces have a low AP there whatever "
    "the detector does, and recall tells more."
)

CURVES = (
    CurveGroup("train", r"(?!learning_rate$).*", "loss", "Training loss and its parts.", log=True),
    CurveGroup("train", "learning_rate", "learning rate", "Learning rate.", log=True),
    CurveGroup("val", "ap|ap_.*|coco_map.*", "AP, 0 to 1", "Average precision on the validation pictures.", low=0),
    CurveGroup("val", "recall.*|precision.*|f1_(?!score).*", "0 to 1",
               "Recall and precision on the validation pictures.", low=0),
    CurveGroup("val", "validation_cost", "loss", "Loss on the validation pictures.", log=True),
)  # fmt: skip


def write_training_report(
    run_dir: Path,
    title: str,
    facts: Mapping[str, str],
    log: Sequence[Mapping[str, Any]],
    results: Mapping[str, FoundPictures],
    rejections: Sequence[Rejection] = (),
    notes: Sequence[str] = (),
    pictures: int = 12,
) -> None:
    """Writes `report.html` of a training run, and its curves once more as pictures in `plots/`.

    Args:
        log: the records of `metrics.jsonl`.
        results: name of a set of pictures, such as "test" -> what the saved model found on it.
        rejections, notes: what was left out of the data, and other remarks on them.
        pictures: worst pictures to show of each set.
    """
    sections: list[Section] = []
    for name, found in results.items():
        sections += detection_sections(found, f"{name.capitalize()} pictures", pictures)
    left_out = [*rejections, *(rejection for found in results.values() for rejection in found.rejections)]
    sections.append(data_section(dict.fromkeys(left_out), notes))  # training has met some of them already
    drawn = {
        f"precision_recall_{name}": recall_plot(found.results)
        for name, found in results.items()
        if found.results.counted.any()
    }
    write_run_report(run_dir, title, facts, curve_section("Training", log, CURVES), drawn, sections)


def detection_sections(found: FoundPictures, title: str, pictures: int) -> list[Section]:
    """Figures of merit, those of parts of the faces, and the worst pictures."""
    results = found.results
    if not results.counted.any():
        return [Section(title, ["There are no labelled faces."])]
    figure = Figure(recall_plot(results), "Precision over recall, one point for every confidence to cut at; the dot is "
                                          "where F1 is best.")  # fmt: skip
    worst = worst_pictures(found, results.best_scores(), pictures)
    return [
        Section(title, [summary_table(found), class_table(results), cut_table(results), figure]),
        Section(f"{title}: which faces are found", [ABOUT_GROUPS, group_table(found), _height_figure(found)]),
        *([Section(f"{title}: the worst", [worst])] if worst.pictures else []),
    ]


def faceless_section(faceless: FoundPictures, best_scores: Floats, pictures: int) -> Section:
    """False positives where there is no face, and the pictures with most of them."""
    worst = worst_pictures(faceless, best_scores, pictures)
    shown = [worst] if worst.pictures else []
    return Section("Pictures without a face", [faceless_table(faceless, best_scores), *shown])


def recall_plot(results: DetectionResults) -> Plot:
    """Precision over recall of every class; of a single one also for faces at least 20 px high."""
    curves = results.curves()
    if len(curves) == 1:
        curves = {"all faces": results.curve(0)}
        large = results.at_least(MIN_HEIGHT)
        if 0 < large[0].sum() < results.counted.sum():
            curves[f"at least {MIN_HEIGHT:g} px high"] = results.curve(0, *large)
    series: dict[str, plots.Curve] = {}
    marks: dict[str, tuple[float, float]] = {}
    for name, curve in curves.items():
        if not curve.faces:
            continue
        title = f"{name}, AP {curve.average_precision(results.config.average_precision):.3f}"
        series[title] = _drawn_curve(curve)
        if (best := curve.best()) is not None:
            marks[title] = float(curve.recall[best]), float(curve.precision[best])
    return plots.precision_recall(series, marks)


def _drawn_curve(curve: Curve) -> plots.Curve:
    """Recall and precision at most at `MOST_POINTS` places, from recall 0 to the last."""
    steps = curve.steps()
    rows = steps[np.unique(np.linspace(0, len(steps) - 1, min(len(steps), MOST_POINTS)).round().astype(int))]
    precision = curve.precision[rows].tolist() or [0.0]
    return [0.0, *curve.recall[rows].tolist()], [precision[0], *precision[: len(rows)]]


def _height_figure(found: FoundPictures) -> Figure:
    """AP and recall of low and high faces."""
    rows = [row for row in found.groups if row.group == HEIGHT and row.faces]
    values = {
        "AP": {row.name: row.ap for row in rows},
        "recall at best F1": {row.name: row.recall_best for row in rows},
    }
    return Figure(plots.bars(values, "0 to 1"), "Average precision and recall by the height of the face in pixels.")
