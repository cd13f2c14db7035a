"""Two processes under torchrun train as one does with twice the batch."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from facetrain.tests.runs import COMPARABLE, TEN_POINTS, furthest, json_lines, train, train_arguments, weights

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "facetrain"]

pytestmark = pytest.mark.usefixtures("one_thread", "no_report")


def overrides(trained: Path) -> tuple[str, ...]:
    """Occluded points that the loss leaves out, and 7 faces to validate on, which two processes cannot share evenly."""
    return (
        *TEN_POINTS, *COMPARABLE, f"train.pretrained={trained / 'last.safetensors'}", "model.visibility_head=true",
        "data.train=[{format: synthetic, count: 24, seed: 1}]", "data.val=[{format: synthetic, count: 7, seed: 2}]",
        "train.learning_rate=1e-3", "train.epochs=3", "train.ema=0.5",
    )  # fmt: skip


def torchrun(arguments: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*TORCHRUN, "fpenet", *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    try:
        output, _ = process.communicate(timeout=240)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output
    return output


def assert_same(two: Path, one: Path, start: Path) -> None:
    for name in ("last", "best"):
        a, b = (weights(folder / f"{name}.safetensors") for folder in (two, one))
        assert furthest(a, b) < 1e-5
    origin = weights(start / "last.safetensors")
    assert furthest({name: a[name] for name in origin}, origin) > 1e-3  # the steps are far longer than the tolerance
    mine, theirs = (
        [record for record in json_lines(folder / "metrics.jsonl") if record.pop("kind") == "val"]
        for folder in (two, one)
    )
    assert len(mine) == 3
    for record, expected in zip(mine, theirs, strict=True):
        assert record == pytest.approx(expected, rel=1e-4)
        assert record["faces"] == 7
        assert "visibility_accuracy" in record


def test_two_processes_equal_one_with_twice_the_batch(faces, trained, tmp_path):
    two = torchrun(train_arguments(faces, tmp_path / "two", *overrides(trained), "train.batch_size=4"))
    one = train(faces, tmp_path / "one", *overrides(trained), "train.batch_size=8")
    output = finish(two)
    assert output.count("faces: 24 to train on, 7 to validate on") == 1  # one of them speaks
    assert_same(tmp_path / "two", one, trained)
    steps = [record["step"] for record in json_lines(tmp_path / "two" / "metrics.jsonl") if record["kind"] == "train"]
    assert steps == list(range(1, 10))
    assert json_lines(tmp_path / "two" / "status.json")[-1]["status"] == "SUCCESS"


@pytest.mark.slow
def test_two_processes_go_on_after_being_killed(faces, trained, tmp_path):
    arguments = train_arguments(faces, tmp_path / "two", *overrides(trained), "train.batch_size=4", "train.epochs=12")
    process = torchrun(arguments)
    deadline = time.monotonic() + 120
    while not (tmp_path / "two" / "resume.pt").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(workers) == 2
    for pid in workers:  # torchrun itself then ends
        os.kill(int(pid), signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert "going on with" in finish(torchrun(arguments))
    finish(torchrun(train_arguments(faces, tmp_path / "whole", *arguments[4:])))
    last = (weights(tmp_path / name / "last.safetensors") for name in ("two", "whole"))
    assert furthest(*last) == 0
