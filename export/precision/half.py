"""The graph in half precision: IEEE float16 between its ends, float32 at them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ...errors import ExportError
from ..graph import check
from .dataflow import Dataflow

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
FIXED = {"Resize": (1, 2)}  # inputs that are float32 whatever the first one is: a region and scales


def to_half(model: onnx.ModelProto, heads: Sequence[str]) -> onnx.ModelProto:
    """A typed graph that computes in float16 up to the heads, and in float32 from them on.

    Inputs and outputs stay float32. Casts stand where the type changes, so that what takes types as they are written
    (TensorRT calls it "strongly typed") computes the same as ONNX Runtime.

    ONNX Runtime's own converter is of no use here: what it writes is not in the order that ONNX's checker demands, and
    it casts to float16 and back between any two nodes that are to stay float32.

    Args:
        heads: layers that are float32, with all that is computed of them.

    Raises:
        ExportError: a head is unknown, or a weight is beyond float16's 65,504.
    """
    flow = Dataflow(model)
    flow.require(heads, "heads")
    tail = flow.behind(heads)
    rewriting = _Rewriting(flow, tail)
    for node in model.graph.node:
        rewriting.add(node, FLOAT if node.output[0] in tail else HALF)
    half = onnx.ModelProto()
    half.CopyFrom(model)
    rewriting.replace(half.graph)
    check(half)
    return half


class _Rewriting:
    """The nodes of a graph one after another, each given its inputs in the type that it computes in.

    Attributes:
        types: tensor -> what it is in the new graph.
    """

    def __init__(self, flow: Dataflow, tail: set[str]) -> None:
        self.types = flow.element_types()
        self.constants = dict(flow.constants)
        self.outputs = {output.name for output in flow.model.graph.output}
        self.shared = {name for node in flow.model.graph.node if node.output[0] in tail for name in node.input}
        self.nodes: list[NodeProto] = []
        self.converted: dict[tuple[str, int], str] = {}

    def add(self, node: NodeProto, wanted: int) -> None:
        """A node that computes in float32 or float16."""
        new = NodeProto()
        new.CopyFrom(node)
        fixed = FIXED.get(node.op_type, ())
        new.input[:] = [self._as(name, FLOAT if i in fixed else wanted) for i, name in enumerate(node.input)]
        self.nodes.append(new)
        if wanted == FLOAT or not node.input:  # without inputs it is a constant, float32 until somebody wants it half
            return
        for i, name in enumerate(node.output):
            if self.types[name] == FLOAT:
                if name in self.outputs:
                    new.output[i] = f"{name}.half"
                    self.types[new.output[i]] = HALF
                    self._cast(new.output[i], name, FLOAT)
                else:
                    self.types[name] = HALF

    def _as(self, name: str, wanted: int) -> str:
        """The name of a tensor in that type; one that is no floating-point number, or left out, stays as it is."""
        if self.types.get(name) not in (FLOAT, HALF) or self.types[name] == wanted:
            return name
        if (name, wanted) not in self.converted:
            if name in self.constants:
                self.converted[name, wanted] = self._half_constant(name)
            else:
                self.converted[name, wanted] = f"{name}.{'half' if wanted == HALF else 'float'}"
                self._cast(name, self.converted[name, wanted], wanted)
        return self.converted[name, wanted]

    def _cast(self, name: str, new: str, wanted: int) -> None:
        self.nodes.append(helper.make_node("Cast", [name], [new], name=f"{new}_cast", to=wanted))

    def _half_constant(self, name: str) -> str:
        """A constant in float16: in place of the other where no float32 node takes that."""
        with np.errstate(over="ignore"):
            values = numpy_helper.to_array(self.constants[name]).astype(np.float16)
        if not np.isfinite(values).all():
            raise ExportError(f"{name} has values beyond float16's 65504, so that there is no fp16 form of this model")
        new = f"{name}.half" if name in self.shared else name
        self.constants[new] = numpy_helper.from_array(values, new)
        if new == name:
            self.types[name] = HALF
        return new

    def replace(self, graph: onnx.GraphProto) -> None:
        """Puts the new nodes and constants in."""
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(self.constants.values())


def in_float(half: onnx.ModelProto) -> onnx.ModelProto:
    """What a GPU computes of a graph in half precision, for a CPU to check.

    ONNX Runtime's CPU kernels know no float16: it computes such a graph in float32 throughout, where nothing is rounded
    and nothing overflows. Here every float16 tensor is rounded to float16 before it is used, so that overflow and loss
    show. Sums within a layer are taken in float32, as tensor cores take them.
    """
    model = onnx.ModelProto()
    model.CopyFrom(half)
    graph = model.graph
    flow = Dataflow(half)
    types = flow.element_types()
    nodes: list[NodeProto] = []
    rounded: dict[str, str] = {}
    for node in half.graph.node:
        new = NodeProto()
        new.CopyFrom(node)
        new.input[:] = [rounded.get(name, name) for name in node.input]
        if node.op_type == "Cast" and types[node.output[0]] in (FLOAT, HALF):
            new = helper.make_node("Identity", list(new.input), list(node.output), name=node.name)
        nodes.append(new)
        for name in node.output:
            if types[name] == HALF and not _selects(node) and not _before_relu(name, flow):
                rounded[name] = f"{name}.rounded"
                nodes.append(helper.make_node("Cast", [name], [f"{name}.bits"], to=HALF))
                nodes.append(helper.make_node("Cast", [f"{name}.bits"], [rounded[name]], to=FLOAT))
    for tensor in graph.initializer:
        if tensor.data_type == HALF:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    check(model)
    return model


def _selects(node: NodeProto) -> bool:
    """It gives only values that it was given, rounded already; a DequantizeLinear's go into integer arithmetic."""
    return node.op_type in ("MaxPool", "Concat", "Resize", "Reshape", "DequantizeLinear")


def _before_relu(name: str, flow: Dataflow) -> bool:
    """A ReLU alone takes it, and rounding behind that is the same: so ONNX Runtime can do both layers at once."""
    return [node.op_type for node in flow.consumers[name]] == ["Relu"]
