"""What the verb `export` does for either network: forms of the graph, engines, the gate, deployment files, a report."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from ..configs.export_schema import (
    BuildConfig,
    CalibrationConfig,
    DeepstreamConfig,
    ExportConfig,
    GateConfig,
    QuantizeConfig,
)
from ..errors import ExportError, FacetrainError, ModelFileError
from ..training.console import print_tables
from ..training.model_file import TITLES, ModelMeta, write_atomic
from ..training.report import Section, Table, machine_facts, write_report
from ..training.run_folder import RunFolder, clock, make_folder, refuse_results
from .deploy.deepstream import write_deepstream
from .deploy.deployment import Exported, exported_in
from .deploy.existing_nvinfer import NvinferFile, read_nvinfer, write_corrected
from .deploy.standalone import write_predict_script
from .deploy.triton import write_triton
from .engines.build import build_engine, require_builder
from .engines.options import engine_options
from .engines.sidecar import read_sidecar, write_sidecar
from .gate import Standard, Verdict, gate_table, judge, reference_verdict, refusal, reject, write_verdicts
from .graph import describe, export_graph
from .metadata import GraphInfo, entries_of, read_onnx, understood
from .precision.calibration_cache import write_cache
from .precision.half import to_half
from .precision.quantize import quantize
from .precision.quantized import Quantized, quantized, to_calibrate_on
from .runtime import EXPORTED, Runtime, open_runtime

RESULT = "gate.json"


class ExportSpec(Protocol):
    """The keys that both `export` specs have."""

    model: str
    results_dir: str
    overwrite: bool
    calibration: CalibrationConfig
    quantize: QuantizeConfig
    build: BuildConfig
    deepstream: DeepstreamConfig

    @property
    def export(self) -> ExportConfig: ...

    @property
    def gate(self) -> GateConfig: ...


@dataclass(frozen=True)
class Calibration:
    """The inputs that ranges are measured on.

    Attributes:
        batches: makes them anew, each [n, C, H, W] float32.
        are: what they are, for the report.
    """

    batches: Callable[[], Iterator[NDArray]]
    are: str


@dataclass(frozen=True)
class ExportJob:
    """What is to be exported, and how it is judged.

    Attributes:
        network: "fpenet" or "facenet".
        graph: the module that becomes the graph.
        meta, info: what the files will say; `info` is that of fp32.
        heads: layers that stay in float, with all that comes behind them.
        tail: puts what is not PyTorch's at the end of a finished graph.
        standard: what the forms are held against.
        calibrate: gives the calibration inputs, or raises ConfigError saying why there are none.
    """

    network: str
    graph: nn.Module
    meta: ModelMeta
    info: GraphInfo
    heads: tuple[str, ...]
    tail: Callable[[onnx.ModelProto], onnx.ModelProto]
    standard: Standard
    calibrate: Callable[[], Calibration]


def run_export(spec: ExportSpec, prepare: Callable[[], ExportJob]) -> list[Verdict]:
    """Writes the forms that the spec asks for to `results_dir`, and judges them.

    Returns:
        A verdict for the model itself and for each artefact.

    Raises:
        ConfigError: results stand in the way, or something in the spec will not do.
        ModelFileError, DataError: the model file or the data cannot be used.
        ExportError: an artefact cannot be made, or failed the gate; everything else is written all the same.
    """
    started = time.monotonic()
    folder = Path(spec.results_dir)
    refuse_results(folder, RESULT, spec.overwrite)
    if spec.export.engine != "none":
        require_builder(spec.export.engine)  # before anything is measured
    job = prepare()
    partner = _partner(spec.export.partner, job.network)
    theirs = read_nvinfer(spec.deepstream.config, job.network) if spec.deepstream.config else None
    calibration = to_calibrate_on(job, spec)  # before anything is written
    make_folder(folder)
    _clear(folder, job.network)
    run = _Run(spec, job, folder, calibration)
    run.forms()
    deployed = run.deployment(partner, theirs)
    run.finish(deployed, time.monotonic() - started)
    error = refusal(run.verdicts, folder)
    status = RunFolder(folder)
    if error is not None:
        status.log_status("FAILURE", str(error))
        raise error
    status.log_status("SUCCESS", run.closing())
    print(run.closing())
    return run.verdicts


def refuse_exported(model: str, network: str) -> None:
    """Raises ModelFileError when the model is an exported file, of which nothing can be made."""
    if Path(model).suffix in EXPORTED:
        raise ModelFileError(
            f"model={model} has been exported already; give the model file that `{network} train` wrote (.safetensors)"
        )


def _partner(folder: str, network: str) -> Exported | None:
    """The export of the other network. Raises ConfigError and ModelFileError when it cannot be used."""
    if not folder:
        return None
    return exported_in(Path(folder), next(name for name in TITLES if name != network))


def _clear(folder: Path, network: str) -> None:
    """Removes an earlier export's graphs and engines: one that is not made again must not look as if it were."""
    for path in (*folder.glob(f"{network}*"), *folder.glob("triton/*/1/model.*")):
        if any(f".{part}" in path.name for part in ("onnx", "engine", "plan")) and path.is_file():
            path.unlink()


