"""What `import-weights` leaves: the model file, and a table of which tensor went where."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from ..training.model_file import ModelMeta, save_model, write_atomic
from ..training.run_folder import make_folder
from .weights import Account

MODEL = "imported.safetensors"


def load(account: Account, network: nn.Module) -> None:
    """Puts the account's weights into the network. Raises ModelFileError where they do not fit."""
    state = network.state_dict()
    account.finish({name: tuple(tensor.shape) for name, tensor in state.items()})
    network.load_state_dict(
        {name: torch.from_numpy(account.weights[name]) if name in account.weights else state[name] for name in state}
    )


def write_import(folder: Path, network: nn.Module, meta: ModelMeta, account: Account, lines: Sequence[str]) -> Path:
    """Writes imported.safetensors and weights.csv (source,shape,parameter,note), prints a summary, and returns the
    model file."""
    make_folder(folder)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["source", "shape", "parameter", "note"])
    for row in account.rows:
        writer.writerow([row.source, "x".join(map(str, row.shape)), row.target, row.note])
    write_atomic(folder / "weights.csv", text.getvalue().encode())
    path = folder / MODEL
    save_model(path, network.state_dict(), meta)
    made = [row for row in account.rows if not row.source]
    print(f"{account.file.path}: {len(account.rows) - len(made)} tensors of {len(account.file.layers)} layers taken")
    for line in [*lines, *account.file.notes]:
        print(f"  {line}")
    print(f"wrote {path} and weights.csv, which says where each tensor went")
    return path
