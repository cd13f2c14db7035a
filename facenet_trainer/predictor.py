"""A model file, ready to find: the network, the preprocessing and the clustering that it was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..configs.compose import changed
from ..configs.facenet.schema import ClusteringConfig, InputConfig
from ..datasets.resizing import PicturePreprocessing, Placement
from ..datasets.sample import ByteArray
from ..training.distributed import pick_device
from ..training.model_file import ModelMeta
from .clustering import batch_detections, class_configs
from .matching import PictureDetections
from .network import GridBoxNet, GridOutput
from .pretrained import load_network


class Predictor:
    """Finds faces, or whatever its classes are, in pictures of any size.

    Attributes:
        classes: names of the classes that labels count in.
    """

    def __init__(
        self,
        network: GridBoxNet,
        meta: ModelMeta,
        preprocessing: PicturePreprocessing,
        clustering: ClusteringConfig,
        device: torch.device,
    ) -> None:
        self.network = network.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.meta, self.preprocessing, self.clustering, self.device = meta, preprocessing, clustering, device
        self.classes = network.architecture.classes

    @classmethod
    def load(
        cls,
        name: str,
        device: str = "auto",
        clustering: dict[str, Any] | None = None,
        input_size: dict[str, Any] | None = None,
    ) -> Predictor:
        """From a model file or "zoo".

        Args:
            clustering, input_size: keys of the spec's `clustering` and `input` sections that are to differ from those
                that the model was trained with.

        Raises:
            ModelFileError: the file cannot be used.
            ConfigError: a changed key is unknown or out of its range.
        """
        network, meta = load_network(name)
        stored = PicturePreprocessing.from_dict(meta.preprocessing)
        wanted = changed(InputConfig(**stored.to_dict()), input_size or {}, "input")
        known = ClusteringConfig.__dataclass_fields__
        trained = {key: value for key, value in (meta.config.get("clustering") or {}).items() if key in known}
        settings = changed(ClusteringConfig(**trained), clustering or {}, "clustering")
        class_configs(settings, network.architecture.classes)  # refuses what does not fit before anything is done
        return cls(network, meta, PicturePreprocessing(**vars(wanted)), settings, pick_device(device))

    def confident(self, found: PictureDetections, min_score: float) -> PictureDetections:
        """The detections of at least that confidence.

        A negative `min_score` stands for the confidence of the best F1 of each class in the validation of the model,
        which its file keeps: below it there is more noise than faces. A file without that figure keeps all.
        """
        best = [self.meta.metrics.get(f"f1_score_{name}", 0.0) for name in self.classes]
        least = np.array(best) if min_score < 0 else np.full(len(self.classes), min_score)
        kept = found.scores >= least[found.labels]
        return replace(found, boxes=found.boxes[kept], scores=found.scores[kept], labels=found.labels[kept])

    def predict(self, pictures: Sequence[ByteArray]) -> list[PictureDetections]:
        """What is in each picture, RGB [H, W, 3] or grey [H, W]; one forward pass for all.

        Raises FacetrainError when the network's outputs are not finite.
        """
        inputs = [self.preprocessing.apply(picture) for picture in pictures]
        images = torch.from_numpy(np.stack([image for image, _ in inputs]).transpose(0, 3, 1, 2))
        sizes = [(picture.shape[1], picture.shape[0]) for picture in pictures]
        with torch.inference_mode():
            output = self.network(scaled(images.to(self.device)))
        return picture_detections(self.network, output, self.clustering, [place for _, place in inputs], sizes)


def scaled(images: torch.Tensor) -> torch.Tensor:
    """The network's input [N, 3, H, W], 0 to 1, of bytes (gridbox §1.1)."""
    return images.to(memory_format=torch.channels_last).float() / 255


def picture_detections(
    network: GridBoxNet,
    output: GridOutput,
    clustering: ClusteringConfig,
    places: Sequence[Placement],
    sizes: Sequence[tuple[int, int]],
) -> list[PictureDetections]:
    """The detections of N pictures in their own pixels, clipped to them, from the network's output on them.

    Args:
        places: where each picture lies in the input.
        sizes: width and height of each picture.
    """
    height, width = (side * network.stride for side in output.bbox.shape[2:])
    boxes = network.decode(output.bbox, (width, height)).cpu().numpy()
    coverage = output.coverage_logits.float().sigmoid().flatten(2).cpu().numpy()
    results = []
    for per_class, place, size in zip(
        batch_detections(boxes, coverage, network.architecture.classes, clustering), places, sizes, strict=True
    ):
        found = np.concatenate([detections.boxes for detections in per_class])
        scores = np.concatenate([detections.scores for detections in per_class])
        labels = np.repeat(np.arange(len(per_class)), [len(detections) for detections in per_class])
        results.append(_on_picture(place.to_picture(found), scores, labels, size))
    return results


def _on_picture(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], labels: NDArray[np.intp], size: tuple[int, int]
) -> PictureDetections:
    """Boxes cut at the picture's edges; those beyond them, in a letterbox's bars, are left out."""
    boxes = np.clip(boxes, 0, np.array([*size, *size], np.float32))
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    order = np.flatnonzero(inside)[np.argsort(-scores[inside], kind="stable")]
    return PictureDetections(boxes[order], scores[order], labels[order], size)
