"""`fpenet evaluate`: a model file on a set of labelled faces."""

from __future__ import annotations

import json
import time
from pathlib import Path

from ..configs.fpenet.schema import FpenetEvaluateSpec
from ..configs.stored_data import evaluated_data
from ..datasets.faces import no_usable_face
from ..datasets.sources import read_sets
from ..training import plots
from ..training.console import print_tables
from ..training.report import data_section, machine_facts, write_report
from ..training.run_folder import RunFolder, clock, make_folder, refuse_results
from .face_report import ced_plot, face_sections, source_table, summary_table
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
    data = evaluated_data(spec.data, spec.split, predictor.meta.config.get("data") or {})
    scheme = predictor.scheme
    source_points = (predictor.meta.config.get("model") or {}).get("source_points") or []
    sets = read_sets(data, scheme.num_keypoints, list(source_points), predictor.preprocessing, scheme.names)
    unseen_as_zero = spec.unseen_points == "zero"
    results = predict_faces(predictor, getattr(sets, spec.split), spec.batch_size, unseen_as_zero)
    if not results.samples:
        raise no_usable_face(spec.split, [*sets.rejections, *results.rejections])
    make_folder(folder)
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
    parameters = predictor.runtime.info.parameters
    p = predictor.preprocessing
    return {
        "Model": str(model_path(spec.model)),
        "Network": f"FPENet {architecture.get('variant')}, {predictor.scheme.num_keypoints} points, "
                   f"{parameters:,} parameters",
        "Run by": predictor.runtime.backend,
        "Crop": f"{p.size} px around the {p.crop_source}, enlarged {p.enlarge:g} times",
        "Faces": f"{len(results.samples)} from {', '.join(results.sources())}",
        **machine_facts(str(predictor.device)),
        "Time": f"{clock(seconds)} h:mm:ss",
    }  # fmt: skip


def _print(results: FaceResults, folder: Path) -> None:
    tables = [summary_table(results.errors)]
    if len(results.sources()) > 1:
        tables.append(source_table(results))
    print_tables(tables, [f"results: {folder}"])
