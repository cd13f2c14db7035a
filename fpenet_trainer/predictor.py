"""A model, ready to predict: a model file or what was exported of it, with the preprocessing it was trained with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets.preprocessing import Preprocessing
from ..datasets.sample import ByteArray, FloatArray
from ..export.runtime import EXPORTED, Runtime, TorchRuntime, open_runtime
from ..training import model_file
from ..training.distributed import pick_device
from ..training.model_file import ModelMeta
from .graph import FpenetGraph, graph_info
from .network import Architecture, RecombinatorNet
from .schemes import Scheme

ZOO = Path(__file__).with_name("zoo") / "fpenet_68.safetensors"


@dataclass(frozen=True)
class FacePoints:
    """What is predicted for N crops.

    Attributes:
        points: [N, K, 2] float32 (x, y) in pixels of the crop.
        confidence: [N, K] float32, the soft-max maps' peaks.
        visibility: [N, K] float32 probabilities of being visible; None without a visibility head.
    """

    points: FloatArray
    confidence: FloatArray
    visibility: FloatArray | None


def model_path(name: str) -> Path:
    """The file that `name`, a path or "zoo", stands for."""
    return ZOO if name == "zoo" else Path(name)


def load_network(name: str) -> tuple[RecombinatorNet, ModelMeta]:
    """The network of a model file or "zoo"; see `training.model_file.load_network`."""
    return model_file.load_network(
        model_path(name), "fpenet", lambda architecture: RecombinatorNet(Architecture.from_dict(architecture))
    )


class Predictor:
    """Predicts keypoints on crops that its own preprocessing has cut."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime, self.meta, self.device = runtime, runtime.meta, runtime.device
        self.scheme = Scheme.from_dict(self.meta.scheme)
        self.preprocessing = Preprocessing.from_dict(self.meta.preprocessing)

    @classmethod
    def load(cls, name: str, device: str = "auto") -> Predictor:
        """From a model file, an exported .onnx or .engine file, or "zoo"."""
        path = model_path(name)
        if path.suffix in EXPORTED:
            return cls(open_runtime(path, "fpenet", device))
        network, meta = load_network(name)
        return cls(TorchRuntime(FpenetGraph(network), meta, graph_info(network, meta, path), pick_device(device)))

    def predict(self, crops: ByteArray, batch_size: int = 64) -> FacePoints:
        """Points of grey crops [N, S, S], S being `preprocessing.size`."""
        points, confidence, visibility = [], [], []
        for start in range(0, len(crops), batch_size):
            batch = torch.tensor(crops[start : start + batch_size])
            output = self.runtime.run(batch[:, None].to(self.device).float())
            points.append(output["points"].cpu().numpy())
            confidence.append(output["confidence"].cpu().numpy())
            if "visibility" in output:
                visibility.append(output["visibility"].cpu().numpy())
        k = self.scheme.num_keypoints
        return FacePoints(
            _join(points, (0, k, 2)), _join(confidence, (0, k)), _join(visibility, (0, k)) if visibility else None
        )


def _join(parts: list[NDArray[np.float32]], empty: tuple[int, ...]) -> FloatArray:
    return np.concatenate(parts) if parts else np.zeros(empty, np.float32)
