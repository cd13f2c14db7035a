"""The INT8 graph of a model as the spec has it: whose ranges, what stays in float, and what each layer costs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import onnx
import torch

from ...errors import ExportError
from ...training.report import Section, Table
from ..gate import Standard, Verdict, kpi_loss, measured_differences
from ..runtime import OnnxRuntime, Runtime
from .calibration import calibrate
from .dataflow import Dataflow
from .quantize import layer_ranges, quantizable_layers, quantize, tensors_to_calibrate
from .sensitivity import Exclusion, LayerError, exclude_until, layer_errors

if TYPE_CHECKING:
    from ..command import Calibration, ExportJob, ExportSpec

LOOKED_AT = 16  # inputs that a layer's own error is measured on


@dataclass(frozen=True)
class Quantized:
    """What the INT8 graphs of a model are made with.

    Attributes:
        ranges: tensor -> magnitude that becomes 127.
        source: where the ranges are from.
        exclusion: what stays in float; None where the KPI could not be measured.
        excluded: the same, and what the spec excludes.
        errors: of each layer, quantised alone, the worst first.
        unit: of these errors.
    """

    ranges: dict[str, float]
    source: str
    exclusion: Exclusion | None
    excluded: list[str]
    errors: list[LayerError]
    unit: str = "pixels"

    def section(self) -> Section:
        """For the report."""
        blocks: list[Table | str] = [f"Ranges: {self.source}."]
        if self.excluded:
            blocks.append(f"Left in float: {', '.join(self.excluded)}.")
        if self.exclusion is not None and not self.exclusion.within:
            blocks.append(f"No choice of layers was within the budget; {self.exclusion.loss:.3f} points are lost.")
        rows = [(found.layer, f"{found.error:.4g}") for found in self.errors]
        caption = f"Mean difference of the outputs, {self.unit}, when this layer alone is in INT8; the worst first."
        return Section("INT8", [*blocks, Table(["layer", "error"], rows, caption)])


def to_calibrate_on(job: ExportJob, spec: ExportSpec) -> Calibration | None:
    """What the INT8 forms of an export measure ranges on; None without such forms, and where training found the ranges.

    Raises ConfigError and DataError when there is nothing to calibrate on.
    """
    measured = any(precision.startswith("int8") for precision in spec.export.precisions)
    return job.calibrate() if measured and not _trained(job, spec) else None


def quantized(
    graph: onnx.ModelProto, job: ExportJob, spec: ExportSpec, own: Verdict, calibration: Calibration | None
) -> Quantized:
    """Measures or takes over the ranges, and finds what has to stay in float.

    Args:
        graph: in float32, without its tail.
        own: the verdict on the PyTorch model.
        calibration: see `to_calibrate_on`.

    Raises:
        ExportError: a range is missing, a layer that is to be excluded does not exist, or the model is damaged.
    """
    ranges, source = _ranges(graph, job, spec, calibration)
    layers = [name for name in quantizable_layers(graph, job.heads) if name not in spec.quantize.excluded_layers]
    fixed = spec.quantize.excluded_layers
    few = replace(job.standard, inputs=job.standard.inputs[:LOOKED_AT])

    def runtime(excluded: Collection[str]) -> Runtime:
        model = job.tail(quantize(graph, ranges, job.heads, [*fixed, *excluded]))
        return OnnxRuntime(model, torch.device("cpu"))

    def error(excluded: Collection[str]) -> float:
        pixels = measured_differences(runtime(excluded), few)["pixels"]
        return float(pixels.mean()) if pixels.size else 0.0

    errors = layer_errors(layers, error)
    exclusion = None
    if spec.quantize.auto_exclude and own.kpi is not None:
        budget = spec.gate.int8_kpi
        exclusion = exclude_until(budget, lambda left: _loss(runtime(left), job.standard, own.kpi), [], lambda: errors)
    return Quantized(ranges, source, exclusion, [*fixed, *(exclusion.layers if exclusion else [])], errors)


def _loss(runtime: Runtime, standard: Standard, own: float | None) -> float:
    assert standard.kpi is not None and own is not None
    return kpi_loss(own, standard.kpi(runtime), standard)


def _all_tensors(graph: onnx.ModelProto) -> list[str]:
    """The input and every float tensor that a node gives: what a calibration cache has."""
    types = Dataflow(graph).element_types()
    names = [graph.graph.input[0].name, *(name for node in graph.graph.node for name in node.output)]
    return [name for name in names if types.get(name) == onnx.TensorProto.FLOAT]


def _trained(job: ExportJob, spec: ExportSpec) -> dict[str, float]:
    """The ranges of quantisation-aware training, where there are any and they are to be taken."""
    ranges: dict[str, float] = job.meta.quantization.get("ranges") or {}
    return ranges if spec.calibration.ranges == "auto" else {}


def _ranges(
    graph: onnx.ModelProto, job: ExportJob, spec: ExportSpec, calibration: Calibration | None
) -> tuple[dict[str, float], str]:
    if calibration is None:
        return layer_ranges(graph, _trained(job, spec), job.heads), "those of quantisation-aware training"
    settings = spec.calibration
    tensors = _all_tensors(graph) if settings.cache else tensors_to_calibrate(graph, job.heads)
    try:
        ranges = calibrate(graph, calibration.batches, tensors, settings.method, settings.percentile)
    except ExportError as error:
        raise ExportError(f"{error} ({calibration.are})") from None
    return ranges, f"{settings.method} over {calibration.are}"
