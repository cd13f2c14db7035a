"""Where a run's metrics and pictures go besides its own files: CSV, TensorBoard, Weights & Biases.

A tracker is an onlooker. One that cannot work here is reported before training starts; one that fails later is reported
once and dropped, and the run goes on.
"""

from __future__ import annotations

import csv
import importlib
import json
import logging
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..configs.schema import TrackConfig
from ..errors import ConfigError

Picture = tuple[NDArray[np.uint8], str]  # RGB [H, W, 3] and its caption

log = logging.getLogger(__name__)


class Tracker(Protocol):
    """What the loop tells its onlookers, in this order. Steps are optimiser steps from the start of the run."""

    def start(self, config: dict[str, Any], step: int = 0) -> None:
        """The resolved config, and the step from which the run goes on; whatever was logged after it is void."""

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Losses, learning rate or metrics by name. Steps never fall."""

    def pictures(self, name: str, pictures: list[Picture], step: int) -> None:
        """A group of RGB pictures [H, W, 3] uint8, each with a caption."""

    def finish(self, artifact: Path | None, summary: dict[str, Any]) -> None:
        """The end: the best model's file, where there is one, and the final figures."""


def build_trackers(track: TrackConfig, run_dir: Path) -> TrackerGroup:
    """The trackers that are asked for, none of them started. Only the first process of a run builds them.

    Raises:
        ConfigError: a tracker's package is not installed, or W&B is to go online without a key.
    """
    trackers: list[Tracker] = []
    if track.csv:
        trackers.append(CsvTracker(run_dir / "metrics.csv"))
    if track.tensorboard:
        trackers.append(TensorBoardTracker(run_dir / "events"))
    if track.wandb:
        trackers.append(WandbTracker(track, run_dir))
    return TrackerGroup(trackers)


class TrackerGroup:
    """All trackers of a run as one, which never raises."""

    def __init__(self, trackers: list[Tracker]) -> None:
        self.trackers = list(trackers)

    def start(self, config: dict[str, Any], step: int = 0) -> None:
        self._tell(lambda tracker: tracker.start(config, step))

    def log(self, metrics: dict[str, float], step: int) -> None:
        self._tell(lambda tracker: tracker.log(metrics, step))

    def pictures(self, name: str, pictures: list[Picture], step: int) -> None:
        self._tell(lambda tracker: tracker.pictures(name, pictures, step))

    def finish(self, artifact: Path | None, summary: dict[str, Any]) -> None:
        self._tell(lambda tracker: tracker.finish(artifact, summary))

    def _tell(self, message: Callable[[Tracker], None]) -> None:
        for tracker in list(self.trackers):
            try:
                message(tracker)
            except Exception as error:  # whatever a third party's tracker may raise
                self.trackers.remove(tracker)
                name = type(tracker).__name__
                log.warning("%s failed and is switched off; the run goes on: %s: %s", name, type(error).__name__, error)


