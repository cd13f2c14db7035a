"""The GridBox ResNet of FaceNet (gridbox §1) and the boxes that its outputs stand for.

Modules are named so that a dot made an underscore gives the layer's name in NVIDIA's Keras models, which is also what
the channel map and specs call it:

    conv1                    conv1                       7x7, stride 2
    bn_conv1                 bn_conv1
    block_2b.conv_1          block_2b_conv_1             3x3; stage 1 to 4, sub-block a, b, ...
    block_2b.bn_1            block_2b_bn_1
    block_2b.conv_2, .bn_2   block_2b_conv_2, ..._bn_2   3x3
    block_2b.conv_shortcut   block_2b_conv_shortcut      1x1, and its block_2b_bn_shortcut
    output_bbox, output_cov  output_bbox, output_cov     1x1
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..configs.facenet.schema import ModelConfig
from ..errors import ModelFileError
from ..training.pruning import Add, Layer, Node

REPEATS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # sub-blocks of the four stages
WIDTHS = (64, 128, 256, 512)
START_COVERAGE = 0.01
START_DISTANCE = 0.5  # of `bbox_scale`: 18 pixels to each edge


class SubBlock(NamedTuple):
    """One residual sub-block: its module's name, its stage from 1, its stride, and a convolution in the shortcut."""

    name: str
    stage: int
    stride: int
    projection: bool


