"""What the verb `train` does for either network: begin or go on, train, and leave a run folder that tells of it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from torch.utils.data import DataLoader

from ..configs.compose import group_home, to_plain
from ..configs.schema import TrackConfig, TrainConfig
from ..datasets.sample import Rejection
from ..errors import FacetrainError, TrainingError
from ..tao.spec_file import import_files
from .allocator import keep_memory
from .distributed import Processes, process_group
from .loop import Task, Trainer
from .model_file import write_atomic
from .report import machine_facts
from .resume import RunState
from .run_folder import RunFolder, clock
from .trackers import TrackerGroup, build_trackers

log = logging.getLogger(__name__)


class TrainSpec(Protocol):
    """The keys that both `train` specs have."""

    results_dir: str
    overwrite: bool
    compat: str
    imported_from: str
    track: TrackConfig

    @property
    def train(self) -> TrainConfig: ...


@dataclass(frozen=True)
class Outcome:
    """What a finished run has come to.

    Attributes:
        sets: name of a set of samples, such as "test" -> the best model's figures on it by name. The first is the
            run's result.
        lines: what the user is told of them.
    """

    sets: dict[str, dict[str, float]]
    lines: list[str]


@dataclass(frozen=True)
class Job:
    """What a run is made of, before anything is written.

    Attributes:
        train_loader, val_loader: as `Trainer` takes them.
        lines: what the user is told before training begins.
        finish: measures the best model and writes the report; called in the first process.
    """

    task: Task
    train_loader: DataLoader
    val_loader: DataLoader | None
    lines: list[str]
    finish: Callable[[Trainer], Outcome]


def run_training(spec: TrainSpec, prepare: Callable[[Processes], Job]) -> dict[str, float]:
    """Trains as the spec says, or goes on with the unfinished run in `results_dir`.

    Returns:
        The figures of the best model on the test samples, or on the validation samples where there are none; empty in
        all processes but the first.

    Raises:
        ConfigError, DataError, ModelFileError: something in the spec or the data will not do.
        TrainingError: training cannot go on.
    """
    keep_memory()
    with process_group(spec.train.device) as processes:
        folder = RunFolder(spec.results_dir)
        folder.refuse_finished(spec.overwrite)
        job = prepare(processes)
        if processes.first:
            _say(job.lines)
        try:
            return _run(spec, job, folder, processes)
        except (FacetrainError, KeyboardInterrupt) as error:
            if processes.first:
                _log_failure(folder, error)
            raise


def _run(spec: TrainSpec, job: Job, folder: RunFolder, processes: Processes) -> dict[str, float]:
    plain = to_plain(spec)
    goes_on = False
    if processes.first:
        goes_on = folder.begin(plain, resume=spec.train.resume == "auto", overwrite=spec.overwrite)
        kept = import_files(spec.imported_from, group_home(type(spec)).name, spec.compat) if spec.imported_from else {}
        for name, content in kept.items():
            write_atomic(folder.path / name, content)
        folder.log_status("STARTED", "training goes on" if goes_on else "training begins")
    trainer = build_trainer(spec, job, folder, processes)
    # From the first process to all: the others may run on machines that don't see the folder.
    state = processes.broadcast(RunState.load(folder.resume_state) if goes_on else None)
    if state is not None:
        trainer.load(state)
        if processes.first:
            folder.forget_after(trainer.state.step)
            print(f"going on with {folder.path} at epoch {trainer.state.epoch + 1}, step {trainer.state.step}")
    trainer.trackers.start(plain, trainer.state.step)
    trainer.fit()
    return _finish(job, trainer, folder) if processes.first else {}


def build_trainer(spec: TrainSpec, job: Job, folder: RunFolder, processes: Processes) -> Trainer:
    """The loop of a run, at its beginning."""
    return Trainer(
        task=job.task,
        config=spec.train,
        train_loader=job.train_loader,
        val_loader=job.val_loader,
        folder=folder,
        trackers=build_trackers(spec.track, folder.path) if processes.first else TrackerGroup([]),
        processes=processes,
        pictures=spec.track.pictures,
    )


def _finish(job: Job, trainer: Trainer, folder: RunFolder) -> dict[str, float]:
    outcome = job.finish(trainer)
    summary = {f"{name}/{key}": value for name, figures in outcome.sets.items() for key, value in figures.items()}
    trainer.trackers.finish(folder.best, summary)
    folder.log_status("SUCCESS", "training is done", kpi=summary, epoch=trainer.state.epoch)
    _say([*outcome.lines, f"model: {folder.best}", f"report: {folder.path / 'report.html'}"])
    return next(iter(outcome.sets.values()), {})


def _log_failure(folder: RunFolder, error: BaseException) -> None:
    interrupted = isinstance(error, KeyboardInterrupt)
    reason = "interrupted; the same command goes on from here" if interrupted else str(error)
    with suppress(TrainingError):  # the disk may be what failed; the error itself is what the user must see
        folder.log_status("FAILURE", reason)
    if interrupted:
        log.warning("%s", reason)


def _say(lines: Sequence[Any]) -> None:
    for line in lines:
        print(line, flush=True)


def left_out(rejections: Sequence[Rejection]) -> list[str]:
    """How many labels and pictures were left out for which reason, with the first case of each."""
    lines = []
    for reason, count in Counter(rejection.reason for rejection in rejections).most_common():
        first = next(rejection for rejection in rejections if rejection.reason == reason)
        lines.append(f"left out: {count} x {reason}, the first {first}")
    return lines


def training_facts(trainer: Trainer, seed: int) -> dict[str, str]:
    """What every training report says at its head of how the model came about."""
    qat = trainer.config.qat
    return {
        "epochs": f"{trainer.state.epoch} of {trainer.config.epochs}, {trainer.state.step} steps",
        "precision": trainer.config.precision,
        **({"quantisation": "learnt with INT8 rounding, as the curves show; figures of float weights"} if qat else {}),
        "seed": str(seed),
        "training time": clock(trainer.state.seconds),
        **machine_facts(str(trainer.processes.device)),
    }
