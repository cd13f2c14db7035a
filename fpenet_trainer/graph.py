"""What is exported of the keypoint network, under the names of TAO's exports (fpenet §7.3)."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from ..configs.fpenet.schema import FpenetExportConfig
from ..export.metadata import GraphInfo, source_of, with_suffix
from ..training.complexity import count_parameters
from ..training.model_file import ModelMeta
from .network import RecombinatorNet

HEADS = ("keypoints",)


class FpenetGraph(nn.Module):
    """The network [N, 1, S, S] -> points [N, K, 2], pixels of the crop, and confidence [N, K].

    Behind them heatmaps [N, K, S, S] where asked for, and visibility [N, K], 0 to 1, where the network has that head.
    """

    def __init__(self, network: RecombinatorNet, heatmaps: bool = False) -> None:
        super().__init__()
        self.network, self.heatmaps = network, heatmaps

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        prediction = self.network(images)
        outputs = [prediction.points, prediction.confidence]
        if self.heatmaps:
            outputs.append(prediction.heatmaps.float())
        if prediction.visibility is not None:
            outputs.append(prediction.visibility.sigmoid())
        return tuple(outputs)


def _names(io_names: str, num_keypoints: int) -> tuple[str, dict[str, str]]:
    """The input's name and those of all outputs that there can be."""
    maps = f"conv_keypoints_m{num_keypoints}"
    return {
        "tao": ("input_face_images:0", {
            "points": "softargmax/strided_slice:0", "confidence": "softargmax/strided_slice_1:0",
            "heatmaps": f"{maps}:0", "visibility": "visibility:0",
        }),
        "tao-v3": ("input_face_images", {
            "points": "softargmax", "confidence": "softargmax:1", "heatmaps": maps, "visibility": "visibility",
        }),
        "plain": ("images", {name: name for name in ("points", "confidence", "heatmaps", "visibility")}),
    }[io_names]  # fmt: skip


def graph_info(
    network: RecombinatorNet, meta: ModelMeta, path: Path, config: FpenetExportConfig | None = None
) -> GraphInfo:
    """How `FpenetGraph` of a model file is laid out."""
    config = config or FpenetExportConfig()
    a = network.architecture
    name, outputs = _names(config.io_names, a.num_keypoints)
    there = {"points": True, "confidence": True, "heatmaps": config.heatmaps, "visibility": a.visibility_head}
    size = meta.preprocessing["size"]
    return GraphInfo(
        precision="fp32",
        io_names=config.io_names,
        input=with_suffix(name, config),
        input_shape=(1, size, size),
        outputs={role: with_suffix(tensor, config) for role, tensor in outputs.items() if there[role]},
        batch=config.batch,
        opset=config.opset,
        parameters=count_parameters(network),
        decode={"beta": a.beta},
        source=source_of(path),
    )
