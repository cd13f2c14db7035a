"""From a network and what is asked for to a smaller network: the threshold is given, or searched for a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..configs.schema import PruneConfig
from ..errors import ConfigError
from .complexity import Complexity, count_macs, count_parameters, latencies_ms, measure
from .prune_surgery import cut_weights
from .pruning import Group, Kept, Layer, Node, channels, find_groups, held_up, plan

Build = Callable[[dict[str, int]], nn.Module]  # channel map -> network with any weights


@dataclass(frozen=True)
class LayerChange:
    """What became of a layer's output channels.

    Attributes:
        note: "output" or "excluded" for a layer that must stay whole, "min_filters" for one of which the threshold
            alone would have kept less; else empty.
    """

    name: str
    before: int
    after: int
    note: str


@dataclass(frozen=True)
class Pruned:
    """A network from which filters were cut.

    Attributes:
        network: with its weights, in evaluation mode.
        channels: its channel map.
        threshold: on the normalised norms; given or found.
        before, after: the costs of the two networks, measured in turns on one machine.
    """

    network: nn.Module
    channels: dict[str, int]
    layers: list[LayerChange]
    threshold: float
    before: Complexity
    after: Complexity

    @property
    def ratio(self) -> float:
        """Parameters after over parameters before, as TAO prints it (§6); 1: nothing was cut."""
        return self.after.parameters / self.before.parameters


def prune_network(
    graph: Sequence[Node], network: nn.Module, build: Build, example: Tensor, config: PruneConfig
) -> Pruned:
    """Cuts filters as `config` says.

    Args:
        graph: the network's own description.
        network: left as it is.
        build: the same network with other channel counts.
        example: an input [1, C, H, W], for multiply-accumulates and latency.

    Raises:
        ConfigError: an excluded layer does not exist, a layer would lose everything, or the budget cannot be met.
    """
    groups = find_groups(
        graph,
        network,
        normalizer=config.normalizer,
        equalization=config.equalization,
        excluded=config.excluded_layers,
    )
    threshold = config.threshold
    if config.target != "threshold":
        threshold = _search(graph, groups, network.eval(), build, example, config)
    kept = plan(groups, threshold, config.granularity, config.min_filters)
    cut = build(channels(graph, kept))
    cut.load_state_dict(cut_weights(graph, network, kept, config.fold_constants))
    before, after = measure([network.eval(), cut.eval()], example)
    layers = _changes(graph, groups, kept, held_up(groups, threshold, config.min_filters))
    return Pruned(cut, channels(graph, kept), layers, threshold, before, after)


def _changes(graph: Sequence[Node], groups: Sequence[Group], kept: Kept, held: Sequence[str]) -> list[LayerChange]:
    group = {name: group for group in groups for name in group.layers}
    return [
        LayerChange(
            node.name,
            len(group[node.name].norms),
            len(kept[node.name]),
            group[node.name].whole or ("min_filters" if node.name in held else ""),
        )
        for node in graph
        if isinstance(node, Layer)
    ]


def _search(
    graph: Sequence[Node],
    groups: Sequence[Group],
    network: nn.Module,
    build: Build,
    example: Tensor,
    config: PruneConfig,
) -> float:
    """The lowest threshold under which the network costs at most `target_share` of what it did.

    The number of kept filters changes only where the threshold passes a norm, so these are what is bisected; what
    falls with them is exact for parameters and multiply-accumulates, and as good as the clock for latency.
    """

    def share(threshold: float) -> float:
        cut = build(channels(graph, plan(groups, threshold, config.granularity, config.min_filters))).eval()
        if config.target == "parameters":
            return count_parameters(cut) / count_parameters(network)
        if config.target == "gmac":
            return count_macs(cut, example) / whole_macs
        before, after = latencies_ms([network, cut], example)
        return after / before

    whole_macs = count_macs(network, example) if config.target == "gmac" else 0
    norms = [group.norms for group in groups if not group.whole]
    levels = torch.cat([torch.zeros(1), *norms]).unique().tolist()  # ascending
    if config.min_filters == 0:  # never all of a layer
        lowest = min(float(norm.max()) for norm in norms)
        levels = [level for level in levels if level < lowest]
    smallest = share(levels[-1])
    if smallest > config.target_share:
        raise ConfigError(
            f"prune.target_share={config.target_share:g}: with min_filters={config.min_filters} and "
            f"granularity={config.granularity} no less than {smallest:.3f} of the {config.target} is left; ask for "
            "more, or lower these"
        )
    low, high = 0, len(levels) - 1
    while low < high:
        middle = (low + high) // 2
        if share(levels[middle]) <= config.target_share:
            high = middle
        else:
            low = middle + 1
    return levels[low]
