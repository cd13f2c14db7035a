"""The keys of `export` that both networks have."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from .schema import key, ordered

PRECISIONS = ("fp32", "fp16", "int8", "int8_fp16")


@dataclass
class ExportConfig:
    """What is made of the model."""

    precisions: list[str] = key(["fp32", "fp16", "int8"], "forms of the graph: fp32, fp16, int8 (Q/DQ), int8_fp16 ("
                                                          "half precision where it is not quantised)")  # fmt: skip
    io_names: str = key("tao", "names of inputs and outputs; see docs/export.md for each family",
                        choices=("tao", "tao-v3", "plain"))  # fmt: skip
    name_suffix: str = key("auto", "':0' behind the names of tao and tao-v3: auto: as that family has it",
                           choices=("auto", "yes", "no"))  # fmt: skip
    opset: int = key(17, "version of the ONNX operators; 17 is read by TensorRT 8.6 to 11; int8_fp16 has at least 19",
                     low=16, high=23)  # fmt: skip
    batch: int = key(0, "inputs at a time, fixed in the graph; 0: any number", low=0, high=1024)
    engine: str = key("none", "engine that is built of each form: tensorrt (data centre, Jetson; builds on the GPU "
                              "that will run it), tensorrt_rtx (RTX GPUs; builds without one)",
                      choices=("none", "tensorrt", "tensorrt_rtx"))  # fmt: skip
    deployment: bool = key(True, "files for DeepStream and Triton, and a stand-alone predict.py")
    partner: str = key("", "export folder of the other network, for the files that join the two")

    def __post_init__(self) -> None:
        wrong = [name for name in self.precisions if name not in PRECISIONS]
        if wrong or not self.precisions:
            raise ConfigError(
                f"export.precisions={self.precisions}: {wrong[0] if wrong else 'nothing'!r} is no form; accepted: "
                f"{', '.join(PRECISIONS)}"
            )


@dataclass
class DeepstreamConfig:
    """What is made for DeepStream besides."""

    config: str = key("", "your own nvinfer configuration of this network: a corrected copy and a diff are written")


@dataclass
class BuildConfig:
    """How engines are built."""

    min_batch: int = key(1, "smallest batch of the profile", low=1, high=65536)
    opt_batch: int = key(1, "batch that it is tuned for", low=1, high=65536)
    max_batch: int = key(16, "largest batch of the profile", low=1, high=65536)
    workspace_mib: int = key(0, "scratch memory while building, MiB; 0: the library's default", low=0)
    timing_cache: str = key("", "tensorrt: file that measured kernels are kept in, for the next build; empty: none")
    compute_capabilities: list[str] = key([], "tensorrt_rtx: GPUs to build for, such as ['7.5']; empty: Ampere and "
                                              "later")  # fmt: skip
    version_compatible: bool = key(False, "tensorrt: runs under later versions too")
    hardware_compatible: bool = key(False, "tensorrt: runs on other GPUs from Ampere on too")

    def __post_init__(self) -> None:
        ordered(self, "build", ("min_batch", "opt_batch"), ("opt_batch", "max_batch"))


@dataclass
class CalibrationConfig:
    """The pictures that INT8 ranges are measured on, through the model's own preprocessing."""

    images: str = key("", "folder of pictures (fpenet: cut-out faces); empty: training samples of data, else those of "
                          "split")  # fmt: skip
    count: int = key(256, "pictures to take at random", low=1, high=100000)
    seed: int = key(0, "seed of that choice", low=0)
    method: str = key("entropy", "how a tensor's range is cut: at its largest value, where least information is lost, "
                                 "or at a percentile",
                      choices=("minmax", "entropy", "percentile"))  # fmt: skip
    percentile: float = key(99.99, "percentile of the absolute values", low=90.0, high=100.0)
    cache: bool = key(True, "write the ranges as a calibration cache of TensorRT 8 to 10 as well")
    ranges: str = key("auto", "auto: those that quantisation-aware training left in the model file, else measured",
                      choices=("auto", "measured"))  # fmt: skip


@dataclass
class QuantizeConfig:
    """What stays in float."""

    excluded_layers: list[str] = key([], "layers that are not quantised, such as encoder.0.0 or block_1a.conv_1")
    auto_exclude: bool = key(True, "leave the worst layers in float until the loss of the KPI is within gate.int8_kpi")


@dataclass
class GateConfig:
    """The check that every form must pass. Differences are means, in pixels of the input for points and box edges."""

    inputs: int = key(64, "real inputs that outputs are compared on", low=1, high=10000)
    kpi_samples: int = key(0, "validation samples that the KPI is measured on; 0: all", low=0)
    fp32_pixels: float = key(0.01, "largest mean difference of points or box edges", low=0.0)
    fp16_pixels: float = key(0.1, "the same of fp16", low=0.0)
    int8_pixels: float = key(1.0, "the same of int8 and int8_fp16", low=0.0)
    fp32_probability: float = key(0.001, "largest mean difference of confidence, coverage and the like", low=0.0)
    fp16_probability: float = key(0.01, "the same of fp16", low=0.0)
    int8_probability: float = key(0.05, "the same of int8 and int8_fp16", low=0.0)
    fp32_kpi: float = key(0.01, "largest loss of the KPI, percentage points", low=0.0)
    fp16_kpi: float = key(0.02, "the same of fp16", low=0.0)
    int8_kpi: float = key(0.1, "the same of int8 and int8_fp16", low=0.0)
