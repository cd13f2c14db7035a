"""From a PyTorch module to one self-contained ONNX graph under the names that its users already have."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import onnx
import torch
from onnx import checker, helper
from torch import Tensor, nn

from ..errors import ExportError
from ..training.model_file import ModelMeta
from .metadata import GraphInfo, described

LAYERS = ("Conv", "ConvTranspose")


def export_graph(graph: nn.Module, example: Tensor, meta: ModelMeta, info: GraphInfo) -> onnx.ModelProto:
    """The ONNX form of a module in float32, batch normalisation folded into the convolutions.

    Convolutions, and additions that join one, are named as the module names their layers, "encoder.0.0" or
    "block_1a.add"; weights are "encoder.0.0.weight".

    Args:
        graph: takes one input and returns the tensors of `info.outputs` in that order. What is exported of it lies in
            its attribute `network`.
        example: an input [2, C, H, W].
        info: its `opset` is the one that is wanted.

    Raises:
        ExportError: the graph cannot be written with that opset, or does not pass ONNX's own checker.
    """
    batch = torch.export.Dim("batch") if info.batch == 0 else None
    fixed = example if info.batch == 0 else example[:1].expand(info.batch, *example.shape[1:])
    with _quiet():
        try:
            program = torch.onnx.export(
                graph.eval(),
                (fixed,),
                dynamo=True,
                external_data=False,
                opset_version=info.opset,
                input_names=[info.input],
                output_names=list(info.outputs.values()),
                dynamic_shapes=({0: batch} if batch else None,),
                verbose=False,
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            raise ExportError(f"the network cannot be written as ONNX: {str(error).splitlines()[0]}") from error
    assert program is not None
    model = program.model_proto
    written = next(entry.version for entry in model.opset_import if entry.domain == "")
    if written != info.opset:
        raise ExportError(
            f"export.opset={info.opset}: PyTorch {torch.__version__} cannot write this graph with it, only with "
            f"{written}; take export.opset={written}"
        )
    _rename_layers(model)
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))  # older runtimes read it too
    describe(model, meta, info)
    check(model)
    return model


def describe(model: onnx.ModelProto, meta: ModelMeta, info: GraphInfo) -> None:
    """Puts the metadata in, with the opset that the graph has."""
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    del model.metadata_props[:]
    helper.set_model_props(model, described(meta, replace(info, opset=opset)))


def check(model: onnx.ModelProto) -> None:
    """Raises ExportError when the graph does not pass the full checker, shapes and types included."""
    try:
        checker.check_model(model, full_check=True)
    except (checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the graph does not pass ONNX's checker: {error}") from error


def _rename_layers(model: onnx.ModelProto) -> None:
    new = {weights.name: weights.name.removeprefix("network.") for weights in model.graph.initializer}
    for weights in model.graph.initializer:
        weights.name = new[weights.name]
    layers: dict[str, str] = {}  # tensor -> the convolution that makes it
    for node in model.graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        joined = [layers[name] for name in node.input if name in layers]
        if node.op_type in LAYERS:
            node.name = node.input[1].removesuffix(".weight")
            layers[node.output[0]] = node.name
        elif node.op_type == "Add" and joined:
            node.name = joined[0].rpartition(".")[0] + ".add"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of its own inner workings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.onnx._internal", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
