"""Small training runs for the tests that need whole ones: the command line, on drawn faces, in seconds.

FPENet's are here, with what both networks' tests need; FaceNet's are in `facenet_runs`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facetrain.cli import FACENET, FPENET, main
from facetrain.facenet_trainer import train as facenet_train
from facetrain.fpenet_trainer import train as fpenet_train
from facetrain.training.model_file import load_model

QUICK = (
    "train.device=cpu",
    "train.batch_size=4",
    "train.epochs=2",
    "train.log_every=1",
    "data.workers=0",
    "track.pictures=0",
    # Most of so short a run at small rates: what the tests compare to 1e-6 would drift apart at full ones.
    "train.schedule=exponential",
    "train.soft_start=0.1",
    "train.annealing=0.3",
)
SMALL = ("model.num_keypoints=68", "model.width=8", "model.input_size=32", *QUICK)
# For comparing weights of two ways to add the same gradients up. A bias of the head does not change a soft-arg-max: its
# gradient is rounding noise, which Adam would scale to steps of the full learning rate. A penalty gives it a real one.
COMPARABLE = ("loss.regularizer=l2", "loss.regularizer_weight=3e-2")
TEN = [8, 30, 36, 39, 42, 45, 48, 51, 54, 57]
TEN_POINTS = ("model.num_keypoints=10", f"model.source_points={TEN}", "model.width=16")


def fpenet(*arguments: str) -> int:
    """The exit code of a command line, run in this process."""
    return main("fpenet", FPENET, arguments)


def facenet(*arguments: str) -> int:
    """The exit code of a command line, run in this process."""
    return main("facenet", FACENET, arguments)


def train_arguments(faces: Path, folder: Path, *overrides: str) -> list[str]:
    """`train` on a folder of .pts faces with a small network; overrides count last."""
    return ["train", "data=pts", f"data.root={faces}", f"results_dir={folder}", *SMALL, *overrides]


def train(faces: Path, folder: Path, *overrides: str) -> Path:
    """A run that must succeed, and its folder."""
    assert fpenet(*train_arguments(faces, folder, *overrides)) == 0
    return folder


def weights(path: Path) -> dict[str, Tensor]:
    return load_model(path)[0]


def furthest(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest difference of any weight; 0 only for the same bits."""
    assert a.keys() == b.keys()
    if all(torch.equal(a[name], b[name]) for name in a):
        return 0.0
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file, each of which must be whole."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def fill(folder: Path, left: int) -> Path:
    """Leaves so many bytes of a disk, and the file that takes the rest."""
    ballast = folder / "ballast"
    room = os.statvfs(folder)
    ballast.write_bytes(bytes(room.f_bavail * room.f_frsize - left))
    return ballast


def kill_at_replace(count: int, *, after: bool = False) -> None:
    """Makes the process kill itself around its `count`-th rename of a finished file."""
    original, calls = os.replace, iter(range(1, 10**6))

    def replace(source: Any, target: Any) -> None:
        due = next(calls) == count
        if due and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        original(source, target)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace


def kill_inside_write(count: int, limit: int) -> None:
    """Makes the kernel kill the process inside the write that takes a file beyond `limit` bytes, from the `count`-th
    rename on: a part of the file is on the disk then."""
    original, calls = os.replace, iter(range(1, 10**6))

    def replace(source: Any, target: Any) -> None:
        original(source, target)
        if next(calls) == count:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    os.replace = replace


def wait_for_step(folder: Path, step: int) -> None:
    """Until the run has logged a step."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        log = folder / "metrics.jsonl"
        if log.exists() and f'"step": {step},' in log.read_text():
            return
        time.sleep(0.005)
    raise AssertionError(f"step {step} was not reached")


def slow_steps(seconds: float) -> None:
    """Makes every step take a while, so that a signal surely meets the run in mid-epoch."""
    from facetrain.training.loop import Trainer

    step = Trainer._step

    def slow(self: Trainer, *arguments: Any) -> Any:
        time.sleep(seconds)
        return step(self, *arguments)

    Trainer._step = slow  # type: ignore[method-assign]


class Runner:
    """Command lines in processes of their own, forked from one that has imported torch already.

    A process group each, as a shell would make, so that Ctrl-C can be sent to all of it. They write no report, which
    takes longer than the training here.
    """

    def __init__(self, folder: Path, program: Callable[..., int] = fpenet) -> None:
        self.program = program
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([__name__, "torch._dynamo"])  # which optimisers import at leisure
        self.log = folder / "output.txt"

    def start(self, arguments: list[str], prepare: Callable[..., None] | None = None, *given: Any) -> BaseProcess:
        """Starts one; `prepare(*given)` is called in its process first."""
        self.log.write_text("")
        process = self.context.Process(target=_run, args=(self.program, self.log, arguments, prepare, given))
        process.start()
        return process

    def run(self, arguments: list[str], prepare: Callable[..., None] | None = None, *given: Any) -> int:
        """Its exit code, or minus the signal that killed it."""
        return self.wait(self.start(arguments, prepare, *given))

    def together(
        self, arguments: list[str], prepare: Callable[..., None] | None = None, *given: Any, world: int = 2
    ) -> list[int]:
        """The exit codes of so many processes that train together, as torchrun would have started them."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        processes = [self.start(arguments, _join, rank, world, port, prepare, given) for rank in range(world)]
        return [self.wait(process) for process in processes]

    def wait(self, process: BaseProcess, seconds: float = 120) -> int:
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise AssertionError(f"still running after {seconds} s: {self.output}")
        return process.exitcode

    @property
    def output(self) -> str:
        return self.log.read_text()


def no_report(run_dir: Path, *_: Any) -> None:
    """In the place of `write_training_report`."""
    (run_dir / "report.html").write_text("")


def leave_out_reports(patch: Callable[..., None] = setattr) -> None:
    """No training run writes report.html from now on, which takes longer than the training of the tests."""
    for module in (fpenet_train, facenet_train):
        patch(module, "write_training_report", no_report)


def _join(rank: int, world: int, port: int, prepare: Callable[..., None] | None, given: tuple[Any, ...]) -> None:
    values = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in values.items()})
    if prepare is not None:
        prepare(*given)


def _run(
    program: Callable[..., int],
    log: Path,
    arguments: list[str],
    prepare: Callable[..., None] | None,
    given: tuple[Any, ...],
) -> None:
    os.setpgid(0, 0)
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    torch.set_num_threads(1)
    leave_out_reports()
    if prepare is not None:
        prepare(*given)
    sys.exit(program(*arguments))
