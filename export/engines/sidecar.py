"""What is known of an engine: a JSON file beside it, since a plan says nothing of itself until a GPU has read it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...errors import ModelFileError
from ...training.model_file import ModelMeta, write_atomic
from ..metadata import GraphInfo
from .library import FLAVOURS

AGAIN = "build it again with export.engine"


@dataclass(frozen=True)
class TensorFacts:
    """An input or output; -1 in its shape is the batch, or what only running it tells. `dtype` as in "FLOAT"."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class EngineFacts:
    """What is known of an engine once it is built.

    Attributes:
        flavour, library_version: what built it.
        inputs, outputs: in the graph's order.
        layers: the network's layer types before the build -> data type of their outputs -> how many.
        profile: "min", "opt" and "max" batch; None: the batch is fixed.
        gpu: name and compute capability of the GPU that it was tuned on; None: on none.
        compute_capabilities: those that it was limited to; empty: the library's own choice.
        version_compatible, hardware_compatible: as in `EngineOptions`.
        onnx: file name and SHA-256 of the graph.
        bytes, sha256: of the plan.
        seconds: that the build took.
        unknown: what nobody can know before a GPU has run it.
    """

    flavour: str
    library_version: str
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    layers: dict[str, dict[str, int]]
    profile: dict[str, int] | None
    gpu: dict[str, str] | None
    compute_capabilities: tuple[str, ...]
    version_compatible: bool
    hardware_compatible: bool
    onnx: dict[str, str]
    bytes: int
    sha256: str
    seconds: float
    unknown: tuple[str, ...]

    @property
    def batches(self) -> tuple[int, int]:
        """The smallest and the largest batch that it takes."""
        if self.profile is None:
            return self.inputs[0].shape[0], self.inputs[0].shape[0]
        return self.profile["min"], self.profile["max"]

    @property
    def library(self) -> str:
        return f"{FLAVOURS[self.flavour].title} {self.library_version}"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EngineFacts:
        tensors = {
            key: tuple(TensorFacts(**tensor | {"shape": tuple(tensor["shape"])}) for tensor in values[key])
            for key in ("inputs", "outputs")
        }
        lists = {key: tuple(values[key]) for key in ("compute_capabilities", "unknown")}
        return cls(**values | tensors | lists)


@dataclass(frozen=True)
class Sidecar:
    """What the file beside an engine holds.

    Attributes:
        model, graph: of the ONNX graph that it was built from.
        verified: a GPU has run it, and the results were held against the model's.
        note: why it is not verified.
        gate: the verdict on it; empty: none yet.
    """

    engine: EngineFacts
    model: ModelMeta
    graph: GraphInfo
    verified: bool = False
    note: str = ""
    gate: dict[str, Any] | None = None


def sidecar_path(engine_path: Path) -> Path:
    """x.engine -> x.engine.json"""
    return engine_path.with_name(f"{engine_path.name}.json")


def write_sidecar(engine_path: Path, sidecar: Sidecar) -> None:
    """Writes or replaces the file beside an engine."""
    content = json.dumps(asdict(sidecar), indent=2)
    write_atomic(sidecar_path(engine_path), f"{content}\n".encode())


def read_sidecar(engine_path: Path) -> Sidecar:
    """What is known of an engine. Raises ModelFileError when it or its file is missing, damaged or not ours."""
    if not engine_path.is_file():
        raise ModelFileError(f"there is no engine {engine_path}")
    path = sidecar_path(engine_path)
    if not path.is_file():
        raise ModelFileError(
            f"{engine_path} has no {path.name} beside it, without which nobody knows what it takes and gives: copy "
            f"that file too, or {AGAIN} if another program built it"
        )
    try:
        values = json.loads(path.read_bytes())
        graph = GraphInfo.from_dict(values.pop("graph"))
        facts = EngineFacts.from_dict(values.pop("engine"))
        if facts.flavour not in FLAVOURS:
            raise ValueError(f"no engine flavour is called {facts.flavour!r}")
        return Sidecar(facts, ModelMeta(**values.pop("model")), graph, **values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path} does not describe an engine that facetrain built ({error}): {AGAIN}") from None


def read_plan(engine_path: Path, facts: EngineFacts) -> bytes:
    """The plan. Raises ModelFileError when it is not the one that its sidecar describes."""
    plan = engine_path.read_bytes()
    beside = sidecar_path(engine_path).name
    if len(plan) < facts.bytes:
        raise ModelFileError(
            f"{engine_path} is cut short: {len(plan)} bytes of {facts.bytes}; copy it again, or {AGAIN}"
        )
    if hashlib.sha256(plan).hexdigest() != facts.sha256:
        raise ModelFileError(
            f"{engine_path} is not the engine that {beside} describes, or is damaged; copy both files again, or {AGAIN}"
        )
    return plan
