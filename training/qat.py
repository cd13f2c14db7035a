"""Quantisation-aware training (Jacob et al., CVPR 2018, §3): the network computes with numbers rounded as its INT8
export rounds them, and learns to bear it.

Rounded is r / 127 times clamp(round(127 x / r), -128, 127), half to even, as ONNX's QuantizeLinear and DequantizeLinear
do it with zero point 0. A tensor's range r is fixed by `calibrate`; a kernel's are the largest absolute values of its
output channels at every step. Gradients pass the rounding wherever nothing was clamped.

PyTorch's own operators do that, and no library: torchao's pt2e makes a graph that refuses `train()` and `eval()`;
torch.ao.quantization is deprecated, and its symmetric observers divide by 127.5; nvidia-modelopt keeps the kernels'
scales of the start, where the exporter takes the final ones, and needs huggingface_hub, pulp, ninja and more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .pruning import Layer, Node

CALIBRATION_SAMPLES = 256
# Of the samples' largest absolute values this quantile is the range: one odd sample must not coarsen all others.
CALIBRATION_QUANTILE = 0.99
SMALLEST_RANGE = 1e-6  # of a tensor that was 0 throughout


@dataclass(frozen=True)
class QuantizedTensor:
    """A tensor that is rounded, or several that have one scale.

    Attributes:
        modules: which take it as their input, or give it.
        names: what the model file calls its range, such as "encoder.1.0.input" or "block_1a.conv_2.output".
        output: the modules give it.
        rounded: False only finds its range, for an export that rounds it because it leaves another layer in float.
    """

    modules: tuple[str, ...]
    names: tuple[str, ...]
    output: bool = False
    rounded: bool = True


def quantized_layers(graph: Sequence[Node]) -> list[str]:
    """The modules whose kernels and inputs are rounded: all but the outputs."""
    return [node.module for node in graph if isinstance(node, Layer) and not node.output]


class FakeQuantized(nn.Module):
    """A network that rounds the kernels of some layers, and some tensors between them; `calibrate` comes first.

    The network itself is left as it is, its weights too. It stays in evaluation mode in training, because that is what
    is exported: batch normalisation keeps its statistics. That the exporter folds it into the kernels makes no
    difference: rounding by each channel's largest value gives the same whatever the channel is multiplied by.

    Attributes:
        ranges: [T] of the tensors.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str], tensors: Sequence[QuantizedTensor]) -> None:
        super().__init__()
        self.network = network.eval()
        self.layers, self.tensors = tuple(layers), tuple(tensors)
        self.ranges: Tensor
        self.register_buffer("ranges", torch.full((len(tensors),), SMALLEST_RANGE))
        # In calibration, by tensor and module, the largest absolute values of samples.
        self._seen: list[dict[nn.Module, list[Tensor]]] | None = None
        for i, tensor in enumerate(tensors):
            for module in map(network.get_submodule, tensor.modules):
                if tensor.output:
                    module.register_forward_hook(partial(self._output, i))
                else:
                    module.register_forward_pre_hook(partial(self._input, i))

    def forward(self, images: Tensor) -> Any:
        kernels = {f"{name}.weight": self._kernel(name) for name in self.layers}
        return functional_call(self.network, kernels, (images,))

    def train(self, mode: bool = True) -> FakeQuantized:
        super().train(mode)
        self.network.eval()
        return self

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Sets the ranges by what the float network computes of the first `CALIBRATION_SAMPLES` inputs [N, C, H, W].

        They do not depend on how the inputs are divided into batches.
        """
        self._seen = [{} for _ in self.tensors]
        count = 0
        for images in batches:
            self.network(images)
            count += len(images)
            if count >= CALIBRATION_SAMPLES:
                break
        largest = [torch.stack([torch.cat(parts) for parts in seen.values()]).amax(dim=0) for seen in self._seen]
        samples = torch.stack(largest)[:, :CALIBRATION_SAMPLES].float()
        self.ranges = samples.quantile(CALIBRATION_QUANTILE, dim=1).clamp(min=SMALLEST_RANGE)
        self._seen = None

    def account(self) -> str:
        """What is rounded, for the user."""
        return (
            f"quantisation-aware: {len(self.layers)} convolutions round their inputs and kernels to INT8, in "
            "validation and for the choice of the best model too"
        )

    def described(self) -> dict[str, Any]:
        """What the model file keeps of it: {"method": "qat", "ranges": {name: largest absolute value}}."""
        named = zip(self.tensors, self.ranges.tolist(), strict=True)
        return {"method": "qat", "ranges": {name: value for tensor, value in named for name in tensor.names}}

    def _input(self, i: int, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (self._rounded(i, module, inputs[0]),)

    def _output(self, i: int, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        return self._rounded(i, module, output)

    def _rounded(self, i: int, module: nn.Module, x: Tensor) -> Tensor:
        if self._seen is not None:
            self._seen[i].setdefault(module, []).append(x.abs().flatten(1).amax(dim=1))
        if self._seen is not None or not self.tensors[i].rounded:
            return x
        zero = torch.zeros((), dtype=torch.int32, device=x.device)
        return torch.fake_quantize_per_tensor_affine(x, self.ranges[i] / 127, zero, -128, 127)

    def _kernel(self, layer: str) -> Tensor:
        module = self.network.get_submodule(layer)
        kernel = module.weight
        assert isinstance(kernel, Tensor)
        axis = 1 if isinstance(module, nn.ConvTranspose2d) else 0  # of the output channels
        largest = kernel.detach().abs().transpose(0, axis).flatten(1).amax(dim=1)
        scales = (largest / 127).clamp(min=torch.finfo(largest.dtype).tiny)  # a cut filter's is 0
        zeros = torch.zeros_like(scales, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(kernel, scales, zeros, axis, -127, 127)


def plain(model: nn.Module) -> nn.Module:
    """The network itself, for its float weights and its shape; called by itself it still rounds the tensors."""
    return model.network if isinstance(model, FakeQuantized) else model


def quantization(model: nn.Module) -> dict[str, Any]:
    """What the model file keeps of a model's quantisation; empty where there is none."""
    return model.described() if isinstance(model, FakeQuantized) else {}
