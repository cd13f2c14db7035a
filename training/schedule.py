"""The learning rate of each step."""

from __future__ import annotations

import math

from ..configs.schema import TrainConfig


def learning_rate(config: TrainConfig, progress: float) -> float:
    """Soft-start annealing: rise over `soft_start`, hold, fall after `annealing`.

    TAO's exponential form moves on a logarithmic scale: lr = exp(ln min + t (ln max - ln min)) with t = p / soft_start
    while rising, 1 while holding, (1 - p) / (1 - annealing) while falling. `cosine` bends the same t to
    (1 - cos(pi t)) / 2 and moves on a linear scale.

    Args:
        progress: share p of all steps already done, 0 to 1.
    """
    if progress < config.soft_start:
        t = progress / config.soft_start
    elif progress > config.annealing:
        t = (1 - progress) / (1 - config.annealing)
    else:
        t = 1.0
    low, high = config.min_learning_rate, config.learning_rate
    if config.schedule == "cosine":
        return low + (high - low) * (1 - math.cos(math.pi * t)) / 2
    return math.exp(math.log(low) + t * (math.log(high) - math.log(low)))
