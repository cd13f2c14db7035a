"""A run that is stopped at any moment and started again ends as if it had never been stopped."""

import os
import random
import signal
from pathlib import Path

import pytest

from facetrain.fpenet_trainer.predictor import Predictor
from facetrain.tests.runs import (
    Runner,
    furthest,
    json_lines,
    kill_at_replace,
    kill_inside_write,
    slow_steps,
    train_arguments,
    wait_for_step,
    weights,
)

# Everything that has a state of its own: augmentation, averaged weights, momentum, a loader process, a mid-run best.
OVERRIDES = (
    "data.workers=1",
    "train.epochs=3",
    "train.ema=0.9",
    "data.split.fraction=0.17",
    "train.learning_rate=3e-3",
)
STEPS = 15  # 3 epochs of 20 faces


@pytest.fixture(scope="module")
def undisturbed(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run left alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    runner = Runner(folder)
    assert runner.run(train_arguments(faces, folder / "run", *OVERRIDES)) == 0, runner.output
    return folder / "run"


def assert_same_end(folder: Path, undisturbed: Path) -> None:
    for name in ("last.safetensors", "best.safetensors"):
        assert furthest(weights(folder / name), weights(undisturbed / name)) == 0, name
    mine, theirs = (json_lines(run / "metrics.jsonl") for run in (folder, undisturbed))
    assert mine == theirs
    assert [record["step"] for record in mine if record["kind"] == "train"] == list(range(1, STEPS + 1))
    assert [record["epoch"] for record in mine if record["kind"] == "val"] == [1, 2, 3]
    assert (folder / "metrics.csv").read_text() == (undisturbed / "metrics.csv").read_text()
    assert not list(folder.glob(".*.tmp"))
    assert json_lines(folder / "status.json")[-1]["status"] == "SUCCESS"


def test_the_comparison_can_fail(faces, undisturbed, tmp_path):
    runner = Runner(tmp_path)
    assert runner.run(train_arguments(faces, tmp_path / "run", *OVERRIDES, "seed=43")) == 0
    assert furthest(weights(tmp_path / "run" / "last.safetensors"), weights(undisturbed / "last.safetensors")) > 1e-3


# The first rename is config.yaml's; an epoch then renames best (when better), last and resume.
@pytest.mark.parametrize(
    ("prepare", "given"),
    [
        (kill_at_replace, (2,)),  # before anything is saved
        (kill_at_replace, (4,)),  # the first resume state lies there under its temporary name
        (kill_at_replace, (6,)),  # best or last of epoch 2 not yet in place, the state is epoch 1's
        (kill_inside_write, (4, 100_000)),  # inside the second resume state
    ],
)
def test_killed_while_saving(faces, undisturbed, tmp_path, prepare, given):
    runner, folder = Runner(tmp_path), tmp_path / "run"
    arguments = train_arguments(faces, folder, *OVERRIDES)
    expected = -signal.SIGXFSZ if prepare is kill_inside_write else -signal.SIGKILL
    assert runner.run(arguments, prepare, *given) == expected
    left = list(folder.glob(".*.tmp"))
    assert len(left) == 1
    if prepare is kill_inside_write:
        assert left[0].stat().st_size == 100_000
        assert left[0].name.startswith(".resume.pt.")
    for model in folder.glob("*.safetensors"):
        Predictor.load(str(model), "cpu")
    assert runner.run(arguments) == 0, runner.output
    assert_same_end(folder, undisturbed)


@pytest.mark.parametrize("count", [3, 7])
def test_killed_between_two_writes(faces, undisturbed, tmp_path, count):
    runner, folder = Runner(tmp_path), tmp_path / "run"
    arguments = train_arguments(faces, folder, *OVERRIDES)

    assert runner.run(arguments, kill_after_replace, count) == -signal.SIGKILL
    assert runner.run(arguments) == 0, runner.output
    assert_same_end(folder, undisturbed)


def kill_after_replace(count: int) -> None:
    kill_at_replace(count, after=True)


def test_killed_again_and_again_at_random_moments(faces, undisturbed, tmp_path):
    runner, folder = Runner(tmp_path), tmp_path / "run"
    arguments = train_arguments(faces, folder, *OVERRIDES)
    for _ in range(4):
        process = runner.start(arguments, slow_steps, 0.05)
        process.join(random.uniform(0.4, 1.6))
        process.kill()
        if runner.wait(process) == 0:
            break
    else:  # killed at the very end, a run may be finished all the same
        assert runner.run(arguments) == 0 or "holds a finished run" in runner.output, runner.output
    assert_same_end(folder, undisturbed)


@pytest.mark.parametrize(
    ("number", "group"),
    [
        (signal.SIGINT, False),
        (signal.SIGINT, True),
        (signal.SIGTERM, False),
        (signal.SIGTERM, True),
        (signal.SIGKILL, True),
    ],
)
def test_stopped_in_mid_epoch(faces, undisturbed, tmp_path, number, group):
    runner, folder = Runner(tmp_path), tmp_path / "run"
    arguments = train_arguments(faces, folder, *OVERRIDES)
    process = runner.start(arguments, slow_steps, 0.05)
    wait_for_step(folder, 7)
    (os.killpg if group else os.kill)(process.pid, number)  # a terminal's Ctrl-C goes to the loader processes too
    code = runner.wait(process)
    steps = [record["step"] for record in json_lines(folder / "metrics.jsonl")]
    assert 7 <= steps[-1] < 10
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 130, runner.output
        assert "fpenet: interrupted" in runner.output
        assert "Traceback" not in runner.output
        assert json_lines(folder / "status.json")[-1]["status"] == "FAILURE"
    Predictor.load(str(folder / "best.safetensors"), "cpu")
    assert runner.run(arguments) == 0, runner.output
    states = {5, steps[-1]} if number == signal.SIGTERM and group else {5 if number == signal.SIGKILL else steps[-1]}
    assert any(f", step {step}\n" in runner.output for step in states)  # SIGTERM may end the loader process as well
    assert_same_end(folder, undisturbed)


def test_a_run_that_stopped_early_stays_stopped(faces, tmp_path):
    """Killed after its last save, before its report: nothing is left to train."""
    runner, folder = Runner(tmp_path), tmp_path / "run"
    still = ("train.learning_rate=1e-9", "train.min_learning_rate=1e-12", "augment=none", "train.epochs=30")
    arguments = train_arguments(faces, folder, *still, "train.early_stopping=1")
    assert runner.run(arguments, die_instead_of_reporting) == -signal.SIGKILL
    epochs = [record["epoch"] for record in json_lines(folder / "metrics.jsonl")]
    assert epochs[-1] < 30
    assert runner.run(arguments) == 0, runner.output
    assert [record["epoch"] for record in json_lines(folder / "metrics.jsonl")] == epochs


def die_instead_of_reporting() -> None:
    from facetrain.fpenet_trainer import train

    train._finish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)


def test_a_finished_state_still_gets_its_report(faces, undisturbed, tmp_path):
    runner, folder = Runner(tmp_path), tmp_path / "run"
    arguments = train_arguments(faces, folder, *OVERRIDES)
    assert runner.run(arguments, die_instead_of_reporting) == -signal.SIGKILL
    assert not (folder / "report.html").exists()
    assert runner.run(arguments) == 0, runner.output
    assert (folder / "report.html").exists()
    assert_same_end(folder, undisturbed)
