"""The keys of `benchmark` that both networks have."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from .schema import key

BACKENDS = ("pytorch", "onnxruntime_cpu", "onnxruntime_cuda", "onnxruntime_tensorrt", "engine")


@dataclass
class BenchmarkConfig:
    """What is timed, and how."""

    models: list[str] = key(["zoo"], "what is timed side by side: model files, 'zoo', .onnx and .engine files, or an "
                                     "export's folder, which stands for all graphs and engines in it")  # fmt: skip
    results_dir: str = key("results/benchmark", "folder for benchmark.json and report.html")
    overwrite: bool = key(False, "write over results that stand there")
    backends: list[str] = key(["auto"], "what runs them: auto (all that this machine has), pytorch, onnxruntime_cpu, "
                                        "onnxruntime_cuda, onnxruntime_tensorrt, engine")  # fmt: skip
    batches: list[int] = key([1, 4, 16], "inputs at a time; a graph of a fixed batch runs at that one only")
    device: str = key("auto", "where PyTorch computes; cpu also keeps auto from the GPU",
                      choices=("auto", "cpu", "cuda"))  # fmt: skip
    threads: int = key(0, "threads of the CPU; 0: PyTorch's and ONNX Runtime's own choice", low=0, high=1024)
    warm_up: int = key(5, "passes of each that are not counted", low=1, high=100000)
    repeats: int = key(100, "passes of each, at each batch, that are counted", low=1, high=1000000)
    seconds: float = key(10.0, "time for the passes of each at each batch; when it is up, they end at fewer than "
                               "repeats, but not below six", low=0.0, high=86400.0)  # fmt: skip
    input: str = key("", "picture or folder of pictures to work on; empty: drawn ones")
    end_to_end: bool = key(True, "also time the whole path of a picture: read, preprocess, network, decode, draw")

    def __post_init__(self) -> None:
        if not self.models:
            raise ConfigError("models=[] names nothing to time; give model files, graphs, engines or export folders")
        unknown = [name for name in self.backends if name not in ("auto", *BACKENDS)]
        if unknown or not self.backends:
            raise ConfigError(
                f"backends={self.backends}: {unknown[0] if unknown else 'nothing'!r} is no backend; accepted: auto, "
                f"{', '.join(BACKENDS)}"
            )
        if not self.batches or min(self.batches) < 1:
            raise ConfigError(f"batches={self.batches}: give one or more whole numbers from 1 up, such as [1, 4, 16]")
