"""`fpenet prune`: a smaller network from a model file, to be trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ..configs.compose import to_plain
from ..configs.fpenet.schema import FpenetPruneSpec
from ..training.prune_network import Pruned, prune_network
from ..training.prune_report import MODEL, write_results
from ..training.pruning import Layer, Node
from ..training.run_folder import refuse_results
from ..training.trackers import build_trackers
from .network import RecombinatorNet
from .predictor import load_network


def prune(spec: FpenetPruneSpec) -> Pruned:
    """Cuts filters of `spec.model` and writes pruned.safetensors with its tables and report to `results_dir`.

    `fpenet train train.pretrained=<results_dir>/pruned.safetensors` goes on from there.

    Raises:
        ConfigError: results stand in the way, or `spec.prune` cannot be done to this network.
        ModelFileError: the model file cannot be used.
    """
    folder = Path(spec.results_dir)
    refuse_results(folder, MODEL, spec.overwrite)
    trackers = build_trackers(spec.track, folder)
    network, meta = load_network(spec.model)

    def build(channels: dict[str, int]) -> RecombinatorNet:
        return RecombinatorNet(replace(network.architecture, channels=channels))

    side = meta.preprocessing["size"]
    pruned = prune_network(prune_graph(network), network, build, 255 * torch.rand(1, 1, side, side), spec.prune)
    title = f"FPENet, {network.architecture.num_keypoints} points, pruned"
    write_results(folder, trackers, to_plain(spec), meta, pruned, title)
    return pruned


def prune_graph(network: RecombinatorNet) -> list[Node]:
    """The layers in the order in which they are computed, for `training.pruning`.

    Nothing is added in this network, so every layer is on its own; an up-sampling convolution too, whose filters may be
    cut whatever those of the layer below are.
    """
    nodes: list[Node] = []

    def layer(name: str, *inputs: str, module: str = "", output: bool = False) -> str:
        nodes.append(Layer(name, inputs, module or f"{name}.0", output=output))
        return name

    below = layer("encoder.0")
    skips = [below]
    for i in range(1, 4):
        skips.append(layer(f"encoder.{i}", skips[-1]))
    below = skips[-1]
    for i in range(3):
        below = layer(f"trunk.{i}", below)
    for i, skip in enumerate(reversed(skips)):
        if network.architecture.upsampling != "nearest":
            below = layer(f"up.{i}", below, module=f"up.{i}")
        below = layer(f"decoder.{i}.0", below, skip)
        below = layer(f"decoder.{i}.1", below)
    if network.architecture.variant in ("base", "release"):
        below = layer("neck", below)
    for head in ("keypoints", *(["visibility"] if network.visibility is not None else [])):
        layer(head, below, module=head, output=True)
    return nodes
