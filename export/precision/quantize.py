"""The graph in INT8, as explicit QuantizeLinear and DequantizeLinear pairs that TensorRT and ONNX Runtime both take.

Everything is symmetric: zero points are 0. A tensor has one scale, a kernel one for each output channel. Kernels are
stored as integers. Biases stay as they are: TensorRT refuses the int32 biases that are usual elsewhere.

`onnxruntime.quantization.quantize_static` can be kept from quantising biases, but not be told where pairs are to stand
(see `placement`): it quantises both terms of an addition, gives each tensor a scale of its own where several must have
the same, and makes one pair for all that take a tensor, of which its own runtime then makes no integer kernel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper, version_converter

from ...errors import ExportError
from ..graph import check
from .dataflow import Dataflow
from .half import to_half
from .placement import Placement, place, quantizable

HALF_OPSET = 19  # the first with scales in float16
LARGEST = 127
SMALLEST_SCALE = 2.0**-24  # float16's smallest number; of what is hardly ever anything but 0


def quantizable_layers(model: onnx.ModelProto, heads: Sequence[str]) -> list[str]:
    """What `quantize` quantises where nothing is excluded: convolutions and residual additions, by name."""
    return [node.name for node in quantizable(Dataflow(model), heads)]


def tensors_to_calibrate(model: onnx.ModelProto, heads: Sequence[str]) -> list[str]:
    """The tensors whose ranges `quantize` may ask for, whatever is excluded."""
    flow = Dataflow(model)
    nodes = quantizable(flow, heads)
    names = [name for node in nodes for name in (node.input[:1] if node.name in flow.layers else node.input)]
    return list(dict.fromkeys(names))


def layer_ranges(model: onnx.ModelProto, named: Mapping[str, float], heads: Sequence[str]) -> dict[str, float]:
    """The ranges that quantisation-aware training left, by tensor of this graph.

    Args:
        named: "encoder.0.0.input" or "block_1a.conv_2.output" -> largest magnitude.

    Raises:
        ExportError: a name belongs to no layer, or a range that the graph needs is missing.
    """
    flow = Dataflow(model)
    found: dict[str, float] = {}
    for name, value in named.items():
        layer, _, end = name.rpartition(".")
        node = flow.layers.get(layer)
        if node is None or end not in ("input", "output"):
            raise ExportError(
                f"the model file has an INT8 range for {name!r}, which the network has not; export with "
                "calibration.ranges=measured to do without its ranges"
            )
        tensor = node.input[0] if end == "input" else node.output[0]
        found[tensor] = max(value, found.get(tensor, 0.0))
    _require(flow, found, place(flow, heads, (), before_relu=False), "the model file has")
    return found


def quantize(
    model: onnx.ModelProto,
    ranges: Mapping[str, float],
    heads: Sequence[str],
    excluded: Collection[str] = (),
    half: bool = False,
) -> onnx.ModelProto:
    """The graph with its convolutions in INT8.

    Args:
        ranges: tensor -> magnitude that becomes 127, for those of `tensors_to_calibrate`. Tensors that share a scale
            get the largest of theirs.
        heads: layers that are float32, with all that is computed of them.
        excluded: layers that stay in float.
        half: what is not INT8 is float16 up to the heads. For GPUs: without the pairs that ONNX Runtime needs. Opset 19
            at least.

    Raises:
        ExportError: a layer is unknown, or a range is missing.
    """
    if half and model.opset_import[0].version < HALF_OPSET:
        model = version_converter.convert_version(model, HALF_OPSET)
        model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))
    flow = Dataflow(model)
    flow.require(heads, "heads")
    flow.require(list(excluded), "quantize.excluded_layers")
    placement = place(flow, heads, excluded, before_relu=not half)
    _require(flow, ranges, placement, "there is")
    writing = _Writing(flow, placement, ranges, half)
    for node in model.graph.node:
        writing.add(node)
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    writing.replace(quantized.graph)
    check(quantized)
    return to_half(quantized, heads) if half else quantized


def _require(flow: Dataflow, ranges: Mapping[str, float], placement: Placement, subject: str) -> None:
    for tensor in placement.measured:
        if tensor not in ranges:
            takers = [f"the input of {node.name}" for node in flow.consumers[tensor] if node.name in flow.layers]
            source = flow.source(tensor)
            what = takers[0] if takers else f"the output of {source.name}" if source else tensor
            raise ExportError(f"{subject} no INT8 range for {what}; export with calibration.ranges=measured")


class _Writing:
    """The nodes of the quantised graph one after another."""

    def __init__(self, flow: Dataflow, placement: Placement, ranges: Mapping[str, float], half: bool) -> None:
        self.placement, self.half = placement, half
        self.nodes: list[NodeProto] = []
        self.constants = dict(flow.constants)
        self.pairs: Counter[str] = Counter()  # of a tensor, so far
        largest: dict[str, float] = {}
        for tensor in placement.measured:
            group = placement.groups[tensor]
            largest[group] = max(largest.get(group, 0.0), ranges[tensor])
        for group, magnitude in largest.items():
            self._constant(f"{group}.scale", self._scales(np.float32(magnitude)))
        self._constant("int8.zero", np.int8(0))

    def add(self, node: NodeProto) -> None:
        """A node, behind the pairs that it needs."""
        new = NodeProto()
        new.CopyFrom(node)
        for k, tensor in enumerate(node.input):
            if (node.output[0], k) in self.placement.edges:
                new.input[k] = self._pair(tensor, f"{node.name}.{k}")
        if node.name in self.placement.layers:
            new.input[1] = self._kernel(node)
        self.nodes.append(new)

    def _pair(self, tensor: str, place: str) -> str:
        """Its own for each place: ONNX Runtime can only use a QuantizeLinear that one DequantizeLinear reads.

        It makes one of those that are alike; so they differ in their axis, which a single scale does not look at. Not
        where scales are float16: it would make integer concatenations of them that it then cannot run.
        """
        fixed = [f"{self.placement.groups[tensor]}.scale", "int8.zero"]
        whole, rounded = f"{place}.int8", f"{place}.rounded"
        axis = 0 if self.half else self.pairs[tensor]
        self.pairs[tensor] += 1
        self.nodes.append(
            helper.make_node("QuantizeLinear", [tensor, *fixed], [whole], name=f"{place}.quantize", axis=axis)
        )
        self.nodes.append(helper.make_node("DequantizeLinear", [whole, *fixed], [rounded], name=f"{place}.dequantize"))
        return rounded

    def _kernel(self, node: NodeProto) -> str:
        """The kernel as integers, in place of the float one."""
        name = node.input[1]
        kernel = numpy_helper.to_array(self.constants[name])
        axis = 1 if node.op_type == "ConvTranspose" else 0  # of the output channels
        rest = tuple(i for i in range(kernel.ndim) if i != axis)
        scales = self._scales(np.abs(kernel).max(axis=rest))
        whole = np.rint(kernel / np.expand_dims(scales.astype(np.float32), rest)).clip(-LARGEST, LARGEST)
        self._constant(name, whole.astype(np.int8))
        inputs = [
            name,
            self._constant(f"{name}.scale", scales),
            self._constant(f"{name}.zero", np.zeros_like(scales, np.int8)),
        ]
        rounded = f"{name}.rounded"
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [rounded], name=f"{name}.dequantize", axis=axis))
        return rounded

    def _scales(self, largest: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
        """What a step of 1 stands for; such as float16 has, where they will be that."""
        scales = np.maximum(np.asarray(largest, np.float32) / LARGEST, SMALLEST_SCALE)
        return scales.astype(np.float16).astype(np.float32) if self.half else scales

    def _constant(self, name: str, values: NDArray[np.generic] | np.generic) -> str:
        self.constants[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def replace(self, graph: onnx.GraphProto) -> None:
        """Puts the new nodes and constants in."""
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(self.constants.values())
