"""How far a run is: a bar on a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 30.0  # between plain lines


class TrainingProgress:
    """`with TrainingProgress(epochs, steps_per_epoch) as progress: progress.step({"loss": 1.2, "lr": 1e-3})`

    Args:
        epochs: epochs of the whole run.
        steps_per_epoch: calls of `step` an epoch.
        done: steps that an earlier part of the run has taken.
        enabled: False shows nothing; all processes of a run but the first.
        console: where to write; standard error by default.
    """

    def __init__(
        self,
        epochs: int,
        steps_per_epoch: int,
        done: int = 0,
        enabled: bool = True,
        console: Console | None = None,
    ) -> None:
        self.epochs, self.steps_per_epoch, self.done = epochs, steps_per_epoch, done
        self.total = epochs * steps_per_epoch
        self.first = done
        self.enabled = enabled
        self.console = console or Console(stderr=True)
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} {task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (enabled and self.console.is_terminal),
        )
        self.task = self.bar.add_task("", total=self.total, completed=done, epoch=self._epoch(), figures="")
        self.started = self.last_line = time.monotonic()

    def step(self, metrics: Mapping[str, float]) -> None:
        """One step is done; `metrics` are the figures to show, such as loss, lr and steps a second."""
        self.done += 1
        figures = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self.bar.update(self.task, completed=self.done, epoch=self._epoch(), figures=figures)
        now = time.monotonic()
        end_of_epoch = self.done % self.steps_per_epoch == 0
        if not self.bar.disable or not (end_of_epoch or now - self.last_line >= LINE_EVERY_S):
            return
        self.last_line = now
        left = (self.total - self.done) * (now - self.started) / (self.done - self.first)
        self.message(f"epoch {self._epoch()}  step {self.done}/{self.total}  {figures}  {_clock(left)} left")

    def message(self, text: str) -> None:
        """A line for the user, above the bar where there is one."""
        if self.enabled:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> TrainingProgress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def _epoch(self) -> str:
        """The epoch of the latest step, from 1."""
        return f"{min(max(self.done - 1, 0) // self.steps_per_epoch + 1, self.epochs)}/{self.epochs}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
