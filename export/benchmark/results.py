"""What the verb `benchmark` has measured: as figures, tables, a JSON file and a report."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import onnxruntime as ort
import torch

from ... import __version__
from ...configs.benchmark_schema import BenchmarkConfig
from ...configs.compose import to_plain
from ...training import plots
from ...training.console import print_tables
from ...training.model_file import TITLES, write_atomic
from ...training.report import Figure, Row, Section, Table, machine_facts, write_report
from ...training.run_folder import RunFolder
from .models import NotRun

RESULT = "benchmark.json"
BUSY = 0.5  # processes a core that wanted the CPU before, from which on the machine counts as busy


@dataclass(frozen=True)
class Latency:
    """How long one file takes at one batch.

    Attributes:
        device: name of the processor that computes.
        backend: one of `configs.benchmark_schema.BACKENDS`.
        run_by: the backend with its version.
        batch: inputs at a time.
        runs: passes that were counted.
        mean_ms, p50_ms, p90_ms, p99_ms: of them.
        fps: inputs a second, batch / mean.
    """

    file: str
    device: str
    backend: str
    run_by: str
    precision: str
    batch: int
    runs: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    fps: float


@dataclass(frozen=True)
class EndToEnd:
    """How long one picture's whole path takes with one file.

    Attributes:
        stages_ms: stage -> median.
        shares: stage -> its part of the sum of the medians, 0 to 1.
        mean_ms: of the whole path.
        fps: pictures a second, 1 / mean.
    """

    file: str
    device: str
    backend: str
    run_by: str
    precision: str
    runs: int
    stages_ms: dict[str, float]
    shares: dict[str, float]
    mean_ms: float
    fps: float


@dataclass
class Benchmark:
    """All that was measured.

    Attributes:
        inputs: what pictures it was measured on.
        threads: of the CPU: PyTorch's, and ONNX Runtime's, where 0 is its own choice.
        load: processes that wanted the CPU in the minute before, on average.
        notes: what else the reader must know.
    """

    latency: list[Latency]
    end_to_end: list[EndToEnd]
    not_run: list[NotRun]
    inputs: str
    threads: dict[str, int]
    load: float
    notes: list[str]


def cpu_name() -> str:
    """What the CPU calls itself."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return named[1].strip() if named else platform.processor() or platform.machine()


