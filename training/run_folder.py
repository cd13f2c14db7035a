"""The run folder: what stands in it, whether a run may begin there, and its logs."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError, TrainingError
from .model_file import write_atomic

# Keys that change how a run is carried out but not what comes of it: a resumed run may change them.
FREE_KEYS = ("results_dir", "overwrite", "imported_from", "track", "data.workers", "data.cache", "train.log_every",
             "train.resume", "train.checkpoint_every", "train.device")  # fmt: skip


class RunFolder:
    """`results_dir`: config.yaml, status.json, metrics.jsonl, best and last model, resume state, plots, report."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.best = self.path / "best.safetensors"
        self.last = self.path / "last.safetensors"
        self.resume_state = self.path / "resume.pt"
        self._config = self.path / "config.yaml"
        self._metrics = self.path / "metrics.jsonl"
        self._status = self.path / "status.json"

    def finished(self) -> bool:
        """Whether the newest status is SUCCESS."""
        records = _json_lines(self._status)
        return bool(records) and records[-1].get("status") == "SUCCESS"

    def refuse_finished(self, overwrite: bool) -> None:
        """Raises ConfigError when a finished run stands here and is not to be overwritten."""
        if self.finished() and not overwrite:
            raise ConfigError(
                f"results_dir={self.path} holds a finished run: choose another folder, or delete it with overwrite=true"
            )

    def begin(self, config: Mapping[str, Any], *, resume: bool, overwrite: bool) -> bool:
        """Makes the folder ready for a run with this config and says whether it goes on with an earlier one.

        Raises:
            ConfigError: a finished run stands there and `overwrite` is off, an unfinished one had another config, or
                the folder cannot be made.
        """
        self.refuse_finished(overwrite)
        goes_on = resume and not overwrite and self.resume_state.exists()
        if goes_on:
            self._check_same(config)
        elif overwrite and self._config.exists() and self._status.exists():  # surely a run, not just somebody's folder
            shutil.rmtree(self.path)
        make_folder(self.path)
        if not goes_on:
            self.resume_state.unlink(missing_ok=True)
            self._metrics.unlink(missing_ok=True)
        for file in (self.best, self.last, self.resume_state, self._config, self._metrics):
            for unfinished in self.path.glob(f".{file.name}.*.tmp"):  # of a process that was killed while writing
                unfinished.unlink()
        write_atomic(self._config, yaml.safe_dump(dict(config), sort_keys=False).encode())
        return goes_on

    def _check_same(self, config: Mapping[str, Any]) -> None:
        try:
            before = _flatten(yaml.safe_load(self._config.read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError, yaml.YAMLError):
            raise ConfigError(
                f"results_dir={self.path} holds an unfinished run without a readable {self._config.name}, so it is "
                "unknown what it was; choose another folder, or begin anew with train.resume=never"
            ) from None
        now = _flatten(config)
        changed = [key for key in {**before, **now} if before.get(key) != now.get(key) and not _free(key)]
        if changed:
            name = changed[0]
            raise ConfigError(
                f"{name}={now.get(name)}, but the unfinished run in {self.path} began with {before.get(name)}: "
                "give it the old value to go on, another results_dir to begin a second run, or overwrite=true to "
                f"begin anew" + (f" ({len(changed) - 1} more keys differ)" if changed[1:] else "")
            )

    def log_metrics(self, record: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl. Raises TrainingError when the disk refuses."""
        _append(self._metrics, record)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return _json_lines(self._metrics)

    def forget_after(self, step: int) -> None:
        """Drops the metrics of steps that a resumed run takes again."""
        kept = [json.dumps(record) + "\n" for record in self.metrics() if record["step"] <= step]
        write_atomic(self._metrics, "".join(kept).encode())

    def log_status(self, status: str, message: str, **fields: Any) -> None:
        """Appends one line to status.json under TAO's field names (date, time, status, verbosity, message, ...).

        Raises TrainingError when the disk refuses.
        """
        now = datetime.now()
        record = {
            "date": f"{now.month}/{now.day}/{now.year}",
            "time": f"{now.hour}:{now.minute}:{now.second}",
            "status": status,
            "verbosity": "ERROR" if status == "FAILURE" else "INFO",
            "message": message,
            **fields,
        }
        _append(self._status, record)


def make_folder(folder: Path) -> None:
    """Makes `results_dir`. Raises ConfigError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"results_dir={folder}: cannot make this folder ({error.strerror})") from None


def refuse_results(folder: Path, result: str, overwrite: bool) -> None:
    """Raises ConfigError where a verb that is no training would destroy something in its `results_dir`.

    Args:
        result: the file by which an earlier run of the verb is known.
        overwrite: that run's results are given up.
    """
    if (folder / "config.yaml").exists():
        raise ConfigError(
            f"results_dir={folder} is the folder of a training run, whose report would be lost: choose another"
        )
    if (folder / result).exists() and not overwrite:
        raise ConfigError(
            f"results_dir={folder} holds results: choose another folder, or write over them with overwrite=true"
        )


def _append(path: Path, record: Mapping[str, Any]) -> None:
    """Adds a line, below whatever part of one a killed process or a full disk has left."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file:
            file.seek(max(file.tell() - 1, 0))
            broken = file.read(1) not in (b"", b"\n")
            file.write(b"\n" * broken + json.dumps(dict(record)).encode() + b"\n")
    except OSError as error:
        raise TrainingError(
            f"cannot write {path}: {error.strerror or error}; make room and run the same command again to go on"
        ) from error


def _json_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file; a line that a killed process left half written is passed over."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with suppress(ValueError):
            records.append(json.loads(line))
    return records


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _free(name: str) -> bool:
    return any(name == free or name.startswith(free + ".") for free in FREE_KEYS)


def clock(seconds: float) -> str:
    """h:mm:ss, as TAO's status writes durations."""
    return time.strftime("%-H:%M:%S", time.gmtime(seconds))
