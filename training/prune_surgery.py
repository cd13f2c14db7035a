"""The weights of a network from which filters were cut (gridbox §6.5 and 6.7)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .pruning import Kept, Layer, Node, kernel_norms

DEAD = 0.01  # a kernel whose norm is this share of the layer's largest, or less, does not look at anything


@torch.no_grad()
def cut_weights(graph: Sequence[Node], network: nn.Module, kept: Kept, fold_constants: bool) -> dict[str, Tensor]:
    """A state dict for the network that is rebuilt from `channels(graph, kept)`.

    Every layer loses the filters that are not in `kept`, with their biases and batch statistics, and the input channels
    whose producers lost theirs.

    Args:
        fold_constants: what a cut channel gave without looking (see `_idle_values`) goes into the bias of the layers
            that read it; into the batch normalisation's running mean where they have no bias, and nowhere where they
            have neither, as in FPENet's up-sampling convolutions. Where the picture's border is padded with zeros a
            channel gave less than that, so for kernels of more than one pixel this is exact only away from the border.
    """
    weights = dict(network.state_dict())
    idle: dict[str, Tensor] = {}  # node -> [F], what each channel gives without looking; of a layer before its ReLU
    for node in graph:
        if not isinstance(node, Layer):
            idle[node.name] = torch.stack([idle[term] for term in node.terms]).sum(dim=0).relu()
            continue
        idle[node.name] = _idle_values(node, network)
        columns, lost = _inputs(node, kept, idle)
        if fold_constants and node.inputs:
            _fold(node, network, lost, weights)
        _slice(node, network, kept[node.name], columns, weights)
    return weights


def _idle_values(layer: Layer, network: nn.Module) -> Tensor:
    """[F] float32: what each filter puts out, whatever it sees, taken before the ReLU.

    A kernel of zeros gives its bias, through the batch normalisation where there is one. Any other behind a batch
    normalisation gives on average its running mean, which becomes beta; the ReLU of a mean is at most the mean of the
    ReLU, so folding it is never too much. Without one a filter that is all but dead gives its bias too; what a living
    one gives on average is unknown, and its bias is nothing like it: 0 here.
    """
    module = network.get_submodule(layer.module)
    norms = kernel_norms(module)
    dead = norms <= DEAD * norms.max()
    bias = getattr(module, "bias", None)
    value = bias.detach().float() if isinstance(bias, Tensor) else torch.zeros_like(norms)
    if not layer.bn:
        return torch.where(dead, value, 0)
    bn = network.get_submodule(layer.bn)
    assert isinstance(bn, nn.BatchNorm2d) and bn.running_mean is not None and bn.running_var is not None
    mean = torch.where(norms == 0, value, bn.running_mean)
    return (mean - bn.running_mean) / (bn.running_var + bn.eps).sqrt() * bn.weight + bn.bias


def _inputs(layer: Layer, kept: Kept, idle: dict[str, Tensor]) -> tuple[list[int], Tensor]:
    """The kept input channels, and [I] what the others gave without looking (0 for the kept ones)."""
    columns, lost, start = [], [torch.zeros(0)], 0
    for source in layer.inputs:
        columns += [start + index for index in kept[source]]
        constants = idle[source].relu()
        constants[kept[source]] = 0
        lost.append(constants)
        start += len(constants)
    return columns, torch.cat(lost)


def _fold(layer: Layer, network: nn.Module, lost: Tensor, weights: dict[str, Tensor]) -> None:
    module = network.get_submodule(layer.module)
    bias, mean = f"{layer.module}.bias", f"{layer.bn}.running_mean"
    if isinstance(module, nn.ConvTranspose2d):
        return  # gives another constant to each pixel of its kernel's period; a bias could not hold it
    kernel = weights[f"{layer.module}.weight"]
    constant = kernel.reshape(*kernel.shape[:2], -1).sum(dim=2) @ lost
    if bias in weights:
        weights[bias] = weights[bias] + constant
    elif layer.bn:
        weights[mean] = weights[mean] - constant


def _slice(layer: Layer, network: nn.Module, rows: list[int], columns: list[int], weights: dict[str, Tensor]) -> None:
    name = f"{layer.module}.weight"
    transposed = isinstance(network.get_submodule(layer.module), nn.ConvTranspose2d)
    outputs, inputs = (1, 0) if transposed else (0, 1)
    kernel = weights[name].index_select(outputs, torch.tensor(rows))
    weights[name] = kernel.index_select(inputs, torch.tensor(columns)) if layer.inputs else kernel
    belonging = [f"{layer.module}.bias"]
    if layer.bn:
        belonging += [f"{layer.bn}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    for name in belonging:
        if name in weights:
            weights[name] = weights[name][rows]
