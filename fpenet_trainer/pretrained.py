"""Starting from another model's weights, by name, with an account of what was taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from ..configs.fpenet.schema import ModelConfig
from ..errors import ConfigError
from .network import RecombinatorNet, build_model
from .predictor import load_network, model_path
from .schemes import Scheme, load_scheme, select_points

HEAD = ("keypoints.", "visibility.")  # parameters whose first dimension is the points


@dataclass
class Taken:
    """What became of each parameter.

    Attributes:
        loaded: taken whole.
        selected: taken for the kept points only.
        fresh: name -> why it keeps its random start.
        unused: parameters of the file that the network has no place for.
    """

    loaded: list[str] = field(default_factory=list)
    selected: list[str] = field(default_factory=list)
    fresh: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    def lines(self, name: str) -> list[str]:
        """The account, for the user."""
        lines = [f"from {name}: {len(self.loaded)} parameters whole, {len(self.selected)} for the kept points"]
        lines += [f"  not loaded: {parameter} ({reason})" for parameter, reason in self.fresh.items()]
        lines += [f"  not used: {parameter}" for parameter in self.unused]
        return lines


def start_network(config: ModelConfig, pretrained: str) -> tuple[RecombinatorNet, Scheme, list[str]]:
    """The network to train and its scheme: fresh, or from a model file.

    A file's architecture comes with its weights (variant, width, up-sampling, beta, input scale): they mean nothing
    under another. `num_keypoints` and `visibility_head` are the spec's. Where K differs, `source_points` says which
    rows of the head to keep; a file of the same K already has just the kept points, whatever the labels hold.

    Returns:
        The network, its scheme, and lines that say what was and was not loaded.
    """
    if not pretrained:
        return build_model(config), load_scheme(config.scheme, config.num_keypoints, config.source_points), []
    if config.batch_norm:
        raise ConfigError(
            "model.batch_norm=true trains from random weights only: a model file has it folded in; leave "
            "out train.pretrained, or set model.batch_norm=false"
        )
    source, meta = load_network(pretrained)
    old = source.architecture
    network = RecombinatorNet(replace(old, num_keypoints=config.num_keypoints, visibility_head=config.visibility_head))
    selection = config.source_points if config.num_keypoints != old.num_keypoints else []
    taken = copy_weights(source.state_dict(), network, old.num_keypoints, selection)
    kept = f"FpeNet_{old.variant}, width {old.width}, beta {old.beta:g}"
    lines = taken.lines(f"{model_path(pretrained)} ({kept}: the network keeps that)")
    side = meta.preprocessing.get("size")
    if side != config.input_size:
        lines.append(f"  note: the file was trained on crops of {side} pixels, model.input_size is {config.input_size}")
    return network, _scheme(config, Scheme.from_dict(meta.scheme)), lines


def _scheme(config: ModelConfig, source: Scheme) -> Scheme:
    """The scheme of the kept points of the file's own layout, unless the spec names one."""
    if not config.scheme:
        if config.num_keypoints == source.num_keypoints:
            return source
        if config.source_points and max(config.source_points) < source.num_keypoints:
            return select_points(source, config.num_keypoints, config.source_points)
    return load_scheme(config.scheme, config.num_keypoints, config.source_points)


def copy_weights(
    weights: dict[str, Tensor], network: nn.Module, source_k: int, source_points: Sequence[int] = ()
) -> Taken:
    """Copies weights by name into the network; the head's rows by `source_points` where they are given."""
    taken = Taken(unused=sorted(set(weights) - set(network.state_dict())))
    if source_points and max(source_points) >= source_k:
        raise ConfigError(
            f"model.source_points: {max(source_points)} is not a point of the pretrained model, which has "
            f"0..{source_k - 1}"
        )
    for name, target in network.state_dict().items():
        if name not in weights:
            taken.fresh[name] = "not in the file"
            continue
        value = weights[name]
        if source_points and name.startswith(HEAD):
            value = value[list(source_points)]
        if value.shape != target.shape:
            remedy = "; name the points to keep with model.source_points" if name.startswith(HEAD) else ""
            taken.fresh[name] = f"{list(value.shape)} there, {list(target.shape)} here{remedy}"
            continue
        target.copy_(value)
        (taken.selected if source_points and name.startswith(HEAD) else taken.loaded).append(name)
    return taken
