"""What moves the weights, and the average of where they have been."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..configs.schema import TrainConfig

Tensors = tuple[Tensor, ...] | list[Tensor]


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam as TAO has it, or AdamW that decays kernels and spares biases, which are one-dimensional."""
    if config.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    kernels = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": kernels, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def weight_average(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average whose decay begins low, so that the random start is soon forgotten."""

    @torch.no_grad()
    def average(old: Tensors, new: Tensors, count: Tensor | int) -> None:
        """All tensors of one type, in place."""
        if not new[0].is_floating_point():  # batch normalisation counts its batches
            torch._foreach_copy_(old, new)
            return
        torch._foreach_lerp_(old, new, 1 - min(decay, (1 + int(count)) / (10 + int(count))))

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)
