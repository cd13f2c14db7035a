"""How long something takes to run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def times_ms(
    runs: Sequence[Callable[[Tensor], object]],
    example: Tensor,
    *,
    warm_up: int = 1,
    passes: int = 30,
    seconds: float = 6.0,
) -> list[list[float]]:
    """The milliseconds that each run took with `example`, each time.

    They take turns, so that a machine that is busy for a while slows all of them.

    Args:
        warm_up: passes of each that do not count.
        passes: of each that do.
        seconds: end earlier after so long, but not before five passes.
    """
    times: list[list[float]] = [[] for _ in runs]
    for run in list(runs) * warm_up:
        run(example)
    started = time.perf_counter()
    while len(times[0]) < passes and (len(times[0]) < 5 or time.perf_counter() - started < seconds):
        for run, taken in zip(runs, times, strict=True):
            _wait()
            begin = time.perf_counter()
            run(example)
            _wait()
            taken.append(1e3 * (time.perf_counter() - begin))
    return times


def _wait() -> None:
    """A GPU works on after a call has returned."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
