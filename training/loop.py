"""The training loop. It knows batches, gradients and files; what a loss is made of is the task's business."""

from __future__ import annotations

import math
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from ..configs.schema import TrainConfig
from ..errors import ConfigError, FacetrainError, TrainingError
from .distributed import Processes
from .model_file import ModelMeta, save_model
from .optimizer import build_optimizer, weight_average
from .progress import TrainingProgress
from .resume import RunState
from .run_folder import RunFolder, clock
from .schedule import learning_rate
from .trackers import Picture, TrackerGroup

Batch = dict[str, Tensor]
Forward = Callable[[Tensor], Any]
AMP_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Task(Protocol):
    """A model with what it learns from. One for each network."""

    model: nn.Module
    metric: str  # the metric that the best model has the lowest or highest of
    higher_is_better: bool

    def step(self, forward: Forward, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """The scalar "loss" of a batch, and its parts. `forward` is the model in the run's precision."""

    def evaluate(self, forward: Forward, loader: DataLoader, processes: Processes) -> dict[str, float]:
        """Metrics over every sample of all ranks' loaders, the same on every rank."""

    def end_epoch(self) -> None:
        """Called after the last step of every epoch, before it is validated."""

    def state_dict(self) -> dict[str, Any]:
        """What the task itself has gathered and would need to go on; tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from such a state."""

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """What the model file holds of a model."""

    def pictures(self, forward: Forward, loader: DataLoader, processes: Processes, count: int) -> list[Picture]:
        """Some of the loader's samples with labels and predictions drawn."""

    def meta(self, metrics: dict[str, float]) -> ModelMeta:
        """What the model file says beside the weights."""


@dataclass
class Trainer:
    """Everything a run needs; `fit` runs it.

    Attributes:
        train_loader: its batch sampler has `set_epoch(epoch, first_batch=0)`.
        val_loader: this rank's share of the validation samples; None validates nothing, and the last model is the best.
    """

    task: Task
    config: TrainConfig
    train_loader: DataLoader
    val_loader: DataLoader | None
    folder: RunFolder
    trackers: TrackerGroup
    processes: Processes
    pictures: int = 0

    def __post_init__(self) -> None:
        device = self.processes.device
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        self.model = self.task.model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        self.network: nn.Module = self.model
        if self.processes.world > 1:
            if self.config.sync_bn:
                if device.type != "cuda":
                    raise ConfigError("train.sync_bn=true works on GPUs only; on CPUs every process has its own")
                self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
            self.network = DistributedDataParallel(self.model, device_ids=[device] if device.type == "cuda" else None)
        self.average = weight_average(self.model, self.config.ema) if self.config.ema > 0 else None
        self.optimizer = build_optimizer(self.model, self.config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.config.precision == "fp16")
        self.state = RunState()
        self.steps_per_epoch = math.ceil(len(self.train_loader) / self.config.accumulate)
        self.total_steps = self.config.epochs * self.steps_per_epoch
        self._stop_signal: int | None = None
        self._newest: dict[str, float] = {}  # figures of the latest step, for status.json

    def load(self, state: RunState) -> None:
        """Goes on from a saved state."""
        self.model.load_state_dict(state.weights)
        self.optimizer.load_state_dict(state.optimizer)
        self.scaler.load_state_dict(state.scaler)
        if self.average is not None:
            self.average.load_state_dict(state.average)
        self.task.load_state_dict(state.task)
        self.state = replace(state, weights={}, optimizer={}, scaler={}, average={}, task={})

    def fit(self) -> None:
        """Trains to the last epoch, or until validation has not improved for `early_stopping` times.

        Raises:
            TrainingError: the loss or a gradient is not finite, or a file cannot be written.
            KeyboardInterrupt: SIGINT or SIGTERM came; a single process has saved its state first.
        """
        first = self.processes.first
        with (
            self._graceful_stop(),
            TrainingProgress(self.config.epochs, self.steps_per_epoch, self.state.step, first) as progress,
        ):
            for epoch in range(self.state.epoch, self.config.epochs):
                if 0 < self.config.early_stopping <= self.state.stale:
                    progress.message(f"no better model for {self.state.stale} validations: stopping early")
                    break
                self._train_epoch(epoch, progress)
                self._end_epoch(epoch, progress)

    def _train_epoch(self, epoch: int, progress: TrainingProgress) -> None:
        self.network.train()
        self.train_loader.batch_sampler.set_epoch(epoch, first_batch=self.state.batch)  # type: ignore[union-attr]
        started, total = time.monotonic(), self.state.seconds
        batches = iter(self.train_loader)
        while group := self._next_group(batches):
            rate = learning_rate(self.config, self.state.step / self.total_steps)
            parts = self._step(group, epoch, rate)
            self.state.step += 1
            self.state.batch += len(group)
            self.state.seconds = total + time.monotonic() - started
            self._newest = {"loss": parts["loss"], "learning_rate": rate}
            progress.step({"loss": parts["loss"], "lr": rate})
            if self.processes.first and self.state.step % self.config.log_every == 0:
                self._log("train", epoch, {**parts, "learning_rate": rate})
            if self._stop_signal is not None:
                self._save_state()
                raise KeyboardInterrupt
        self.state.epoch, self.state.batch = epoch + 1, 0

    def _next_group(self, batches: Iterator[Batch]) -> list[Batch]:
        """The batches of one optimiser step; the last group of an epoch may be smaller."""
        try:
            return [batch for _, batch in zip(range(self.config.accumulate), batches, strict=False)]
        except FacetrainError as error:  # a loader process hands one over with its whole traceback as text before it
            raise type(error)(str(error).rsplit(f"{type(error).__name__}: ", 1)[-1].strip()) from None

    def _step(self, group: list[Batch], epoch: int, rate: float) -> dict[str, float]:
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for i, batch in enumerate(group):
            last = i == len(group) - 1
            hold = nullcontext() if last or self.network is self.model else self.network.no_sync()  # type: ignore[operator]
            with hold:
                parts = self.task.step(self._forward(self.network), self._to_device(batch), epoch)
                self.scaler.scale(parts["loss"] / len(group)).backward()
            for name, value in parts.items():
                sums[name] = sums.get(name, 0) + value.detach() / len(group)
        figures = {name: float(value) for name, value in sums.items()}
        if not math.isfinite(figures["loss"]):
            self._stop_not_finite("the loss", figures)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm or math.inf)
        if not self.scaler.is_enabled() and not torch.isfinite(norm):  # the scaler leaves out such a step
            self._stop_not_finite("the gradient", {**figures, "gradient norm": float(norm)})
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return figures

    def _stop_not_finite(self, what: str, figures: dict[str, float]) -> None:
        parts = ", ".join(f"{name} {value:.6g}" for name, value in figures.items())
        raise TrainingError(
            f"{what} is not finite at step {self.state.step}: {parts}. The models saved before are intact; lower "
            "train.learning_rate, set train.clip_norm, or use train.precision=fp32"
        )

    def _end_epoch(self, epoch: int, progress: TrainingProgress) -> None:
        """Validates and saves."""
        self.task.end_epoch()
        sums = {name: float(weight.detach().sum()) for name, weight in self.model.named_parameters()}
        if broken := {name: total for name, total in sums.items() if not math.isfinite(total)}:
            self._stop_not_finite("the sum of a weight", broken)  # an update can spoil them with no loss to show it yet
        last = epoch + 1 == self.config.epochs
        metrics: dict[str, float] = {}
        if self.val_loader is not None and (last or (epoch + 1) % self.config.val_every == 0):
            metrics = self._validate(epoch, progress)
        if self.processes.first and (last or metrics or (epoch + 1) % self.config.checkpoint_every == 0):
            save_model(self.folder.last, self._saved_weights(), self.task.meta(metrics))
            if self.val_loader is None:
                save_model(self.folder.best, self._saved_weights(), self.task.meta(metrics))
            self._save_state()
            self._report_epoch(epoch, metrics)

    def _validate(self, epoch: int, progress: TrainingProgress) -> dict[str, float]:
        assert self.val_loader is not None
        model = self._saved_model()
        self.processes.share_buffers(model)  # each rank has statistics of its own batches; the first one's are saved
        model.eval()
        forward = self._forward(model)
        with torch.no_grad():
            metrics = self.task.evaluate(forward, self.val_loader, self.processes)
        if self.task.metric not in metrics:
            raise TrainingError(
                f"validation gives no {self.task.metric}, by which the best model is chosen: the validation labels "
                "lack what it is made of; validate on others (data.val)"
            )
        value = metrics[self.task.metric]
        best = self.state.best
        better = best is None or (value > best if self.task.higher_is_better else value < best)
        if better:
            self.state.best, self.state.stale = value, 0
        else:
            self.state.stale += 1
        if self.processes.first:
            if better:
                save_model(self.folder.best, self._saved_weights(), self.task.meta(metrics))
            self._log("val", epoch, metrics)
            progress.message(
                f"epoch {epoch + 1}: {self.task.metric} {value:.4f}" + (" (best so far)" if better else "")
            )
            if self.pictures:
                with torch.no_grad():
                    drawn = self.task.pictures(forward, self.val_loader, self.processes, self.pictures)
                self.trackers.pictures("predictions", drawn, self.state.step)
        return metrics

    def _saved_model(self) -> nn.Module:
        """The model that is validated and saved: the averaged one where there is one."""
        return self.average.module if self.average is not None else self.model

    def _saved_weights(self) -> dict[str, Tensor]:
        return self.task.weights(self._saved_model())

    def _save_state(self) -> None:
        full = replace(
            self.state,
            weights=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
            average=self.average.state_dict() if self.average is not None else {},
            task=self.task.state_dict(),
        )
        full.save(self.folder.resume_state)

    def _log(self, kind: str, epoch: int, figures: dict[str, float]) -> None:
        self.folder.log_metrics({"kind": kind, "step": self.state.step, "epoch": epoch + 1, **figures})
        self.trackers.log({f"{kind}/{name}": value for name, value in figures.items()}, self.state.step)

    def _report_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        per_epoch = self.state.seconds / (epoch + 1)
        self.folder.log_status(
            "RUNNING",
            f"epoch {epoch + 1} of {self.config.epochs} is done",
            epoch=epoch + 1,
            max_epoch=self.config.epochs,
            time_per_epoch=clock(per_epoch),
            eta=clock(per_epoch * (self.config.epochs - epoch - 1)),
            kpi=metrics,
            graphical=self._newest,
        )

    def _forward(self, network: nn.Module) -> Forward:
        """The network in the run's precision. Losses and metrics, outside it, stay float32."""
        amp = AMP_TYPES[self.config.precision]

        def forward(images: Tensor) -> Any:
            with torch.autocast(self.processes.device.type, dtype=amp, enabled=amp is not torch.float32):
                return network(images)

        return forward

    def _to_device(self, batch: Batch) -> Batch:
        return {name: value.to(self.processes.device, non_blocking=True) for name, value in batch.items()}

    @contextmanager
    def _graceful_stop(self) -> Iterator[None]:
        """On the first SIGINT or SIGTERM finish the step and save; a second one, or many processes, stop at once.

        Processes that stopped at different steps would wait for each other for ever, so a distributed run falls back
        on the state of its last epoch. So does one whose loader processes end at the signal too.
        """

        def stop(number: int, frame: object) -> None:
            if self._stop_signal is not None or self.processes.world > 1:
                raise KeyboardInterrupt
            self._stop_signal = number

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        except FacetrainError:
            raise
        except Exception:  # the signal has ended a loader process as well, in the midst of whatever it did
            if self._stop_signal is None:
                raise
            raise KeyboardInterrupt from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def seed_everything(seed: int) -> None:
    """Fixes every generator that initial weights could draw from."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (libraries draw from the global one)
    torch.manual_seed(seed)
