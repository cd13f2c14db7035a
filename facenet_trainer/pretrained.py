"""Starting from another network's weights, by name, with an account of what was taken."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..configs.facenet.schema import ModelConfig
from ..errors import ConfigError, ModelFileError
from ..training import model_file
from ..training.model_file import ModelMeta
from .network import REPEATS, GridBoxArchitecture, GridBoxNet, build_model, start_heads

ZOO = Path(__file__).with_name("zoo") / "facenet.safetensors"
HEADS = ("output_bbox.", "output_cov.")  # parameters whose first dimension is the classes
# What torchvision's networks expect of an RGB picture with values 0 to 1: less the mean, over the deviation.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TORCHVISION_EPS = 1e-5


@dataclass
class Taken:
    """What became of each parameter.

    Attributes:
        loaded: taken whole.
        selected: taken for the classes that the file has too.
        made: set so that the layer passes on what it sees, as the network of the file does there without a layer.
        fresh: name -> why it keeps its random start.
        unused: parameters of the file that the network has no place for.
    """

    loaded: list[str] = field(default_factory=list)
    selected: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    fresh: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    def lines(self, name: str) -> list[str]:
        """The account, for the user."""
        counts = [f"{len(self.loaded)} parameters whole"]
        counts += [f"{len(self.selected)} for the known classes"] if self.selected else []
        counts += [f"{len(self.made)} of shortcuts made to pass on what they see"] if self.made else []
        lines = [f"from {name}: {', '.join(counts)}"]
        lines += [f"  not loaded: {parameter} ({reason})" for parameter, reason in self.fresh.items()]
        return lines + [f"  not used: {parameter}" for parameter in self.unused]


def start_network(config: ModelConfig, classes: Sequence[str]) -> tuple[GridBoxNet, list[str]]:
    """The network to train: fresh, from a model file, or from an ImageNet ResNet; with what `config` freezes frozen.

    Returns:
        The network, and lines that say what was and was not loaded.

    Raises:
        ConfigError: the section asks for what cannot be.
        ModelFileError: `model.pretrained` cannot be used.
    """
    source = config.pretrained
    lines: list[str] = []
    if not source:
        if config.freeze_blocks:
            raise ConfigError("model.freeze_blocks would freeze random weights: give model.pretrained, or no blocks")
        network = build_model(config, classes)
    elif source == "imagenet":
        weights = download_imagenet(config.num_layers)
        network, lines = _from_torchvision(config, classes, weights, f"torchvision's ResNet-{config.num_layers}")
    elif Path(source).suffix in (".pth", ".pt"):
        network, lines = _from_torchvision(config, classes, read_torchvision(Path(source)), source)
    else:
        network, lines = _from_model_file(config, classes)
    freeze(network, config)
    return network, lines


def freeze(network: GridBoxNet, config: ModelConfig) -> None:
    """Stops the convolutions of `freeze_blocks` from learning, and with `freeze_bn` all running statistics (§1.5).

    Batch normalisation's scale and shift learn on, in frozen blocks too.
    """
    network.bn_frozen = config.freeze_bn
    prefixes = tuple("conv1." if block == 0 else f"block_{block}" for block in config.freeze_blocks)
    for name, parameter in network.named_parameters():
        if prefixes and name.startswith(prefixes) and "conv" in name:
            parameter.requires_grad_(False)


def model_path(name: str) -> Path:
    """The file that `name`, a path or "zoo", stands for."""
    return ZOO if name == "zoo" else Path(name)


def load_network(name: str) -> tuple[GridBoxNet, ModelMeta]:
    """The network of a model file or "zoo"; see `training.model_file.load_network`."""
    return model_file.load_network(
        model_path(name), "facenet", lambda architecture: GridBoxNet(GridBoxArchitecture.from_dict(architecture))
    )


def _from_model_file(config: ModelConfig, classes: Sequence[str]) -> tuple[GridBoxNet, list[str]]:
    """The file's architecture, channel by channel, with the spec's classes: its weights mean nothing under another."""
    source, _ = load_network(config.pretrained)
    old = source.architecture
    network = GridBoxNet(replace(old, classes=tuple(classes)))
    start_heads(network)
    taken = copy_weights(source, network)
    size = sum(p.numel() for p in network.parameters())
    shape = f"ResNet-{old.num_layers}{', pruned' if old.pruned else ''}, {size:,} parameters, box scale "
    kept = f"{shape}{old.bbox_scale:g} and offset {old.bbox_offset:g}: the network keeps that"
    return network, taken.lines(f"{model_path(config.pretrained)} ({kept})")


@torch.no_grad()
def copy_weights(source: GridBoxNet, network: GridBoxNet) -> Taken:
    """Copies weights by name into a network of the same channels; the heads' for the classes that both have."""
    taken = Taken()
    weights = source.state_dict()
    old, new = source.architecture.classes, network.architecture.classes
    common = [name for name in new if name in old]
    to = torch.tensor([new.index(name) for name in common], dtype=torch.int64)
    rows = torch.tensor([old.index(name) for name in common], dtype=torch.int64)
    for name, target in network.state_dict().items():
        if not name.startswith(HEADS) or old == new:
            target.copy_(weights[name])
            taken.loaded.append(name)
            continue
        if common:
            there, here = weights[name].unflatten(0, (len(old), -1)), target.unflatten(0, (len(new), -1))
            here[to] = there[rows]
            taken.selected.append(name)
        if missing := [name for name in new if name not in old]:
            taken.fresh[name] = f"for {', '.join(missing)}; the file's classes are {', '.join(old)}"
    return taken


