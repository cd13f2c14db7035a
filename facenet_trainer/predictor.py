"""A model, ready to find: a model file or what was exported of it, with its preprocessing and clustering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..configs.compose import changed
from ..configs.facenet.per_class import each_class
from ..configs.facenet.schema import ClusteringConfig, InputConfig
from ..datasets.resizing import PicturePreprocessing, Placement
from ..datasets.sample import ByteArray
from ..errors import ConfigError
from ..export.runtime import EXPORTED, Runtime, TorchRuntime, open_runtime
from ..training.distributed import pick_device
from .clustering import batch_detections
from .frame import Frame
from .graph import GridBoxGraph, graph_info
from .matching import PictureDetections
from .network import GridBoxArchitecture, decode_boxes
from .pretrained import load_network, model_path


class Predictor:
    """Finds faces, or whatever its classes are, in pictures of any size.

    Attributes:
        classes: names of the classes that labels count in.
    """

    def __init__(self, runtime: Runtime, preprocessing: PicturePreprocessing, clustering: ClusteringConfig) -> None:
        self.runtime, self.meta, self.device = runtime, runtime.meta, runtime.device
        self.preprocessing, self.clustering = preprocessing, clustering
        self.architecture = GridBoxArchitecture.from_dict(self.meta.architecture)
        self.classes = self.architecture.classes

    @classmethod
    def load(
        cls,
        name: str,
        device: str = "auto",
        clustering: dict[str, Any] | None = None,
        input_size: dict[str, Any] | None = None,
    ) -> Predictor:
        """From a model file, an exported .onnx or .engine file, or "zoo".

        Args:
            clustering, input_size: keys of the spec's `clustering` and `input` sections that are to differ from those
                that the model was trained with.

        Raises:
            ModelFileError: the file cannot be used.
            ConfigError: a changed key is unknown or out of its range.
        """
        return cls.of(_runtime(name, device), name, clustering, input_size)

    @classmethod
    def of(
        cls,
        runtime: Runtime,
        name: str,
        clustering: dict[str, Any] | None = None,
        input_size: dict[str, Any] | None = None,
    ) -> Predictor:
        """Of the runtime of the file `name`; otherwise as `load`."""
        meta = runtime.meta
        stored = PicturePreprocessing.from_dict(meta.preprocessing)
        wanted = PicturePreprocessing(**vars(changed(InputConfig(**stored.to_dict()), input_size or {}, "input")))
        _, height, width = runtime.info.input_shape
        if Path(name).suffix in EXPORTED and (wanted.height, wanted.width) != (height, width):
            raise ConfigError(
                f"input_size: {name} takes {width} x {height} pixels only; export the model again for another size"
            )
        known = ClusteringConfig.__dataclass_fields__
        trained = {key: value for key, value in (meta.config.get("clustering") or {}).items() if key in known}
        settings = changed(ClusteringConfig(**trained), clustering or {}, "clustering")
        predictor = cls(runtime, wanted, settings)
        each_class(settings, predictor.classes)  # refuses what does not fit before anything is done
        return predictor

    def confident(self, found: PictureDetections, min_score: float) -> PictureDetections:
        """The detections of at least that confidence.

        A negative `min_score` stands for the confidence of the best F1 of each class in the validation of the model,
        which its file keeps: below it there is more noise than faces. A file without that figure keeps all.
        """
        best = [self.meta.metrics.get(f"f1_score_{name}", 0.0) for name in self.classes]
        least = np.array(best) if min_score < 0 else np.full(len(self.classes), min_score)
        kept = found.scores >= least[found.labels]
        return replace(found, boxes=found.boxes[kept], scores=found.scores[kept], labels=found.labels[kept])

    def predict(self, pictures: Sequence[ByteArray], frame: Frame | None = None) -> list[PictureDetections]:
        """What is in each picture, RGB [H, W, 3] or grey [H, W]; one forward pass for all.

        Args:
            frame: what boxes are given in pixels of; None: the pictures as they are.

        Raises FacetrainError when the network's outputs are not finite.
        """
        inputs = [self.preprocessing.apply(picture) for picture in pictures]
        images = torch.from_numpy(np.stack([image for image, _ in inputs]).transpose(0, 3, 1, 2))
        sizes = [(picture.shape[1], picture.shape[0]) for picture in pictures]
        output = self.runtime.run(scaled(images.to(self.device)))
        places = [place for _, place in inputs]
        return self.found(output, *(frame.placed(places, sizes) if frame else (places, sizes)))

    def found(
        self, output: dict[str, torch.Tensor], places: Sequence[Placement], sizes: Sequence[tuple[int, int]]
    ) -> list[PictureDetections]:
        """What the runtime's output on N pictures means in each of them, or in another frame of theirs.

        Args:
            places: where each picture lies in the input.
            sizes: width and height of each picture.
        """
        if "detections" in output:
            least = self.clustering.minimum_bounding_box_height
            return _clustered(output["detections"].cpu().numpy(), places, sizes, least)
        boxes = output["boxes"] if "boxes" in output else decoded(self.architecture, output["bbox"])
        scores = output["scores"].flatten(2) if "boxes" in output else output["coverage"].flatten(2)
        return picture_detections(boxes, scores, self.classes, self.clustering, places, sizes)


def _runtime(name: str, device: str) -> Runtime:
    if Path(name).suffix in EXPORTED:
        return open_runtime(Path(name), "facenet", device)
    network, meta = load_network(name)
    place = pick_device(device)
    network.to(device=place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TorchRuntime(GridBoxGraph(network), meta, graph_info(network, meta, model_path(name)), place)


def scaled(images: torch.Tensor) -> torch.Tensor:
    """The network's input [N, 3, H, W], 0 to 1, of bytes (gridbox §1.1)."""
    return images.to(memory_format=torch.channels_last).float() / 255


