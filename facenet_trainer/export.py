"""`facenet export`: a model file as ONNX graphs and engines that are checked on pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..configs.facenet.schema import DataConfig, FacenetExportSpec, IgnoreConfig, SourceConfig
from ..configs.stored_data import exported_data
from ..datasets.detection_sources import DetectionSets, read_detection_sets
from ..datasets.image import read_image
from ..datasets.sample import ByteArray, DetectionSample
from ..datasets.source_files import draw, picture_files
from ..datasets.store.pictures import read_picture
from ..errors import ConfigError, DataError
from ..export.command import Calibration, ExportJob, refuse_exported, run_export
from ..export.gate import Differences, Standard, Verdict
from ..export.runtime import Runtime, TorchRuntime
from ..export.samples import sets_or_none, spread
from ..training.distributed import pick_device
from ..training.pruning import Layer
from .detection_results import predict_pictures
from .evaluate import samples_of, with_mapping
from .graph import HEADS, GridBoxGraph, graph_info
from .network import GridBoxArchitecture, prune_graph
from .nms_graph import NmsGraph, nms_info, with_nms
from .predictor import Predictor, scaled
from .pretrained import load_network, model_path

log = logging.getLogger(__name__)

BATCH = 4
DRAWN = 16  # scenes to compare on where there are no pictures
LIT = 0.3  # cells with less coverage stand for no box, and theirs are not compared
DEEPSTREAM = {"stride": 16, "scale": 35.0, "offset": 0.5}  # what its parser takes for granted (gridbox §9.5)


def export(spec: FacenetExportSpec) -> list[Verdict]:
    """Writes ONNX graphs, engines and deployment files of `spec.model`, and checks them; see `run_export`."""
    return run_export(spec, lambda: _prepare(spec))


def _prepare(spec: FacenetExportSpec) -> ExportJob:
    refuse_exported(spec.model, "facenet")
    own = Predictor.load(spec.model, "auto", spec.clustering, spec.input_size)
    network, meta = load_network(spec.model)
    # What the files say is what they are used with from now on.
    meta = replace(
        meta,
        preprocessing=own.preprocessing.to_dict(),
        config=meta.config | {"clustering": asdict(own.clustering)},
    )
    info = graph_info(network, meta, model_path(spec.model), spec.export)
    _warn_of_constants(network.architecture)
    decode = spec.export.decode or spec.export.nms
    graph = GridBoxGraph(network, decode)
    judged, final = (NmsGraph(graph, own), nms_info(info)) if spec.export.nms else (graph, info)
    reference = TorchRuntime(judged, meta, final, pick_device("auto"))
    pictures = _Pictures(spec, Predictor(reference, own.preprocessing, own.clustering))
    inputs = pictures.inputs(spec.gate.inputs)
    return ExportJob(
        network="facenet",
        graph=graph,
        meta=meta,
        info=info,
        heads=HEADS,
        tail=(lambda model: with_nms(model, own)) if spec.export.nms else lambda model: model,
        standard=Standard(
            reference=reference,
            inputs=inputs,
            inputs_are=f"{len(inputs)} {pictures.are}",
            differences=lambda ours, theirs: _differences(ours, theirs, network.architecture),
            kpi=pictures.kpi if pictures.measured else None,
            kpi_name="AP50 %",
            higher_is_better=True,
            network=network,
            modules={node.module: node.bn or node.module for node in prune_graph(network) if isinstance(node, Layer)},
        ),
        calibrate=pictures.calibration,
    )


def _warn_of_constants(a: GridBoxArchitecture) -> None:
    own = {"stride": a.stride, "scale": a.bbox_scale, "offset": a.bbox_offset}
    if own != DEEPSTREAM:
        log.warning(
            "this model's boxes are to be read with %s; DeepStream's own parser takes %s for granted and would draw "
            "wrong boxes: use the custom parser that is written to deepstream/, or train with TAO's values",
            _listed(own),
            _listed(DEEPSTREAM),
        )


def _listed(constants: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in constants.items())


def _differences(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], a: GridBoxArchitecture) -> Differences:
    """Of the box edges of cells that are lit, and of all coverage that either has."""
    ours, theirs = ({name: value.float().cpu() for name, value in outputs.items()} for outputs in (ours, theirs))
    if "detections" in ours:
        return _matched(ours["detections"], theirs["detections"])
    if "boxes" in ours:
        pixels, coverage = (theirs["boxes"] - ours["boxes"]).abs(), ours["scores"]
        share = (theirs["scores"] - coverage).abs()
    else:
        n, c, h, w = ours["coverage"].shape
        pixels = a.bbox_scale * (theirs["bbox"] - ours["bbox"]).abs().reshape(n, c, 4, h * w).transpose(2, 3)
        coverage = ours["coverage"].flatten(2)
        share = (theirs["coverage"].flatten(2) - coverage).abs()
    seen = (coverage > 0.05) | (share > 0.05)
    return {"pixels": pixels[coverage > LIT].numpy(), "probability": share[seen].numpy()}


def _matched(ours: Tensor, theirs: Tensor) -> Differences:
    """Of detections [M, 7]: each clear one of the model and the nearest of the same picture and class.

    A box that has no other within its own size counts as one that is missing: its confidence is the difference.
    """
    pixels, share = [], []
    for row in ours[ours[:, 5] > LIT]:
        same = theirs[(theirs[:, 0] == row[0]) & (theirs[:, 6] == row[6])]
        apart = (same[:, 1:5] - row[1:5]).abs()
        nearest = int(apart.sum(dim=1).argmin()) if len(same) else -1
        if nearest < 0 or apart[nearest].max() > (row[3:5] - row[1:3]).max():
            share.append(float(row[5]))
            continue
        pixels += apart[nearest].tolist()
        share.append(float((same[nearest, 5] - row[5]).abs()))
    return {"pixels": np.array(pixels, np.float32), "probability": np.array(share, np.float32)}


class _Pictures:
    """The pictures that an export is checked and calibrated on.

    Attributes:
        measured: pictures with labels that the KPI is measured on.
        compared: pictures that outputs are compared on.
        are: what those are.
    """

    def __init__(self, spec: FacenetExportSpec, predictor: Predictor) -> None:
        self.spec, self.predictor = spec, predictor
        stored = predictor.meta.config.get("data") or {}
        self.ignore = IgnoreConfig()

        def read() -> DetectionSets:
            data = with_mapping(exported_data(spec.data, spec.split, stored), spec.data, predictor)
            self.ignore = data.ignore
            return read_detection_sets(data)

        sets = sets_or_none(spec.data, spec.split, "data=wider data.root=FOLDER", read)
        self.train: Sequence[DetectionSample] = sets.train if sets else []
        measured = samples_of(spec.split, sets, predictor.classes) if sets else []
        self.measured = spread(measured, spec.gate.kpi_samples)
        name = predictor.classes[0]
        drawn = DataConfig(test=[SourceConfig(format="scenes", count=DRAWN)], class_mapping={"face": name})
        self.compared = self.measured or read_detection_sets(drawn).test
        self.are = f"{spec.split} pictures" if sets else "drawn scenes"

    def inputs(self, count: int) -> Tensor:
        """[n, 3, H, W], 0 to 1, of pictures spread over all."""
        found = []
        for sample in spread(self.compared, count):
            try:
                found.append(self._input(read_picture(sample)))
            except DataError as error:
                last = error
        if not found:
            raise last
        return torch.cat(found)

    def _input(self, picture: ByteArray) -> Tensor:
        """[1, 3, H, W]."""
        image, _ = self.predictor.preprocessing.apply(picture)
        return scaled(torch.from_numpy(image.transpose(2, 0, 1)[None])).contiguous()

    def kpi(self, runtime: Runtime) -> float:
        """AP50 in %."""
        predictor = Predictor(runtime, self.predictor.preprocessing, self.predictor.clustering)
        found = predict_pictures(predictor, self.measured, self.ignore, self.spec.metrics, self.spec.batch_size)
        return 100 * found.results.summary()["ap"]

    def calibration(self) -> Calibration:
        """Training pictures, or those of a folder."""
        settings = self.spec.calibration
        samples = draw(self.train or self.measured, settings.count, settings.seed)
        if settings.images:
            files = draw(picture_files(settings.images, "calibration.images"), settings.count, settings.seed)
            pictures: Sequence[DetectionSample | Path] = files
            are = f"pictures of {settings.images}"
        elif samples:
            pictures = samples
            are = "training pictures" if self.train else f"{self.spec.split} pictures, for want of others"
        else:
            raise ConfigError(
                "export.precisions: int8 needs pictures to calibrate on, and there are none: give data, such as "
                "data=wider data.root=FOLDER, or calibration.images=FOLDER, or leave int8 out"
            )

        def batches() -> Iterator[NDArray]:
            for start in range(0, len(pictures), BATCH):
                inputs = [
                    self._input(
                        read_picture(item) if isinstance(item, DetectionSample) else read_image(item, grey=False)
                    )
                    for item in pictures[start : start + BATCH]
                ]
                yield torch.cat(inputs).numpy()

        return Calibration(batches, f"{len(pictures)} {are}")