def download_imagenet(num_layers: int) -> dict[str, Tensor]:
    """The state dict of torchvision's ResNet-18 or -34, from its cache or the network.

    Raises:
        ConfigError: torchvision has no network of that depth.
        ModelFileError: it cannot be had.
    """
    from torchvision import models

    known = {18: models.ResNet18_Weights.IMAGENET1K_V1, 34: models.ResNet34_Weights.IMAGENET1K_V1}
    if num_layers not in known:
        raise ConfigError(f"model.pretrained=imagenet: there is no ResNet-{num_layers}; take model.num_layers=18 or 34")
    url = known[num_layers].url
    try:
        return dict(known[num_layers].get_state_dict(progress=False, check_hash=True, weights_only=True))
    except Exception as error:  # no network, a proxy's page, a full disk, a damaged cache
        raise ModelFileError(
            f"model.pretrained=imagenet: {url} cannot be had ({type(error).__name__}: {error}). Without a network, "
            f"fetch that file elsewhere and give model.pretrained=PATH/{url.rsplit('/', 1)[-1]}"
        ) from None


def read_torchvision(path: Path) -> dict[str, Tensor]:
    """The state dict in a .pth file, read without running any code in it.

    Raises:
        ModelFileError: it is missing, damaged, or holds anything but named tensors.
    """
    if not path.is_file():
        raise ModelFileError(f"there is no file {path}")
    wanted = "give the state dict of torchvision's ResNet-18 or -34 as it is downloaded, or a facetrain .safetensors"
    try:
        with warnings.catch_warnings(action="ignore"):  # of a pickle's protocol, before it is refused
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).split(". ")[0].splitlines()[0][:200] if str(error) else ""
        raise ModelFileError(f"{path} is not a state dict ({type(error).__name__}: {reason}): {wanted}") from None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ModelFileError(f"{path} holds a {type(weights).__name__} that is no state dict of tensors: {wanted}")
    return dict(weights)


def _from_torchvision(
    config: ModelConfig, classes: Sequence[str], weights: dict[str, Tensor], name: str
) -> tuple[GridBoxNet, list[str]]:
    network = build_model(config, classes)
    repeats = tuple(
        1 + max((int(m[1]) for key in weights if (m := re.match(rf"layer{stage}\.(\d+)\.conv1\.", key))), default=-1)
        for stage in (1, 2, 3, 4)
    )
    if repeats not in REPEATS.values() or "layer1.0.conv3.weight" in weights:
        raise ModelFileError(f"{name} holds no ResNet-18 or -34 of torchvision's names (conv1.weight, bn1.weight, ...)")
    if repeats != REPEATS[config.num_layers]:
        depth = next(depth for depth, layout in REPEATS.items() if layout == repeats)
        raise ModelFileError(
            f"{name} is a ResNet-{depth}, model.num_layers is {config.num_layers}: set model.num_layers={depth}"
        )
    return network, copy_torchvision(weights, network, name).lines(name)


