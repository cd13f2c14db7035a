"""From an ONNX graph to an engine: one builder for TensorRT 10 and 11 and for TensorRT-RTX.

Precision lies in the graph alone. Networks are strongly typed: TensorRT 10 and TensorRT-RTX have to be told so,
TensorRT 11 knows nothing else and passes over the flag.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from ...errors import ConfigError, ExportError
from ...training.model_file import ModelMeta, write_atomic
from ..metadata import GraphInfo, read_onnx, source_of
from .library import FLAVOURS, gpu_facts, instance, load_library, log_of
from .options import EngineOptions
from .progress import build_monitor
from .refusals import failure, refusal
from .sidecar import EngineFacts, Sidecar, TensorFacts, write_sidecar

UNVERIFIED = "built, but no GPU has run it yet"
UNKNOWN = ("whether it runs", "its outputs", "its speed", "the GPU memory that it takes")


def build_engine(
    onnx_path: Path, engine_path: Path, options: EngineOptions, meta: ModelMeta, info: GraphInfo
) -> EngineFacts:
    """Builds an engine, and writes it and a description of it, "x.engine.json", beside it.

    Args:
        meta, info: of the graph; the description repeats them.

    Raises:
        ModelFileError: there is no such ONNX file, or it is damaged.
        ConfigError: the graph contradicts the options, or the library or its GPU cannot do what they ask for.
        ExportError: the library is missing or has no GPU to build on, or it refuses the graph.
        KeyboardInterrupt: nothing is written.
    """
    model = read_onnx(onnx_path)
    library = require_builder(options.flavour)
    started = time.monotonic()
    job = _parsed(library, options, onnx_path, model)
    layers = _layers(job.network)
    plan = _built(job, options)
    facts = EngineFacts(
        flavour=options.flavour,
        library_version=library.__version__,
        inputs=tuple(_facts_of(tensor) for tensor in job.inputs),
        outputs=tuple(_facts_of(job.network.get_output(i)) for i in range(job.network.num_outputs)),
        layers=layers,
        profile=job.profile,
        gpu=gpu_facts() if options.flavour == "tensorrt" else None,
        compute_capabilities=options.compute_capabilities,
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
        onnx=source_of(onnx_path),
        bytes=len(plan),
        sha256=hashlib.sha256(plan).hexdigest(),
        seconds=round(time.monotonic() - started, 3),
        unknown=UNKNOWN if options.flavour == "tensorrt" else (*UNKNOWN, "its kernels, which the GPU chooses"),
    )
    write_atomic(engine_path, plan)
    write_sidecar(engine_path, Sidecar(facts, meta, info, note=UNVERIFIED))
    return facts


def require_builder(flavour: str) -> Any:
    """The library, where it can build engines.

    Raises:
        ExportError: it is missing, too old, or has no GPU to build on; the message says what to do.
    """
    without_gpu = gpu_facts() is None and flavour == "tensorrt"
    advice = (
        "TensorRT builds on the GPU that is to run the engine, and PyTorch sees none here: build on that machine, or "
        "take export.engine=tensorrt_rtx, which needs no GPU to build for RTX cards"
    )
    try:
        library = load_library(flavour)
    except ExportError as error:
        raise ExportError(
            f"export.engine={flavour}: {error}" + (f". Besides, {advice}" if without_gpu else "")
        ) from error
    if without_gpu:
        raise ExportError(f"export.engine=tensorrt: {advice}")
    return library


def _title(library: Any, options: EngineOptions) -> str:
    """The library and its version, for messages."""
    return f"{FLAVOURS[options.flavour].title} {library.__version__}"


@dataclass(frozen=True)
class _Job:
    """A graph that the library has taken. The network's weights are the parser's, so that has to live on too."""

    library: Any
    builder: Any
    parser: Any
    network: Any
    onnx_path: Path
    model: onnx.ModelProto
    profile: dict[str, int] | None

    @property
    def inputs(self) -> list[Any]:
        return [self.network.get_input(i) for i in range(self.network.num_inputs)]


def _parsed(library: Any, options: EngineOptions, path: Path, model: onnx.ModelProto) -> _Job:
    """Raises ExportError when the parser refuses the graph, ConfigError when the graph contradicts the options."""
    log, builder = log_of(library), instance(library, "Builder")
    typed = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = library.OnnxParser(network, log)
    if not parser.parse(path.read_bytes(), str(path)):
        raise refusal(_title(library, options), parser, log, path, model)
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    return _Job(library, builder, parser, network, path, model, _profile(options, path, inputs))


def _profile(options: EngineOptions, path: Path, inputs: list[Any]) -> dict[str, int] | None:
    """The batches that the engine is to take; None where the graph fixes them."""
    wanted = {"min": options.min_batch, "opt": options.opt_batch, "max": options.max_batch}
    for tensor in inputs:
        shape = tuple(tensor.shape)
        if -1 in shape[1:]:
            raise ExportError(
                f"{path}: input {tensor.name!r} leaves more open than the batch, {list(shape)}: export it again with "
                "fixed sizes"
            )
        if shape[:1] != (-1,) and set(wanted.values()) != {shape[0]}:
            raise ConfigError(
                f"{options.batches()}: {path} has a fixed batch of {shape[0]}; make all three {shape[0]}, or export "
                "the graph with export.batch=0"
            )
    return wanted if any(tensor.shape[0] == -1 for tensor in inputs) else None


def _built(job: _Job, options: EngineOptions) -> bytes:
    """The plan."""
    library, log = job.library, log_of(job.library)
    config = job.builder.create_builder_config()
    _configure(job, config, options)
    if job.profile is not None:
        profile = job.builder.create_optimization_profile()
        for tensor in job.inputs:
            profile.set_shape(tensor.name, *((batch, *tuple(tensor.shape)[1:]) for batch in job.profile.values()))
        config.add_optimization_profile(profile)
    with build_monitor(library) as monitor:
        config.progress_monitor = monitor
        plan = job.builder.build_serialized_network(job.network, config)
    if plan is None:
        raise failure(_title(library, options), job.onnx_path, job.model, log.take(), options.workspace_mib)
    if options.timing_cache is not None:
        write_atomic(options.timing_cache, bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def _configure(job: _Job, config: Any, options: EngineOptions) -> None:
    library = job.library
    if options.workspace_mib:
        config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.version_compatible:
        config.set_flag(library.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = library.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.timing_cache is not None:
        _read_timing_cache(library, config, options.timing_cache)
    if options.compute_capabilities:
        known = _compute_capabilities(library)
        if wrong := [name for name in options.compute_capabilities if name not in known]:
            raise ConfigError(
                f"build.compute_capabilities: {wrong[0]!r} is none that TensorRT-RTX {library.__version__} builds for; "
                f"accepted: {', '.join(known)}"
            )
        config.num_compute_capabilities = len(options.compute_capabilities)
        for index, name in enumerate(options.compute_capabilities):
            config.set_compute_capability(known[name], index)


def _compute_capabilities(library: Any) -> dict[str, Any]:
    """ "8.6" -> the library's SM86, and so on."""
    found = {}
    for name, value in library.ComputeCapability.__members__.items():
        if match := re.fullmatch(r"SM(\d+)(\d)", name):
            found[f"{match[1]}.{match[2]}"] = value
    return found


def _read_timing_cache(library: Any, config: Any, path: Path) -> None:
    content = path.read_bytes() if path.is_file() else b""
    log = log_of(library)
    log.take()
    cache = config.create_timing_cache(content)
    taken = cache is not None and config.set_timing_cache(cache, False)
    # A file of another version or none at all is passed over with a warning, and would be written over at the end.
    passed_over = content and any("timing cache" in warning for warning in log.warnings)
    reason = log.take()
    if not taken or passed_over:
        raise ConfigError(
            f"build.timing_cache={path}: TensorRT {library.__version__} cannot use it on this GPU"
            f"{f' ({reason})' if reason else ''}: it is from another version or GPU, or damaged; name another file"
        )


def _layers(network: Any) -> dict[str, dict[str, int]]:
    """Layer type -> data type of what it gives -> how many."""
    found: dict[str, Counter[str]] = {}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        found.setdefault(layer.type.name, Counter())[layer.get_output(0).dtype.name] += 1
    return {kind: dict(sorted(found[kind].items())) for kind in sorted(found)}


def _facts_of(tensor: Any) -> TensorFacts:
    return TensorFacts(tensor.name, tuple(tensor.shape), tensor.dtype.name)
