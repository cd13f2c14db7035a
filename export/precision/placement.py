"""Where in a graph tensors are rounded to INT8, by a QuantizeLinear and DequantizeLinear pair.

The places follow NVIDIA's recommendations ("Q/DQ Layer-Placement Recommendations" in TensorRT's documentation):

* every convolution's input is quantised, its kernel too, and outputs are not by themselves;
* what only moves values (max-pool, nearest up-sampling, concatenation) has pairs before and behind, all of one scale:
  it then works on integers, and a tensor that goes two ways is rounded once;
* of the two terms of a residual addition one is quantised. The other comes right from its convolution, which TensorRT
  then computes in one with the addition and the ReLU. That is the cheaper one, in the shortcut: ONNX Runtime has no
  integer kernel for it and computes it in float, for which the dearer one would be a pity.

ONNX Runtime has an integer kernel only for a convolution whose output is quantised at once. For its sake a pair of the
same scale stands before a ReLU too: rounding commutes with max(0, x), so not a bit changes. NVIDIA advises against it,
as TensorRT makes one kernel of both layers only where nothing stands between (TensorRT's issue 2134). The plans of
TensorRT-RTX 1.7.1 have the same kernels and the same INT8 tensors with and without.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from onnx import NodeProto

from .dataflow import Dataflow

MOVING = ("MaxPool", "Concat", "Resize")  # they give only values that they were given
Edge = tuple[str, int]  # an input of a node: the node's first output, and which input of it


@dataclass(frozen=True)
class Placement:
    """What is to be quantised.

    Attributes:
        layers: convolutions whose kernels are.
        edges: inputs of nodes that get a pair.
        measured: tensors whose ranges decide the scales.
        groups: tensor on an edge, or measured -> the tensor after which the scale that it shares is named.
    """

    layers: list[str]
    edges: set[Edge]
    measured: list[str]
    groups: dict[str, str]


def quantizable(flow: Dataflow, heads: Sequence[str]) -> list[NodeProto]:
    """The convolutions and residual additions that do not depend on the heads, in the order of their computation."""
    tail = flow.behind(heads)
    additions = {node.output[0] for node in flow.additions()}
    return [
        node
        for node in flow.model.graph.node
        if node.output[0] not in tail and (node.name in flow.layers or node.output[0] in additions)
    ]


def place(flow: Dataflow, heads: Sequence[str], excluded: Collection[str], before_relu: bool) -> Placement:
    """The places.

    Args:
        excluded: convolutions and additions that stay in float.
        before_relu: pairs before ReLUs too, for ONNX Runtime.
    """
    wanted = [node for node in quantizable(flow, heads) if node.name not in excluded]
    layers = [node.name for node in wanted if node.name in flow.layers]
    places = _Places(flow)
    for node in wanted:
        terms = [0] if node.name in flow.layers else _quantized_terms(node, flow, layers)
        places.edges.update((node.output[0], k) for k in terms)
    measured = list(dict.fromkeys(flow.tensor(edge) for edge in sorted(places.edges)))
    for node in reversed(flow.model.graph.node):
        places.move(node)
    if before_relu:
        for node in flow.model.graph.node:
            places.move_before(node, layers)
    tensors = {flow.tensor(edge) for edge in places.edges}
    return Placement(layers, places.edges, measured, {name: places.group(name) for name in tensors})


def _quantized_terms(node: NodeProto, flow: Dataflow, layers: Sequence[str]) -> list[int]:
    """Which terms of an addition are: all but the one that comes right from its convolution.

    A convolution in float is that one before all others, then the one with the smallest kernel.
    """

    def cost(k: int) -> tuple[bool, bool, int]:
        layer = flow.source(node.input[k])
        if layer is None:
            return True, True, 0
        return False, layer.name in layers, flow.elements(layer.input[1])

    direct = min(range(len(node.input)), key=cost)
    return [k for k in range(len(node.input)) if k != direct]


class _Places:
    """Edges that are collected, and tensors that must share a scale."""

    def __init__(self, flow: Dataflow) -> None:
        self.flow = flow
        self.edges: set[Edge] = set()
        self.parents: dict[str, str] = {}

    def group(self, tensor: str) -> str:
        while tensor in self.parents:
            tensor = self.parents[tensor]
        return tensor

    def move(self, node: NodeProto) -> None:
        """Rounds what a node gets instead of what it gives, if it only moves values. Nodes come from last to first."""
        if node.op_type in MOVING and self._rounded(node.output[0]):
            for k in range(len(node.input)) if node.op_type == "Concat" else [0]:
                self._pair(node, k)

    def move_before(self, node: NodeProto, layers: Sequence[str]) -> None:
        """Rounds what a ReLU gets, too, if it comes right from one of these convolutions."""
        source = self.flow.source(node.input[0]) if node.op_type == "Relu" else None
        if source is not None and source.name in layers and self._rounded(node.output[0]):
            self._pair(node, 0)

    def _pair(self, node: NodeProto, k: int) -> None:
        self.edges.add((node.output[0], k))
        ours, theirs = self.group(node.input[k]), self.group(node.output[0])
        if ours != theirs:
            self.parents[ours] = theirs

    def _rounded(self, tensor: str) -> bool:
        """Everybody takes it rounded."""
        takers = [
            (node.output[0], k)
            for node in self.flow.consumers[tensor]
            for k, name in enumerate(node.input)
            if name == tensor
        ]
        return bool(takers) and tensor not in self.flow.outputs and all(edge in self.edges for edge in takers)
