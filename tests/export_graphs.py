"""Networks of the originals' layout with narrow layers, their graphs, and what ONNX Runtime makes of a graph."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from facetrain.export import command
from facetrain.export.graph import export_graph
from facetrain.export.metadata import read_onnx
from facetrain.facenet_trainer import graph as facenet_graph
from facetrain.facenet_trainer.network import GridBoxArchitecture, GridBoxNet
from facetrain.fpenet_trainer import graph as fpenet_graph
from facetrain.fpenet_trainer.network import Architecture, RecombinatorNet
from facetrain.fpenet_trainer.schemes import load_scheme
from facetrain.training.model_file import ModelMeta, save_model


def point_model(folder, k=80, variant="release", **architecture):
    """The original's layout at an eighth of its width."""
    torch.manual_seed(1)
    upsampling = "nearest" if variant == "release" else "deconv"
    network = RecombinatorNet(
        Architecture(variant=variant, num_keypoints=k, upsampling=upsampling, width=8, **architecture)
    )
    meta = ModelMeta(network.architecture.to_dict(), load_scheme("", k).to_dict(), {"size": 80})
    path = folder / f"points_{k}.safetensors"
    save_model(path, network.state_dict(), meta)
    return network.eval(), meta, path


def grid_model(folder, classes=("face",), width=736, height=416, **architecture):
    """The original's layout with narrow layers, and statistics of batch normalisation that are not trivial."""
    torch.manual_seed(2)
    full = GridBoxArchitecture(num_layers=18, classes=classes, **architecture)
    network = GridBoxNet(replace(full, channels=dict.fromkeys(full.channels, 8)))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of what comes now
    with torch.no_grad():
        network.train()(torch.rand(2, 3, height, width))
        network.output_bbox.bias += 1.5
    meta = ModelMeta(network.architecture.to_dict(), {"classes": list(classes)}, {"width": width, "height": height})
    path = folder / "grid.safetensors"
    save_model(path, network.state_dict(), meta)
    return network.eval(), meta, path


def exported(graph, meta, info, path):
    channels, height, width = info.input_shape
    model = export_graph(graph, torch.rand(2, channels, height, width), meta, info)
    onnx.save(model, str(path))
    return read_onnx(path)


def remember_exports(patch):
    """Lets `export` take the graph of a network from an earlier test of the same file: PyTorch's exporter takes two
    seconds for what it always makes alike. The first test of each network has the exporter itself."""
    real, made = command.export_graph, {}

    def remembered(network, example, meta, info):
        weights = b"".join(tensor.numpy().tobytes() for tensor in network.state_dict().values())
        key = (hashlib.sha256(weights).digest(), repr(network), tuple(example.shape), repr(meta), repr(info))
        if key not in made:
            made[key] = real(network, example, meta, info).SerializeToString()
        return onnx.load_from_string(made[key])

    patch.setattr(command, "export_graph", remembered)


@dataclass(frozen=True)
class Exported:
    """A float32 graph, the layers that stay in float, and inputs for it."""

    model: onnx.ModelProto
    heads: tuple[str, ...]
    images: np.ndarray


KINDS = ("release", "public", "facenet")  # with up-sampling and concatenation; transposed convolutions; additions


def narrow_graph(folder: Path, kind: str) -> Exported:
    """One of `KINDS`."""
    rng = np.random.default_rng(5)
    if kind == "facenet":
        network, meta, path = grid_model(folder, width=96, height=64)
        graph, heads = facenet_graph.GridBoxGraph(network), facenet_graph.HEADS
        info, images = facenet_graph.graph_info(network, meta, path), rng.random((4, 3, 64, 96), np.float32)
    else:
        network, meta, path = point_model(folder, 68, kind)
        graph, heads = fpenet_graph.FpenetGraph(network), fpenet_graph.HEADS
        info, images = fpenet_graph.graph_info(network, meta, path), 255 * rng.random((4, 1, 80, 80), np.float32)
    return Exported(exported(graph, meta, info, folder / f"{kind}.onnx"), heads, images)


def chain(weights: dict[str, np.ndarray], channels: int = 1, size: int = 8) -> onnx.ModelProto:
    """Images [batch, channels, size, size] -> a convolution by each of the kernels [O, I, 1, 1], ReLUs between them.

    Layers are named by the keys, biases are 0.1; what each gives is called "layer.out", the last of them "scores".
    """
    nodes, constants, tensor = [], [], "images"
    for name, kernel in weights.items():
        out = "scores" if name == list(weights)[-1] else f"{name}.out"
        constants.append(numpy_helper.from_array(kernel.astype(np.float32), f"{name}.weight"))
        constants.append(numpy_helper.from_array(np.full(len(kernel), 0.1, np.float32), f"{name}.bias"))
        nodes.append(helper.make_node("Conv", [tensor, f"{name}.weight", f"{name}.bias"], [out], name))
        if out != "scores":
            nodes.append(helper.make_node("Relu", [out], [tensor := f"{name}.relu"], f"{name}.relu"))
    outputs = len(weights[name])
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", channels, size, size])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", outputs, size, size])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, images: np.ndarray, *wanted: str, optimised: bool = False) -> list[np.ndarray]:
    """The outputs, or tensors inside, as every node for itself computes them, or as ONNX Runtime fuses them."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    there = {output.name for output in opened.graph.output}
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in there)
    options = ort.SessionOptions()
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(opened.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(list(wanted) or None, {session.get_inputs()[0].name: images})


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
