"""The detector with its non-maximum suppression in the graph, for users without DeepStream.

The graph gives rows [M, 7]: the picture's number in the batch, x1, y1, x2, y2 in pixels of the input, score and class.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import onnx.compose
import onnx.parser
import torch
from torch import Tensor, nn
from torchvision.ops import nms

from ..errors import ConfigError
from ..export.graph import check, describe
from ..export.metadata import GraphInfo, entries_of, understood
from .graph import GridBoxGraph
from .predictor import Predictor

OUTPUT = "detections"
MOST = 1000  # boxes of a class and picture


def nms_info(info: GraphInfo) -> GraphInfo:
    """The layout of the graph with the suppression."""
    return replace(info, outputs={OUTPUT: OUTPUT})


def _thresholds(predictor: Predictor) -> tuple[float, float]:
    """IoU, and the score above which a cell is a candidate. Raises ConfigError for what a graph does not hold."""
    config = predictor.clustering
    if config.per_class:
        raise ConfigError(
            "export.nms: the graph has the same thresholds for all classes; take clustering.per_class={}, or "
            "export.decode=true and cluster outside of it"
        )
    return config.nms_iou_threshold, max(config.coverage_threshold, config.nms_confidence_threshold)


class NmsGraph(nn.Module):
    """The same in PyTorch, for comparison."""

    def __init__(self, graph: GridBoxGraph, predictor: Predictor) -> None:
        super().__init__()
        self.graph = graph
        self.iou, self.least = _thresholds(predictor)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """[M, 7] of pictures [N, 3, H, W]."""
        boxes, scores = self.graph(images)
        rows = [torch.zeros(0, 7)]
        for picture in range(len(boxes)):
            for label in range(boxes.shape[1]):
                lit = scores[picture, label] > self.least
                found, score = boxes[picture, label][lit], scores[picture, label][lit]
                kept = nms(found, score, self.iou)[:MOST]
                number = torch.full((len(kept), 1), float(picture))
                kind = torch.full((len(kept), 1), float(label))
                rows.append(torch.cat([number, found[kept].cpu(), score[kept, None].cpu(), kind], dim=1))
        return (torch.cat(rows),)


def with_nms(model: onnx.ModelProto, predictor: Predictor) -> onnx.ModelProto:
    """A graph whose outputs are boxes [N, C, P, 4] and scores [N, C, P], with ONNX's NonMaxSuppression behind them.

    Every class has boxes of its own, so each (picture, class) is a picture of its own to the operator.
    """
    iou, least = _thresholds(predictor)
    meta, info = understood(entries_of(model), Path(predictor.runtime.info.source["file"]))
    _, height, width = info.input_shape
    stride = predictor.architecture.stride
    cells, classes = (height // stride) * (width // stride), len(predictor.classes)
    tail = onnx.parser.parse_model(
        f"""<ir_version: {model.ir_version}, opset_import: ["": {info.opset}]>
        suppression (float[n, c, p, 4] boxes, float[n, c, p] scores) => (float[m, 7] {OUTPUT}) {{
            rows_of_boxes = Constant <value_ints = [-1, {cells}, 4]> ()
            rows_of_scores = Constant <value_ints = [-1, 1, {cells}]> ()
            flat_boxes = Reshape (boxes, rows_of_boxes)
            flat_scores = Reshape (scores, rows_of_scores)
            most = Constant <value_ints = [{MOST}]> ()
            iou = Constant <value_float = {iou!r}> ()
            least = Constant <value_float = {least!r}> ()
            chosen = NonMaxSuppression (flat_boxes, flat_scores, most, iou, least)
            row_and_cell = Constant <value_ints = [0, 2]> ()
            place = Gather <axis = 1> (chosen, row_and_cell)
            box = GatherND (flat_boxes, place)
            score = GatherND (flat_scores, chosen)
            column = Constant <value_ints = [-1, 1]> ()
            score_column = Reshape (score, column)
            first = Constant <value_ints = [0]> ()
            row = Gather <axis = 1> (chosen, first)
            classes = Constant <value_ints = [{classes}]> ()
            picture = Div (row, classes)
            label = Mod (row, classes)
            picture_column = Cast <to = 1> (picture)
            label_column = Cast <to = 1> (label)
            {OUTPUT} = Concat <axis = 1> (picture_column, box, score_column, label_column)
        }}"""
    )
    joined = onnx.compose.merge_models(
        model, tail, io_map=[(info.outputs["boxes"], "boxes"), (info.outputs["scores"], "scores")]
    )
    describe(joined, meta, nms_info(info))
    check(joined)
    return joined
