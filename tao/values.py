"""One value of a TAO spec, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Given:
    """A value that a spec gives.

    Attributes:
        key: path of the key, as the file nests it.
        value: number, word, truth, list, None, or {} for a block without anything in it.
        line: of the file, from 1.
    """

    key: str
    value: Any
    line: int
