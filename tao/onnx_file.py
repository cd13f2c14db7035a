"""The ONNX files that TAO exports, through keras2onnx or tf2onnx.

Both keep the Keras layers' names in those of the convolutions. The second takes the rest apart: a bias may be an
addition, a batch normalisation a multiplication and an addition, or part of the convolution. So what follows a
convolution is read until something comes that is no line a x + b of each channel.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelFileError
from .weights import FloatArray, Layer, WeightFile, checked, norm_of

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

LAYER = re.compile(r"block_[0-9]+[a-z]+_conv_(?:[0-9]+|shortcut)|conv_keypoints_m[0-9]+|conv2d_transpose_[0-9]+"
                   r"|output_bbox|output_cov|(?<![a-z0-9_])conv1(?![0-9])")  # fmt: skip
RESHAPING = ("Identity", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Cast")
STATISTICS = ("gamma", "beta", "moving_mean", "moving_variance")  # inputs 1 to 4 of a BatchNormalization


def read_onnx(path: Path, data: bytes) -> WeightFile:
    """The layers of an exported graph.

    Args:
        path: what errors call it.
        data: its content.

    Raises:
        ModelFileError: it is damaged, keeps its weights in other files, or its convolutions have no names of TAO's.
    """
    try:
        return _Reader(path, _parse(data)).read()
    except ModelFileError:
        raise
    except Exception as error:  # whatever protobuf and numpy make of damage
        reason = " ".join(str(error).split())[:200]
        raise ModelFileError(f"{path} is a damaged ONNX file ({reason}): copy or export it again") from None


def _parse(data: bytes) -> ModelProto:
    import onnx

    model = onnx.load_model_from_string(data)
    if not model.graph.node:
        raise ValueError("it has no graph")
    return model


@dataclass
class _Line:
    """What follows a convolution: scale (x + bias) + shift, or a batch normalisation in its own terms."""

    bias: FloatArray | None
    scale: FloatArray | None = None
    shift: FloatArray | None = None
    norm: dict[str, FloatArray] = field(default_factory=dict)
    epsilon: float | None = None

    def add(self, value: FloatArray) -> None:
        if self.scale is None and self.bias is None:
            self.bias = value
            return
        self.scale = np.ones_like(value) if self.scale is None else self.scale
        self.shift = value if self.shift is None else self.shift + value

    def multiply(self, value: FloatArray) -> None:
        self.scale = value if self.scale is None else self.scale * value
        self.shift = np.zeros_like(value) if self.shift is None else self.shift * value


class _Reader:
    def __init__(self, path: Path, model: ModelProto) -> None:
        self.path = path
        self.graph: GraphProto = model.graph
        self.constants = self._constants()
        self.consumers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.graph.node:
            for name in dict.fromkeys(node.input):
                self.consumers[name].append(node)

    def read(self) -> WeightFile:
        layers: dict[str, Layer] = {}
        beta = None
        for node in self.graph.node:
            if node.op_type not in ("Conv", "ConvTranspose"):
                continue
            name = self._name(node)
            if name in layers:
                raise ModelFileError(f"{self.path} has two convolutions called {name}; it is no export of TAO's")
            kernel = self._constant(node.input[1], name)
            channels = kernel.shape[1 if node.op_type == "ConvTranspose" else 0]
            bias = self._constant(node.input[2], name) if len(node.input) > 2 and node.input[2] else None
            line = self._line(node, channels, _Line(bias))
            tensors = {"kernel": kernel} | ({"bias": line.bias} if line.bias is not None else {})
            layers[name] = Layer(name, tensors)
            norm = line.norm
            if line.scale is not None and line.shift is not None:
                norm = {"scale": line.scale, "shift": line.shift}
            if norm:
                normalisation = norm_of(name)
                layers[normalisation] = Layer(normalisation, norm, line.epsilon)
            if name.startswith("conv_keypoints"):
                beta = self._sharpness(node) or beta
        if not layers:
            raise ModelFileError(f"{self.path} has no convolutions; it is no export of TAO's")
        for layer in layers.values():
            layer.tensors.update(
                {name: checked(value, f"{self.path}: {layer.name}/{name}") for name, value in layer.tensors.items()}
            )
        pooled = any(node.op_type == "MaxPool" for node in self.graph.node)
        return WeightFile(self.path, layers, True, self._input_shape(), beta, pooled)

    def _constants(self) -> dict[str, FloatArray]:
        """Every array that does not depend on the input: initialisers, and what only gives them another shape."""
        from onnx import TensorProto, external_data_helper, helper, numpy_helper

        def array(tensor: TensorProto, name: str) -> FloatArray:
            if external_data_helper.uses_external_data(tensor):
                raise ModelFileError(
                    f"{self.path}: {name} lies in another file, which is never opened: export it in one"
                )
            return numpy_helper.to_array(tensor)

        constants = {tensor.name: array(tensor, tensor.name) for tensor in self.graph.initializer}
        for node in self.graph.node:
            attributes = {a.name: a for a in node.attribute}
            if node.op_type == "Constant" and "value" in attributes:
                constants[node.output[0]] = array(attributes["value"].t, node.output[0])
            elif node.op_type in RESHAPING and node.input and node.input[0] in constants:
                value = constants[node.input[0]]
                if node.op_type == "Transpose":
                    order = helper.get_attribute_value(attributes["perm"]) if "perm" in attributes else None
                    value = value.transpose(order)
                constants[node.output[0]] = value
        return constants

    def _constant(self, name: str, layer: str) -> FloatArray:
        if name not in self.constants:
            raise ModelFileError(
                f"{self.path}: the weights of {layer} are computed in the graph; it is no float export"
            )
        return self.constants[name]

    def _name(self, node: NodeProto) -> str:
        for text in (node.name, node.input[1], node.output[0]):
            if found := LAYER.search(text):
                return found[0]
        raise ModelFileError(
            f"{self.path}: the convolution {node.name or node.output[0]!r} has no name of a layer of FPENet or "
            "DetectNet_v2's ResNets, by which its place would be known; it is no export of TAO's"
        )

    def _line(self, node: NodeProto, channels: int, line: _Line) -> _Line:
        """Follows a convolution's output as long as each channel only goes through a line."""
        while len(followers := self.consumers[node.output[0]]) == 1:
            before, node = node, followers[0]
            if node.op_type == "BatchNormalization" and line.scale is None:
                inputs = [self._constant(name, node.name) for name in node.input[1:5]]
                line.norm = dict(zip(STATISTICS, inputs, strict=True))
                line.epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
                return line
            if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.input) != 2:
                return line
            first = node.input[0] == before.output[0]
            value = self._per_channel(node.input[1 if first else 0], channels)
            if value is None or (node.op_type == "Div" and not first):
                return line
            if node.op_type in ("Add", "Sub"):
                if node.op_type == "Sub" and not first:
                    line.multiply(-np.ones_like(value))
                line.add(-value if node.op_type == "Sub" and first else value)
            else:
                line.multiply(np.float32(1) / value if node.op_type == "Div" else value)
        return line

    def _per_channel(self, name: str, channels: int) -> FloatArray | None:
        """[channels] of a constant that has one number a channel; None of anything else."""
        value: Any = self.constants.get(name)
        if value is None or value.size != channels or value.dtype.kind != "f":
            return None
        return value.reshape(channels)

    def _sharpness(self, node: NodeProto) -> float | None:
        """The number that the maps are multiplied by before the soft-max."""
        queue, seen = list(self.consumers[node.output[0]]), 0
        while queue and seen < 50:
            node, seen = queue.pop(0), seen + 1
            if node.op_type in ("Exp", "Softmax"):
                return 1.0
            if node.op_type in ("Mul", "Div"):
                for name in node.input:
                    value = self.constants.get(name)
                    if value is not None and value.size == 1:
                        number = float(value.reshape(()))
                        return number if node.op_type == "Mul" else 1 / number
            for output in node.output:
                queue += self.consumers[output]
        return None

    def _input_shape(self) -> tuple[int, int, int] | None:
        for value in self.graph.input:
            if value.name not in self.constants:
                sides = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
                return (sides[0], sides[1], sides[2]) if len(sides) == 3 and all(n > 0 for n in sides) else None
        return None
