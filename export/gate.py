"""What decides whether an exported file may be handed over: it must compute what the PyTorch model computes."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..configs.export_schema import GateConfig
from ..errors import ExportError, FacetrainError
from ..training.model_file import write_atomic
from ..training.report import Row, Table
from ..training.timing import times_ms
from .graph import LAYERS
from .precision.half import in_float
from .runtime import OnnxRuntime, Runtime

REJECTED = ".rejected"
BLAMED = 3  # layers that are named
PART = 8  # inputs that outputs are compared on at a time
Differences = Mapping[str, NDArray[np.float32]]  # "pixels" and "probability" -> absolute differences, any shape


@dataclass(frozen=True)
class Standard:
    """What every form is held against.

    Attributes:
        reference: the PyTorch model.
        inputs: [n, C, H, W] float32, real ones.
        inputs_are: what they are, for the table.
        differences: of the reference's outputs and a form's.
        kpi: of a runtime, in %; None where there is nothing to measure it on.
        kpi_name: with its unit.
        higher_is_better: of the KPI.
        modules: layer -> the module of the PyTorch network whose output is that layer's.
    """

    reference: Runtime
    inputs: Tensor
    inputs_are: str
    differences: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Differences]
    kpi: Callable[[Runtime], float] | None
    kpi_name: str
    higher_is_better: bool
    network: nn.Module
    modules: Mapping[str, str]

    @cached_property
    def expected(self) -> list[dict[str, Tensor]]:
        """What the reference gives for the inputs, `PART` at a time."""
        return [self.reference.run(images) for images in self.inputs.split(PART)]


@dataclass
class Verdict:
    """What is known of one artefact.

    Attributes:
        form: such as "fp16" or "int8 engine".
        file: its name; `.rejected` behind it where it failed.
        bytes: its size; 0: it could not be made, or is the model itself.
        differences: "pixels" and "probability" -> largest and mean.
        kpi: in %; None: not measured.
        latency_ms: of one input on this machine; None: not measured.
        verified: it was run and held against the model.
        problems: why it is refused; empty: it is not.
        blamed: layers that are to blame.
        note: what else the user must know, such as why it was not verified.
    """

    form: str
    file: str
    bytes: int
    differences: dict[str, tuple[float, float]] = field(default_factory=dict)
    kpi: float | None = None
    latency_ms: float | None = None
    verified: bool = False
    problems: list[str] = field(default_factory=list)
    blamed: list[str] = field(default_factory=list)
    note: str = ""

    @property
    def word(self) -> str:
        failed = "REJECTED" if self.bytes else "NOT MADE"
        return failed if self.problems else "passed" if self.verified else "not verified"


def reference_verdict(standard: Standard) -> Verdict:
    """The PyTorch model's own row of the table."""
    kpi = standard.kpi(standard.reference) if standard.kpi else None
    return Verdict("PyTorch", standard.reference.info.source.get("file", ""), 0, kpi=kpi, verified=True)


def judge(form: str, path: Path, runtime: Runtime, standard: Standard, gate: GateConfig, own: Verdict) -> Verdict:
    """Runs an artefact on the standard's inputs and measures its KPI.

    A graph in half precision is judged by what a GPU makes of it (`half.in_float`): ONNX Runtime's CPU would round
    nothing.

    Args:
        form: its precision, one of `metadata.PRECISIONS`, and " engine" where it is one.
        own: the reference's verdict.
    """
    model = onnx.load(str(path)) if path.suffix == ".onnx" else None
    computed = runtime
    if model is not None and "fp16" in form:
        model = in_float(model)
        computed = OnnxRuntime(model, torch.device("cpu"))
    verdict = Verdict(form, path.name, path.stat().st_size, verified=True)
    precision = form.split()[0]
    limits = "int8" if precision.startswith("int8") else precision
    for unit, values in measured_differences(computed, standard).items():
        largest, mean = (float(values.max()), float(values.mean())) if values.size else (0.0, 0.0)
        verdict.differences[unit] = (largest, mean)
        limit = getattr(gate, f"{limits}_{unit}")
        if not mean <= limit:  # NaN too
            verdict.problems.append(f"mean difference {mean:.4g} {unit}, allowed {limit:g} (gate.{limits}_{unit})")
    if own.kpi is not None:
        verdict.problems += _kpi_problems(verdict, computed, standard, own.kpi, f"{limits}_kpi", gate)
    times = times_ms([standard.reference.run, runtime.run], standard.inputs[:1])
    own.latency_ms, verdict.latency_ms = (statistics.median(taken) for taken in times)
    if verdict.problems and model is not None:
        verdict.blamed = layers_to_blame(model, runtime, standard)
    return verdict


def _kpi_problems(
    verdict: Verdict, runtime: Runtime, standard: Standard, own: float, key: str, gate: GateConfig
) -> list[str]:
    """Measures the KPI, and says what is wrong with it."""
    assert standard.kpi is not None
    try:
        verdict.kpi = standard.kpi(runtime)
    except FacetrainError as error:  # outputs that are not finite
        return [f"its {standard.kpi_name} cannot be measured: {error}"]
    loss = kpi_loss(own, verdict.kpi, standard)
    if loss <= getattr(gate, key):
        return []
    return [
        f"{standard.kpi_name} {verdict.kpi:.3f}, the model's {own:.3f}: {loss:.3f} points lost, allowed "
        f"{getattr(gate, key):g} (gate.{key})"
    ]


def kpi_loss(own: float, other: float, standard: Standard) -> float:
    """How much worse than the reference's, percentage points; below 0: better."""
    return own - other if standard.higher_is_better else other - own


