"""`fpenet train`: from a spec to a run folder with a model, its figures and a report."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..configs.compose import to_plain
from ..configs.fpenet.schema import FpenetTrainSpec
from ..datasets.faces import FaceDataset, face_loader, margin_for
from ..datasets.preprocessing import Preprocessing
from ..datasets.sample import FaceSample, Rejection
from ..datasets.sources import FaceSets, read_sets
from ..datasets.transforms import FaceAugment
from ..errors import ConfigError, FacetrainError, TrainingError
from ..training.allocator import keep_memory
from ..training.distributed import Processes, process_group
from ..training.loop import Trainer, seed_everything
from ..training.report import machine_facts
from ..training.resume import RunState
from ..training.run_folder import RunFolder, clock
from ..training.trackers import TrackerGroup, build_trackers
from .face_report import write_training_report
from .face_results import FaceResults, predict_faces
from .predictor import Predictor
from .pretrained import start_network
from .schemes import Scheme
from .task import FpenetTask

log = logging.getLogger(__name__)


def train(spec: FpenetTrainSpec) -> dict[str, float]:
    """Trains FPENet as the spec says, or goes on with the unfinished run in `results_dir`.

    Returns:
        The figures of the best model on the test faces, or on the validation faces where there are none.

    Raises:
        ConfigError, DataError, ModelFileError: something in the spec or the data will not do.
        TrainingError: training cannot go on.
    """
    keep_memory()
    with process_group(spec.train.device) as processes:
        folder = RunFolder(spec.results_dir)
        folder.refuse_finished(spec.overwrite)
        run = _prepare(spec, processes)
        try:
            return _run(spec, run, folder, processes)
        except (FacetrainError, KeyboardInterrupt) as error:
            if processes.first:
                _log_failure(folder, error)
            raise


def _log_failure(folder: RunFolder, error: BaseException) -> None:
    interrupted = isinstance(error, KeyboardInterrupt)
    reason = "interrupted; the same command goes on from here" if interrupted else str(error)
    with suppress(TrainingError):  # the disk may be what failed; the error itself is what the user must see
        folder.log_status("FAILURE", reason)
    if interrupted:
        log.warning("%s", reason)


@dataclass(frozen=True)
class _Prepared:
    """What a run is made of, before anything is written."""

    task: FpenetTask
    sets: FaceSets
    train: FaceDataset
    val: FaceDataset | None


def _prepare(spec: FpenetTrainSpec, processes: Processes) -> _Prepared:
    seed_everything(spec.seed)
    network, scheme, lines = start_network(spec.model, spec.train.pretrained)
    preprocessing = Preprocessing(
        size=spec.model.input_size,
        crop_source=spec.crop.source,
        enlarge=spec.crop.enlarge,
        shift_x=spec.crop.shift_x,
        shift_y=spec.crop.shift_y,
    )
    task = FpenetTask(network, scheme, preprocessing, spec.loss, to_plain(spec), spec.seed)
    if not spec.data.train:
        raise ConfigError(
            "data.train is empty: choose a data set, such as data=pts_300w data.root=FOLDER, or data=synthetic for "
            "drawn faces"
        )
    augment = _augment(spec, scheme, lines)
    sets = read_sets(spec.data, scheme.num_keypoints, list(spec.model.source_points), preprocessing)
    train = FaceDataset(sets.train, preprocessing, augment, spec.seed, spec.data.cache)
    val = FaceDataset(sets.val, preprocessing, None, spec.seed, spec.data.cache) if _labelled(sets.val) else None
    if processes.first:
        for line in [*lines, *_account(sets, train, val)]:
            print(line, flush=True)
    return _Prepared(task, sets, train, val)


def _augment(spec: FpenetTrainSpec, scheme: Scheme, lines: list[str]) -> FaceAugment:
    size = spec.model.input_size
    if scheme.flip is None and spec.augment.hflip_prob > 0:
        lines.append(f"horizontal flips are off: the scheme of {scheme.num_keypoints} points has no flip table")
    return FaceAugment(spec.augment, size, margin_for(size), list(scheme.flip) if scheme.flip else None)


def _account(sets: FaceSets, train: FaceDataset, val: FaceDataset | None) -> list[str]:
    """How many faces there are for what, and what was left out."""
    counts = f"faces: {len(train)} to train on, {len(val) if val else 0} to validate on, {len(sets.test)} to test on"
    rejections = _rejections(sets, train, val)
    lines = [counts, *sets.notes]
    for reason, count in Counter(rejection.reason for rejection in rejections).most_common():
        first = next(rejection for rejection in rejections if rejection.reason == reason)
        lines.append(f"left out: {count} x {reason}, the first {first}")
    return lines


def _rejections(sets: FaceSets, *data: FaceDataset | None) -> list[Rejection]:
    return [*sets.rejections, *(rejection for part in data if part is not None for rejection in part.rejections)]


def _run(spec: FpenetTrainSpec, run: _Prepared, folder: RunFolder, processes: Processes) -> dict[str, float]:
    plain = to_plain(spec)
    goes_on = False
    if processes.first:
        goes_on = folder.begin(plain, resume=spec.train.resume == "auto", overwrite=spec.overwrite)
        folder.log_status("STARTED", "training goes on" if goes_on else "training begins")
    trainer = _trainer(spec, run, folder, processes)
    # From the first process to all: the others may run on machines that don't see the folder.
    state = processes.broadcast(RunState.load(folder.resume_state) if goes_on else None)
    if state is not None:
        trainer.load(state)
        if processes.first:
            folder.forget_after(trainer.state.step)
            print(f"going on with {folder.path} at epoch {trainer.state.epoch + 1}, step {trainer.state.step}")
    trainer.trackers.start(plain, trainer.state.step)
    trainer.fit()
    return _finish(spec, run, trainer, folder) if processes.first else {}


def _trainer(spec: FpenetTrainSpec, run: _Prepared, folder: RunFolder, processes: Processes) -> Trainer:
    def loader(dataset: FaceDataset, training: bool) -> Any:
        return face_loader(
            dataset,
            spec.train.batch_size,
            rank=processes.rank,
            world=processes.world,
            shuffle=training,
            drop_last=training,
            seed=spec.seed,
            workers=spec.data.workers if training else 0,
        )

    return Trainer(
        task=run.task,
        config=spec.train,
        train_loader=loader(run.train, training=True),
        val_loader=loader(run.val, training=False) if run.val is not None else None,
        folder=folder,
        trackers=build_trackers(spec.track, folder.path) if processes.first else TrackerGroup([]),
        processes=processes,
        pictures=spec.track.pictures,
    )


def _finish(spec: FpenetTrainSpec, run: _Prepared, trainer: Trainer, folder: RunFolder) -> dict[str, float]:
    """Measures the best model, writes the report, and closes the run."""
    predictor = Predictor.load(str(folder.best), spec.train.device)
    results = {
        name: predict_faces(predictor, samples)
        for name, samples in (("test", run.sets.test), ("validation", run.sets.val))
        if _labelled(samples)
    }
    figures = next(iter(results.values())).errors.summary() if results else {}
    write_training_report(
        folder.path,
        f"FPENet, {run.task.scheme.num_keypoints} points",
        _facts(spec, run, trainer),
        folder.metrics(),
        results,
        _rejections(run.sets, run.train, run.val),
        run.sets.notes,
    )
    summary = {
        f"{name}/{key}": value for name, faces in results.items() for key, value in faces.errors.summary().items()
    }
    trainer.trackers.finish(folder.best, summary)
    folder.log_status("SUCCESS", "training is done", kpi=summary, epoch=trainer.state.epoch)
    for line in _closing(results, folder):
        print(line, flush=True)
    return figures


def _labelled(samples: Sequence[FaceSample]) -> bool:
    return any(sample.labelled for sample in samples)


def _facts(spec: FpenetTrainSpec, run: _Prepared, trainer: Trainer) -> dict[str, str]:
    model = run.task.architecture
    parameters = sum(p.numel() for p in run.task.model.parameters())
    return {
        "model": f"FpeNet_{model.variant}, {model.num_keypoints} points, {parameters:,} parameters",
        "beta": f"{model.beta:g}",
        "crop": f"{run.task.preprocessing.size} px, {run.task.preprocessing.enlarge:g} x {spec.crop.source}",
        "faces": f"{len(run.train)} training, {len(run.val) if run.val else 0} validation, {len(run.sets.test)} test",
        "epochs": f"{trainer.state.epoch} of {spec.train.epochs}, {trainer.state.step} steps",
        "precision": spec.train.precision,
        "seed": str(spec.seed),
        "training time": clock(trainer.state.seconds),
        **machine_facts(str(trainer.processes.device)),
    }


def _closing(results: dict[str, FaceResults], folder: RunFolder) -> list[str]:
    lines = []
    for name, faces in results.items():
        figures = faces.errors.summary()
        shown = [
            f"{key} {figures[key]:.3f}" for key in ("nme_interocular", "nme_diagonal", "error_all") if key in figures
        ]
        lines.append(f"{name}: {int(figures['faces'])} faces, {', '.join(shown)}")
    return [*lines, f"model: {folder.best}", f"report: {Path(folder.path) / 'report.html'}"]
