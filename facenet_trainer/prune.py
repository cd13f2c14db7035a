"""`facenet prune`: a smaller network from a model file, to be trained again without its regulariser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ..configs.compose import to_plain
from ..configs.facenet.schema import FacenetPruneSpec
from ..training.prune_network import Pruned, prune_network
from ..training.prune_report import MODEL, write_results
from ..training.run_folder import refuse_results
from ..training.trackers import build_trackers
from .network import GridBoxNet, prune_graph
from .pretrained import load_network


def prune(spec: FacenetPruneSpec) -> Pruned:
    """Cuts filters of `spec.model` and writes pruned.safetensors with its tables and report to `results_dir`.

    `facenet train model.pretrained=<results_dir>/pruned.safetensors loss.regularizer=none` goes on from there.

    Raises:
        ConfigError: results stand in the way, or `spec.prune` cannot be done to this network.
        ModelFileError: the model file cannot be used.
    """
    folder = Path(spec.results_dir)
    refuse_results(folder, MODEL, spec.overwrite)
    trackers = build_trackers(spec.track, folder)
    network, meta = load_network(spec.model)

    def build(channels: dict[str, int]) -> GridBoxNet:
        return GridBoxNet(replace(network.architecture, channels=channels))

    picture = torch.rand(1, 3, meta.preprocessing["height"], meta.preprocessing["width"])
    pruned = prune_network(prune_graph(network), network, build, picture, spec.prune)
    title = f"FaceNet, ResNet-{network.architecture.num_layers}, pruned"
    write_results(folder, trackers, to_plain(spec), meta, pruned, title)
    return pruned
