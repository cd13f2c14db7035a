"""A model repository for Triton: either network by ONNX Runtime and by TensorRT, and both as the ensemble `faces`.

The backends are asked for tensors by the names in the configuration, so these are the graph's own, colons and slashes
included. Triton takes every folder of the repository for a model, and lets its files be: clients lie there, as single
files, since an imported module would leave a folder behind.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ...training.model_file import TITLES, write_atomic
from ..engines.sidecar import read_sidecar
from .deepstream import PREFERRED
from .deployment import Exported, output_shapes
from .triton_client import network_client
from .triton_config import Message, rendered, tensors
from .triton_ensemble import MOST_FACES, STEPS, ensemble_files

# ONNX Runtime computes FP32 alike on CPUs and GPUs; FP16 is slow on the former, and INT8 on the latter.
ONNX_FORMS = ("fp32", "int8", "fp16", "int8_fp16")


def write_triton(folder: Path, own: Exported, partner: Exported | None = None, batch: int = 16) -> list[Path]:
    """Writes the repository of a network, and with its partner the ensemble; `tritonserver --model-repository=folder`.

    Models of an earlier export that are in the way are removed: Triton does not start with one that lacks its graph.

    Args:
        batch: inputs that TensorRT takes at a time, where the graph leaves it open and no engine is there.

    Returns the files.
    """
    exports = {export.network: export for export in (own, partner) if export is not None}
    files: dict[str, bytes | str] = {}
    for export in exports.values():
        files |= _onnx_model(export, batch) | _tensorrt_model(export, folder, batch) | network_client(export)
    if len(exports) == len(TITLES):
        files |= ensemble_files(exports["facenet"], exports["fpenet"])
    _clear(folder)
    for name, content in files.items():
        write_atomic(folder / name, content if isinstance(content, bytes) else content.encode())
    return [folder / name for name in sorted(files)]


def _clear(folder: Path) -> None:
    """Removes what an earlier export has written."""
    models = [f"{network}_{backend}" for network in TITLES for backend in ("onnx", "tensorrt")]
    for model in (*models, "faces", *(f"faces_{step}" for step in STEPS)):
        shutil.rmtree(folder / model, ignore_errors=True)
        (folder / f"{model}.pbtxt").unlink(missing_ok=True)
    for name in (*TITLES, "faces"):
        for suffix in (".py", ".json"):
            (folder / f"{name}_client{suffix}").unlink(missing_ok=True)


def _network_config(export: Exported, backend: str, batch: int) -> Message:
    """The configuration of a network in a backend that takes `batch` inputs at a time."""
    info, shapes = export.info, output_shapes(export)
    leading, batching = [], {"max_batch_size": batch, "dynamic_batching": {}}
    if _whole(export):
        leading, batching = [info.batch or -1], {"max_batch_size": 0}
    outputs = {
        name: ("FP32", shapes[role] if role == "detections" else [*leading, *shapes[role]])
        for role, name in info.outputs.items()
    }
    return {
        "name": f"{export.network}_{'onnx' if backend == 'onnxruntime' else backend}",
        "backend": backend,
        **batching,
        "input": tensors({info.input: ("FP32", [*leading, *info.input_shape])}),
        "output": tensors(outputs),
        "instance_group": [{"count": 1, "kind": "KIND_AUTO" if backend == "onnxruntime" else "KIND_GPU"}],
    }


def _whole(export: Exported) -> bool:
    """Whether Triton must hand requests on as they are, since it cannot join and part them along a free batch."""
    return bool(export.info.batch) or "detections" in export.info.outputs


def _batch_notes(export: Exported) -> list[str]:
    if export.info.batch:
        return [f"The graph takes {export.info.batch} inputs, no more and no fewer: requests are not joined."]
    if "detections" in export.info.outputs:
        return ["Detections have no batch: requests are not joined, but one may hold several pictures."]
    return []


def _onnx_model(export: Exported, batch: int) -> dict[str, bytes | str]:
    """The graph of a network, and its configuration."""
    form = export.best(*ONNX_FORMS)
    head = [
        f"{TITLES[export.network]} ({form}) by ONNX Runtime, on a GPU where there is one.",
        "1/model.onnx may be any other form of this export: names and shapes are the same.",
        "FP32 gives the same on every CPU and GPU; INT8 is for CPUs, FP16 for GPUs.",
        *_batch_notes(export),
    ]
    config = _network_config(export, "onnxruntime", max(batch, MOST_FACES) if export.network == "fpenet" else batch)
    model = config["name"]
    return {f"{model}/config.pbtxt": rendered(head, config), f"{model}/1/model.onnx": export.graphs[form].read_bytes()}


def _tensorrt_model(export: Exported, folder: Path, batch: int) -> dict[str, bytes | str]:
    """The TensorRT engine of a network, and its configuration.

    Without an engine the latter lies outside of any model's folder, and says how to build one.
    """
    built = {form: engine for form in export.graphs if (engine := export.engine(form))}
    model, title = f"{export.network}_tensorrt", TITLES[export.network]
    if not built:
        form = export.best(*PREFERRED)
        head = [f"{title} ({form}) by TensorRT. There is no engine yet; here, and with the server's own TensorRT:"]
        head += [f"  {line}" for line in _build_lines(export, form, folder, model, batch)] + _batch_notes(export)
        return {f"{model}.pbtxt": rendered(head, _network_config(export, "tensorrt", batch))}
    form = next((form for form in PREFERRED if form in built), next(iter(built)))
    path, most = built[form]
    head = [
        f"{title} ({form}) by TensorRT. The engine was built by {read_sidecar(path).engine.library}. A server with",
        "another version or another GPU cannot read it, and starts with --exit-on-error=false only.",
        *_batch_notes(export),
    ]
    config = rendered(head, _network_config(export, "tensorrt", most))
    return {f"{model}/config.pbtxt": config, f"{model}/1/model.plan": path.read_bytes()}


def _build_lines(export: Exported, form: str, folder: Path, model: str, batch: int) -> list[str]:
    """The commands that build an engine and make it a model."""
    size = "x".join(map(str, export.info.input_shape))
    batches = {} if export.info.batch else {"min": 1, "opt": batch, "max": batch}
    shapes = "".join(f" --{name}Shapes=\\'{export.info.input}\\':{count}x{size}" for name, count in batches.items())
    graph = os.path.relpath(export.graphs[form], folder)
    return [
        f"mkdir -p {model}/1",
        f"trtexec --onnx={graph} --stronglyTyped --saveEngine={model}/1/model.plan{shapes}",
        f"mv {model}.pbtxt {model}/config.pbtxt",
    ]
