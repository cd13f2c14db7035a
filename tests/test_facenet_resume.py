"""Both phases of FaceNet, stopped at any moment and started again, end as if they had never been stopped."""

import os
import signal
from pathlib import Path

import pytest
import torch

from facetrain.facenet_trainer.predictor import Predictor
from facetrain.tests.facenet_runs import narrow_model, train_arguments
from facetrain.tests.runs import (
    Runner,
    facenet,
    furthest,
    json_lines,
    kill_at_replace,
    kill_inside_write,
    slow_steps,
    wait_for_step,
    weights,
)

# Everything that has a state of its own: augmentation, statistics of batch normalisation, their and the weights'
# averages, objective weights that change after every epoch, momentum, a loader process.
OVERRIDES = (
    "data.workers=1", "train.epochs=3", "train.ema=0.9", "train.learning_rate=3e-3", "loss.autoweighting=true",
    "clustering.algorithm=nms", "clustering.coverage_threshold=0.01",
)  # fmt: skip
PHASES = {
    "regularised": ("loss.regularizer=l1", "loss.regularizer_weight=1e-4"),
    "retrained": ("loss.regularizer=none", "loss.coverage=focal", "loss.bbox=giou"),
}
STEPS = 9  # 3 epochs of 14 pictures


class Phase:
    """One of the two, from its model file, and the run of it that was left alone."""

    def __init__(self, name: str, pictures: Path, model: Path, folder: Path) -> None:
        self.pictures, self.model, self.overrides = pictures, model, (*OVERRIDES, *PHASES[name])
        runner = Runner(folder, facenet)
        assert runner.run(self.arguments(folder / "run")) == 0, runner.output
        self.undisturbed = folder / "run"

    def arguments(self, folder: Path) -> list[str]:
        return train_arguments(self.pictures, self.model, folder, *self.overrides)

    def assert_same_end(self, folder: Path) -> None:
        for name in ("last.safetensors", "best.safetensors"):
            assert furthest(weights(folder / name), weights(self.undisturbed / name)) == 0, name
        mine, theirs = (json_lines(run / "metrics.jsonl") for run in (folder, self.undisturbed))
        assert mine == theirs
        assert [record["step"] for record in mine if record["kind"] == "train"] == list(range(1, STEPS + 1))
        assert [record["epoch"] for record in mine if record["kind"] == "val"] == [1, 2, 3]
        states = [torch.load(run / "resume.pt", weights_only=True) for run in (folder, self.undisturbed)]
        for name in ("weights", "average", "task"):
            assert furthest(*(state[name] for state in states)) == 0, name
        assert not list(folder.glob(".*.tmp"))
        assert json_lines(folder / "status.json")[-1]["status"] == "SUCCESS"


@pytest.fixture(scope="module", params=PHASES)
def phase(request, pictures, narrow, tmp_path_factory) -> Phase:
    folder = tmp_path_factory.mktemp(request.param)
    model = narrow
    if request.param == "retrained":
        wide = narrow_model(folder / "wide.safetensors", channels=12)
        cut = ("prune.threshold=0.9", "prune.min_filters=8", "prune.granularity=1", "report=false")
        assert facenet("prune", f"model={wide}", f"results_dir={folder / 'cut'}", *cut) == 0
        model = folder / "cut" / "pruned.safetensors"
    return Phase(request.param, pictures, model, folder)


def test_the_state_has_everything_that_changes(phase):
    """Else the comparisons below would compare nothing."""
    state = torch.load(phase.undisturbed / "resume.pt", weights_only=True)
    task = state["task"]["weights"]
    assert not torch.allclose(task, torch.tensor([[1 / 11, 10 / 11]], dtype=task.dtype), atol=1e-2)
    start = weights(phase.model)
    for weight in (state["weights"], {name.removeprefix("module."): value for name, value in state["average"].items()}):
        moved = [name for name in start if "running" in name and not torch.equal(weight[name], start[name])]
        assert len(moved) == len([name for name in start if "running" in name])


# The first rename is config.yaml's; an epoch then renames best (when better), last and resume.
@pytest.mark.parametrize(
    ("prepare", "given"),
    [
        # Best or last of epoch 2 not yet in place, the state is epoch 1's.
        pytest.param(kill_at_replace, (6,), marks=pytest.mark.slow),
        (kill_inside_write, (4, 60_000)),  # inside the second resume state
    ],
)
def test_killed_while_saving(phase, tmp_path, prepare, given):
    runner, folder = Runner(tmp_path, facenet), tmp_path / "run"
    expected = -signal.SIGXFSZ if prepare is kill_inside_write else -signal.SIGKILL
    assert runner.run(phase.arguments(folder), prepare, *given) == expected, runner.output
    (left,) = folder.glob(".*.tmp")
    if prepare is kill_inside_write:
        assert left.name.startswith(".resume.pt.") and left.stat().st_size == 60_000
    for model in folder.glob("*.safetensors"):
        Predictor.load(str(model), "cpu")
    assert runner.run(phase.arguments(folder)) == 0, runner.output
    phase.assert_same_end(folder)


@pytest.mark.parametrize(
    ("number", "group"),
    [
        pytest.param(signal.SIGINT, True, marks=pytest.mark.slow),
        (signal.SIGTERM, False),
        (signal.SIGKILL, True),
    ],
)
def test_stopped_in_mid_epoch(phase, tmp_path, number, group):
    """In the second epoch, whose objective weights are the first's outcome, with a part of its own sums gathered."""
    runner, folder = Runner(tmp_path, facenet), tmp_path / "run"
    process = runner.start(phase.arguments(folder), slow_steps, 0.05)
    wait_for_step(folder, 4)
    (os.killpg if group else os.kill)(process.pid, number)
    code = runner.wait(process)
    last = json_lines(folder / "metrics.jsonl")[-1]["step"]
    assert 4 <= last < 7
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 130, runner.output
        assert "facenet: interrupted" in runner.output
        assert "Traceback" not in runner.output
        assert json_lines(folder / "status.json")[-1]["status"] == "FAILURE"
    assert runner.run(phase.arguments(folder)) == 0, runner.output
    assert f", step {3 if number == signal.SIGKILL else last}\n" in runner.output
    phase.assert_same_end(folder)


def test_other_settings_do_not_go_on(phase, tmp_path):
    """A run of the first phase is not continued as the second, nor from other weights."""
    runner, folder = Runner(tmp_path, facenet), tmp_path / "run"
    assert runner.run(phase.arguments(folder), kill_at_replace, 6) == -signal.SIGKILL
    before = (folder / "resume.pt").read_bytes()
    assert runner.run([*phase.arguments(folder), "loss.regularizer=l2"]) == 2
    assert "loss.regularizer=l2, but the unfinished run in" in runner.output
    assert (folder / "resume.pt").read_bytes() == before
