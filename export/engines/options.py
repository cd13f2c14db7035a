"""How an engine is to be built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...configs.export_schema import BuildConfig
from ...errors import ConfigError
from ..metadata import GraphInfo
from .library import FLAVOURS


@dataclass(frozen=True)
class EngineOptions:
    """How an engine is to be built.

    Attributes:
        flavour: "tensorrt" or "tensorrt_rtx".
        min_batch, opt_batch, max_batch: the profile: the batches it takes, and the one that it is tuned for.
        workspace_mib: scratch memory of one layer, MiB; 0: the library's default.
        timing_cache: file of measured kernels, read and written; TensorRT only.
        version_compatible: runs under later versions too; TensorRT only.
        hardware_compatible: runs on all GPUs from Ampere on; TensorRT only, and TensorRT-RTX's are so anyway.
        compute_capabilities: GPUs to build for, such as "7.5"; empty: all from Ampere on. TensorRT-RTX only.

    Raises:
        ConfigError: a value is out of range, or the flavour has nothing of the kind.
    """

    flavour: str
    min_batch: int = 1
    opt_batch: int = 1
    max_batch: int = 1
    workspace_mib: int = 0
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    compute_capabilities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.flavour not in FLAVOURS:
            raise ConfigError(f"export.engine={self.flavour}: accepted: {', '.join(FLAVOURS)}")
        if not 1 <= self.min_batch <= self.opt_batch <= self.max_batch:
            raise ConfigError(
                f"{self.batches()}: must be 1 or more and in this order, such as build.min_batch=1 build.opt_batch=4 "
                "build.max_batch=16"
            )
        if self.workspace_mib < 0:
            raise ConfigError(f"build.workspace_mib={self.workspace_mib}: must be 0 (the library's default) or more")
        _refuse_missing(self)

    def batches(self) -> str:
        """The profile as the keys that set it."""
        return f"build.min_batch={self.min_batch} build.opt_batch={self.opt_batch} build.max_batch={self.max_batch}"


def _refuse_missing(options: EngineOptions) -> None:
    """Raises ConfigError for what the flavour does not have."""
    if options.flavour == "tensorrt":
        if options.compute_capabilities:
            raise ConfigError(
                f"build.compute_capabilities={list(options.compute_capabilities)}: TensorRT builds for the GPU that it "
                "runs on; leave the key empty, or take build.hardware_compatible=true for all GPUs from Ampere on"
            )
        return
    reasons = {
        "timing_cache": "TensorRT-RTX has none: the GPU that runs the engine chooses its kernels; leave the key empty",
        "version_compatible": "a TensorRT-RTX engine runs under the version that built it only; leave the key false, "
        "and build again after an update",
        "hardware_compatible": "a TensorRT-RTX engine runs on all RTX GPUs from Ampere on anyway; leave the key false",
    }
    for key, reason in reasons.items():
        if value := getattr(options, key):
            raise ConfigError(f"build.{key}={str(value).lower() if value is True else value}: {reason}")


def engine_options(flavour: str, build: BuildConfig, info: GraphInfo) -> EngineOptions:
    """The options that a spec stands for.

    Raises:
        ConfigError: the flavour lacks what is asked for, or the graph's fixed batch is another.
    """
    batches = (build.min_batch, build.opt_batch, build.max_batch)
    if info.batch:
        untouched = BuildConfig()
        if batches == (untouched.min_batch, untouched.opt_batch, untouched.max_batch):
            batches = (info.batch,) * 3
    return EngineOptions(
        flavour,
        *batches,
        workspace_mib=build.workspace_mib,
        timing_cache=Path(build.timing_cache) if build.timing_cache else None,
        version_compatible=build.version_compatible,
        hardware_compatible=build.hardware_compatible,
        compute_capabilities=tuple(build.compute_capabilities),
    )
