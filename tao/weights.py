"""What a weight file of TAO's holds, whatever its format, in PyTorch's layouts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelFileError

FloatArray = NDArray[np.float32]
MAX_BYTES = 1 << 30  # far above any of these networks; what is larger is not read at all
HDF5_START = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Layer:
    """A layer with weights.

    Attributes:
        name: as Keras has it, such as "block_1a_conv_1".
        tensors: float32 arrays by name. A convolution's `kernel` [out, in, h, w], a transposed one's [in, out, h, w],
            and `bias` [out]; a batch normalisation's `gamma`, `beta`, `moving_mean` and `moving_variance` [out]; or,
            where only the line that it amounts to is left, `scale` and `shift` [out].
        epsilon: of a batch normalisation; None where the file does not say.
    """

    name: str
    tensors: dict[str, FloatArray]
    epsilon: float | None = None


@dataclass(frozen=True)
class WeightFile:
    """The content of a weight file.

    Attributes:
        path: where it was read.
        layers: those with weights, by name, in the file's order.
        whole: it holds the network's graph too, and the following are known.
        input_shape: (channels, height, width) of the input; None where a side is open.
        beta: sharpness of FPENet's soft-argmax; None where the file does not say.
        max_pool: the graph has a max-pooling layer.
        notes: what the reader has to say.
    """

    path: Path
    layers: dict[str, Layer]
    whole: bool = False
    input_shape: tuple[int, int, int] | None = None
    beta: float | None = None
    max_pool: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """A tensor's way: from a layer of the file, or made up where `source` is empty, to one of our parameters."""

    source: str
    shape: tuple[int, ...]
    target: str
    note: str = ""


class Account:
    """Hands out the tensors of a file, once each, and remembers where they went."""

    def __init__(self, file: WeightFile, network: str) -> None:
        self.file = file
        self.network = network
        self.weights: dict[str, FloatArray] = {}
        self.rows: list[Row] = []
        self._used: set[tuple[str, str]] = set()

    def layer(self, name: str) -> Layer:
        """A layer of the file. Raises ModelFileError where there is none."""
        if name not in self.file.layers:
            raise ModelFileError(
                f"{self.file.path} has no layer {name}, which {self.network} needs; its layers are "
                f"{shortened(list(self.file.layers))}"
            )
        return self.file.layers[name]

    def tensor(self, layer: str, name: str, dimensions: int) -> FloatArray:
        """A tensor of a layer. Raises ModelFileError where it is missing or has another number of dimensions."""
        tensors = self.layer(layer).tensors
        if name not in tensors:
            raise ModelFileError(f"{self.file.path}: layer {layer} has no {name}; it has {', '.join(tensors)}")
        if tensors[name].ndim != dimensions:
            raise ModelFileError(
                f"{self.file.path}: {layer}/{name} is {list(tensors[name].shape)}, {dimensions} dimensions are needed"
            )
        self._used.add((layer, name))
        return tensors[name]

    def take(self, layer: str, name: str, target: str, dimensions: int) -> None:
        """Takes a tensor as it is."""
        value = self.tensor(layer, name, dimensions)
        self.put(f"{layer}/{name}", value, target)

    def put(self, source: str, value: FloatArray, target: str, note: str = "") -> None:
        """Gives one of our parameters a value."""
        self.weights[target] = value
        self.rows.append(Row(source, value.shape, target, note))

    def left(self) -> Iterator[str]:
        """Tensors that nothing has asked for."""
        for layer in self.file.layers.values():
            for name in layer.tensors:
                if (layer.name, name) not in self._used:
                    yield f"{layer.name}/{name}"

    def finish(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Raises ModelFileError where a tensor was left, or one does not have the shape that our network needs."""
        if left := list(self.left()):
            raise ModelFileError(
                f"{self.file.path} holds weights that {self.network} has no place for: {shortened(left)}"
            )
        for row in self.rows:
            if row.shape != shapes[row.target]:
                raise ModelFileError(
                    f"{self.file.path}: {row.source} is {list(row.shape)}, {list(shapes[row.target])} is needed after "
                    "the layers before it"
                )


def shortened(names: list[str], count: int = 6) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return (", ".join(names[:count]) or "none") + more


def checked(value: FloatArray, where: str) -> FloatArray:
    """The same array in float32. Raises ModelFileError where a number is not finite."""
    value = np.ascontiguousarray(value, dtype=np.float32)
    if not np.isfinite(value).all():
        raise ModelFileError(f"{where} holds numbers that are not finite: the file is damaged or its training failed")
    return value


def norm_of(conv: str) -> str:
    """The batch normalisation of a convolution, as DetectNet_v2's ResNets name it."""
    return "bn_conv1" if conv == "conv1" else conv.replace("_conv_", "_bn_")
