"""FaceNet on two processes trains as on one with twice the batch, and is validated the same on any number."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from facetrain.tests.facenet_runs import HEIGHT, WIDTH, kitti_line, measured, paint_pictures, train, train_arguments
from facetrain.tests.runs import Runner, facenet, furthest, json_lines, kill_at_replace, weights

pytestmark = pytest.mark.usefixtures("one_thread", "no_report")

FOCAL = ("loss.coverage=focal", "loss.bbox=giou", "loss.bbox_weight=1")
BCE = ("loss.coverage=bce", "loss.bbox=l1")


@pytest.fixture(scope="module")
def val(tmp_path_factory) -> Path:
    """9 pictures, two batches for one process and one for the other; one without a face, one all of it ignored."""
    folder = tmp_path_factory.mktemp("val")
    paint_pictures(folder, 9, seed=11)
    (folder / "03.txt").write_text("")
    (folder / "04.txt").write_text(kitti_line((0, 0, WIDTH, HEIGHT), "DontCare") + "\n")
    return folder


def arguments(pictures: Path, model: Path, folder: Path, val: Path, *overrides: str) -> list[str]:
    """Everything whose state two processes must agree on; the penalty gives every weight a gradient that is none of
    rounding, which Adam would scale to full steps."""
    return train_arguments(
        pictures, model, folder, f"data.val=[{{format: kitti, path: {val}}}]", "loss.autoweighting=true",
        "loss.regularizer=l2", "loss.regularizer_weight=3e-2", "train.epochs=3", "train.ema=0.5",
        "train.learning_rate=2e-3", *overrides,
    )  # fmt: skip


def val_records(folder: Path) -> list[dict]:
    return [record for record in json_lines(folder / "metrics.jsonl") if record.pop("kind") == "val"]


@pytest.mark.parametrize("loss", [FOCAL, BCE], ids=["focal", "bce"])
def test_two_processes_equal_one_with_twice_the_batch(pictures, detector, val, tmp_path, loss):
    """Batch normalisation frozen; its statistics are each process's own otherwise."""
    model = detector / "last.safetensors"
    common = (pictures, model, tmp_path / "two", val, "model.freeze_bn=true", *loss)
    runner = Runner(tmp_path, facenet)
    assert runner.together(arguments(*common, "train.batch_size=4")) == [0, 0], runner.output
    one = arguments(*common, f"results_dir={tmp_path / 'one'}", "train.batch_size=8")
    assert facenet(*one) == 0
    for name in ("last", "best"):
        a, b = (weights(tmp_path / run / f"{name}.safetensors") for run in ("two", "one"))
        assert furthest(a, b) < 1e-6
    assert furthest(a, weights(model)) > 1e-3  # the steps are far longer than the tolerance
    mine, theirs = (val_records(tmp_path / run) for run in ("two", "one"))
    assert len(mine) == 3
    for record, expected in zip(mine, theirs, strict=True):
        assert record == pytest.approx(expected, rel=1e-4)
        assert record["pictures"] == 9


def test_with_statistics_of_its_own_each_validates_the_model_that_is_saved(pictures, narrow, val, tmp_path):
    """Batch normalisation not frozen: the figures are of one model, the first process's, not of a mixture."""
    runner = Runner(tmp_path, facenet)
    fast = ("train.learning_rate=1e-2", "train.ema=0", "train.epochs=2", *FOCAL, "clustering.algorithm=nms",
            "clustering.coverage_threshold=0.01")  # fmt: skip
    run = tmp_path / "run"
    assert runner.together(arguments(pictures, narrow, run, val, *fast)) == [0, 0], runner.output
    found, last = measured(val, run / "last.safetensors"), val_records(run)[-1]
    assert found["detections"] > 10
    assert {name: last[name] for name in found} == pytest.approx(found, rel=1e-5)


@pytest.mark.slow
def test_two_processes_go_on_after_being_killed(pictures, narrow, val, tmp_path):
    """Inside the writing of the second epoch; the first one's automatic weights and statistics go to both."""
    runner = Runner(tmp_path, facenet)
    again, whole = (arguments(pictures, narrow, tmp_path / name, val) for name in ("again", "whole"))
    first, second = runner.together(again, kill_at_replace, 6)
    assert first == -signal.SIGKILL and second != 0
    assert runner.together(again) == [0, 0], runner.output
    assert runner.together(whole) == [0, 0], runner.output
    for name in ("last", "best"):
        assert furthest(*(weights(tmp_path / run / f"{name}.safetensors") for run in ("again", "whole"))) == 0
    assert val_records(tmp_path / "again") == val_records(tmp_path / "whole")


@pytest.mark.slow
def test_by_the_real_command(pictures, narrow, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "facetrain"]
    done = subprocess.run(
        [*torchrun, "facenet", *train_arguments(pictures, narrow, tmp_path / "run", "train.epochs=1", "train.ema=0.5")],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pictures: 14 to train on") == 1  # one of them speaks
    assert json_lines(tmp_path / "run" / "status.json")[-1]["status"] == "SUCCESS"
    alone = train(pictures, narrow, tmp_path / "alone", "train.epochs=1", "train.ema=0.5", "train.batch_size=8")
    assert val_records(tmp_path / "run")[0].keys() == val_records(alone)[0].keys()
