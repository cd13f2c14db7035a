"""The graph in less than float32, as the spec has it: FP16, or INT8 with what it takes to stay within its budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


class Quantized: ...


def half(*a): ...
def quantized(*a): ...
