"""What an exported file says of itself: all that the model file says, and how the graph is laid out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from ..configs.export_schema import ExportConfig
from ..errors import ModelFileError
from ..training.model_file import ModelMeta

MODEL, GRAPH = "facetrain", "facetrain.graph"  # keys of the ONNX file's metadata; the first is a model file's too
PRECISIONS = ("fp32", "fp16", "int8", "int8_fp16")


@dataclass(frozen=True)
class GraphInfo:
    """How an exported graph is laid out.

    Attributes:
        precision: one of `PRECISIONS`.
        io_names: the family that its tensors are named after: "tao", "tao-v3" or "plain".
        input: the input's name.
        input_shape: [C, H, W] of one input.
        outputs: what an output is -> its name, in the graph's order. FPENet has points [N, K, 2], confidence [N, K],
            and at wish heatmaps [N, K, H, W] and visibility [N, K]; FaceNet bbox [N, 4C, h, w] and coverage
            [N, C, h, w], or decoded boxes [N, C, h w, 4] and scores [N, C, h w], or detections [M, 7] (picture, x1, y1,
            x2, y2, score, class).
        batch: inputs at a time; 0: any number.
        opset: of the ONNX operators.
        parameters: of the network.
        decode: constants that the outputs are to be read with: FaceNet's stride, scale and offset (pixels), FPENet's
            beta.
        source: file name and SHA-256 of the model file.
    """

    precision: str
    io_names: str
    input: str
    input_shape: tuple[int, int, int]
    outputs: dict[str, str]
    batch: int = 0
    opset: int = 17
    parameters: int = 0
    decode: dict[str, float] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"input_shape": list(self.input_shape)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GraphInfo:
        return cls(**values | {"input_shape": tuple(values["input_shape"])})


def with_suffix(name: str, config: ExportConfig) -> str:
    """A tensor's name with TensorFlow's output number behind it, or without, as the spec has it."""
    base, colon, number = name.rpartition(":")
    if config.io_names == "plain" or config.name_suffix == "auto":
        return name
    if config.name_suffix == "yes":
        return name if colon else f"{name}:0"
    return base if colon and number == "0" else name


def source_of(path: Path) -> dict[str, str]:
    """Name and SHA-256 of a model file."""
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def described(meta: ModelMeta, info: GraphInfo) -> dict[str, str]:
    """The two entries of a file's metadata."""
    return {MODEL: json.dumps(asdict(meta)), GRAPH: json.dumps(info.to_dict())}


def understood(entries: dict[str, str], path: Path) -> tuple[ModelMeta, GraphInfo]:
    """What the entries of a file say. Raises ModelFileError when they are not ours, or damaged."""
    if MODEL not in entries or GRAPH not in entries:
        raise ModelFileError(
            f"{path} was not exported by facetrain: its metadata lack {MODEL!r}. Without them nobody knows what its "
            "tensors mean; give a file that `fpenet export` or `facenet export` wrote"
        )
    try:
        return ModelMeta(**json.loads(entries[MODEL])), GraphInfo.from_dict(json.loads(entries[GRAPH]))
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path}: its metadata cannot be read ({error}); export the model again") from None


def read_onnx(path: Path) -> onnx.ModelProto:
    """An ONNX file. Raises ModelFileError when it is missing or no such file."""
    if not path.is_file():
        raise ModelFileError(f"there is no ONNX file {path}")
    try:
        model = onnx.load(str(path))
    except (DecodeError, onnx.onnx_cpp2py_export.checker.ValidationError, OSError) as error:
        raise ModelFileError(f"{path} is not a whole ONNX file: {error}") from None
    if not model.graph.node:
        raise ModelFileError(f"{path} is not an ONNX file, or one with an empty graph")
    return model


def entries_of(model: onnx.ModelProto) -> dict[str, str]:
    """The metadata of an ONNX graph."""
    return {entry.key: entry.value for entry in model.metadata_props}
