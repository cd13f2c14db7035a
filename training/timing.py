"""How long something takes to run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

LEAST = 5  # passes that are made however long they take

Result = TypeVar("Result")


def times_ms(
    runs: Sequence[Callable[[Tensor], object]],
    example: Tensor,
    *,
    warm_up: int = 1,
    passes: int = 30,
    seconds: float = 6.0,
) -> list[list[float]]:
    """The milliseconds that each run took with `example`, each time; see `turns`."""
    times: list[list[float]] = [[] for _ in runs]
    for i, counts in turns(len(runs), warm_up=warm_up, passes=passes, seconds=seconds):
        _, taken = clocked(lambda run=runs[i]: run(example))  # type: ignore[misc]
        if counts:
            times[i].append(taken)
    return times


def turns(count: int, *, warm_up: int, passes: int, seconds: float, in_a_row: int = 1) -> Iterator[tuple[int, bool]]:
    """Which of so many runs is to make the next pass, and whether it counts.

    They take turns, so that a machine that is busy for a while slows all of them.

    Args:
        warm_up: passes of each that do not count.
        passes: of each that do.
        seconds: end earlier after so long, but not before five passes.
        in_a_row: passes that count in one turn. Before several comes one that doesn't: it finds the caches full of the
            other runs' weights, and their threads not yet asleep.
    """
    yield from [(i, False) for _ in range(warm_up) for i in range(count)]
    started, made = time.perf_counter(), 0
    while made < passes and (made < LEAST or time.perf_counter() - started < seconds):
        row = min(in_a_row, passes - made)
        for i in range(count):
            if in_a_row > 1:
                yield i, False
            yield from [(i, True)] * row
        made += row


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
