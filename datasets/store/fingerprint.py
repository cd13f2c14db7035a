"""What a list of samples says, as one number: by it a conversion knows whether it goes on with the same samples."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ..sample import DetectionSample, FaceSample

LEFT_OUT = ("label", "line")  # where a label stands; folders of pictures do not count either


def fingerprint(samples: Sequence[FaceSample] | Sequence[DetectionSample]) -> str:
    """32 hexadecimal digits, the same on every machine for the same labels in the same order."""
    digest = hashlib.sha256()
    for sample in samples:
        for field in fields(sample):
            if field.name not in LEFT_OUT:
                digest.update(_told(getattr(sample, field.name)))
    return digest.hexdigest()[:32]


def _told(value: Any) -> bytes:
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    if isinstance(value, dict):
        return b"".join(repr(name).encode() + _told(held) for name, held in value.items())
    return b"file\0" if isinstance(value, Path) else repr(value).encode() + b"\0"
