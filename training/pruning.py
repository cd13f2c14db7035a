"""Which filters of a network go: by the L2 norms of their kernels (gridbox §6). Knows no network of ours.

A network describes itself as `Layer`s and `Add`s in the order in which they are computed. From that follow the groups
that must keep the same filters, what is kept under a threshold, and (in `prune_surgery`) the smaller weights.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ConfigError


@dataclass(frozen=True)
class Layer:
    """A convolution, transposed or not, or a linear map, with what belongs to each of its outputs.

    Attributes:
        name: what specs and the channel map call it.
        inputs: the nodes whose outputs, concatenated in this order, are its input channels; pooling, up-sampling and
            activations between them do not count. Empty: it sees the picture.
        module: where it lies in the network, as in `nn.Module.get_submodule`: has a `weight` and maybe a `bias`.
        bn: where the batch normalisation of its output lies; empty: there is none.
        output: it is one of the network's outputs, which are never cut.
    """

    name: str
    inputs: tuple[str, ...]
    module: str
    bn: str = ""
    output: bool = False


@dataclass(frozen=True)
class Add:
    """A sum, followed by a ReLU, of what `terms` give: layers before their own ReLU, other sums after theirs."""

    name: str
    terms: tuple[str, ...]


Node = Layer | Add
Kept = dict[str, list[int]]  # node -> its kept output channels, ascending


@dataclass(frozen=True)
class Group:
    """Layers whose outputs meet in additions, so that they must keep the same filters; most are alone.

    Attributes:
        layers: their names.
        nodes: the same and the additions between them.
        norms: [F] normalised kernel norms, merged over the layers.
        whole: why nothing is cut here, "output" or "excluded"; empty: it may be cut.
    """

    layers: tuple[str, ...]
    nodes: tuple[str, ...]
    norms: Tensor
    whole: str


def kernel_norms(module: nn.Module) -> Tensor:
    """[F] float32 L2 norm of each filter's kernel; the bias does not count (§6.1)."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    filters = weight.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) else weight
    return torch.linalg.vector_norm(filters.detach().float().flatten(1), dim=1)


def normalise(norms: Tensor, how: str) -> Tensor:
    """Norms [F] as multiples of the layer's largest ("max"), or times F over their own L2 norm ("L2") (§6.2).

    A layer of zeros stays one.
    """
    scale = norms.max() if how == "max" else torch.linalg.vector_norm(norms) / len(norms)
    return norms / scale if scale > 0 else norms


def merge(norms: Tensor, how: str) -> Tensor:
    """One figure a filter, [F], from those of every layer of a group, [L, F] (§6.4).

    `how`: "union" the largest, "intersection" the smallest, "arithmetic_mean" or "geometric_mean".
    """
    if how == "union":
        return norms.amax(dim=0)
    if how == "intersection":
        return norms.amin(dim=0)
    if how == "arithmetic_mean":
        return norms.mean(dim=0)
    return norms.log().mean(dim=0).exp()  # one zero makes the mean zero


def keep_filters(norms: Tensor, threshold: float, granularity: int, min_filters: int) -> list[int]:
    """Indices, ascending, of the filters that stay.

    The threshold decides how many: those strictly above it, at least `min_filters`, rounded up to a multiple of
    `granularity`, at most all. The ones with the largest norms stay, of equal ones the first (§6.3).
    """
    count = max(int((norms > threshold).sum()), min(min_filters, len(norms)))
    count = min(math.ceil(count / granularity) * granularity, len(norms))
    return sorted(torch.sort(norms, descending=True, stable=True).indices[:count].tolist())


def find_groups(
    graph: Sequence[Node],
    network: nn.Module,
    *,
    normalizer: str = "max",
    equalization: str = "union",
    excluded: Sequence[str] = (),
) -> list[Group]:
    """The groups of a network and their norms, in the order in which they are computed.

    Args:
        excluded: layers that stay whole, and with them every layer of their groups.

    Raises:
        ConfigError: an excluded layer does not exist.
    """
    layers = {node.name: node for node in graph if isinstance(node, Layer)}
    for name in excluded:
        if name not in layers:
            close = difflib.get_close_matches(name, layers, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(
                f"prune.excluded_layers: there is no layer {name!r}{hint} The network has {', '.join(layers)}"
            )
    groups = []
    for nodes in _connected(graph):
        members = [layers[name] for name in nodes if name in layers]
        norms = [normalise(kernel_norms(network.get_submodule(layer.module)), normalizer) for layer in members]
        output = any(layer.output for layer in members)
        whole = "output" if output else "excluded" if any(layer.name in excluded for layer in members) else ""
        names = tuple(layer.name for layer in members)
        groups.append(Group(names, nodes, merge(torch.stack(norms), equalization), whole))
    return groups


def _connected(graph: Sequence[Node]) -> list[tuple[str, ...]]:
    """The nodes of each group: what is added belongs together, through any number of additions."""
    group: dict[str, list[str]] = {}
    for node in graph:
        merged = [node.name]
        for term in node.terms if isinstance(node, Add) else ():
            merged += [name for name in group[term] if name not in merged]
        group.update(dict.fromkeys(merged, merged))
    unique = {id(nodes): nodes for nodes in group.values()}
    return [tuple(node.name for node in graph if node.name in nodes) for nodes in unique.values()]


def plan(groups: Sequence[Group], threshold: float, granularity: int = 8, min_filters: int = 16) -> Kept:
    """The kept output channels of every node.

    Raises:
        ConfigError: nothing of a layer would be left, which `min_filters` of 1 or more rules out.
    """
    kept: Kept = {}
    for group in groups:
        indices = list(range(len(group.norms)))
        if not group.whole:
            indices = keep_filters(group.norms, threshold, granularity, min_filters)
        if not indices:
            raise ConfigError(
                f"prune.threshold={threshold:g} would leave nothing of {', '.join(group.layers)}, where the largest "
                f"norm is {float(group.norms.max()):.4g}: take a lower one, prune.min_filters of at least 1, or name "
                "the layer in prune.excluded_layers"
            )
        kept.update(dict.fromkeys(group.nodes, indices))
    return kept


def held_up(groups: Sequence[Group], threshold: float, min_filters: int) -> list[str]:
    """Layers of which `min_filters` kept more than the threshold would have."""
    return [
        name
        for group in groups
        if not group.whole and int((group.norms > threshold).sum()) < min(min_filters, len(group.norms))
        for name in group.layers
    ]


def channels(graph: Sequence[Node], kept: Kept) -> dict[str, int]:
    """The channel map that a cut network is rebuilt from: layer -> output channels, without the outputs."""
    return {node.name: len(kept[node.name]) for node in graph if isinstance(node, Layer) and not node.output}
