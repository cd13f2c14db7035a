"""One process or many: PyTorch's own process group, as torchrun sets it up."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

# Its functions hold the group that exists when it is imported, and DistributedDataParallel imports it: before the group
# is made, they hold none.
import torch.distributed.nn.functional
from torch import nn

from ..errors import ConfigError


@dataclass(frozen=True)
class Processes:
    """This process among all.

    Attributes:
        rank: 0 to world - 1; rank 0 writes all files.
        world: number of processes.
        device: where this one computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def gather(self, part: Any) -> list[Any]:
        """Every rank's `part`, in the order of ranks, on every rank."""
        if self.world == 1:
            return [part]
        parts: list[Any] = [None] * self.world
        dist.all_gather_object(parts, part)
        return parts

    def broadcast(self, value: Any) -> Any:
        """Rank 0's `value` on every rank."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def share_buffers(self, model: nn.Module) -> None:
        """Gives every rank rank 0's buffers of a model, such as the statistics of batch normalisation."""
        if self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)


def pick_device(name: str) -> torch.device:
    """The device that a spec's `device` means; auto is this process's GPU, or the CPU where there is none."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda, but PyTorch sees no CUDA device: use device=cpu, or run `fpenet doctor`")
    if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
        return torch.device("cuda", local)
    return torch.device("cpu")


@contextmanager
def process_group(device_name: str) -> Iterator[Processes]:
    """Joins the group that torchrun's environment describes, or stands alone; leaves it at the end."""
    device = pick_device(device_name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        yield Processes(0, 1, device)
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
        # What still holds the group keeps gloo's threads, and one that lets go of a tensor while the interpreter ends
        # aborts the process: DistributedDataParallel refers to itself.
        gc.collect()