class _Run:
    """One export as it goes on.

    Attributes:
        passed: artefacts that were not rejected, by form.
    """

    def __init__(self, spec: ExportSpec, job: ExportJob, folder: Path, calibration: Calibration | None) -> None:
        self.spec, self.job, self.folder, self.calibration = spec, job, folder, calibration
        self.passed: dict[str, Path] = {}
        self.own = reference_verdict(job.standard)
        self.verdicts: list[Verdict] = [self.own]
        self.quantized: Quantized | None = None
        self.corrected: Table | None = None  # what was changed in a configuration of the user's
        channels = job.info.input_shape
        self.graph = export_graph(job.graph, torch.rand(2, *channels), job.meta, job.info)

    def forms(self) -> None:
        """Each form in turn: its graph, its verdict, its engine."""
        for precision in self.spec.export.precisions:
            print(f"{precision} ...", flush=True)
            path = self.folder / f"{self.job.network}{'' if precision == 'fp32' else f'_{precision}'}.onnx"
            model = self.job.tail(self._graph(precision))
            write_atomic(path, model.SerializeToString())
            verdict = self._judged(precision, path, open_runtime(path, self.job.network, "cpu"))
            if not verdict.problems and self.spec.export.engine != "none":
                self._engine(precision, path)

    def _graph(self, precision: str) -> onnx.ModelProto:
        """The graph without its tail, and its metadata in."""
        if precision == "fp32":
            return self.graph
        if precision == "fp16":
            model = to_half(self.graph, self.job.heads)
        else:
            if self.quantized is None:
                self.quantized = quantized(self.graph, self.job, self.spec, self.own, self.calibration)
                if self.spec.calibration.cache:
                    write_cache(self.folder / f"{self.job.network}_calibration.txt", self.quantized.ranges)
            half = precision == "int8_fp16"
            model = quantize(self.graph, self.quantized.ranges, self.job.heads, self.quantized.excluded, half)
        describe(model, self.job.meta, replace(self.job.info, precision=precision))
        return model

    def _judged(self, form: str, path: Path, runtime: Runtime) -> Verdict:
        """The verdict on an artefact; one that is rejected is moved aside."""
        verdict = judge(form, path, runtime, self.job.standard, self.spec.gate, self.own)
        if verdict.problems:
            verdict.file = reject(path).name
        else:
            self.passed[form] = path
        self.verdicts.append(verdict)
        return verdict

    def _engine(self, precision: str, onnx_path: Path) -> None:
        """Builds an engine, and judges it where it runs."""
        form, path = f"{precision} engine", onnx_path.with_suffix(".engine")
        meta, info = understood(entries_of(read_onnx(onnx_path)), onnx_path)
        options = engine_options(self.spec.export.engine, self.spec.build, info)
        try:
            build_engine(onnx_path, path, options, meta, info)
        except ExportError as error:
            self.verdicts.append(Verdict(form, path.name, 0, problems=[str(error)]))
            return
        try:
            runtime = open_runtime(path, self.job.network)
        except FacetrainError as error:
            reason = str(error).removeprefix(f"{path}: ")
            self.verdicts.append(Verdict(form, path.name, path.stat().st_size, note=f"not verified: {reason}"))
            self.passed[form] = path
            return
        verdict = self._judged(form, path, runtime)
        if verdict.verified and not verdict.problems:
            write_sidecar(path, replace(read_sidecar(path), verified=True, note="", gate=asdict(verdict)))

    def deployment(self, partner: Exported | None, theirs: NvinferFile | None) -> list[Path]:
        """What runs the graphs that passed: predict.py and the files for DeepStream and Triton."""
        if not any(path.suffix == ".onnx" for path in self.passed.values()):
            return []
        own, batch = exported_in(self.folder, self.job.network), self.spec.build.max_batch
        written: list[Path] = []
        if self.spec.export.deployment or theirs is not None:
            written += write_deepstream(self.folder / "deepstream", own, partner, batch)
        if self.spec.export.deployment:
            written.append(write_predict_script(self.folder / "predict.py", own.meta, own.info))
            written += write_triton(self.folder / "triton", own, partner, batch)
        if theirs is not None:
            files, self.corrected = write_corrected(theirs, own, self.folder / "deepstream", batch, partner)
            written += files
        return written

    def finish(self, deployed: list[Path], seconds: float) -> None:
        """The table on the screen and in the report, and gate.json."""
        standard, folder = self.job.standard, self.folder
        table = gate_table(self.verdicts, standard, platform.processor() or platform.machine())
        about = {
            "model": self.job.info.source,
            "inputs": standard.inputs_are,
            "kpi": standard.kpi_name,
            "files": [path.relative_to(folder).as_posix() for path in deployed],
        }
        write_verdicts(folder / RESULT, self.verdicts, about)
        facts = {
            "Model": self.job.info.source.get("file", ""),
            "Names": self.job.info.io_names + ": " + ", ".join([self.job.info.input, *self.job.info.outputs.values()]),
            "Opset": str(self.job.info.opset),
            **machine_facts("cpu"),
            "Time": f"{clock(seconds)} h:mm:ss",
        }
        notes = [f"{verdict.form}: {problem}" for verdict in self.verdicts for problem in verdict.problems]
        for note in dict.fromkeys(verdict.note for verdict in self.verdicts if verdict.note):
            notes.append(f"{', '.join(verdict.form for verdict in self.verdicts if verdict.note == note)}: {note}")
        sections = [Section("Gate", [table, *notes])]
        if self.quantized is not None:
            sections.append(self.quantized.section())
        if self.corrected is not None:
            sections.append(Section("Your nvinfer configuration", [self.corrected]))
        if deployed:
            sections.append(Section("Files", [", ".join(about["files"])]))
        write_report(folder / "report.html", f"{TITLES[self.job.network]}, exported", facts, sections)
        print_tables([table, *([self.corrected] if self.corrected else [])], [*notes, f"results: {folder}"])

    def closing(self) -> str:
        """What was done, and what nobody has checked."""
        unverified = [verdict.file for verdict in self.verdicts if not verdict.verified]
        text = f"{len(self.passed) - len(unverified)} artefacts passed"
        return text + (f"; NOT VERIFIED: {', '.join(unverified)}" if unverified else "")
