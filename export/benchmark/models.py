"""What the verb `benchmark` compares: each file of the spec under each backend that can run it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import onnxruntime as ort
import torch
from torch import Tensor

from ...configs.benchmark_schema import BenchmarkConfig
from ...datasets.sample import ByteArray
from ...errors import ConfigError, FacetrainError, ModelFileError
from ..metadata import entries_of, read_onnx, understood
from ..runtime import OnnxRuntime, Runtime, open_runtime, require_network

PROVIDERS = {
    "onnxruntime_cpu": "CPUExecutionProvider",
    "onnxruntime_cuda": "CUDAExecutionProvider",
    "onnxruntime_tensorrt": "TensorrtExecutionProvider",
}
GPU_PROVIDERS = ("onnxruntime_cuda", "onnxruntime_tensorrt")
BACKENDS_OF = {".safetensors": ("pytorch",), ".onnx": tuple(PROVIDERS), ".engine": ("engine",)}
GPU_PACKAGE = "pip uninstall onnxruntime && pip install onnxruntime-gpu"  # both at once would share one folder


class Pipeline(Protocol):
    """A network with all that stands around it, one picture at a time."""

    runtime: Runtime

    def preprocess(self, picture: ByteArray) -> tuple[Tensor, Any]:
        """The network's input [1, C, H, W] on its device, of a picture [H, W, 3], and what `decode` must know."""

    def decode(self, output: dict[str, Tensor], place: Any) -> Any:
        """What the runtime's output means in the picture."""

    def draw(self, picture: ByteArray, found: Any) -> ByteArray:
        """The picture with what was found."""


# Makes a pipeline of a name in the spec, or a file, and the runtime that is to run it; None: PyTorch.
Load = Callable[[str, Runtime | None], Pipeline]


@dataclass(frozen=True)
class Candidate:
    """A file and what is to run it.

    Attributes:
        name: as the spec has it, or the path of a file in a folder.
        label: in tables.
        backend: one of `BACKENDS`.
        required: it was asked for by name; others are left out where they cannot run.
    """

    name: str
    label: str
    backend: str
    required: bool


@dataclass(frozen=True)
class Entrant:
    """A candidate that can run."""

    label: str
    backend: str
    pipeline: Pipeline

    @property
    def runtime(self) -> Runtime:
        return self.pipeline.runtime

    @property
    def on_gpu(self) -> bool:
        return self.backend in GPU_PROVIDERS or self.runtime.device.type == "cuda"


@dataclass(frozen=True)
class NotRun:
    """What was left out, and why.

    Attributes:
        batch: 0: at every batch.
    """

    file: str
    backend: str
    batch: int
    reason: str

    def __str__(self) -> str:
        return f"not run: {self.file}, {self.backend}{f', batch {self.batch}' if self.batch else ''}: {self.reason}"


def open_entrants(spec: BenchmarkConfig, network: str, load: Load) -> tuple[list[Entrant], list[NotRun]]:
    """Everything that the spec names, and what of it cannot run here.

    Raises:
        ConfigError: there is no such backend here, or nothing for it to run.
        ModelFileError, ExportError: a file that was named, or a backend, cannot be used.
    """
    entrants, left_out = [], []
    for candidate in _candidates(spec):
        try:
            pipeline = load(candidate.name, _runtime(candidate, spec, network))
        except FacetrainError as error:
            if candidate.required:
                raise
            left_out.append(NotRun(candidate.label, candidate.backend, 0, str(error)))
        else:
            entrants.append(Entrant(candidate.label, candidate.backend, pipeline))
    if not entrants:
        reasons = "".join(f"\n  {one}" for one in left_out)
        raise ConfigError(f"models={spec.models}: nothing of this can run here{reasons}")
    return entrants, left_out


def _candidates(spec: BenchmarkConfig) -> list[Candidate]:
    named = [name for name in spec.backends if name != "auto"]
    there = ort.get_available_providers()
    for backend in named:
        if backend in PROVIDERS and PROVIDERS[backend] not in there:
            raise ConfigError(
                f"backends: {backend}: this ONNX Runtime has no {PROVIDERS[backend]}, only {', '.join(there)}; a CUDA "
                f"GPU needs `{GPU_PACKAGE}`"
            )
    wanted = set(named)
    if "auto" in spec.backends:
        wanted |= {"pytorch", "onnxruntime_cpu", "engine"}
        if spec.device != "cpu":
            wanted |= {backend for backend, provider in PROVIDERS.items() if provider in there}
    files = [file for name in spec.models for file in _files(name)]
    sharing = Counter(Path(name).name for name, _, _ in files)
    found = []
    for name, kind, listed in files:
        label = Path(name).name if sharing[Path(name).name] == 1 else name
        for backend in (backend for backend in BACKENDS_OF[kind] if backend in wanted):
            may_fail = backend in GPU_PROVIDERS or (backend == "engine" and listed)
            found.append(Candidate(name, label, backend, backend in named or not may_fail))
    for backend in named:
        if not any(candidate.backend == backend for candidate in found):
            kind = next(kind for kind, backends in BACKENDS_OF.items() if backend in backends)
            raise ConfigError(f"backends: {backend} runs {kind} files, and models={spec.models} names none")
    return found


def _files(name: str) -> Iterator[tuple[str, str, bool]]:
    """Name, ending and whether it only stands in a folder, of each file that an entry of `models` stands for."""
    path = Path(name)
    if name == "zoo":
        yield name, ".safetensors", False
    elif path.is_dir():
        inside = [file for kind in (".onnx", ".engine") for file in sorted(path.glob(f"*{kind}"))]
        if not inside:
            raise ConfigError(f"models: the folder {name} holds no .onnx and no .engine file; `export` writes them")
        yield from ((str(file), file.suffix, True) for file in inside)
    elif path.suffix in BACKENDS_OF:
        yield name, path.suffix, False
    else:
        what = "is of no known kind" if path.exists() else "is neither a file nor a folder"
        raise ModelFileError(f"models: {name} {what}; accepted: 'zoo', {', '.join(BACKENDS_OF)} files, and folders")


def _runtime(candidate: Candidate, spec: BenchmarkConfig, network: str) -> Runtime | None:
    path = Path(candidate.name)
    if candidate.backend == "pytorch":
        return None
    if candidate.backend == "engine":
        return open_runtime(path, network, spec.device)
    settings = {}
    if candidate.backend == "onnxruntime_tensorrt":  # it takes what it is allowed to, not what the graph says
        precision = understood(entries_of(read_onnx(path)), path)[1].precision
        settings = {f"trt_{word}_enable": "1" for word in ("fp16", "int8") if word in precision}
    runtime = OnnxRuntime(path, torch.device("cpu"), PROVIDERS[candidate.backend], spec.threads, settings)
    require_network(runtime, path, network)
    return runtime