def gpu_name() -> str:
    """What the GPU calls itself, where PyTorch can see it."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "GPU"


def write_results(folder: Path, spec: BenchmarkConfig, network: str, result: Benchmark) -> None:
    """Prints the tables and writes benchmark.json, report.html and status.json."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    content = {
        "network": network,
        "settings": to_plain(spec),
        "machine": {"cpu": cpu_name(), "cores": cores, "gpu": gpu_name() if torch.cuda.is_available() else ""},
        "threads": result.threads,
        "load_before": result.load,
        "versions": _versions(),
        "written": datetime.now().astimezone().isoformat(timespec="seconds"),
        "inputs": result.inputs,
        "latency": [asdict(row) for row in result.latency],
        "end_to_end": [asdict(row) for row in result.end_to_end],
        "not_run": [asdict(one) for one in result.not_run],
        "notes": result.notes,
    }
    write_atomic(folder / RESULT, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
    notes = [*result.notes, *map(str, result.not_run)]
    if result.load > BUSY * cores:
        notes.append(f"the machine was busy before: {result.load:.1f} processes wanted its {cores} cores")
    tables = [_latency_table(result, spec)] + ([_path_table(result)] if result.end_to_end else [])
    _write_report(folder / "report.html", spec, network, result, tables, notes)
    kpi = {f"{row.file}/{row.backend}/batch_{row.batch}/fps": row.fps for row in result.latency}
    RunFolder(folder).log_status("SUCCESS", "Benchmark is done", kpi=kpi)
    print_tables(tables, [*notes, f"results: {folder}"])


def _versions() -> dict[str, str]:
    known = {
        "facetrain": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": ort.__version__,
    }
    used = {name: sys.modules[name].__version__ for name in ("tensorrt", "tensorrt_rtx") if name in sys.modules}
    return known | used


def _latency_table(result: Benchmark, spec: BenchmarkConfig) -> Table:
    names, cells = _names(result.latency)
    rows: list[Row] = [
        [*cell, row.batch, row.mean_ms, row.p50_ms, row.p90_ms, row.p99_ms, row.fps]
        for cell, row in zip(cells, result.latency, strict=True)
    ]
    devices = " and ".join(dict.fromkeys(row.device for row in result.latency))
    caption = (
        f"Milliseconds of a pass, and inputs a second, on {devices}, of {result.inputs}; warm-up {spec.warm_up}, then "
        f"{_passes(result.latency)} in three turns"
    )
    return Table([*names, "batch", "mean", "p50", "p90", "p99", "FPS"], rows, caption)


def _path_table(result: Benchmark) -> Table:
    names, cells = _names(result.end_to_end)
    stages = list(result.end_to_end[0].stages_ms)
    rows: list[Row] = []
    for cell, row in zip(cells, result.end_to_end, strict=True):
        parts = [f"{row.stages_ms[stage]:.2f}\n{100 * row.shares[stage]:.0f} %" for stage in stages]
        rows.append([*cell, *parts, row.fps])
    caption = (
        "One picture's whole path: median milliseconds of each stage, and its share; pictures a second; "
        f"{_passes(result.end_to_end)}"
    )
    return Table([*names, *stages, "FPS"], rows, caption)


def _names(rows: Sequence[Latency] | Sequence[EndToEnd]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the columns that say what a row is of: the file where the others do not tell, the device
    where there are several, the backend, the precision."""
    cells = [
        {"file": row.file, "device": row.device, "backend": _backend_word(row), "precision": row.precision}
        for row in rows
    ]
    header = ["device"] if len({row.device for row in rows}) > 1 else []
    header += ["backend", "precision"]
    files = {tuple(cell[column] for column in header): cell["file"] for cell in cells}
    if any(files[tuple(cell[column] for column in header)] != cell["file"] for cell in cells):
        header = ["file", *header]
    return header, [[cell[column] for column in header] for cell in cells]


def _backend_word(row: Latency | EndToEnd) -> str:
    """The backend without its version; of an engine also without the GPU, which is a column of its own."""
    return row.run_by.split()[0] if row.backend == "engine" else re.sub(r" \d\S*", "", row.run_by)


def _passes(rows: Sequence[Latency] | Sequence[EndToEnd]) -> str:
    counts = sorted({row.runs for row in rows})
    return f"{counts[0]} to {counts[-1]} passes" if len(counts) > 1 else f"{counts[0]} pass{'es' * (counts[0] > 1)}"


def _write_report(
    path: Path, spec: BenchmarkConfig, network: str, result: Benchmark, tables: Sequence[Table], notes: list[str]
) -> None:
    series: dict[str, Any] = {}
    for row in result.latency:
        batches, rates = series.setdefault(f"{row.file}, {_backend_word(row)}", ([], []))
        batches.append(row.batch)
        rates.append(row.fps)
    plot = Figure(plots.curves(series, "batch", "inputs a second", low=0), "Throughput by batch.")
    own = "its own choice"
    facts = {
        "Inputs": result.inputs,
        "Passes": f"{spec.warm_up} to warm up, then {spec.repeats} of each, or {spec.seconds:g} s, in three turns",
        "Backends": ", ".join(dict.fromkeys(row.run_by for row in result.latency)),
        "Threads": f"PyTorch {result.threads['pytorch']}, ONNX Runtime {result.threads['onnxruntime'] or own}",
        "CPU": cpu_name(),
        **machine_facts("cuda" if torch.cuda.is_available() else "cpu"),
    }
    sections = [Section("Latency and throughput", [tables[0], *notes, plot])]
    sections += [Section("End to end", [table]) for table in tables[1:]]
    write_report(path, f"{TITLES[network]}, timed", facts, sections)
