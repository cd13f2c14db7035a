"""How large and how fast a network is: parameters, multiply-accumulates, measured latency."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .timing import times_ms


@dataclass(frozen=True)
class Complexity:
    """What a network costs.

    Attributes:
        parameters: with the running statistics of batch normalisation, as Keras counts them.
        gmac: 1e9 multiply-accumulates of one input.
        latency_ms: median of a forward pass of one input on the CPU, milliseconds.
    """

    parameters: int
    gmac: float
    latency_ms: float


def measure(networks: Sequence[nn.Module], example: Tensor) -> list[Complexity]:
    """The cost of each network, for an input like `example` [1, C, H, W]."""
    latencies = latencies_ms(networks, example)
    return [
        Complexity(count_parameters(network), count_macs(network, example) / 1e9, latency)
        for network, latency in zip(networks, latencies, strict=True)
    ]


def count_parameters(network: nn.Module) -> int:
    """Parameters and floating-point buffers (batch normalisation's running statistics)."""
    return sum(p.numel() for p in network.parameters()) + sum(
        b.numel() for b in network.buffers() if b.is_floating_point()
    )


@torch.inference_mode()
def count_macs(network: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of the convolutions, transposed ones and linear maps in one forward pass of `example`."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        # Every weight meets every output pixel once; in a transposed convolution, every input pixel. Either map has as
        # many channels as the weight's first dimension.
        seen = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        assert isinstance(module.weight, Tensor)
        total += module.weight.numel() * (seen.numel() // module.weight.shape[0])

    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    hooks = [module.register_forward_hook(count) for module in network.modules() if isinstance(module, kinds)]
    was_training = network.training
    try:
        network.eval()(example)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return total


@torch.inference_mode()
def latencies_ms(networks: Sequence[nn.Module], example: Tensor) -> list[float]:
    """Median milliseconds of a forward pass of each network, on the CPU and torch's threads; they take turns."""
    was_training = [network.training for network in networks]
    times = times_ms([network.eval() for network in networks], example)
    for network, training in zip(networks, was_training, strict=True):
        network.train(training)
    return [statistics.median(taken) for taken in times]