@dataclass(frozen=True)
class GridBoxArchitecture:
    """All that is needed to build the network again; stored with its weights.

    Attributes:
        num_layers: 10, 18 or 34.
        all_projections: a 1x1 convolution in every shortcut; else only in the first sub-block of each stage.
        use_pooling: a max-pool after the stem and a 7x7 average pool at the end.
        classes: target classes in the order of the outputs.
        channels: output channels of every convolution but the heads, by layer name; empty: the full width.
        bbox_scale: pixels that a box output of 1 stands for.
        bbox_offset: where in a cell boxes are measured from, pixels from its top-left corner.

    Raises:
        ModelFileError: channels that do not fit together; they can only come from a file.
    """

    num_layers: int = 18
    all_projections: bool = True
    use_pooling: bool = False
    classes: tuple[str, ...] = ("face",)
    channels: dict[str, int] = field(default_factory=dict)
    bbox_scale: float = 35.0
    bbox_offset: float = 0.5

    def __post_init__(self) -> None:
        if self.num_layers not in REPEATS:
            raise ModelFileError(f"architecture: num_layers {self.num_layers} is none of 10, 18, 34")
        full = self._full_channels()
        if not self.channels:
            object.__setattr__(self, "channels", full)
        _check_channels(self.channels, full, self.sub_blocks())

    def to_dict(self) -> dict[str, Any]:
        return {"network": "facenet", **asdict(self), "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> GridBoxArchitecture:
        values = {name: value for name, value in data.items() if name != "network"}
        return cls(**{**values, "classes": tuple(values["classes"])})

    @property
    def stride(self) -> int:
        """Pixels of the input that a cell of the outputs spans, on each axis."""
        return 32 * 7 if self.use_pooling else 16  # the average pool steps by its own size

    @property
    def pruned(self) -> bool:
        return self.channels != self._full_channels()

    def sub_blocks(self) -> list[SubBlock]:
        """The residual sub-blocks in the order in which they are computed."""
        strides = (1, 2, 2, 2) if self.use_pooling else (2, 2, 2, 1)
        return [
            SubBlock(f"block_{stage}{letter}", stage, stride if first else 1, first or self.all_projections)
            for stage, (repeats, stride) in enumerate(zip(REPEATS[self.num_layers], strides, strict=True), start=1)
            for letter, first in zip(string.ascii_lowercase[:repeats], [True] + [False] * (repeats - 1), strict=True)
        ]

    def _full_channels(self) -> dict[str, int]:
        channels = {"conv1": WIDTHS[0]}
        for block in self.sub_blocks():
            for conv in ("conv_1", "conv_2", *(["conv_shortcut"] if block.projection else [])):
                channels[f"{block.name}_{conv}"] = WIDTHS[block.stage - 1]
        return channels


def _check_channels(channels: dict[str, int], full: dict[str, int], blocks: Sequence[SubBlock]) -> None:
    """Raises ModelFileError unless every convolution has a count and those that meet in an addition have the same."""
    if difference := sorted(set(channels) ^ set(full)):
        raise ModelFileError(f"architecture: its channels and its layers differ in {', '.join(difference[:4])}")
    if wrong := [name for name, count in channels.items() if not (isinstance(count, int) and count > 0)]:
        raise ModelFileError(f"architecture: {wrong[0]} has {channels[wrong[0]]!r} channels; a count is above 0")
    before = "conv1"
    for block in blocks:
        last, other = f"{block.name}_conv_2", f"{block.name}_conv_shortcut" if block.projection else before
        if channels[last] != channels[other]:
            raise ModelFileError(
                f"architecture: {last} has {channels[last]} channels and {other}, which it is added to, has "
                f"{channels[other]}"
            )
        before = last


class GridOutput(NamedTuple):
    """What the network says of each cell of the grid [h, w].

    Attributes:
        bbox: [N, 4C, h, w], class by class the distances to the box's left, top, right and bottom edge; see
            `decode_boxes`.
        coverage_logits: [N, C, h, w]; their sigmoid is the coverage, 0 to 1.
    """

    bbox: Tensor
    coverage_logits: Tensor


def build_model(config: ModelConfig, classes: Sequence[str]) -> GridBoxNet:
    """The network that the `model` section describes, at full width and with fresh weights and heads set to start."""
    network = GridBoxNet(
        GridBoxArchitecture(
            num_layers=config.num_layers,
            all_projections=config.all_projections,
            use_pooling=config.use_pooling,
            classes=tuple(classes),
            bbox_scale=config.bbox_scale,
            bbox_offset=config.bbox_offset,
        )
    )
    start_heads(network)
    return network


def start_heads(network: GridBoxNet) -> None:
    """Sets the biases of fresh heads to an answer that costs little: hardly any coverage, and boxes that are open.

    Nearly all cells are empty, and until the network knows that, they would be most of the loss (Lin et al., "Focal
    Loss", ICCV 2017, §3.3). Boxes that begin around nothing are inside out half of the time.
    """
    nn.init.constant_(network.output_cov.bias, -math.log(1 / START_COVERAGE - 1))  # type: ignore[arg-type]
    nn.init.constant_(network.output_bbox.bias, START_DISTANCE)  # type: ignore[arg-type]


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Padded by half the kernel on both sides, with a bias even before batch normalisation, as the original has it."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
    nn.init.xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def _bn(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which has a 1x1 convolution of its own or none (§1.1)."""

    def __init__(self, inputs: int, middle: int, outputs: int, stride: int, projection: bool) -> None:
        super().__init__()
        self.conv_1 = _conv(inputs, middle, 3, stride)
        self.bn_1 = _bn(middle)
        self.conv_2 = _conv(middle, outputs, 3)
        self.bn_2 = _bn(outputs)
        self.conv_shortcut = _conv(inputs, outputs, 1, stride) if projection else None
        self.bn_shortcut = _bn(outputs) if projection else None

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        if self.conv_shortcut is not None and self.bn_shortcut is not None:
            shortcut = self.bn_shortcut(self.conv_shortcut(x))
        x = F.relu(self.bn_1(self.conv_1(x)), inplace=True)
        return F.relu(self.bn_2(self.conv_2(x)) + shortcut, inplace=True)


class GridBoxNet(nn.Module):
    """A ResNet without its pooling and classifier, and two 1x1 heads on its last map.

    Takes RGB pictures [N, 3, H, W] with values 0 to 1, H and W divisible by `stride`; returns a `GridOutput` of
    H / stride by W / stride cells.

    Attributes:
        bn_frozen: batch normalisation keeps its running statistics in training too; scale and shift still learn.
    """

    def __init__(self, architecture: GridBoxArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.stride = architecture.stride
        self.bn_frozen = False
        channels = architecture.channels
        outputs = channels["conv1"]
        self.conv1 = _conv(3, outputs, 7, stride=2)
        self.bn_conv1 = _bn(outputs)
        self._block_names = [block.name for block in architecture.sub_blocks()]
        for block in architecture.sub_blocks():
            inputs, outputs = outputs, channels[f"{block.name}_conv_2"]
            middle = channels[f"{block.name}_conv_1"]
            self.add_module(block.name, BasicBlock(inputs, middle, outputs, block.stride, block.projection))
        self.output_bbox = _conv(outputs, 4 * len(architecture.classes), 1)
        self.output_cov = _conv(outputs, len(architecture.classes), 1)

    def forward(self, images: Tensor) -> GridOutput:
        pooling = self.architecture.use_pooling
        x = F.relu(self.bn_conv1(self.conv1(images)), inplace=True)
        if pooling:
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        for name in self._block_names:
            x = self.get_submodule(name)(x)
        if pooling:
            x = F.avg_pool2d(x, 7, stride=7, padding=3)  # the padding's zeros count, as in the original
        return GridOutput(self.output_bbox(x), self.output_cov(x))

    def train(self, mode: bool = True) -> GridBoxNet:
        super().train(mode)
        if self.bn_frozen:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):  # nn.SyncBatchNorm too
                    module.eval()
        return self

    def decode(self, bbox: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Boxes [N, C, h * w, 4] of the output [N, 4C, h, w]; see `decode_boxes`."""
        a = self.architecture
        return decode_boxes(bbox, self.stride, a.bbox_scale, a.bbox_offset, size)


def decode_boxes(bbox: Tensor, stride: int, scale: float, offset: float, size: tuple[int, int] | None = None) -> Tensor:
    """The box that each cell stands for (§1.3).

    Distances are measured from `offset` pixels right of and below the cell's top-left corner, in units of `scale`.

    Args:
        bbox: [N, 4C, h, w].
        size: width and height that the boxes are clipped to; None leaves them as they are.

    Returns:
        [N, C, h * w, 4] float32 (x1, y1, x2, y2), pixels of the input, cells row by row. Unclipped boxes of a network
        that has learnt little may have x2 < x1.
    """
    n, c, h, w = bbox.shape
    distances = scale * bbox.float().reshape(n, c // 4, 4, h * w)
    x = (torch.arange(w, device=bbox.device) * stride + offset).repeat(h)
    y = (torch.arange(h, device=bbox.device) * stride + offset).repeat_interleave(w)
    left, top, right, bottom = distances.unbind(dim=2)
    left, top, right, bottom = x - left, y - top, x + right, y + bottom
    if size is not None:
        left, top = left.clamp(0, size[0]), top.clamp(0, size[1])
        right = torch.maximum(right.clamp(max=size[0]), left)
        bottom = torch.maximum(bottom.clamp(max=size[1]), top)
    return torch.stack([left, top, right, bottom], dim=3)


def prune_graph(network: GridBoxNet) -> list[Node]:
    """The layers and additions in the order in which they are computed, for `training.pruning`."""
    nodes: list[Node] = [Layer("conv1", (), "conv1", "bn_conv1")]
    before = "conv1"
    for block in network.architecture.sub_blocks():
        name = block.name
        nodes.append(Layer(f"{name}_conv_1", (before,), f"{name}.conv_1", f"{name}.bn_1"))
        nodes.append(Layer(f"{name}_conv_2", (f"{name}_conv_1",), f"{name}.conv_2", f"{name}.bn_2"))
        shortcut = before
        if block.projection:
            shortcut = f"{name}_conv_shortcut"
            nodes.append(Layer(shortcut, (before,), f"{name}.conv_shortcut", f"{name}.bn_shortcut"))
        nodes.append(Add(f"{name}_relu", (f"{name}_conv_2", shortcut)))
        before = f"{name}_relu"
    return [*nodes, *(Layer(head, (before,), head, output=True) for head in ("output_bbox", "output_cov"))]
