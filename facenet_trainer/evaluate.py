"""`facenet evaluate`: a model file on a set of labelled pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..configs.facenet.per_class import each_class
from ..configs.facenet.schema import ClusteringConfig, DataConfig, FacenetEvaluateSpec, IgnoreConfig, MetricsConfig
from ..configs.stored_data import evaluated_data
from ..datasets.detection_sources import DetectionSets, read_detection_sets
from ..datasets.sample import DetectionSample
from ..datasets.source_files import picture_files
from ..errors import ConfigError, DataError
from ..training import plots
from ..training.console import print_tables
from ..training.report import Section, data_section, machine_facts, write_report
from ..training.run_folder import RunFolder, clock, make_folder, refuse_results
from .detection_files import METRICS, tao_status, write_metrics, write_tables
from .detection_report import detection_sections, faceless_section, recall_plot
from .detection_results import FoundPictures, predict_pictures
from .detection_tables import class_table, cut_table, faceless_figures, faceless_table, group_table, summary_table
from .predictor import Predictor
from .pretrained import model_path


def evaluate(spec: FacenetEvaluateSpec) -> dict[str, float]:
    """Measures `spec.model` on the pictures of `spec.data`, or of the data the model was trained with.

    Writes metrics.json, four CSV files (see `write_tables`), precision_recall.png, report.html and status.json to
    `results_dir` and prints the figures.

    Returns:
        Every figure by its flat name (see `DetectionResults.summary`), and those of `faceless_figures`.

    Raises:
        ConfigError: results stand in the way, a changed key is wrong, or there are no faces to measure on.
        ModelFileError, DataError: the model file, the data or the face-less pictures cannot be used.
    """
    started = time.monotonic()
    folder = Path(spec.results_dir)
    refuse_results(folder, METRICS, spec.overwrite)
    without_face = _faceless_samples(spec.faceless) if spec.faceless else []
    predictor = Predictor.load(spec.model, spec.device, spec.clustering, spec.input_size)
    each_class(spec.metrics, predictor.classes)  # refuses what does not fit before the data are read
    stored = predictor.meta.config.get("data") or {}
    data = with_mapping(evaluated_data(spec.data, spec.split, stored), spec.data, predictor)
    sets = read_detection_sets(data)
    samples = samples_of(spec.split, sets, predictor.classes)
    print(f"pictures: {len(samples)} with labels, {len(without_face)} without a face", flush=True)  # it takes a while
    found = _labelled(spec, data, predictor, samples)
    faceless = _faceless(spec, predictor, without_face) if without_face else None
    metrics = dict(found.figures)
    if faceless:
        metrics |= faceless_figures(faceless, found.results.best_scores())
    make_folder(folder)
    _write_files(folder, spec, predictor, found, metrics)
    facts = _facts(spec, data, predictor, found, time.monotonic() - started)
    write_report(folder / "report.html", f"FaceNet on {spec.split} pictures", facts,
                 _sections(spec, sets, found, faceless))  # fmt: skip
    status = tao_status(found.results)
    RunFolder(folder).log_status("SUCCESS", "Evaluation is done", **{**status, "kpi": status["kpi"] | metrics})
    _print(found, faceless, folder)
    return metrics


def with_mapping(data: DataConfig, given: DataConfig, predictor: Predictor) -> DataConfig:
    """The data to measure on; a mapping of classes that the spec, `given`, leaves alone is the model's own.

    Raises ConfigError when the mapping names a class that the model does not know.
    """
    stored = predictor.meta.config.get("data") or {}
    if given.class_mapping == DataConfig().class_mapping and stored.get("class_mapping"):
        data = replace(data, class_mapping=dict(stored["class_mapping"]))
    unknown = [name for name in data.class_mapping.values() if name not in predictor.classes]
    if unknown:
        raise ConfigError(
            f"data.class_mapping: the model has no class {unknown[0]!r}; map names in the labels to "
            f"{' | '.join(predictor.classes)}"
        )
    return data


def samples_of(split: str, sets: DetectionSets, classes: Sequence[str]) -> list[DetectionSample]:
    """The pictures of the split, labels counted in the model's classes. Raises ConfigError when there are none."""
    samples: list[DetectionSample] = getattr(sets, split)
    if not samples:
        remedy = "give data.val, or a data.split.fraction above 0" if split == "val" else f"give data.{split}"
        raise ConfigError(f"split={split}: the data hold no picture for it; {remedy}")
    if sets.classes == tuple(classes):
        return samples
    order = np.array([classes.index(name) for name in sets.classes], np.int64)
    return [replace(sample, labels=order[sample.labels]) for sample in samples]