def measured_differences(runtime: Runtime, standard: Standard) -> Differences:
    """How far a runtime's outputs are from the reference's on the standard's inputs."""
    parts = [
        standard.differences(expected, runtime.run(images))
        for expected, images in zip(standard.expected, standard.inputs.split(PART), strict=True)
    ]
    return {unit: np.concatenate([part[unit].ravel() for part in parts]) for unit in parts[0]}


def layers_to_blame(model: onnx.ModelProto, runtime: Runtime, standard: Standard) -> list[str]:
    """The layers at whose output the error grows most, worst first, with it; one line if none does.

    The error is the root mean square of the difference over that of the PyTorch layer's own output.
    """
    images = standard.inputs[:4] if not runtime.info.batch else standard.inputs[: runtime.info.batch]
    outputs = {node.name: node.output[0] for node in model.graph.node if node.op_type in LAYERS}
    layers = [name for name in outputs if name in standard.modules]
    theirs = _tensors(model, [outputs[name] for name in layers], images, runtime.info.input)
    ours = _activations(standard.network, [standard.modules[name] for name in layers], images)
    errors = {name: _relative(theirs[outputs[name]], ours[standard.modules[name]]) for name in layers}
    growth: dict[str, float] = {}
    before = 1e-4
    for name, error in errors.items():  # in the order in which they are computed
        if error > 2 * before:
            growth[name] = error - before
        before = max(before, error)
    worst = sorted(growth, key=lambda name: -growth[name])[:BLAMED]
    if not worst:
        return ["what comes behind the last layer: the decoding of the outputs, or their names"]
    return [f"{name} (relative error {errors[name]:.3g})" for name in worst]


def _relative(mine: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    if mine.shape != reference.shape:
        return float("inf")
    scale = float(np.sqrt(np.mean(reference**2))) or 1.0
    return float(np.sqrt(np.mean((mine - reference) ** 2))) / scale


def _tensors(
    model: onnx.ModelProto, names: Sequence[str], images: Tensor, input_name: str
) -> dict[str, NDArray[np.float32]]:
    """Tensors inside of a graph, in float32."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    already = {output.name for output in opened.graph.output}
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in already)
    session = ort.InferenceSession(opened.SerializeToString(), providers=["CPUExecutionProvider"])
    results = session.run(list(names), {input_name: images.numpy()})
    return {name: np.asarray(result, np.float32) for name, result in zip(names, results, strict=True)}


@torch.inference_mode()
def _activations(network: nn.Module, modules: Sequence[str], images: Tensor) -> dict[str, NDArray[np.float32]]:
    found: dict[str, NDArray[np.float32]] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: found.__setitem__(name, output.detach().float().cpu().numpy().copy())

    hooks = [network.get_submodule(name).register_forward_hook(keep(name)) for name in modules]
    try:
        network(images.to(next(network.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def reject(path: Path) -> Path:
    """Moves an artefact aside, with its sidecar: nothing is left under the name that a pipeline would load."""
    aside = path.with_name(path.name + REJECTED)
    os.replace(path, aside)
    sidecar = path.with_name(path.name + ".json")
    if sidecar.exists():
        os.replace(sidecar, sidecar.with_name(sidecar.name + REJECTED))
    return aside


def gate_table(verdicts: Sequence[Verdict], standard: Standard, machine: str) -> Table:
    """One row for each artefact, the PyTorch model's first."""
    rows: list[Row] = [
        [
            verdict.form,
            f"{verdict.bytes / 1e6:.2f}" if verdict.bytes else "",
            *(_pair(verdict.differences.get(unit)) for unit in ("pixels", "probability")),
            "" if verdict.kpi is None else f"{verdict.kpi:.3f}",
            "" if verdict.latency_ms is None else f"{verdict.latency_ms:.2f}",
            verdict.word if verdict.differences or not verdict.verified else "",
        ]
        for verdict in verdicts
    ]
    header = ["form", "MB", "px", "prob.", standard.kpi_name, "ms", "gate"]
    caption = (
        f"Largest and mean difference from the PyTorch model on {standard.inputs_are}; ms: one input, on {machine}"
    )
    return Table(header, rows, caption)


def _pair(largest_and_mean: tuple[float, float] | None) -> str:
    return " / ".join(f"{value:.2g}" for value in largest_and_mean) if largest_and_mean else ""


def write_verdicts(path: Path, verdicts: Sequence[Verdict], about: Mapping[str, Any]) -> None:
    """gate.json: everything in the table, and what stands behind it."""
    rows = [asdict(verdict) | {"gate": verdict.word} for verdict in verdicts]
    write_atomic(path, (json.dumps({**about, "artefacts": rows}, indent=2) + "\n").encode())


def refusal(verdicts: Sequence[Verdict], folder: Path) -> ExportError | None:
    """The error that a failed export ends with; None when nothing was rejected."""
    failed = [verdict for verdict in verdicts if verdict.problems]
    if not failed:
        return None
    lines = [
        f"{verdict.form}: {'; '.join(verdict.problems)}"
        + (f"; to blame: {', '.join(verdict.blamed)}" if verdict.blamed else "")
        for verdict in failed
    ]
    return ExportError(
        f"{len(failed)} of {len(verdicts) - 1} artefacts failed; what was made of them lies aside as {REJECTED} in "
        f"{folder}:\n  " + "\n  ".join(lines) + "\n"
        "  Where one is precise enough for you, raise the limit that is named"
    )
