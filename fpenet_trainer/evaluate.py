"""`fpenet evaluate`: a model file on a set of labelled faces."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from ..configs.fpenet.schema import DataConfig, FpenetEvaluateSpec, SourceConfig
from ..configs.schema import SplitConfig
from ..datasets.sample import Rejection
from ..datasets.sources import read_sets
from ..errors import ConfigError
from ..training import plots
from ..training.report import machine_facts, number, write_report
from ..training.run_folder import RunFolder, clock, refuse_results
from .face_report import ced_plot, data_section, face_sections, source_table, summary_table
from .face_results import FaceResults, predict_faces, write_kpi_files
from .predictor import Predictor, model_path


def evaluate(spec: FpenetEvaluateSpec) -> dict[str, float]:
    """Measures `spec.model` on the faces of `spec.data`, or of the data the model was trained with.

    Writes TAO's three `kpi_testing_*` files, metrics.json, ced.png, report.html and status.json to `results_dir` and
    prints the figures.

    Returns:
        Every figure by its flat name (see `FaceErrors.summary`).

    Raises:
        ConfigError: results stand in the way, or there are no faces to measure on.
        ModelFileError, DataError: the model file or the data cannot be used.
    """
    started = time.monotonic()
    folder = Path(spec.results_dir)
    refuse_results(folder, "metrics.json", spec.overwrite)
    predictor = Predictor.load(spec.model, spec.device)
    data = evaluated_data(spec, predictor.meta.config.get("data") or {})
    num_keypoints = predictor.scheme.num_keypoints
    source_points = (predictor.meta.config.get("model") or {}).get("source_points") or []
    sets = read_sets(data, num_keypoints, list(source_points), predictor.preprocessing)
    results = predict_faces(predictor, getattr(sets, spec.split), spec.batch_size)
    if not results.samples:
        raise ConfigError(
            f"data.{spec.split} holds no labelled face that can be used: {_reasons(sets.rejections, results)}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    metrics = results.errors.summary()
    write_kpi_files(folder, results)
    _write_metrics(folder / "metrics.json", spec, results)
    plots.save_png(ced_plot(results), folder / "ced.png")
    facts = _facts(spec, predictor, results, time.monotonic() - started)
    sections = face_sections(results, f"{spec.split.capitalize()} faces", spec.pictures)
    sections.append(data_section([*sets.rejections, *results.rejections], sets.notes))
    write_report(folder / "report.html", f"FPENet on {spec.split} faces", facts, sections)
    RunFolder(folder).log_status("SUCCESS", "Evaluation is done", kpi=metrics)
    _print(results, folder)
    return metrics


def evaluated_data(spec: FpenetEvaluateSpec, trained_with: dict[str, Any]) -> DataConfig:
    """The data section cut down to what `spec.split` needs, so that nothing else is read.

    Without sources in the spec these are the model's own; a `data.root` of the spec then says where they lie today.
    Sources that the spec names for training only, as data=pts does, are all measured when `spec.split` is test.

    Raises:
        ConfigError: there are none for this split.
    """
    data = spec.data
    if data.train and not (data.val or data.test) and spec.split == "test":
        data = replace(data, test=data.train)
    if not (data.train or data.val or data.test):
        stored = _stored_data(trained_with)
        data = replace(stored, root=data.root or stored.root)
    if spec.split == "test":
        data = replace(data, train=[], val=[])
    elif spec.split == "val" and data.val:
        data = replace(data, train=[], test=[])
    found = data.test if spec.split == "test" else data.val or data.train
    if not found:
        raise ConfigError(
            f"data.{spec.split} names no source, neither in the spec nor in the model file: give data.{spec.split}"
            + (", or take split=val, the part of the training faces that was held out" if data.train else "")
        )
    return data


def _stored_data(stored: dict[str, Any]) -> DataConfig:
    """A model file's data section; keys of another version are passed over."""
    known = {name: stored[name] for name in DataConfig.__dataclass_fields__ if name in stored}
    for name in ("train", "val", "test"):
        known[name] = [_known(SourceConfig, source) for source in known.get(name) or []]
    known["split"] = _known(SplitConfig, known.get("split") or {})
    return DataConfig(**known)


def _known(cls: Any, values: dict[str, Any]) -> Any:
    return cls(**{name: value for name, value in values.items() if name in cls.__dataclass_fields__})


def _write_metrics(path: Path, spec: FpenetEvaluateSpec, results: FaceResults) -> None:
    content = {
        "model": str(model_path(spec.model)),
        "split": spec.split,
        "metrics": results.errors.summary(),
        "sources": {name: results.errors.select(faces).summary() for name, faces in results.sources().items()},
    }
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _facts(spec: FpenetEvaluateSpec, predictor: Predictor, results: FaceResults, seconds: float) -> dict[str, str]:
    architecture = predictor.meta.architecture
    parameters = sum(p.numel() for p in predictor.network.parameters())
    p = predictor.preprocessing
    return {
        "Model": str(model_path(spec.model)),
        "Network": f"FPENet {architecture.get('variant')}, {predictor.scheme.num_keypoints} points, "
                   f"{parameters:,} parameters",
        "Crop": f"{p.size} px around the {p.crop_source}, enlarged {p.enlarge:g} times",
        "Faces": f"{len(results.samples)} from {', '.join(results.sources())}",
        **machine_facts(str(predictor.device)),
        "Time": f"{clock(seconds)} h:mm:ss",
    }  # fmt: skip


def _reasons(rejections: list[Rejection], results: FaceResults) -> str:
    cases = [*rejections, *results.rejections]
    return f"{len(cases)} were left out, the first: {cases[0]}" if cases else "its sources are empty"


def _print(results: FaceResults, folder: Path) -> None:
    console = Console()
    tables = [summary_table(results.errors)]
    if len(results.sources()) > 1:
        tables.append(source_table(results))
    for table in tables:
        shown = RichTable(*table.header, title=table.caption, title_justify="left")
        for row in table.rows:
            shown.add_row(*(cell if isinstance(cell, str) else number(cell) for cell in row))
        console.print(shown)
    console.print(f"results: {folder}", markup=False, highlight=False)
