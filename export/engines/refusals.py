"""What a library says when it will not take a graph, in words that help."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnx

from ...errors import ExportError
from .library import plain

EVERYWHERE = 17  # an opset that every TensorRT from 8.6 on reads


def refusal(title: str, parser: Any, log: Any, path: Path, model: onnx.ModelProto) -> ExportError:
    """The parser's first error: node, operator and reason, and what to do about it.

    Args:
        title: the library and its version.
    """
    if not parser.num_errors:
        return ExportError(f"{path}: {title} cannot read it: {log.take() or 'it gives no reason'}")
    error = parser.get_error(0)
    nodes, index = model.graph.node, error.node()
    op = error.node_operator() or (nodes[index].op_type if 0 <= index < len(nodes) else "unknown")
    reason = plain(error.desc()).removeprefix(f"Invalid Node - {error.node_name()} ")
    return ExportError(
        f"{path}: {title} refuses node {error.node_name() or index} ({op}): {error.code().name}, {reason}. What to do: "
        f"{_advice(op, reason, model)}"
    )


def _advice(op: str, reason: str, model: onnx.ModelProto) -> str:
    again = "make the INT8 graph with export.precisions=[int8]"
    if op == "DequantizeLinear" and "Int32" in reason:
        return (
            f"its biases are quantised, as ONNX Runtime's default recipe does, and TensorRT takes float biases: {again}"
        )
    if op in ("QuantizeLinear", "DequantizeLinear") and "zero point" in reason:
        return f"its scales are not symmetric, and TensorRT takes zero points of 0 only: {again}"
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset > EVERYWHERE:
        return f"it is written with opset {opset}: export it again with export.opset={EVERYWHERE}"
    return "export the graph again without what this node stands for"


def failure(title: str, path: Path, model: onnx.ModelProto, reason: str, workspace_mib: int) -> ExportError:
    """Why a graph that the parser took did not become an engine."""
    start = f"{path}: {title} cannot build it"
    if match := re.search(r"(\S+) has no runners", reason):
        name = re.sub(r"^node_of_|_\d+$", "", match[1])  # the parser names a nameless node after its output
        kinds = {key: node.op_type for node in model.graph.node for key in (node.name, *node.output)}
        return ExportError(
            f"{start}: it has no kernel for node {name} ({kinds.get(name, 'unknown')}); export the graph without what "
            "this node stands for, such as export.nms, or take export.engine=tensorrt"
        )
    if workspace_mib and ("workspace" in reason or "OutOfMemory" in reason):
        return ExportError(f"{start} with build.workspace_mib={workspace_mib}: make it larger, or 0 ({reason})")
    return ExportError(f"{start}: {reason or 'it gives no reason'}")