class CsvTracker:
    """One row a value, `step,name,value`, so that a name may turn up at any time; `pandas.pivot` makes columns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, config: dict[str, Any], step: int = 0) -> None:
        # A killed run's last row may be cut off.
        kept = [row for row in self._rows() if row["value"] and int(row["step"]) <= step] if step else []
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["step", "name", "value"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)

    def log(self, metrics: dict[str, float], step: int) -> None:
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows((step, name, float(value)) for name, value in metrics.items())

    def pictures(self, name: str, pictures: list[Picture], step: int) -> None:
        """A table holds no pictures."""

    def finish(self, artifact: Path | None, summary: dict[str, Any]) -> None:
        """Every row is in the file already."""

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


class TensorBoardTracker:
    """Event files in the run folder; `tensorboard --logdir` shows them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _need("tensorboard")

    def start(self, config: dict[str, Any], step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.folder), purge_step=step + 1)  # hides what a killed run wrote after `step`
        text = json.dumps(config, indent=2, default=str)
        self.writer.add_text("config", "    " + text.replace("\n", "\n    "), step)  # indented: Markdown for code

    def log(self, metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def pictures(self, name: str, pictures: list[Picture], step: int) -> None:
        for index, (picture, _) in enumerate(pictures):
            self.writer.add_image(f"{name}/{index}", picture, step, dataformats="HWC")

    def finish(self, artifact: Path | None, summary: dict[str, Any]) -> None:
        self.writer.close()


class WandbTracker:
    """A W&B run, offline unless a key is there; `wandb sync <run folder>/wandb/offline-run-*` uploads it later.

    A resumed run keeps its id, which stands in `wandb_id` in the run folder.
    """

    ONLINE_TIMEOUT_S = 60.0  # to reach the server at the start, and to finish the upload at the end

    def __init__(self, track: TrackConfig, run_dir: Path) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its crash reports; read when it is imported
        self.wandb = _need("wandb", "init")
        self.track = track
        self.run_dir = run_dir
        self.name = track.run_name or run_dir.resolve().name
        auto = "online" if os.environ.get("WANDB_API_KEY") else "offline"
        self.mode = auto if track.wandb_mode == "auto" else track.wandb_mode
        if self.mode == "online":
            self._check_key()

    def start(self, config: dict[str, Any], step: int = 0) -> None:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        try:
            self.run = self._init(self.mode, config)
        except self.wandb.errors.CommError as error:
            if self.mode == "offline":
                raise
            log.warning("W&B cannot be reached, so this run is tracked offline: %s", error)
            self.run = self._init_offline(config)

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.run.log(metrics, step=step)

    def pictures(self, name: str, pictures: list[Picture], step: int) -> None:
        images = [self.wandb.Image(picture, caption=caption) for picture, caption in pictures]
        self.run.log({name: images}, step=step)

    def finish(self, artifact: Path | None, summary: dict[str, Any]) -> None:
        self.run.summary.update(summary)
        if artifact is not None:
            model = self.wandb.Artifact(f"model-{self.run.id}", type="model", metadata=summary)
            model.add_file(str(artifact), policy="immutable")  # from where it lies: no copy in the home directory
            self.run.log_artifact(model)
        self.run.finish()

    def _check_key(self) -> None:
        """Look for a key without asking for one, and without the network."""
        try:
            reason = "" if self.wandb.login(prompt=False, verify=False) else "no API key on this machine"
        except self.wandb.errors.Error as error:
            reason = str(error)
        if reason:
            raise ConfigError(
                f"W&B cannot go online: {reason}; set WANDB_API_KEY or run `wandb login`, or take "
                "track.wandb_mode=offline and `wandb sync` later"
            )

    def _init_offline(self, config: dict[str, Any]) -> Any:
        """After an attempt to go online, which holds the run's id until W&B's own process has let go of it."""
        self.wandb.teardown()
        for _ in range(20):
            try:
                return self._init("offline", config)
            except Exception as error:
                log.debug("W&B offline: %s", error)
                time.sleep(0.5)
        return self._init("offline", config)

    def _init(self, mode: str, config: dict[str, Any]) -> Any:
        settings = self.wandb.Settings(
            silent=True,
            console="off",
            disable_code=True,
            disable_git=True,
            x_save_requirements=False,
            host="",
            x_disable_machine_info=True,  # system and hardware; it also asks a cloud's metadata address
            init_timeout=self.ONLINE_TIMEOUT_S,
            finish_timeout=self.ONLINE_TIMEOUT_S,
        )
        return self.wandb.init(
            project=self.track.project,
            entity=self.track.entity or None,
            name=self.name,
            id=self._run_id(),
            resume="allow",
            dir=str(self.run_dir),
            mode=mode,
            config=config,
            settings=settings,
        )

    def _run_id(self) -> str:
        file = self.run_dir / "wandb_id"
        if not file.exists():
            file.write_text(secrets.token_hex(4) + "\n", encoding="ascii")
        return file.read_text(encoding="ascii").strip()


def _need(package: str, attribute: str = "") -> Any:
    """Import an optional package, or say how to get it."""
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        module, reason = None, str(error)
    else:
        reason = f"{package} here is only a folder of that name"  # which Python imports as an empty package
    if module is None or (attribute and not hasattr(module, attribute)):
        raise ConfigError(
            f"track.{package}=true needs a package that is missing ({reason}): pip install 'facetrain[{package}]', "
            f"or take track.{package}=false"
        )
    return module
