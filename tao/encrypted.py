"""TAO's encrypted files. NVIDIA's wheel decrypts them; nothing of the cipher is here."""

from __future__ import annotations

import io
from pathlib import Path

from ..errors import ModelFileError
from .weights import HDF5_START

WHEEL = "nvidia-eff-tao-encryption"
ELSEWHERE = (
    "or have TAO 5 write it plainly: its train, prune and export read a .tlt with -k KEY and leave .hdf5 and .onnx"
)


def decrypted(path: Path, data: bytes, key: str) -> bytes:
    """What is in a .tlt (a Keras file) or a .etlt (an ONNX file).

    A .etlt begins with the length of the input's name, 4 bytes, and the name; only UFF files have one.

    Raises:
        ModelFileError: it is UFF, there is no key or a wrong one, or the wheel is not installed.
    """
    graph = path.suffix.lower() == ".etlt"
    if graph:
        length = int.from_bytes(data[:4], "little", signed=True)
        if not 0 <= length <= 1024 or len(data) < 4 + length:
            raise ModelFileError(f"{path} is not an .etlt file: its first four bytes are no length of a name")
        if length:
            name = data[4 : 4 + length].decode("ascii", "replace")
            raise ModelFileError(
                f"{path} holds a UFF graph (input {name!r}), a format of TensorRT before 10 that keeps no layers to "
                "import: take the .tlt or .hdf5 that it was exported from"
            )
        data = data[4:]
    if not key:
        raise ModelFileError(f"{path} is encrypted: give its key with key=KEY or -k KEY (nvidia_tlt for NGC's models)")
    try:
        from eff_tao_encryption.tao_codec import decrypt_stream
    except ImportError:
        raise ModelFileError(
            f"{path} is encrypted, and NVIDIA's wheel that opens it is not installed: pip install {WHEEL}, where there "
            f"is one for this Python and machine, {ELSEWHERE}"
        ) from None
    plain = io.BytesIO()
    try:
        decrypt_stream(io.BytesIO(data), plain, key.encode(), encryption=True, rewind=False)
    except Exception as error:  # whatever the wheel raises on a damaged file
        raise ModelFileError(f"{path} cannot be decrypted ({type(error).__name__}: {error}): {ELSEWHERE}") from None
    content = plain.getvalue()
    if not graph and not content.startswith(HDF5_START):
        raise ModelFileError(f"{path}: what the key opens is no HDF5 file; give the key that it was written with")
    return content
