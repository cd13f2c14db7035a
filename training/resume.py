"""The resume state: all that the rest of a run depends on, so that going on equals never having stopped."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import ModelFileError
from .model_file import write_atomic


@dataclass
class RunState:
    """Where a run stands, between two steps.

    Attributes:
        epoch, batch: the next batch to take: `batch` of `epoch`, both from 0.
        step: optimiser steps taken.
        best: the best value of the task's metric so far; None before the first validation.
        stale: validations since then.
        seconds: training time so far.
        weights, optimizer, scaler, average, task: state dicts; `average` holds the EMA weights, empty without.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float | None = None
    stale: int = 0
    seconds: float = 0.0
    weights: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    average: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes the state atomically."""
        buffer = io.BytesIO()
        torch.save(vars(self), buffer)
        write_atomic(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> RunState:
        """Reads a state; tensors and plain values only, nothing that could run code."""
        try:
            return cls(**torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:
            raise ModelFileError(
                f"{path} is not a readable resume state ({type(error).__name__}): delete it to begin anew from the "
                "data, or start another run from a model file"
            ) from error