@torch.no_grad()
def copy_torchvision(weights: dict[str, Tensor], network: GridBoxNet, name: str = "the file") -> Taken:
    """Copies a torchvision ResNet of the same depth (§1.5).

    Each convolution with its batch normalisation then computes what it did there (in evaluation mode), and the first
    one also does the normalisation of pictures that torchvision leaves to the user; only at the border, where black is
    padded here and mid-grey there, does that differ. Shortcuts with a convolution here and none there pass on every
    channel. The strides are the GridBox network's own, and the heads are fresh.
    """
    taken, used = Taken(), set()
    for conv_name, bn_name, source in _torchvision_names(network):
        conv, bn = network.get_submodule(conv_name), network.get_submodule(bn_name)
        assert isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d) and conv.bias is not None
        own = [f"{conv_name}.weight", f"{conv_name}.bias", *(f"{bn_name}.{key}" for key in bn.state_dict())]
        if f"{source[0]}.weight" not in weights and conv_name.endswith("shortcut"):
            _pass_on(conv, bn)
            taken.made += own
            continue
        used |= _take(weights, *source, conv, bn, name)
        taken.loaded += own
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    assert network.conv1.bias is not None
    network.conv1.weight.copy_(network.conv1.weight / std[:, None, None])
    network.conv1.bias.copy_(-(network.conv1.weight * mean[:, None, None]).sum(dim=(1, 2, 3)))
    heads = [key for key in network.state_dict() if key.startswith(HEADS)]
    taken.fresh = dict.fromkeys(heads, "a ResNet has no such head")
    taken.unused = sorted(set(weights) - used)
    return taken


def _torchvision_names(network: GridBoxNet) -> list[tuple[str, str, tuple[str, str]]]:
    """Every convolution with its batch normalisation, and the names of both in torchvision's network."""
    names = [("conv1", "bn_conv1", ("conv1", "bn1"))]
    for block in network.architecture.sub_blocks():
        theirs = f"layer{block.stage}.{ord(block.name[-1]) - ord('a')}"
        names += [(f"{block.name}.conv_{i}", f"{block.name}.bn_{i}", (f"{theirs}.conv{i}", f"{theirs}.bn{i}"))
                  for i in (1, 2)]  # fmt: skip
        if block.projection:
            source = (f"{theirs}.downsample.0", f"{theirs}.downsample.1")
            names.append((f"{block.name}.conv_shortcut", f"{block.name}.bn_shortcut", source))
    return names


def _take(
    weights: dict[str, Tensor], conv_name: str, bn_name: str, conv: nn.Conv2d, bn: nn.BatchNorm2d, file: str
) -> set[str]:
    """Copies one convolution and its batch normalisation; the names of what was used."""
    targets = {f"{conv_name}.weight": conv.weight}
    targets |= {f"{bn_name}.{key}": value for key, value in bn.state_dict().items()}
    for name, target in targets.items():
        if name.endswith("num_batches_tracked"):  # old files lack it, and nothing depends on it
            continue
        if name not in weights or weights[name].shape != target.shape:
            there = list(weights[name].shape) if name in weights else "missing"
            raise ModelFileError(f"{file}: {name} is {there}, {list(target.shape)} is needed: no ResNet of this depth")
        target.copy_(weights[name])
    assert bn.running_var is not None
    # The larger eps makes outputs smaller, the more so the less a channel varies; the scale makes up for it.
    variance = bn.running_var.double()
    bn.weight.copy_(bn.weight.double() * ((variance + bn.eps) / (variance + TORCHVISION_EPS)).sqrt())
    return set(targets) & set(weights)


def _pass_on(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> None:
    """Makes a 1x1 convolution and its batch normalisation give what they see, at the convolution's stride."""
    conv.weight.copy_(torch.eye(conv.out_channels)[:, :, None, None])
    assert bn.running_var is not None
    bn.running_var.fill_(1 - bn.eps)
