"""What is exported of the detector: its outputs, or the boxes that they stand for, under TAO's names (gridbox §9.3)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..configs.facenet.schema import FacenetExportConfig
from ..export.metadata import GraphInfo, source_of, with_suffix
from ..training.complexity import count_parameters
from ..training.model_file import ModelMeta
from .network import GridBoxNet

HEADS = ("output_bbox", "output_cov")
NAMES = {
    "tao": ("input_1:0", {"bbox": "output_bbox/BiasAdd:0", "coverage": "output_cov/Sigmoid:0"}),
    "tao-v3": ("input_1", {"bbox": "output_bbox/BiasAdd", "coverage": "output_cov/Sigmoid"}),
    "plain": ("images", {"bbox": "bbox", "coverage": "coverage"}),
}
DECODED = {"boxes": "boxes", "scores": "scores"}


class GridBoxGraph(nn.Module):
    """The network [N, 3, H, W] -> bbox [N, 4C, h, w] and coverage [N, C, h, w], 0 to 1.

    Args:
        decode: boxes [N, C, h w, 4], pixels of the input cut at its edges, and scores [N, C, h w] instead.
    """

    def __init__(self, network: GridBoxNet, decode: bool = False) -> None:
        super().__init__()
        self.network, self.decode = network, decode

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        output = self.network(images)
        with torch.autocast(device_type=images.device.type, enabled=False):
            bbox, coverage = output.bbox.float(), output.coverage_logits.float().sigmoid()
            if not self.decode:
                return bbox, coverage
            height, width = images.shape[2:]
            return self.network.decode(bbox, (width, height)), coverage.flatten(2)


def graph_info(
    network: GridBoxNet, meta: ModelMeta, path: Path, config: FacenetExportConfig | None = None
) -> GraphInfo:
    """How `GridBoxGraph` of a model file is laid out."""
    config = config or FacenetExportConfig()
    a = network.architecture
    name, outputs = NAMES[config.io_names]
    if config.decode or config.nms:
        outputs = DECODED
    return GraphInfo(
        precision="fp32",
        io_names=config.io_names,
        input=with_suffix(name, config),
        input_shape=(3, meta.preprocessing["height"], meta.preprocessing["width"]),
        outputs={role: with_suffix(tensor, config) for role, tensor in outputs.items()},
        batch=config.batch,
        opset=config.opset,
        parameters=count_parameters(network),
        decode={"stride": a.stride, "scale": a.bbox_scale, "offset": a.bbox_offset},
        source=source_of(path),
    )
