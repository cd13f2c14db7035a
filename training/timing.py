"""How long something takes to run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

ROUNDS = 3  # turns of each
LEAST = 2  # passes that count in a turn, however long they take
PAUSE = 0.3  # seconds before a turn

Result = TypeVar("Result")


def times_ms(
    runs: Sequence[Callable[[Tensor], object]],
    example: Tensor,
    *,
    warm_up: int = 2,
    passes: int = 30,
    seconds: float = 3.0,
) -> list[list[float]]:
    """The milliseconds that each run took with `example`, each time; see `turns`."""
    times: list[list[float]] = [[] for _ in runs]
    for i, counts in turns(len(runs), warm_up=warm_up, passes=passes, seconds=seconds):
        _, taken = clocked(lambda run=runs[i]: run(example))  # type: ignore[misc]
        if counts:
            times[i].append(taken)
    return times


def turns(count: int, *, warm_up: int, passes: int, seconds: float) -> Iterator[tuple[int, bool]]:
    """Which of so many runs is to make the next pass, and whether it counts.

    Each run makes its passes in three turns, so that a machine that is busy for a while slows all of them. They do not
    change places after every pass: PyTorch's threads turn idly for a while after it and would slow ONNX Runtime's
    several times over. Each turn begins with a pause, in which they fall asleep.

    Args:
        warm_up: passes that do not count, before the first turn of each. One comes before the others, which finds the
            caches full of the other runs' weights.
        passes: of each that count.
        seconds: for those of each; then they end, but not before two in a turn.
    """
    for k in range(ROUNDS):
        share = passes * (k + 1) // ROUNDS - passes * k // ROUNDS
        for i in range(count if share else 0):
            time.sleep(PAUSE)
            yield from [(i, False)] * (min(warm_up, 1) if k else warm_up)
            started, made = time.perf_counter(), 0
            while made < share and (made < LEAST or time.perf_counter() - started < seconds / ROUNDS):
                yield i, True
                made += 1


def clocked(run: Callable[[], Result]) -> tuple[Result, float]:
    """What `run` returns, and the milliseconds that it took, on the GPU too."""
    _wait()
    begin = time.perf_counter()
    result = run()
    _wait()
    return result, 1e3 * (time.perf_counter() - begin)


def _wait() -> None:
    """A GPU works on after a call has returned."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
