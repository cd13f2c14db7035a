"""The model file: weights as safetensors, and in the metadata all that it takes to use them. No pickle is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from .. import __version__
from ..datasets.whole_file import whole_file
from ..errors import ModelFileError, TrainingError, WriteError

FORMAT_VERSION = 1
TITLES = {"fpenet": "FPENet", "facenet": "FaceNet"}  # what a model file's architecture may be of
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class ModelMeta:
    """What a model file says of its weights.

    Attributes:
        architecture: builds the network again; its "network" names which of ours it is.
        scheme: keypoint scheme or classes.
        preprocessing: how a picture becomes the network's input.
        config: the resolved training spec.
        metrics: what the weights reached, by metric name.
        versions: of facetrain and what it stood on.
        quantization: of a network that was trained for INT8: {"method": "qat", "ranges": {tensor: largest absolute
            value}}, see `training.qat`; empty for all others.
    """

    architecture: dict[str, Any]
    scheme: dict[str, Any]
    preprocessing: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: {"facetrain": __version__, "torch": torch.__version__})
    quantization: dict[str, Any] = field(default_factory=dict)


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file so that a reader, or a crash at any moment, meets the old content or the new, never a part.

    Raises:
        TrainingError: the disk refuses (full, read-only); the old file is untouched.
    """
    try:
        with whole_file(path) as file:
            file.write(data)
    except WriteError as error:
        raise TrainingError(str(error)) from error


def save_model(path: Path, state: dict[str, Tensor], meta: ModelMeta, *, half: bool = False) -> None:
    """Writes weights and metadata to `path`, atomically; `half` stores them as float16."""
    weights = {name: (t.half() if half else t).detach().cpu().contiguous() for name, t in state.items()}
    header = {"facetrain": json.dumps({"format": FORMAT_VERSION, **asdict(meta)}, allow_nan=True)}
    write_atomic(path, save(weights, metadata=header))


def load_model(path: str | Path) -> tuple[dict[str, Tensor], ModelMeta]:
    """Weights in float32 and metadata of a model file.

    Raises:
        ModelFileError: missing, damaged, not ours (a pickle, say), or of a newer format.
    """
    path = Path(path)
    header, weights = _open(path)
    if header is None:
        raise ModelFileError(f"{path} is a safetensors file but not a facetrain model: its metadata lack 'facetrain'")
    try:
        data = json.loads(header)
        if data.pop("format") > FORMAT_VERSION:
            raise ModelFileError(f"{path} was written by a newer facetrain: update with pip install -U facetrain")
        meta = ModelMeta(**data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path}: its metadata cannot be read ({error}); the file is damaged") from None
    return {name: t.float() if t.is_floating_point() else t for name, t in weights.items()}, meta


def load_network(path: Path, network: str, build: Callable[[dict[str, Any]], Network]) -> tuple[Network, ModelMeta]:
    """The network of a model file with its weights, pruned or not, and the file's metadata.

    Args:
        network: "fpenet" or "facenet", which the file must hold.
        build: makes the network that the file's architecture describes.

    Raises:
        ModelFileError: the file is missing or damaged, or holds another network.
    """
    weights, meta = load_model(path)
    if meta.architecture.get("network") != network:
        raise ModelFileError(
            f"{path} holds a {meta.architecture.get('network')} model, not {TITLES[network]}: give a file that "
            f"`{network} train` or `{network} prune` wrote"
        )
    try:
        built = build(meta.architecture)
        built.load_state_dict(weights)
    except (TypeError, KeyError, RuntimeError, ModelFileError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelFileError(f"{path}: its weights do not fit the architecture it names ({reason})") from None
    return built, meta


def _open(path: Path) -> tuple[str | None, dict[str, Tensor]]:
    """Our metadata and the tensors, from one reading: a running training may put a new file in the old one's place,
    and `safe_open` opens its file once for the header and again for the tensors."""
    if not path.is_file():
        raise ModelFileError(f"there is no model file {path}")
    data = path.read_bytes()
    try:
        weights = load(data)
    except SafetensorError as error:
        start = data[:4]
        # A pickle of protocol 2 to 5, or the zip that torch.save makes.
        if (start[:1] == b"\x80" and 2 <= start[1] <= 5) or start == b"PK\x03\x04":
            raise ModelFileError(
                f"{path} is a pickle (a PyTorch .pt/.pth file). Pickles can run code when they are read and are never "
                "loaded; give a facetrain .safetensors model file"
            ) from None
        raise ModelFileError(f"{path} is not a whole safetensors file: {error}") from None
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header.get("__metadata__", {}).get("facetrain"), weights