def decoded(architecture: GridBoxArchitecture, bbox: torch.Tensor) -> torch.Tensor:
    """Boxes [N, C, h * w, 4] in pixels of the input, cut at its edges, of the network's output [N, 4C, h, w]."""
    height, width = (side * architecture.stride for side in bbox.shape[2:])
    a = architecture
    return decode_boxes(bbox, a.stride, a.bbox_scale, a.bbox_offset, (width, height))


def picture_detections(
    boxes: torch.Tensor,
    coverage: torch.Tensor,
    classes: Sequence[str],
    clustering: ClusteringConfig,
    places: Sequence[Placement],
    sizes: Sequence[tuple[int, int]],
) -> list[PictureDetections]:
    """The detections of N pictures in their own pixels, clipped to them, from the network's output on them.

    Args:
        boxes: [N, C, P, 4] pixels of the input, P cells.
        coverage: [N, C, P], 0 to 1.
        places: where each picture lies in the input.
        sizes: width and height of each picture.
    """
    results = []
    every_box, every_coverage = boxes.cpu().numpy(), coverage.float().cpu().numpy()
    for per_class, place, size in zip(
        batch_detections(every_box, every_coverage, classes, clustering), places, sizes, strict=True
    ):
        found = np.concatenate([detections.boxes for detections in per_class])
        scores = np.concatenate([detections.scores for detections in per_class])
        labels = np.repeat(np.arange(len(per_class)), [len(detections) for detections in per_class])
        results.append(_on_picture(place.to_picture(found), scores, labels, size))
    return results


def _clustered(
    detections: NDArray[np.float32], places: Sequence[Placement], sizes: Sequence[tuple[int, int]], least: float
) -> list[PictureDetections]:
    """Of a graph that ends in a non-maximum suppression: rows [M, 7] of picture, box, score and class; boxes that are
    at least so high, pixels of the input."""
    results = []
    detections = detections[detections[:, 4] - detections[:, 2] >= least]
    for i, (place, size) in enumerate(zip(places, sizes, strict=True)):
        rows = detections[detections[:, 0] == i]
        results.append(_on_picture(place.to_picture(rows[:, 1:5]), rows[:, 5], rows[:, 6].astype(np.intp), size))
    return results


def _on_picture(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], labels: NDArray[np.intp], size: tuple[int, int]
) -> PictureDetections:
    """Boxes cut at the picture's edges; those beyond them, in a letterbox's bars, are left out."""
    boxes = np.clip(boxes, 0, np.array([*size, *size], np.float32))
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    order = np.flatnonzero(inside)[np.argsort(-scores[inside], kind="stable")]
    return PictureDetections(boxes[order], scores[order], labels[order], size)
