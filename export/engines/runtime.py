"""Runs an engine with PyTorch's tensors as its buffers, on PyTorch's own stream."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from packaging.version import Version
from torch import Tensor

from ...errors import ExportError, ModelFileError
from ..runtime import run_in_parts
from .library import FLAVOURS, gpu_facts, instance, load_library, log_of
from .sidecar import AGAIN, EngineFacts, read_plan, read_sidecar

DTYPES = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "BF16": torch.bfloat16,
    "INT8": torch.int8,
    "UINT8": torch.uint8,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "BOOL": torch.bool,
}


class EngineRuntime:
    """`with EngineRuntime(path, torch.device("cuda")) as engine: outputs = engine.run({"images": images})`

    Attributes:
        sidecar: what is known of the engine.
        facts: what its builder said of it.

    Raises:
        ModelFileError: the engine or the file beside it is missing, damaged, or not ours; it is of another version of
            the library, or for another GPU.
        ExportError: the library that it needs is missing, or there is no GPU.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self.path, self.device = path, device
        self.sidecar = read_sidecar(path)
        self.facts = self.sidecar.engine
        plan = read_plan(path, self.facts)
        self.library = load_library(self.facts.flavour)
        _refuse_version(path, self.facts, self.library.__version__)
        _refuse_device(path, self.facts, device)
        self.log = log_of(self.library)
        with torch.cuda.device(device):
            self._open(plan)

    def _open(self, plan: bytes) -> None:
        self.runtime = instance(self.library, "Runtime")
        if hasattr(self.runtime, "get_engine_validity"):  # TensorRT-RTX, which knows which GPUs it was built for
            _refuse_invalid(self.path, self.facts, self.library, *self.runtime.get_engine_validity(plan))
        # Such an engine brings code for the CPU with it, to run under later versions.
        self.runtime.engine_host_code_allowed = self.facts.version_compatible
        self.engine = self.runtime.deserialize_cuda_engine(plan)
        self.context = None if self.engine is None else self.engine.create_execution_context()
        if self.context is None:
            raise ModelFileError(
                f"{self.path}: {self.facts.library} cannot read it on this GPU: {self.log.take() or 'no reason given'}"
            )

    def __enter__(self) -> EngineRuntime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives the GPU's memory back."""
        self.context = self.engine = self.runtime = None

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs of inputs [N, ...], by name, on the GPU.

        N may be any number: a batch above the profile is run in parts, one below it is filled up with zeros.

        Raises:
            ModelFileError: inputs of other names or shapes than the engine's, or more or fewer than it takes at a time
                of an engine whose outputs do not tell which input their rows belong to.
            ExportError: the library fails.
        """
        given = self._checked(inputs)
        low, high = self.facts.batches
        count = len(next(iter(given.values())))
        parts: list[dict[str, Tensor]] = []
        for start in range(0, max(count, 1), high):
            part = {name: tensor[start : start + high] for name, tensor in given.items()}
            outputs, counted = self._run({name: _filled(tensor, low) for name, tensor in part.items()})
            if not counted and not low <= count <= high:
                raise ModelFileError(
                    f"{self.path} takes {low} to {high} inputs at a time, not {count}: how many outputs it has depends "
                    "on what it finds, and several runs cannot be joined"
                )
            number = len(next(iter(part.values())))
            parts.append({name: tensor[:number] if counted else tensor for name, tensor in outputs.items()})
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _checked(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inputs in the engine's order, on its GPU and of its types."""
        wanted = {tensor.name: tensor for tensor in self.facts.inputs}
        if set(inputs) != set(wanted):
            raise ModelFileError(f"{self.path} takes {', '.join(wanted)}, not {', '.join(inputs) or 'nothing'}")
        for name, tensor in inputs.items():
            if tuple(tensor.shape[1:]) != wanted[name].shape[1:]:
                raise ModelFileError(
                    f"{self.path}: input {name!r} is {list(tensor.shape)}, the engine takes "
                    f"[N, {', '.join(str(side) for side in wanted[name].shape[1:])}]"
                )
        return {
            name: inputs[name].to(self.device, DTYPES[tensor.dtype]).contiguous() for name, tensor in wanted.items()
        }

    def _run(self, inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
        """The outputs of one batch, and whether their shapes were known before it ran.

        Inputs and outputs belong to the stream, so PyTorch may reuse their memory behind this call only.
        """
        context = self.context
        assert context is not None, "closed"
        for name, tensor in inputs.items():
            context.set_input_shape(name, tuple(tensor.shape))
            context.set_tensor_address(name, tensor.data_ptr())
        outputs: dict[str, Tensor] = {}
        allocators: dict[str, Any] = {}
        for output in self.facts.outputs:
            shape = tuple(context.get_tensor_shape(output.name))
            if -1 in shape:
                allocators[output.name] = _allocator(self.library, self.device)
                context.set_output_allocator(output.name, allocators[output.name])
                continue
            outputs[output.name] = torch.empty(shape, dtype=DTYPES[output.dtype], device=self.device)
            context.set_tensor_address(output.name, outputs[output.name].data_ptr())
        with torch.cuda.device(self.device):
            done = context.execute_async_v3(torch.cuda.current_stream().cuda_stream)
        if not done:
            raise ExportError(f"{self.path} fails on {self.device}: {self.log.take() or 'no reason is given'}")
        for output in self.facts.outputs:
            if output.name in allocators:
                outputs[output.name] = allocators[output.name].tensor(DTYPES[output.dtype])
        return {output.name: outputs[output.name] for output in self.facts.outputs}, not allocators


class EngineModel:
    """An engine as `runtime.Runtime`, told by what the outputs are rather than by their names."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self.engine = EngineRuntime(path, device)
        sidecar, gpu = self.engine.sidecar, gpu_facts(device)
        self.meta, self.info, self.device = sidecar.model, sidecar.graph, device
        self.backend = f"{sidecar.engine.library} ({gpu['name'] if gpu else device})"

    def run(self, images: Tensor) -> dict[str, Tensor]:
        return run_in_parts(images, *self.engine.facts.batches, self._run)

    def _run(self, images: Tensor) -> dict[str, Tensor]:
        outputs = self.engine.run({self.info.input: images})
        return {role: outputs[name] for role, name in self.info.outputs.items()}


def _filled(tensor: Tensor, size: int) -> Tensor:
    """At least `size` inputs, zeros behind those that there are."""
    missing = size - len(tensor)
    return tensor if missing <= 0 else torch.cat([tensor, tensor.new_zeros(missing, *tensor.shape[1:])])


def _allocator(library: Any, device: torch.device) -> Any:
    """Memory for an output whose size only running the engine tells, such as boxes after a suppression."""

    class Allocator(library.IOutputAllocator):
        def __init__(self) -> None:
            library.IOutputAllocator.__init__(self)
            self.memory = torch.empty(0, dtype=torch.uint8, device=device)
            self.shape: tuple[int, ...] = ()

        def reallocate_output_async(self, tensor_name: str, memory: int, size: int, alignment: int, stream: int) -> int:
            self.memory = torch.empty(max(size, 1), dtype=torch.uint8, device=device)
            return self.memory.data_ptr()

        def reallocate_output(self, tensor_name: str, memory: int, size: int, alignment: int) -> int:
            return self.reallocate_output_async(tensor_name, memory, size, alignment, 0)

        def notify_shape(self, tensor_name: str, shape: Any) -> None:
            self.shape = tuple(shape)

        def tensor(self, dtype: torch.dtype) -> Tensor:
            number = torch.Size(self.shape).numel()
            return self.memory[: number * dtype.itemsize].view(dtype).reshape(self.shape)

    return Allocator()


def _refuse_version(path: Path, facts: EngineFacts, here: str) -> None:
    """An engine runs under the very version that built it, or under a later one if it was built so."""
    built, own = Version(facts.library_version), Version(here)
    if built == own or (facts.version_compatible and built < own):
        return
    title = FLAVOURS[facts.flavour].title
    raise ModelFileError(
        f"{path} was built by {facts.library} and cannot run under {title} {here}, which is installed here: {AGAIN} "
        f"here, or install version {facts.library_version}"
    )


def _refuse_device(path: Path, facts: EngineFacts, device: torch.device) -> None:
    """An engine runs on a GPU of the kind that it was built for."""
    gpu = gpu_facts(device) if device.type == "cuda" else None
    if gpu is None:
        raise ExportError(
            f"{path}: an engine runs on a GPU only, and device={device} is none"
            + ("" if torch.cuda.is_available() else " (PyTorch sees no CUDA device here)")
            + "; take the .onnx that lies beside it"
        )
    if facts.gpu is None:
        return
    built_for, own = facts.gpu["compute_capability"], gpu["compute_capability"]
    if own == built_for or (facts.hardware_compatible and float(own) >= 8):
        return
    raise ModelFileError(
        f"{path} was built for a GPU of compute capability {built_for} ({facts.gpu['name']}), and {gpu['name']} has "
        f"{own}: {AGAIN} here" + ("" if facts.hardware_compatible else ", or with build.hardware_compatible=true there")
    )


def _refuse_invalid(path: Path, facts: EngineFacts, library: Any, validity: Any, diagnostics: int) -> None:
    """Raises ModelFileError when the library says that an engine is none for this machine, with its reasons."""
    if validity != library.EngineValidity.INVALID:
        return
    kinds = library.EngineInvalidityDiagnostics.__members__.items()
    reasons = [name.lower().replace("_", " ") for name, kind in kinds if int(diagnostics) & int(kind)]
    raise ModelFileError(
        f"{path}: {facts.library} does not take it on this machine "
        f"({', '.join(reasons) or 'no reason is given'}): {AGAIN} for this GPU"
    )
