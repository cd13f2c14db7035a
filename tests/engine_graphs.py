"""ONNX graphs to build engines of: a small one, and the zoo's networks in every precision."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from facetrain.export.engines.build import build_engine
from facetrain.export.engines.options import EngineOptions
from facetrain.export.graph import export_graph
from facetrain.export.metadata import GraphInfo, entries_of, read_onnx, understood
from facetrain.facenet_trainer import graph as facenet_graph
from facetrain.facenet_trainer import pretrained
from facetrain.fpenet_trainer import graph as fpenet_graph
from facetrain.fpenet_trainer import predictor
from facetrain.training.model_file import ModelMeta

META = ModelMeta({"network": "fpenet"}, {}, {})
INFO = GraphInfo("fp32", "plain", "images", (1, 16, 16), {"scores": "scores"})
# What TensorRT takes, and ONNX Runtime does not do by itself: symmetric ranges and biases in float.
FOR_TENSORRT = {
    "per_channel": True,
    "activation_type": QuantType.QInt8,
    "weight_type": QuantType.QInt8,
    "extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
}


def small_graph(path: Path, batch: int | str = "batch", opset: int = 17) -> Path:
    """Images [batch, 1, 16, 16] -> convolution, ReLU, convolution -> scores [batch, 4, 14, 14]."""
    rng = np.random.default_rng(3)
    weights = {
        "first.weight": rng.normal(0, 0.3, (8, 1, 3, 3)),
        "first.bias": rng.normal(0, 0.1, 8),
        "second.weight": rng.normal(0, 0.2, (4, 8, 3, 3)),
        "second.bias": rng.normal(0, 0.1, 4),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["images", "first.weight", "first.bias"], ["a"], "first", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["b"], "relu"),
            helper.make_node("Conv", ["b", "second.weight", "second.bias"], ["scores"], "second"),
        ],
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 1, 16, 16])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 4, 14, 14])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), str(path))
    return path


def build(path: Path, engine_path: Path, flavour: str = "tensorrt_rtx", **options):
    """Builds an engine of a graph, with the graph's own metadata where it has them."""
    entries = entries_of(read_onnx(path)) if path.is_file() else {}
    meta, info = understood(entries, path) if entries else (META, INFO)
    return build_engine(path, engine_path, EngineOptions(flavour, **options), meta, info)


class _Half(nn.Module):
    """A graph in half precision with float32 at both ends."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.network = graph.half()

    def forward(self, images):
        return tuple(output.float() for output in self.network(images.half()))


def zoo_graphs(network: str, folder: Path, example: torch.Tensor | None = None) -> dict[str, Path]:
    """The zoo's FPENet or FaceNet in each precision: inputs [N, 1, 80, 80], 0 to 255, or [N, 3, 736, 736], 0 to 1.

    INT8 ranges are those of the example; without one they are those of noise.
    """
    if network == "fpenet":
        model, meta = predictor.load_network("zoo")
        info = fpenet_graph.graph_info(model, meta, predictor.model_path("zoo"))
        graph, top = fpenet_graph.FpenetGraph(model), 255
    else:
        model, meta = pretrained.load_network("zoo")
        info = facenet_graph.graph_info(model, meta, pretrained.model_path("zoo"))
        graph, top = facenet_graph.GridBoxGraph(model), 1
    example = top * torch.rand(2, *info.input_shape) if example is None else example
    paths = {precision: folder / f"{network}_{precision}.onnx" for precision in ("fp32", "fp16", "int8")}
    onnx.save(export_graph(graph, example, meta, info), str(paths["fp32"]))
    quantize(paths["fp32"], paths["int8"], example.numpy(), **FOR_TENSORRT)
    onnx.save(export_graph(_Half(graph), example, meta, info), str(paths["fp16"]))
    return paths


def quantize(source: Path, path: Path, example, **recipe) -> None:
    """An INT8 graph by ONNX Runtime, its ranges measured on one batch: for engines that nobody will look through."""
    model = onnx.load(str(source))
    name, kept = model.graph.input[0].name, {entry.key: entry.value for entry in model.metadata_props}
    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(path), _Once({name: example}), QuantFormat.QDQ, op_types_to_quantize=["Conv"], **recipe
    )
    prepared.unlink()
    quantized = onnx.load(str(path))
    del quantized.metadata_props[:]
    helper.set_model_props(quantized, kept)
    onnx.save(quantized, str(path))


class _Once(CalibrationDataReader):
    def __init__(self, inputs) -> None:
        self.left = [inputs]

    def get_next(self):
        return self.left.pop() if self.left else None
