"""Where a run may begin, when it goes on, and what its logs keep."""

import json
from pathlib import Path

import pytest
import yaml

from facetrain.errors import ConfigError, ModelFileError
from facetrain.training.resume import RunState
from facetrain.training.run_folder import RunFolder, clock

CONFIG = {
    "results_dir": "x",
    "seed": 1,
    "data": {"root": "faces", "workers": 1},
    "train": {"epochs": 3, "min_learning_rate": 1e-6, "log_every": 20},
    "track": {"wandb": False},
    "loss": {"region_weights": {}},
}


def changed(**sections) -> dict:
    """CONFIG with other values, given as data__root=..."""
    config = json.loads(json.dumps(CONFIG))
    for name, value in sections.items():
        *path, last = name.split("__")
        node = config
        for part in path:
            node = node[part]
        node[last] = value
    return config


def unfinished(path: Path) -> RunFolder:
    """A run that wrote a resume state after step 20 and logged up to step 30."""
    folder = RunFolder(path)
    assert not folder.begin(CONFIG, resume=True, overwrite=False)
    folder.log_status("STARTED", "begins")
    folder.log_status("RUNNING", "goes on")
    for step in (10, 20, 30):
        folder.log_metrics({"step": step, "loss": 1 / step})
    RunState(step=20).save(folder.resume_state)
    return folder


def finished(path: Path) -> RunFolder:
    folder = unfinished(path)
    folder.log_status("SUCCESS", "done")
    return folder


def test_begins_in_a_new_folder(tmp_path):
    folder = RunFolder(tmp_path / "a" / "run")
    assert folder.begin(CONFIG, resume=True, overwrite=False) is False
    assert yaml.safe_load((folder.path / "config.yaml").read_text()) == CONFIG
    assert folder.metrics() == []
    assert not folder.finished()


def test_goes_on_with_an_unfinished_run(tmp_path):
    folder = unfinished(tmp_path)
    assert RunFolder(tmp_path).begin(CONFIG, resume=True, overwrite=False) is True
    assert [record["step"] for record in folder.metrics()] == [10, 20, 30]


def test_without_a_resume_state_a_run_begins_anew(tmp_path):
    RunFolder(tmp_path).begin(CONFIG, resume=True, overwrite=False)
    assert RunFolder(tmp_path).begin(changed(seed=2), resume=True, overwrite=False) is False
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["seed"] == 2


def test_resume_never_begins_anew(tmp_path):
    folder = unfinished(tmp_path)
    assert RunFolder(tmp_path).begin(changed(seed=2), resume=False, overwrite=False) is False
    assert not folder.resume_state.exists()
    assert folder.metrics() == []


@pytest.mark.parametrize("resume", [True, False])
def test_a_finished_run_is_not_written_over(tmp_path, resume):
    folder = finished(tmp_path)
    assert folder.finished()
    before = sorted((p.name, p.read_bytes()) for p in tmp_path.iterdir())
    with pytest.raises(ConfigError, match=r"holds a finished run: choose another folder, or .*overwrite=true"):
        RunFolder(tmp_path).begin(CONFIG, resume=resume, overwrite=False)
    assert sorted((p.name, p.read_bytes()) for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize("make", [finished, unfinished])
def test_overwrite_begins_with_an_empty_folder(tmp_path, make):
    make(tmp_path / "run")
    assert RunFolder(tmp_path / "run").begin(changed(seed=2), resume=True, overwrite=True) is False
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["config.yaml"]


def test_overwrite_leaves_a_folder_that_holds_no_run(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    RunFolder(tmp_path).begin(CONFIG, resume=True, overwrite=True)
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2}, "^seed=2, but the unfinished run in .* began with 1:"),
        ({"train__epochs": 5}, "^train.epochs=5, but the unfinished run in .* began with 3:"),
        ({"train__min_learning_rate": 2e-6}, "^train.min_learning_rate=2e-06, .* began with 1e-06"),
        ({"loss__region_weights": {"eyes": 0.5}}, "^loss.region_weights.eyes=0.5, .* began with None"),
        ({"seed": 2, "data__root": "other"}, r"\(1 more keys differ\)"),
    ],
)
def test_going_on_with_another_config_names_the_key(tmp_path, change, message):
    unfinished(tmp_path)
    with pytest.raises(ConfigError, match=message) as caught:
        RunFolder(tmp_path).begin(changed(**change), resume=True, overwrite=False)
    assert "overwrite=true" in str(caught.value)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == CONFIG


def test_keys_that_change_no_result_are_free(tmp_path):
    unfinished(tmp_path)
    config = changed(results_dir="y", data__workers=4, train__log_every=5, track__wandb=True)
    assert RunFolder(tmp_path).begin(config, resume=True, overwrite=False) is True


def test_forget_after(tmp_path):
    folder = unfinished(tmp_path)
    folder.forget_after(20)
    assert [record["step"] for record in folder.metrics()] == [10, 20]
    folder.log_metrics({"step": 30, "loss": 0.5})
    assert [record["step"] for record in folder.metrics()] == [10, 20, 30]


def test_half_written_last_lines_are_passed_over(tmp_path):
    folder = finished(tmp_path)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 40, "lo')
    with open(tmp_path / "status.json", "a") as file:
        file.write('{"date": "1/2')
    assert [record["step"] for record in folder.metrics()] == [10, 20, 30]
    assert folder.finished()
    folder.forget_after(30)
    folder.log_metrics({"step": 40, "loss": 0.1})
    assert folder.metrics()[-1] == {"step": 40, "loss": 0.1}


def test_status_has_the_references_fields(tmp_path):
    folder = RunFolder(tmp_path / "run")  # a run can fail before its folder stands
    folder.log_status("RUNNING", "epoch", epoch=2, max_epoch=3)
    folder.log_status("FAILURE", "no room")
    running, failure = (json.loads(line) for line in (tmp_path / "run" / "status.json").read_text().splitlines())
    assert list(running) == ["date", "time", "status", "verbosity", "message", "epoch", "max_epoch"]
    assert (running["status"], running["verbosity"], running["epoch"]) == ("RUNNING", "INFO", 2)
    assert failure["verbosity"] == "ERROR"
    assert not folder.finished()


def test_damaged_resume_state_says_what_to_do(tmp_path):
    folder = unfinished(tmp_path)
    assert RunState.load(folder.resume_state).step == 20
    folder.resume_state.write_bytes(folder.resume_state.read_bytes()[:100])
    with pytest.raises(ModelFileError, match=r"not a readable resume state .*: delete it to begin anew"):
        RunState.load(folder.resume_state)


def test_clock():
    assert [clock(s) for s in (5, 65, 3605, 40000)] == ["0:00:05", "0:01:05", "1:00:05", "11:06:40"]
