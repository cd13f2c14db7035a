"""The calibration cache of TensorRT 8 to 10, for those who still let TensorRT quantise (gridbox §9.4)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from ...training.model_file import write_atomic

HEADER = "TRT-8601-EntropyCalibration2"  # any TensorRT 8 to 10 reads it; the number is that of the writer


def write_cache(path: Path, ranges: Mapping[str, float]) -> None:
    """Writes `name: scale` lines, a scale being absmax / 127 as the eight hexadecimal digits of a big-endian float32.

    Args:
        path: .txt and .bin hold the same.
        ranges: tensor -> largest magnitude.
    """
    lines = [f"{name}: {struct.pack('>f', magnitude / 127).hex()}" for name, magnitude in ranges.items()]
    write_atomic(path, "\n".join([HEADER, *lines, ""]).encode())
