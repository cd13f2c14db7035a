"""How much coverage and boxes count against each other: fixed, or set anew after every epoch (gridbox §3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..configs.facenet.per_class import each_class
from ..configs.facenet.schema import LossConfig
from ..errors import ConfigError

OBJECTIVES = ("coverage", "bbox")


class ObjectiveWeights:
    """The weights, and under `loss.autoweighting` what each objective has cost in this epoch.

    Its state belongs in the resume state; it is the same on every rank at any time.

    Attributes:
        weights: [C, 2] float64 weight of each class's objectives, in the order of OBJECTIVES.
        sums: [C, 2] float64 sums of the training steps' costs since the last `end_epoch`.
    """

    def __init__(self, config: LossConfig, classes: Sequence[str]) -> None:
        own = each_class(config, classes)
        target = torch.tensor([[one.coverage_weight, one.bbox_weight] for one in own], dtype=torch.float64)
        total = target.sum(dim=1, keepdim=True)
        for name, learnt in zip(classes, total.flatten().tolist(), strict=True):
            if learnt == 0:
                raise ConfigError(
                    f"loss.coverage_weight and loss.bbox_weight are both 0 for {name}: nothing would be learnt of it"
                )
        self.automatic = config.autoweighting
        self.limits = (config.min_objective_weight, config.max_objective_weight)
        self.target = target / total
        self.weights = self.target.clone()
        self.sums = torch.zeros_like(self.target)

    def add(self, costs: Tensor) -> None:
        """Takes note of a training step's costs [C, 2]. Validation must not come here: it would change training."""
        if self.automatic:
            self.sums += mean_over_ranks(costs.detach().double()).cpu()

    def end_epoch(self) -> None:
        """Weighs each objective so that, at the cost it had in this epoch, it counts as its initial weight says.

        The weights of a class add up to 1 before they are clamped to the limits, and are left so. An objective that
        cost nothing gets the least weight; a class without any cost keeps its weights.
        """
        if not self.automatic:
            return
        wanted = torch.where(self.sums > 0, self.target / self.sums.clamp(min=1e-300), 0.0)
        total = wanted.sum(dim=1, keepdim=True)
        weights = (wanted / torch.where(total > 0, total, 1.0)).clamp(*self.limits)
        self.weights = torch.where(total > 0, weights, self.weights)
        self.sums = torch.zeros_like(self.sums)

    def state_dict(self) -> dict[str, Tensor]:
        return {"weights": self.weights.clone(), "sums": self.sums.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a saved state; without `loss.autoweighting` the weights are the spec's and stay."""
        if self.automatic:
            self.weights, self.sums = state["weights"].clone(), state["sums"].clone()


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of every rank's `value`, without a gradient; a single process's own.

    In training only, where all ranks take the same steps: validation may give them different numbers of batches, and
    they would wait for each other for ever. There it is this rank's value.
    """
    if ranks() == 1:
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / ranks()


def ranks() -> int:
    """Number of processes that share a batch: those that train together; 1 in validation, where each has its own."""
    together = torch.is_grad_enabled() and dist.is_available() and dist.is_initialized()
    return dist.get_world_size() if together else 1
