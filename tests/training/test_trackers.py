"""What is tracked can be read again with each tool's own means."""

from __future__ import annotations

import csv
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facetrain.configs.schema import TrackConfig
from facetrain.errors import ConfigError
from facetrain.tests.wandb_run import offline_records, read_offline_run
from facetrain.training.trackers import CsvTracker, TrackerGroup, build_trackers

CONFIG = {"seed": 7, "train": {"epochs": 3, "learning_rate": 0.5}}
PICTURE = np.zeros((6, 8, 3), np.uint8)
PICTURE[2, 3] = (255, 0, 10)


pytestmark = pytest.mark.usefixtures("no_wandb_account")


def rows(path: Path) -> list[tuple[int, str, float]]:
    with path.open(newline="") as file:
        return [(int(row["step"]), row["name"], float(row["value"])) for row in csv.DictReader(file)]


def test_csv_takes_new_names_and_a_resumed_run_drops_what_is_void(tmp_path: Path) -> None:
    first = build_trackers(TrackConfig(), tmp_path)
    first.start(CONFIG)
    first.log({"loss": 1.5, "lr": 0.1}, 10)
    first.log({"loss": 1.25}, 20)
    first.log({"loss": 9.0}, 30)  # after the state that is resumed
    second = build_trackers(TrackConfig(), tmp_path)
    second.start(CONFIG, step=20)
    second.log({"loss": 1.0, "val/nme": 0.05}, 30)
    second.finish(None, {})
    assert rows(tmp_path / "metrics.csv") == [
        (10, "loss", 1.5),
        (10, "lr", 0.1),
        (20, "loss", 1.25),
        (30, "loss", 1.0),
        (30, "val/nme", 0.05),
    ]


def test_csv_of_a_new_run_begins_anew(tmp_path: Path) -> None:
    for loss in (1.0, 2.0):
        tracker = CsvTracker(tmp_path / "metrics.csv")
        tracker.start(CONFIG)
        tracker.log({"loss": loss}, 1)
    assert rows(tmp_path / "metrics.csv") == [(1, "loss", 2.0)]


def test_tensorboard_events(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    track = TrackConfig(csv=False, tensorboard=True)
    killed = build_trackers(track, tmp_path)
    killed.start(CONFIG)
    killed.log({"loss": 1.5}, 10)
    killed.log({"loss": 9.0}, 20)
    group = build_trackers(track, tmp_path)
    group.start(CONFIG, step=10)
    group.log({"loss": 0.5}, 20)
    group.pictures("faces", [(PICTURE, "a"), (PICTURE, "b")], 20)
    group.finish(None, {})
    events = accumulators.EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(10, 1.5), (20, 0.5)]
    image = events.Images("faces/1")[0]
    assert (image.step, image.width, image.height) == (20, 8, 6)
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert json.loads(text) == CONFIG


def wandb_track(**values: Any) -> TrackConfig:
    return TrackConfig(csv=False, wandb=True, project="faces", **values)


def test_wandb_offline_run_holds_everything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("wandb")
    run_dir = tmp_path / "night_run"
    model = tmp_path / "best.safetensors"
    model.write_bytes(b"weights")
    group = build_trackers(wandb_track(), run_dir)
    group.start(CONFIG)
    group.log({"loss": 1.5, "loss/points": 1.25, "lr": 0.1}, 10)
    group.log({"val/nme": 0.05}, 20)
    group.pictures("faces", [(PICTURE, "one"), (PICTURE, "two")], 20)
    group.finish(model, {"nme": 0.04})
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

    found = read_offline_run(run_dir)
    assert (found.run.project, found.run.display_name) == ("faces", "night_run")
    assert found.run.run_id == (run_dir / "wandb_id").read_text().strip()
    assert {name: found.config[name] for name in CONFIG} == CONFIG
    assert not (found.run.host or found.run.git.commit)

    history = found.history
    assert history[10]["loss"] == 1.5
    assert history[10]["loss/points"] == 1.25
    assert history[10]["lr"] == 0.1
    assert history[20]["val/nme"] == 0.05
    assert history[20]["faces/captions"] == ["one", "two"]
    for name in history[20]["faces/filenames"]:
        assert (found.file.parent / "files" / name).is_file()

    assert found.artifact.type == "model"
    assert json.loads(found.artifact.metadata) == {"nme": 0.04}
    assert [entry.path for entry in found.artifact.manifest.contents] == ["best.safetensors"]
    assert found.artifact.manifest.contents[0].local_path == str(model)


def test_wandb_resumed_run_keeps_its_id(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    for step in (0, 10):
        group = build_trackers(wandb_track(), tmp_path)
        group.start(CONFIG, step=step)
        group.log({"loss": 1.0}, step + 1)
        group.finish(None, {})
    files = list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    ids = {record.run.run_id for file in files for record in offline_records(file) if record.HasField("run")}
    assert ids == {(tmp_path / "wandb_id").read_text().strip()}


def test_wandb_without_a_key_never_asks(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    with pytest.raises(ConfigError, match=r"WANDB_API_KEY.*wandb_mode=offline"):
        build_trackers(wandb_track(wandb_mode="online"), tmp_path)


@pytest.mark.slow  # W&B's own process retries on a clock of its own, minutes on a busy machine
def test_wandb_goes_offline_where_the_server_is_out_of_reach(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    script = """
import logging, sys
from pathlib import Path
from facetrain.configs.schema import TrackConfig
from facetrain.training.trackers import WandbTracker, build_trackers
logging.basicConfig(level=logging.WARNING)
WandbTracker.ONLINE_TIMEOUT_S = 2.0
group = build_trackers(TrackConfig(csv=False, wandb=True), Path(sys.argv[1]))
group.start({})
group.log({"loss": 1.5}, 1)
group.finish(None, {})
print("trackers left:", len(group.trackers))
"""
    # Another process: W&B reads the address of its server once. Nothing listens on port 9.
    environment = os.environ | {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=True)
    assert "tracked offline" in done.stderr
    assert "trackers left: 1" in done.stdout
    (file,) = tmp_path.glob("run/wandb/offline-run-*/run-*.wandb")
    assert any(record.HasField("history") for record in offline_records(file))


@pytest.mark.parametrize("package", ["wandb", "tensorboard"])
def test_a_missing_package_is_named_before_training(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # Python's own way to say that a module is not there
    with pytest.raises(ConfigError, match=rf"pip install 'facetrain\[{package}\]'"):
        build_trackers(TrackConfig(**{package: True}), tmp_path)


def test_a_failing_tracker_is_dropped_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "run"
    broken, sound = CsvTracker(folder / "metrics.csv"), CsvTracker(tmp_path / "metrics.csv")
    group = TrackerGroup([broken, sound])
    group.start(CONFIG)
    (folder / "metrics.csv").unlink()
    folder.rmdir()
    with caplog.at_level(logging.WARNING):
        for step in range(1, 4):
            group.log({"loss": 1.0}, step)
        group.finish(None, {})
    assert len(caplog.records) == 1
    assert "CsvTracker" in caplog.records[0].message
    assert len(rows(tmp_path / "metrics.csv")) == 3
