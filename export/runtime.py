"""Runs an exported file as the model file itself would run: an ONNX graph by ONNX Runtime, an engine by TensorRT."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from ..errors import ModelFileError
from ..training.distributed import pick_device
from ..training.model_file import TITLES, ModelMeta
from .metadata import GraphInfo, understood

EXPORTED = (".onnx", ".engine")


class Runtime(Protocol):
    """A graph that can be run.

    Attributes:
        backend: what runs it and where, such as "ONNX Runtime (CPU)".
    """

    meta: ModelMeta
    info: GraphInfo
    device: torch.device
    backend: str

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """The outputs of float32 inputs [N, C, H, W], by the keys of `info.outputs`."""


class TorchRuntime:
    """A network that runs by itself.

    Args:
        graph: what would be exported of it: takes one input, returns the tensors of `info.outputs` in that order.
    """

    def __init__(self, graph: nn.Module, meta: ModelMeta, info: GraphInfo, device: torch.device) -> None:
        self.graph = graph.to(device).eval()
        self.meta, self.info, self.device = meta, info, device
        self.backend = f"PyTorch {torch.__version__} ({device})"

    @torch.inference_mode()
    def run(self, images: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.info.outputs, self.graph(images.to(self.device)), strict=True))


class OnnxRuntime:
    """An ONNX graph by ONNX Runtime.

    Args:
        source: a file, or the graph itself.
        provider: one of ONNX Runtime's execution providers; empty: CUDA on a CUDA device, else the CPU.
        threads: of the CPU; 0: ONNX Runtime's own choice.
        settings: of the provider.

    Raises:
        ModelFileError: the file is missing, damaged, not ours, or ONNX Runtime refuses it.
    """

    def __init__(
        self,
        source: Path | onnx.ModelProto,
        device: torch.device,
        provider: str = "",
        threads: int = 0,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        path = source if isinstance(source, Path) else Path("graph.onnx")
        if isinstance(source, Path) and not path.is_file():
            raise ModelFileError(f"there is no ONNX file {path}")
        provider = provider or ("CUDAExecutionProvider" if device.type == "cuda" else "CPUExecutionProvider")
        if provider not in ort.get_available_providers():
            raise ModelFileError(
                f"{path}: this ONNX Runtime has no {provider}, only {', '.join(ort.get_available_providers())}: take "
                "device=cpu, or `pip install onnxruntime-gpu`"
            )
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        # Or its threads would turn for a while after each run, and slow whatever follows it.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            content = str(path) if isinstance(source, Path) else source.SerializeToString()
            self.session = ort.InferenceSession(content, options, [provider], [dict(settings or {})])
        except Exception as error:  # ONNX Runtime's exceptions have no common class but this
            raise ModelFileError(f"{path}: ONNX Runtime cannot use it: {' '.join(str(error).split())[:300]}") from None
        if provider not in self.session.get_providers():  # it has fallen back to the CPU, with a word on stderr at most
            raise ModelFileError(
                f"{path}: ONNX Runtime's {provider} does not start here: it needs a GPU, and the CUDA, cuDNN or "
                "TensorRT libraries of the versions that it was built for"
            )
        self.meta, self.info = understood(dict(self.session.get_modelmeta().custom_metadata_map), path)
        self.device = torch.device("cpu")  # where its tensors come from and go to
        self.backend = f"ONNX Runtime {ort.__version__} ({provider.removesuffix('ExecutionProvider')})"

    def run(self, images: Tensor) -> dict[str, Tensor]:
        fixed = self.info.batch
        return run_in_parts(images, fixed, fixed, self._run) if fixed else self._run(images)

    def _run(self, images: Tensor) -> dict[str, Tensor]:
        names = self.info.outputs
        results = self.session.run(list(names.values()), {self.info.input: images.cpu().numpy()})
        return {role: torch.from_numpy(result) for role, result in zip(names, results, strict=True)}


def run_in_parts(
    images: Tensor, least: int, most: int, run: Callable[[Tensor], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """The outputs of any number of images, of a graph that takes `least` to `most` at a time.

    The last part is filled up with zeros, whose outputs are dropped. `detections` [M, 7] have no row for each image:
    their first column says which one they belong to.
    """
    parts = []
    for start, part in zip(range(0, max(len(images), 1), most), images.split(most), strict=True):
        zeros = part.new_zeros(max(least - len(part), 0), *part.shape[1:])
        outputs = run(torch.cat([part, zeros]))
        if "detections" in outputs:
            rows = outputs["detections"][outputs["detections"][:, 0] < len(part)]
            parts.append({"detections": torch.cat([rows[:, :1] + start, rows[:, 1:]], dim=1)})
        else:
            parts.append({role: output[: len(part)] for role, output in outputs.items()})
    return {role: torch.cat([part[role] for part in parts]) for role in parts[0]}


def open_runtime(path: Path, network: str, device: str = "auto") -> Runtime:
    """What runs an .onnx or .engine file.

    Args:
        network: "fpenet" or "facenet", which the file must hold.

    Raises:
        ModelFileError: the file is missing, damaged, not ours, or holds the other network.
        ExportError: there is no such device or module for it.
    """
    runtime: Runtime
    if path.suffix == ".onnx":
        runtime = OnnxRuntime(path, pick_device(device))
    else:
        from .engines.runtime import EngineModel

        runtime = EngineModel(path, pick_device(device))
    require_network(runtime, path, network)
    return runtime


def require_network(runtime: Runtime, path: Path, network: str) -> None:
    """Raises ModelFileError when a file does not hold "fpenet" or "facenet", whichever is wanted."""
    held = runtime.meta.architecture.get("network")
    if held != network:
        raise ModelFileError(
            f"{path} holds a {held} model, not {TITLES[network]}: give a file that `{network} export` wrote"
        )
