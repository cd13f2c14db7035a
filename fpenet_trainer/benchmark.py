"""`fpenet benchmark`: how long the keypoints of a face take, by file, backend and batch, and where the time goes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..configs.fpenet.schema import FpenetBenchmarkSpec
from ..datasets.drawn.synthetic import draw_faces
from ..datasets.image import luma
from ..datasets.preprocessing import Square, cut, to_image
from ..datasets.sample import ByteArray, FloatArray
from ..errors import DataError
from ..export.benchmark.command import run_benchmark
from ..export.benchmark.results import Benchmark
from ..export.runtime import Runtime
from .draw import draw_points
from .predictor import Predictor


def benchmark(spec: FpenetBenchmarkSpec) -> Benchmark:
    """Times `spec.models`; see `run_benchmark`. A picture is one face, as it is for `infer` without boxes."""

    def load(name: str, runtime: Runtime | None) -> FacePath:
        return FacePath(Predictor.load(name, spec.device) if runtime is None else Predictor(runtime))

    return run_benchmark(spec, "fpenet", load, _drawn, "drawn faces of 160x160 pixels")


def _drawn(count: int) -> list[ByteArray]:
    return [np.repeat(np.asarray(face.image)[..., None], 3, axis=2) for face in draw_faces(count, seed=0)]


class FacePath:
    """From a picture of one face to the points drawn on it."""

    def __init__(self, predictor: Predictor) -> None:
        self.runtime, self.preprocessing = predictor.runtime, predictor.preprocessing

    def preprocess(self, picture: ByteArray) -> tuple[Tensor, Square]:
        """The crop [1, 1, S, S], 0 to 255, and the square that it was cut from."""
        height, width = picture.shape[:2]
        square = self.preprocessing.square(None, np.array([0, 0, width, height], np.float32))
        if square is None:
            raise DataError(f"a picture of {width} x {height} pixels has no face")
        crop = cut(luma(picture), square, self.preprocessing.size)
        return torch.from_numpy(crop)[None, None].to(self.runtime.device).float(), square

    def decode(self, output: dict[str, Tensor], square: Square) -> tuple[FloatArray, FloatArray | None]:
        """Points [K, 2] in pixels of the picture, and [K] probabilities of being visible; the soft-argmax that makes
        points of maps is a part of the network."""
        values = {role: value[0].cpu().numpy() for role, value in output.items()}
        return to_image(values["points"], square, self.preprocessing.size), values.get("visibility")

    def draw(self, picture: ByteArray, found: tuple[FloatArray, FloatArray | None]) -> ByteArray:
        """The picture with the points."""
        return draw_points(picture, *found)
