"""`fpenet export`: a model file as ONNX graphs and engines that are checked on faces."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..configs.fpenet.schema import DataConfig, FpenetExportSpec, SourceConfig
from ..configs.stored_data import exported_data
from ..datasets.faces import FaceDataset
from ..datasets.image import read_image
from ..datasets.preprocessing import Square, cut
from ..datasets.sample import ByteArray, FaceSample
from ..datasets.source_files import draw, picture_files
from ..datasets.sources import FaceSets, read_sets
from ..errors import ConfigError, DataError
from ..export.command import Calibration, ExportJob, refuse_exported, run_export
from ..export.gate import Differences, Standard, Verdict
from ..export.runtime import Runtime, TorchRuntime
from ..export.samples import sets_or_none, spread
from ..training.distributed import pick_device
from ..training.pruning import Layer
from .face_results import predict_faces
from .graph import HEADS, FpenetGraph, graph_info
from .network import soft_argmax
from .predictor import Predictor, load_network, model_path
from .prune import prune_graph

log = logging.getLogger(__name__)

BATCH = 32
DRAWN = 64  # faces to compare on where there are no others
ELONGATED = 1.3  # sides of a picture in such a ratio are no cut-out face
UNSURE = 0.5  # confidence, relative to that on faces, at which a picture is none


def export(spec: FpenetExportSpec) -> list[Verdict]:
    """Writes ONNX graphs, engines and deployment files of `spec.model`, and checks them; see `run_export`."""
    return run_export(spec, lambda: _prepare(spec))


def _prepare(spec: FpenetExportSpec) -> ExportJob:
    refuse_exported(spec.model, "fpenet")
    network, meta = load_network(spec.model)
    info = graph_info(network, meta, model_path(spec.model), spec.export)
    graph = FpenetGraph(network, spec.export.heatmaps)
    reference = TorchRuntime(graph, meta, info, pick_device("auto"))
    faces = _Faces(spec, Predictor(reference))
    inputs = faces.inputs(spec.gate.inputs)
    normaliser = {"nme_interocular": "inter-ocular", "nme_diagonal": "diagonal"}[faces.metric]
    return ExportJob(
        network="fpenet",
        graph=graph,
        meta=meta,
        info=info,
        heads=HEADS,
        tail=lambda model: model,
        standard=Standard(
            reference=reference,
            inputs=inputs,
            inputs_are=f"{len(inputs)} {faces.are}",
            differences=lambda ours, theirs: _differences(ours, theirs, info.decode["beta"]),
            kpi=faces.kpi if faces.measured else None,
            kpi_name=f"{normaliser} NME %",
            higher_is_better=False,
            network=network,
            modules={node.module: node.module for node in prune_graph(network) if isinstance(node, Layer)},
        ),
        calibrate=faces.calibration,
    )


def _differences(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], beta: float) -> Differences:
    """Distances of the points, and of those that given-out maps stand for; and of confidence and visibility."""
    ours, theirs = ({name: value.float().cpu() for name, value in outputs.items()} for outputs in (ours, theirs))
    pairs = [(ours["points"], theirs["points"])]
    if "heatmaps" in theirs:
        pairs.append((ours["points"], soft_argmax(theirs["heatmaps"], beta)[0]))
    shares = [(theirs[name] - ours[name]).abs().ravel() for name in ("confidence", "visibility") if name in theirs]
    pixels = [torch.linalg.vector_norm(mine - other, dim=2).ravel() for mine, other in pairs]
    return {"pixels": torch.cat(pixels).numpy(), "probability": torch.cat(shares).numpy()}


class _Faces:
    """The faces that an export is checked and calibrated on.

    Attributes:
        measured: faces with labels that the KPI is measured on.
        compared: faces that outputs are compared on.
        are: what those are.
    """

    def __init__(self, spec: FpenetExportSpec, predictor: Predictor) -> None:
        self.spec, self.predictor = spec, predictor
        meta, scheme = predictor.meta, predictor.scheme
        source_points = list((meta.config.get("model") or {}).get("source_points") or [])

        def read(data: DataConfig) -> FaceSets:
            return read_sets(data, scheme.num_keypoints, source_points, predictor.preprocessing, scheme.names)

        sets = sets_or_none(
            spec.data,
            spec.split,
            "data=pts_300w data.root=FOLDER",
            lambda: read(exported_data(spec.data, spec.split, meta.config.get("data") or {})),
        )
        self.train: Sequence[FaceSample] = sets.train if sets else []
        self.measured: list[FaceSample] = spread(getattr(sets, spec.split), spec.gate.kpi_samples) if sets else []
        drawn = DataConfig(test=[SourceConfig(format="synthetic", count=DRAWN)])
        self.compared = self.measured or read(drawn).test
        self.are = f"{spec.split} faces" if sets else "drawn faces"

    def inputs(self, count: int) -> Tensor:
        """[n, 1, S, S] of faces spread over all."""
        return torch.from_numpy(self._crops(spread(self.compared, count))).float()[:, None]

    def _crops(self, samples: list[FaceSample]) -> ByteArray:
        dataset = FaceDataset(samples, self.predictor.preprocessing, None, seed=0, cache=True)
        if not len(dataset):
            raise DataError(f"no face can be read, the first: {dataset.rejections[0]}")
        return np.stack([dataset[(0, i)]["image"][0].numpy() for i in range(len(dataset))])

    def kpi(self, runtime: Runtime) -> float:
        """NME in %."""
        predictor = Predictor(runtime)
        return predict_faces(predictor, self.measured, self.spec.batch_size).errors.summary()[self.metric]

    @property
    def metric(self) -> str:
        return "nme_interocular" if self.predictor.scheme.eye_corners is not None else "nme_diagonal"

    def calibration(self) -> Calibration:
        """Crops of training faces, or of a folder."""
        settings = self.spec.calibration
        samples = self.train or self.measured
        if settings.images:
            crops, are = self._folder(settings.images), f"pictures of {settings.images}"
        elif samples:
            crops = self._crops(draw(samples, settings.count, settings.seed))
            are = "training faces" if self.train else f"{self.spec.split} faces, for want of others"
        else:
            raise ConfigError(
                "export.precisions: int8 needs faces to calibrate on, and there are none: give data, such as "
                "data=pts_300w data.root=FOLDER, or calibration.images=FOLDER of cut-out faces, or leave int8 out"
            )

        def batches() -> Iterator[NDArray]:
            for start in range(0, len(crops), BATCH):
                yield crops[start : start + BATCH, None].astype(np.float32)

        return Calibration(batches, f"{len(crops)} {are}")

    def _folder(self, folder: str) -> ByteArray:
        """The pictures of a folder as crops; a warning when they do not look like faces."""
        files = picture_files(folder, "calibration.images", "cut-out faces")
        pictures = [read_image(file, grey=True) for file in draw(files, self.spec.calibration.count, 0)]
        crops = np.stack([cut(picture, _whole(picture), self.predictor.preprocessing.size) for picture in pictures])
        elongated = sum(max(picture.shape) > ELONGATED * min(picture.shape) for picture in pictures)
        faces = self._crops(spread(self.compared, BATCH))
        sure, here = (float(np.median(self.predictor.predict(c).confidence)) for c in (faces, crops))
        if 2 * elongated > len(pictures) or here < UNSURE * sure:
            log.warning(
                "calibration.images=%s: these do not look like cut-out faces (%d of %d are far from square, median "
                "confidence %.3f, on faces %.3f). Whole photographs give ranges that faces do not have: cut the faces "
                "out as the model's preprocessing does",
                folder, elongated, len(pictures), here, sure,
            )  # fmt: skip
        return crops


def _whole(picture: ByteArray) -> Square:
    """The square around a whole picture."""
    height, width = picture.shape[:2]
    side = float(max(height, width))
    return (width - side) / 2, (height - side) / 2, side
