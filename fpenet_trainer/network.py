"""The Recombinator network of FPENet (Honari et al., CVPR 2016) in NVIDIA's four variants, and its soft-argmax."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ..configs.fpenet.schema import ModelConfig

# The original feeds 0..255 into Glorot-initialised convolutions. Scaling inside the network trains far better, and a
# power of two can be folded into the first convolution without changing a bit.
INPUT_SCALE = 1 / 256


@dataclass(frozen=True)
class Architecture:
    """All that is needed to build the network again; stored with its weights.

    `beta` is part of it: weights mean nothing under another beta. `channels` are the output channels of a pruned
    network by layer ("encoder.0", "trunk.2", "up.0", "decoder.0.1", "neck"); layers that it lacks have `width`.
    """

    variant: str = "public"
    num_keypoints: int = 80
    upsampling: str = "deconv"
    width: int = 64
    beta: float = 1.0
    input_scale: float = INPUT_SCALE
    visibility_head: bool = False
    channels: dict[str, int] = field(default_factory=dict)

    def outputs(self, layer: str) -> int:
        """Output channels of a layer; it is not asked for the head's."""
        return self.channels.get(layer, self.width)

    def to_dict(self) -> dict[str, Any]:
        return {"network": "fpenet", **asdict(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Architecture:
        return cls(**{name: value for name, value in data.items() if name != "network"})


class Prediction(NamedTuple):
    """What the network says of N faces.

    Attributes:
        points: [N, K, 2] float32 (x, y), pixels of the crop, 0 to side - 1.
        confidence: [N, K] float32, peak of the soft-max map, 1 / (H W) to 1. Peakiness, not a probability.
        heatmaps: [N, K, H, W], the maps before the soft-max.
        visibility: [N, K] logits of being visible; None without a visibility head.
    """

    points: Tensor
    confidence: Tensor
    heatmaps: Tensor
    visibility: Tensor | None


def build_model(config: ModelConfig) -> RecombinatorNet:
    """The network that the `model` section describes, with fresh weights."""
    fixed = {"release": "nearest", "public": "deconv"}
    return RecombinatorNet(
        Architecture(
            variant=config.variant,
            num_keypoints=config.num_keypoints,
            upsampling=fixed.get(config.variant, config.upsampling),
            width=config.width,
            beta=config.beta,
            visibility_head=config.visibility_head,
        ),
        config.batch_norm,
    )


def _conv(inputs: int, outputs: int, kernel: int, bias: bool = True) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
    nn.init.xavier_uniform_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def _conv_relu(inputs: int, outputs: int, kernel: int, batch_norm: bool) -> nn.Sequential:
    if not batch_norm:
        return nn.Sequential(_conv(inputs, outputs, kernel), nn.ReLU(inplace=True))
    conv = _conv(inputs, outputs, kernel, bias=False)  # the normalisation has a bias of its own
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _upsample(inputs: int, outputs: int, how: str) -> nn.Module:
    if how == "nearest":
        return nn.Upsample(scale_factor=2, mode="nearest")
    deconv = nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False)
    limit = math.sqrt(6 / (4 * inputs))  # He-uniform over the 2x2 kernel
    nn.init.uniform_(deconv.weight, -limit, limit)
    return deconv


class RecombinatorNet(nn.Module):
    """Encoder of four 3x3 stages, trunk, and a decoder that joins each stage's features again at full width.

    Takes grey crops [N, 1, H, W] with values 0..255, H and W divisible by 16 (80 in the original); returns a
    `Prediction`. Topology and parameter counts are those of the reference's FpeNet_* models.

    Args:
        batch_norm: normalise between convolution and ReLU, for training only: the original has no such layer, and
            `folded_weights` turns it into the plain network.
    """

    def __init__(self, architecture: Architecture, batch_norm: bool = False) -> None:
        super().__init__()
        self.architecture = a = architecture
        encoder = [a.outputs(f"encoder.{i}") for i in range(4)]
        trunk = [a.outputs(f"trunk.{i}") for i in range(3)]
        decoder = [(a.outputs(f"decoder.{i}.0"), a.outputs(f"decoder.{i}.1")) for i in range(4)]
        below = [trunk[-1], *(last for _, last in decoder)]  # channels that each decoder stage gets, and the head
        nearest = a.upsampling == "nearest"
        up = [below[i] if nearest else a.outputs(f"up.{i}") for i in range(4)]
        decoder_kernel = 5 if a.variant == "base_5x5_conv" else 3
        self.encoder = nn.ModuleList(_conv_relu(i, o, 3, batch_norm) for i, o in pairwise([1, *encoder]))
        self.pool = nn.MaxPool2d(2)
        sizes = zip([encoder[-1], *trunk], trunk, (3, 3, 1), strict=False)
        self.trunk = nn.Sequential(*(_conv_relu(i, o, kernel, batch_norm) for i, o, kernel in sizes))
        self.up = nn.ModuleList(_upsample(i, o, a.upsampling) for i, o in zip(below[:4], up, strict=True))
        self.decoder = nn.ModuleList(
            nn.Sequential(_conv_relu(u + s, o, decoder_kernel, batch_norm), _conv_relu(o, last, 1, batch_norm))
            for u, s, (o, last) in zip(up, reversed(encoder), decoder, strict=True)
        )
        features = below[-1]
        self.neck: nn.Module = nn.Identity()
        if a.variant in ("base", "release"):
            self.neck = _conv_relu(features, a.outputs("neck"), 1, batch_norm)
            features = a.outputs("neck")
        self.keypoints = _conv(features, a.num_keypoints, 1)
        self.visibility = PointwiseVisibility(features, a.num_keypoints) if a.visibility_head else None

    def forward(self, images: Tensor) -> Prediction:
        x = images * self.architecture.input_scale
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
            x = self.pool(x)
        x = self.trunk(x)
        for up, join, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            x = _recombine(up, join, x, skip)
        x = self.neck(x)
        heatmaps = self.keypoints(x)
        # bf16 or fp16 maps would place points on a grid coarser than the errors we care about.
        with torch.autocast(device_type=x.device.type, enabled=False):
            points, confidence, maps = soft_argmax(heatmaps.float(), self.architecture.beta)
            visibility = self.visibility(x.float(), maps) if self.visibility is not None else None
        return Prediction(points, confidence, heatmaps, visibility)


def _recombine(up: nn.Module, join: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
    """join(cat[up(x), skip]), with a short cut for training.

    A 3x3 convolution of a map whose pixels are doubled is a 4x4 transposed convolution, stride 2, of the map itself, at
    4/9 of the multiplications. Evaluation and export keep the plain form, which the original has.
    """
    assert isinstance(join, nn.Sequential) and isinstance(join[0], nn.Sequential)
    conv, normalize_and_relu = join[0][0], join[0][1:]
    assert isinstance(conv, nn.Conv2d)
    if not (join.training and isinstance(up, nn.Upsample) and conv.kernel_size == (3, 3)):
        return join(torch.cat([up(x), skip], dim=1))
    doubled, plain = conv.weight.split([x.shape[1], skip.shape[1]], dim=1)
    # On each axis output 2p sees x[p-1], x[p], x[p] through w0, w1, w2, and output 2p + 1 sees x[p], x[p], x[p+1]; so
    # the kernel is the sum of neighbours of the reversed one.
    kernel = 4 * F.avg_pool2d(F.pad(doubled.flip(2, 3), (1, 1, 1, 1)), 2, stride=1).transpose(0, 1)
    both = F.conv_transpose2d(x, kernel, stride=2, padding=1) + F.conv2d(skip, plain, conv.bias, padding=1)
    return join[1](normalize_and_relu(both))


def folded_weights(network: RecombinatorNet) -> dict[str, Tensor]:
    """The weights of the plain network that computes what this one does in evaluation.

    Batch normalisation is linear there: gamma (w x - mean) / s + beta = (gamma / s) w x + (beta - gamma mean / s) with
    s = sqrt(variance + eps).
    """
    weights = network.state_dict()
    for name, layer in network.named_modules():
        if not (isinstance(layer, nn.Sequential) and len(layer) > 1 and isinstance(layer[1], _BatchNorm)):
            continue
        norm = layer[1]
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weights[f"{name}.0.weight"] = weights[f"{name}.0.weight"] * scale[:, None, None, None]
        weights[f"{name}.0.bias"] = norm.bias - norm.running_mean * scale
        for key in norm.state_dict():
            del weights[f"{name}.1.{key}"]
    return {name: value.detach() for name, value in weights.items()}


def soft_argmax(heatmaps: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
    """Expected position under the soft-max of beta times a map.

    Args:
        heatmaps: [N, K, H, W] float32.
        beta: sharpness, above 0.

    Returns:
        points [N, K, 2] as (x, y) with x in 0..W-1 and y in 0..H-1; confidence [N, K], the soft-max's peak; and the
        soft-max maps themselves [N, K, H, W].
    """
    n, k, height, width = heatmaps.shape
    maps = torch.softmax((beta * heatmaps).flatten(2), dim=2).view(n, k, height, width)
    columns = torch.arange(width, dtype=maps.dtype, device=maps.device)
    rows = torch.arange(height, dtype=maps.dtype, device=maps.device)
    x = maps.sum(dim=2) @ columns
    y = maps.sum(dim=3) @ rows
    return torch.stack([x, y], dim=2), maps.flatten(2).amax(dim=2), maps


class PointwiseVisibility(nn.Module):
    """A logit per point of being visible, from the features under that point's soft-max map.

    The maps are only read (no gradient goes back through them), so that the points do not bend towards what tells
    visibility apart.
    """

    def __init__(self, width: int, num_keypoints: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_keypoints, width))
        self.bias = nn.Parameter(torch.zeros(num_keypoints))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, features: Tensor, maps: Tensor) -> Tensor:
        """Logits [N, K] from features [N, C, H, W] and soft-max maps [N, K, H, W]."""
        under = torch.einsum("nkp,ncp->nkc", maps.detach().flatten(2), features.flatten(2))
        return (under * self.weight).sum(dim=2) + self.bias
