"""Any weight file of TAO's: which kind it is, and its layers."""

from __future__ import annotations

from pathlib import Path

from ..errors import ModelFileError
from .encrypted import decrypted
from .keras_file import read_keras
from .onnx_file import read_onnx
from .weights import HDF5_START, MAX_BYTES, WeightFile

ACCEPTED = "Keras' .hdf5 or .h5, an exported .onnx, or an encrypted .tlt or .etlt"


def read_weights(path: Path, key: str = "") -> WeightFile:
    """The layers of a weight file; .tlt and .etlt are decrypted with `key`.

    Raises:
        ModelFileError: there is no such file, or nothing can be made of it.
    """
    if not path.is_file():
        raise ModelFileError(f"there is no weight file {path}: give weights=FILE, {ACCEPTED}")
    if path.stat().st_size > MAX_BYTES:
        raise ModelFileError(f"{path} is larger than any of these networks ({MAX_BYTES >> 20} MiB)")
    data, kind = path.read_bytes(), path.suffix.lower()
    if kind in (".tlt", ".etlt") and not data.startswith(HDF5_START):  # some .tlt are plain HDF5
        data = decrypted(path, data, key)
        kind = ".onnx" if kind == ".etlt" else ".hdf5"
    if data.startswith(HDF5_START) or kind in (".h5", ".hdf5"):
        return read_keras(path, data)
    if kind == ".onnx":
        return read_onnx(path, data)
    raise ModelFileError(f"{path} is no weight file of TAO's: give {ACCEPTED}")