def _faceless_samples(folder: str) -> list[DetectionSample]:
    """The pictures in a folder and below it. Raises DataError when there are none."""
    files = picture_files(folder, "faceless", "pictures without a face")
    none = np.zeros((0, 4), np.float32)
    return [
        DetectionSample(file, none, np.zeros(0, np.int64), none, name=file.relative_to(folder).as_posix())
        for file in files
    ]


def _labelled(
    spec: FacenetEvaluateSpec, data: DataConfig, predictor: Predictor, samples: Sequence[DetectionSample]
) -> FoundPictures:
    """What is found in the pictures with labels. Raises ConfigError when none of their faces counts."""
    try:
        found = predict_pictures(predictor, samples, data.ignore, spec.metrics, spec.batch_size)
    except DataError as error:
        raise DataError(f"data.{spec.split}: {error}") from None
    if not found.results.counted.any():
        raise ConfigError(
            f"data.{spec.split} has no box to find: all are ignored by data.ignore ({_shown(data.ignore)}) or outside "
            f"the limits of metrics ({_shown(spec.metrics)}); widen them"
        )
    return found


def _faceless(spec: FacenetEvaluateSpec, predictor: Predictor, samples: Sequence[DetectionSample]) -> FoundPictures:
    try:
        return predict_pictures(predictor, samples, IgnoreConfig(), spec.metrics, spec.batch_size)
    except DataError as error:
        raise DataError(f"faceless={spec.faceless}: {error}") from None


def _write_files(
    folder: Path, spec: FacenetEvaluateSpec, predictor: Predictor, found: FoundPictures, metrics: dict[str, float]
) -> None:
    about = {
        "model": str(model_path(spec.model)),
        "split": spec.split,
        "input": predictor.preprocessing.to_dict(),
        "clustering": asdict(predictor.clustering),
    }
    write_metrics(folder / METRICS, about, metrics, found)
    write_tables(folder, found)
    plots.save_png(recall_plot(found.results), folder / "precision_recall.png")


def _sections(
    spec: FacenetEvaluateSpec, sets: DetectionSets, found: FoundPictures, faceless: FoundPictures | None
) -> list[Section]:
    """The report's."""
    sections = detection_sections(found, f"{spec.split.capitalize()} pictures", spec.pictures)
    if faceless:
        sections.append(faceless_section(faceless, found.results.best_scores(), spec.pictures))
    rejections = [*sets.rejections, *found.rejections, *(faceless.rejections if faceless else [])]
    return [*sections, data_section(rejections, sets.notes)]


def _print(found: FoundPictures, faceless: FoundPictures | None, folder: Path) -> None:
    results = found.results
    tables = [summary_table(found), class_table(results), cut_table(results), group_table(found)]
    if faceless:
        tables.append(faceless_table(faceless, results.best_scores()))
    print_tables(tables, [f"results: {folder}"])


def _facts(
    spec: FacenetEvaluateSpec, data: DataConfig, predictor: Predictor, found: FoundPictures, seconds: float
) -> dict[str, str]:
    architecture, size = predictor.architecture, predictor.preprocessing
    parameters = predictor.runtime.info.parameters
    sources = ", ".join(dict.fromkeys(sample.source for sample in found.samples))
    return {
        "Model": str(model_path(spec.model)),
        "Network": f"GridBox ResNet-{architecture.num_layers}{', pruned' if architecture.pruned else ''}, "
                   f"{parameters:,} parameters",
        "Classes": ", ".join(predictor.classes),
        "Input": f"{size.width} x {size.height} px, {size.resize}{', grey' if size.grayscale else ''}",
        "Run by": predictor.runtime.backend,
        "Clustering": _clustering(predictor.clustering),
        "Pictures": f"{len(found.samples)} from {sources}",
        "Ignored boxes": _shown(data.ignore) or "those that the labels mark",
        "Metrics": _shown(spec.metrics) or "IoU 0.5, no limits of size",
        **machine_facts(str(predictor.device)),
        "Time": f"{clock(seconds)} h:mm:ss",
    }  # fmt: skip


def _clustering(config: ClusteringConfig) -> str:
    """The algorithm, and the settings that it obeys."""
    other = {"dbscan": "nms_", "nms": "dbscan_", "hybrid": "-"}[config.algorithm]
    used = {name: value for name, value in asdict(config).items() if not name.startswith(other) and value != {}}
    unused = {"algorithm", *(["confidence"] if config.algorithm == "nms" else [])}
    return ", ".join([config.algorithm, *(f"{name}={value}" for name, value in used.items() if name not in unused)])


def _shown(section: IgnoreConfig | MetricsConfig) -> str:
    """The keys of a section that are not at their defaults."""
    defaults: dict[str, Any] = asdict(type(section)())
    return ", ".join(f"{name}={value}" for name, value in asdict(section).items() if value != defaults[name])
