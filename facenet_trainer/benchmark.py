"""`facenet benchmark`: how long finding faces takes, by file, backend and batch, and where the time goes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..configs.facenet.schema import FacenetBenchmarkSpec
from ..datasets.drawn.scenes import HEIGHT, WIDTH, draw_scenes
from ..datasets.resizing import Placement
from ..datasets.sample import ByteArray
from ..export.benchmark.command import run_benchmark
from ..export.benchmark.results import Benchmark
from ..export.runtime import Runtime, TorchRuntime
from .draw import draw_boxes
from .matching import PictureDetections
from .predictor import Predictor, scaled

Place = tuple[Placement, tuple[int, int]]  # in the input, and width and height of the picture


def benchmark(spec: FacenetBenchmarkSpec) -> Benchmark:
    """Times `spec.models`; see `run_benchmark`."""

    def load(name: str, runtime: Runtime | None) -> PicturePath:
        changes = spec.clustering, spec.input_size
        if runtime is None:
            return PicturePath(Predictor.load(name, spec.device, *changes))
        return PicturePath(Predictor.of(runtime, name, *changes))

    return run_benchmark(spec, "facenet", load, _drawn, f"drawn scenes of {WIDTH}x{HEIGHT} pixels")


def _drawn(count: int) -> list[ByteArray]:
    return [np.asarray(scene.image) for scene in draw_scenes(count, seed=0)]


class PicturePath:
    """From a picture to the boxes drawn on it."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor, self.runtime = predictor, predictor.runtime

    def preprocess(self, picture: ByteArray) -> tuple[Tensor, Place]:
        """The input [1, 3, H, W], 0 to 1, and where the picture lies in it."""
        image, place = self.predictor.preprocessing.apply(picture)
        images = scaled(torch.from_numpy(image.transpose(2, 0, 1)[None]).to(self.runtime.device))
        if not isinstance(self.runtime, TorchRuntime):  # which alone takes the channels last
            images = images.contiguous()
        return images, (place, (picture.shape[1], picture.shape[0]))

    def decode(self, output: dict[str, Tensor], place: Place) -> PictureDetections:
        """The detections that `infer` would give: clustered, and of enough confidence."""
        (found,) = self.predictor.found(output, [place[0]], [place[1]])
        return self.predictor.confident(found, -1.0)

    def draw(self, picture: ByteArray, found: PictureDetections) -> ByteArray:
        """The picture with the boxes."""
        return draw_boxes(picture, found.boxes, found.scores)
