"""The penalty on convolutions that both networks may train with."""

from __future__ import annotations

import torch
from torch import Tensor


def regularization(model: torch.nn.Module, kind: str) -> Tensor:
    """Sum of |w| (l1) or w^2 (l2) over the kernels and biases of the convolutions (the deconvolutions' too)."""
    total = torch.zeros((), device=next(model.parameters()).device)
    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            for parameter in module.parameters():
                total = total + (parameter.abs() if kind == "l1" else parameter.square()).sum()
    return total
