"""Keras' legacy .hdf5: whole models and weight files, as TAO 5 writes them.

Only numbers and names are read. Nothing of the file is executed, and nothing outside it is opened: links out of it and
layers that carry code are refused. A tensor is read only if the file has as many bytes of it as its shape claims.
"""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelFileError
from .weights import HDF5_START, FloatArray, Layer, WeightFile, checked, shortened

INSTALL = "pip install 'facetrain[tao]'"
MAX_LAYERS = 2000
# Layers of FPENet and DetectNet_v2; the last three are TAO's own, two of them of networks trained for INT8.
KNOWN = {
    "InputLayer", "Conv2D", "Conv2DTranspose", "BatchNormalization", "Activation", "ReLU", "Dropout", "MaxPooling2D",
    "AveragePooling2D", "UpSampling2D", "Concatenate", "Add", "Softargmax", "QuantizedConv2D", "QDQ",
}  # fmt: skip
ACTIVATIONS = {"linear", "relu", "relu-n", "relu6", "sigmoid"}
TENSORS = {"kernel": 4, "bias": 1, "gamma": 1, "beta": 1, "moving_mean": 1, "moving_variance": 1}
WANTED = "give a model or weight file as TAO 5 writes it: Keras' HDF5 with layer_names"


def read_keras(path: Path, data: bytes) -> WeightFile:
    """The layers of a Keras file.

    Args:
        path: what errors call it.
        data: its content.

    Raises:
        ModelFileError: it is damaged or of another kind, has layers that are not of these networks, or tries to be
            more than numbers and names; or h5py is not installed.
    """
    if not data.startswith(HDF5_START):
        raise ModelFileError(f"{path} is not an HDF5 file: {WANTED}")
    try:
        import h5py
    except ImportError:
        raise ModelFileError(f"{path}: reading HDF5 needs h5py, which is not installed: {INSTALL}") from None
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            return _Reader(path, len(data)).read(file)
    except ModelFileError:
        raise
    except Exception as error:  # whatever h5py makes of damage; it has no error of its own
        reason = " ".join(str(error).split())[:200]
        raise ModelFileError(f"{path} is a damaged HDF5 file ({reason}): copy or export it again") from None


