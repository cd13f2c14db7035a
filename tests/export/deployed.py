"""Exports that deployment files are written for: small ones whose numbers mean nothing, and the zoo's models."""

from __future__ import annotations

import functools
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch

from facetrain.configs.facenet.schema import ClusteringConfig, FacenetExportConfig
from facetrain.configs.fpenet.schema import FpenetExportConfig
from facetrain.datasets.drawn.scenes import draw_scene
from facetrain.datasets.preprocessing import Preprocessing
from facetrain.datasets.resizing import PicturePreprocessing
from facetrain.export.graph import export_graph
from facetrain.export.metadata import GraphInfo
from facetrain.facenet_trainer import graph as facenet_graph
from facetrain.facenet_trainer.network import GridBoxArchitecture, GridBoxNet
from facetrain.facenet_trainer.nms_graph import with_nms
from facetrain.facenet_trainer.predictor import Predictor as FacePredictor
from facetrain.facenet_trainer.pretrained import load_network as load_grid
from facetrain.facenet_trainer.pretrained import model_path as grid_path
from facetrain.fpenet_trainer import graph as fpenet_graph
from facetrain.fpenet_trainer.network import Architecture, RecombinatorNet
from facetrain.fpenet_trainer.predictor import ZOO
from facetrain.fpenet_trainer.predictor import load_network as load_points
from facetrain.fpenet_trainer.schemes import load_scheme
from facetrain.training.model_file import ModelMeta, save_model


class Export(NamedTuple):
    """What an export has written: `forms` as the export command hands them on."""

    folder: Path
    meta: ModelMeta
    info: GraphInfo
    forms: dict[str, Path]


def export_points(folder: Path, path: Path = ZOO, crop: dict[str, Any] | None = None, **config: Any) -> Export:
    """fpenet.onnx of a model file, with other crops if need be."""
    network, meta = load_points(str(path))
    meta = replace(meta, preprocessing=meta.preprocessing | (crop or {}))
    config = FpenetExportConfig(**config)
    info = fpenet_graph.graph_info(network, meta, path, config)
    return _export(folder, fpenet_graph.FpenetGraph(network, config.heatmaps), meta, info)


def export_faces(
    folder: Path, name: str = "zoo", resize: str = "fit", size=(320, 256), clustering: dict | None = None, **config: Any
) -> Export:
    """facenet.onnx of a model file, or the zoo's, for a small input."""
    predictor = FacePredictor.load(name, "cpu", clustering, {"resize": resize, "width": size[0], "height": size[1]})
    network, meta = load_grid(name)
    meta = replace(
        meta,
        preprocessing=predictor.preprocessing.to_dict(),
        config=meta.config | {"clustering": asdict(predictor.clustering)},
    )
    config = FacenetExportConfig(**config)
    info = facenet_graph.graph_info(network, meta, grid_path(name), config)
    graph = facenet_graph.GridBoxGraph(network, config.decode or config.nms)
    export = _export(folder, graph, meta, info)
    if not config.nms:
        return export
    model = with_nms(onnx.load(str(export.forms["fp32"])), predictor)
    onnx.save(model, str(export.forms["fp32"]))
    return export._replace(info=replace(info, outputs={"detections": "detections"}))


def _export(folder: Path, graph: torch.nn.Module, meta: ModelMeta, info: GraphInfo) -> Export:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{meta.architecture['network']}.onnx"
    onnx.save(export_graph(graph, torch.rand(2, *info.input_shape), meta, info), str(path))
    return Export(folder, meta, info, {"fp32": path})


def point_model(path: Path, k: int = 68, **architecture: Any) -> Path:
    """A narrow keypoint network with random weights."""
    torch.manual_seed(1)
    network = RecombinatorNet(
        Architecture(variant="release", num_keypoints=k, upsampling="nearest", width=8, **architecture)
    )
    meta = ModelMeta(network.architecture.to_dict(), load_scheme("", k).to_dict(), Preprocessing().to_dict())
    save_model(path, network.state_dict(), meta)
    return path


def grid_model(path: Path, classes: tuple[str, ...] = ("face",), grayscale: bool = False, **architecture: Any) -> Path:
    """A narrow detector with random weights, which lights cells all over any picture."""
    torch.manual_seed(2)
    full = GridBoxArchitecture(num_layers=10, classes=classes, **architecture)
    network = GridBoxNet(replace(full, channels=dict.fromkeys(full.channels, 8)))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean of what comes now
    with torch.no_grad():
        network.train()(torch.rand(2, 3, 256, 320))
        network.output_bbox.bias += 1.0
        network.output_cov.weight *= 4
    config = {"clustering": asdict(ClusteringConfig(coverage_threshold=0.3, dbscan_min_weight=0.6, dbscan_eps=0.4))}
    shape = PicturePreprocessing(320, 256, grayscale).to_dict()
    save_model(
        path, network.state_dict(), ModelMeta(network.architecture.to_dict(), {"classes": classes}, shape, config)
    )
    return path


@functools.cache
def scene(index: int, width: int = 300, height: int = 240) -> np.ndarray:
    """A drawn picture of people, RGB [H, W, 3]."""
    picture = np.array(draw_scene(3, index, width, height).image)
    picture.setflags(write=False)
    return picture
