"""Which node gives a tensor of an ONNX graph, which nodes take it, and what follows from a layer."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import onnx
from onnx import NodeProto
from onnx.shape_inference import infer_shapes

from ...errors import ExportError
from ..graph import LAYERS


class Dataflow:
    """The edges of a graph whose layers bear names, as `graph.export_graph` writes it.

    Attributes:
        constants: weights and other fixed tensors, by name.
        producers: tensor -> the node that gives it; graph inputs and constants have none.
        consumers: tensor -> the nodes that take it, in the order in which they are computed.
        layers: convolutions by name, in that order.
        outputs: of the graph.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.outputs = {output.name for output in model.graph.output}
        self.producers = {name: node for node in model.graph.node for name in node.output}
        self.consumers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self.consumers[name].append(node)
        self.layers = {node.name: node for node in model.graph.node if node.op_type in LAYERS}

    def require(self, layers: Sequence[str], what: str) -> None:
        """Raises ExportError when one of these is no layer of the graph, nor an addition."""
        known = [*self.layers, *(node.name for node in self.additions())]
        for name in layers:
            if name not in known:
                raise ExportError(f"{what}: the graph has no layer {name!r}; it has {', '.join(known)}")

    def behind(self, layers: Sequence[str]) -> set[str]:
        """The tensors that are computed from what these layers give, and what they give."""
        found: set[str] = set()
        for node in self.model.graph.node:
            if node.name in layers or any(name in found for name in node.input):
                found.update(node.output)
        return found

    def source(self, tensor: str) -> NodeProto | None:
        """The convolution that gives a tensor."""
        node = self.producers.get(tensor)
        return node if node is not None and node.op_type in LAYERS else None

    def additions(self) -> list[NodeProto]:
        """The additions of which a term comes right from a convolution."""
        return [
            node
            for node in self.model.graph.node
            if node.op_type == "Add" and any(self.source(name) is not None for name in node.input)
        ]

    def element_types(self) -> dict[str, int]:
        """Tensor -> its `TensorProto` data type."""
        graph = infer_shapes(self.model).graph
        values = [*graph.input, *graph.value_info, *graph.output]
        types = {value.name: value.type.tensor_type.elem_type for value in values}
        return types | {name: tensor.data_type for name, tensor in self.constants.items()}

    def tensor(self, edge: tuple[str, int]) -> str:
        """What a node takes: the node that gives a tensor, and which of its inputs."""
        node, k = edge
        return self.producers[node].input[k]

    def elements(self, constant: str) -> int:
        return math.prod(self.constants[constant].dims)