class _Reader:
    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.left = size  # bytes of tensors that the file can still hold

    def read(self, file: Any) -> WeightFile:
        whole = "model_weights" in file
        config = self._config(file) if whole else {}
        settings = {layer["name"]: layer for layer in config.values()}
        group = self._child(file, "model_weights", "group") if whole else file
        names = self._names(group, "layer_names")
        if names is None:
            raise ModelFileError(f"{self.path} has no layer_names: {WANTED}")
        layers: dict[str, Layer] = {}
        notes: list[str] = []
        softargmax = None
        for name in names:
            kind = settings.get(name, {}).get("class_name", "")
            tensors = self._tensors(self._child(group, name, "group"), name)
            if kind == "Softargmax" or (not kind and name.startswith("softargmax")):
                softargmax = settings.get(name, {})  # its weights are the pixels' numbers
            elif kind == "QDQ" or (not kind and name.endswith("_qdq")):
                if not notes:
                    notes.append("the ranges of its training for INT8 are not taken: calibrate, or train for INT8 here")
            elif tensors:
                layers[name] = self._layer(name, tensors, settings.get(name, {}))
        if not layers:
            raise ModelFileError(f"{self.path} holds no weights: {WANTED}")
        kinds = {layer["class_name"] for layer in config.values()}
        return WeightFile(
            self.path,
            layers,
            whole,
            _input_shape(config),
            _number((softargmax or {}).get("config", {}).get("beta")),
            "MaxPooling2D" in kinds,
            notes,
        )

    def _config(self, file: Any) -> dict[str, dict[str, Any]]:
        """The layers of the graph by name, checked to be of kinds that are known."""
        if "model_config" not in file.attrs:
            raise ModelFileError(f"{self.path} has model_weights but no model_config: {WANTED}")
        try:
            layers = json.loads(self._attribute(file, "model_config"))["config"]["layers"]
            found = {}
            for layer in layers:
                kind, config = layer["class_name"], layer["config"]
                name = layer.get("name") or config["name"]
                found[name] = {"name": str(name), "class_name": kind.split(">")[-1], "config": dict(config)}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ModelFileError(f"{self.path}: its model_config is no Keras graph; the file is damaged") from None
        for name, layer in found.items():
            kind, config = layer["class_name"], layer["config"]
            if kind not in KNOWN:
                code = " could run code and" if kind in ("Lambda", "TFOpLambda") else ""
                raise ModelFileError(
                    f"{self.path}: layer {name} is a {str(kind)[:60]}, which{code} is no part of FPENet or "
                    f"DetectNet_v2's ResNets; accepted: {', '.join(sorted(KNOWN))}"
                )
            activation = config.get("activation", "linear")
            if activation not in ACTIVATIONS:
                raise ModelFileError(
                    f"{self.path}: layer {name} has the activation {str(activation)[:60]!r}; accepted: "
                    f"{', '.join(sorted(ACTIVATIONS))}"
                )
        return found

    def _names(self, group: Any, attribute: str) -> list[str] | None:
        """A list of names; Keras splits long ones into layer_names0, layer_names1, ..."""
        parts = [attribute] if attribute in group.attrs else []
        while f"{attribute}{len(parts)}" in group.attrs and parts != [attribute]:
            parts.append(f"{attribute}{len(parts)}")
        if not parts:
            return None
        names = [
            name.decode() if isinstance(name, bytes) else str(name)
            for part in parts
            for name in np.asarray(self._attribute(group, part)).ravel().tolist()
        ]
        if len(names) > MAX_LAYERS or len(set(names)) != len(names):
            raise ModelFileError(f"{self.path}: its {attribute} are no list of a network's; the file is damaged")
        return names

    def _attribute(self, group: Any, name: str) -> Any:
        attribute = group.attrs.get_id(name)
        if _size(attribute.shape, attribute.dtype) > self.left:
            raise ModelFileError(f"{self.path}: its {name} claim to be larger than the file")
        return group.attrs[name]

    def _child(self, group: Any, name: str, kind: str) -> Any:
        """A group or a data set that lies in this file, never one that a link leads to."""
        import h5py

        for part in name.split("/"):
            link = group.get(part, getlink=True)
            if isinstance(link, (h5py.SoftLink, h5py.ExternalLink)):
                raise ModelFileError(f"{self.path}: {name} is a link to elsewhere, which is never followed")
            group = group[part]
        if not isinstance(group, h5py.Group if kind == "group" else h5py.Dataset):
            raise ModelFileError(f"{self.path}: {name} is no {kind}; the file is damaged")
        return group

    def _tensors(self, group: Any, layer: str) -> dict[str, FloatArray]:
        names = self._names(group, "weight_names") or []
        return {_short(name): self._array(self._child(group, name, "data set"), f"{layer}/{name}") for name in names}

    def _array(self, data: Any, name: str) -> FloatArray:
        """The numbers of a data set, once it is sure that they lie in this file and fit into it."""
        properties = data.id.get_create_plist()
        if data.is_virtual or data.external or properties.get_nfilters() or data.chunks:
            raise ModelFileError(f"{self.path}: {name} is compressed or lies outside the file; Keras writes neither")
        if data.dtype.kind != "f" or len(data.shape) > 4:
            raise ModelFileError(f"{self.path}: {name} is {data.dtype} {list(data.shape)}; weights are floats")
        size = _size(data.shape, data.dtype)
        if data.id.get_storage_size() < size or size > self.left:
            raise ModelFileError(
                f"{self.path}: {name} claims {list(data.shape)}, {size:,} bytes, which the file does not hold"
            )
        self.left -= size
        return checked(data[()], f"{self.path}: {name}")

    def _layer(self, name: str, tensors: dict[str, FloatArray], settings: dict[str, Any]) -> Layer:
        if unknown := [tensor for tensor in tensors if tensor not in TENSORS]:
            raise ModelFileError(f"{self.path}: layer {name} has {shortened(unknown)}; accepted: {', '.join(TENSORS)}")
        for tensor, value in tensors.items():
            if value.ndim != TENSORS[tensor]:
                raise ModelFileError(f"{self.path}: {name}/{tensor} is {list(value.shape)}; the file is damaged")
        if "kernel" in tensors:  # [h, w, in, out], transposed ones [h, w, out, in]
            tensors = tensors | {"kernel": np.ascontiguousarray(tensors["kernel"].transpose(3, 2, 0, 1))}
        return Layer(name, tensors, _number(settings.get("config", {}).get("epsilon")))


def _short(name: str) -> str:
    """ "conv1/kernel:0" of TensorFlow and "conv1/kernel" of Keras 3 are kernels."""
    return re.sub(r"(_\d+)?(:\d+)?$", "", name.rsplit("/", 1)[-1])


def _size(shape: tuple[int, ...], kind: Any) -> int:
    """Bytes of an array, exact however large its shape claims to be."""
    return math.prod(shape) * int(kind.itemsize)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and np.isfinite(value) else None


def _input_shape(config: dict[str, dict[str, Any]]) -> tuple[int, int, int] | None:
    for layer in config.values():
        if layer["class_name"] == "InputLayer":
            shape = layer["config"].get("batch_input_shape") or layer["config"].get("batch_shape") or []
            if len(shape) == 4 and all(isinstance(n, int) and 0 < n < 100000 for n in shape[1:]):
                return (shape[1], shape[2], shape[3])
    return None
