"""What the reports of `train` and `evaluate` say about detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..datasets.sample import Rejection
from ..training import plots
from ..training.report import CurveGroup, Figure, curve_section, write_report
from .detection_results import FoundPictures

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
    """Writes `report.html` of a training run, and its curves once more as pictures in `plots/`."""
    training = curve_section("Training", log, CURVES)
    for i, block in enumerate(training.blocks):
        if isinstance(block, Figure):
            plots.save_png(block.plot, run_dir / "plots" / f"training_{i}.png")
    write_report(run_dir / "report.html", title, facts, [training])
