"""Which samples come in which batch: a function of (seed, epoch) and of nothing else, for both networks' loaders."""

from __future__ import annotations

import hashlib
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import ConfigError
from .permutation import Permutation

_THREE = struct.Struct("<QQQ")

Batch = dict[str, torch.Tensor]
Order = Callable[[range], NDArray[np.int64]]


class DeterministicBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index). A global batch of batch_size * world samples is cut into one slice a process, so two
    processes at B see together what one process at 2 B sees.

    Args:
        n: number of samples.
        batch_size: samples a process and batch.
        rank, world: which process this is, of how many.
        seed: of the order.
        shuffle: a new order every epoch; False: 0, 1, 2, ...
        drop_last: leave out the global batch that is not full. False: every sample comes exactly once in one of the
            processes, and their numbers of batches may differ.
        noun: what the samples are, for messages.
        shares: [n] how often each sample comes in a shuffled epoch of n, relative to the others; None: once each.

    Raises ConfigError when `drop_last` would leave nothing.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        rank: int,
        world: int,
        seed: int,
        shuffle: bool,
        drop_last: bool,
        noun: str = "faces",
        shares: NDArray[np.float64] | None = None,
    ) -> None:
        if drop_last and n < batch_size * world:
            raise ConfigError(
                f"train.batch_size={batch_size} on {world} process(es) is more than the {n} training {noun}; "
                f"lower it to {max(n // world, 1)} or add {noun}"
            )
        self.n, self.batch_size, self.rank, self.world = n, batch_size, rank, world
        self.seed, self.shuffle, self.drop_last = seed, shuffle, drop_last
        self.shares = shares
        self.epoch, self.first_batch = 0, 0

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """The epoch to yield next, from this process's batch `first_batch` on."""
        self.epoch, self.first_batch = epoch, first_batch

    def __len__(self) -> int:
        return len(self._starts())

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.epoch
        order = self._order(epoch)
        for start in self._starts()[self.first_batch :]:
            places = range(start, min(start + self.batch_size, self.n))
            yield [(epoch, index) for index in order(places).tolist()]

    def _order(self, epoch: int) -> Order:
        """The samples at places of an epoch's order. Shuffled, they are computed batch by batch: neither the length of
        the epoch nor what has been seen of it costs anything."""
        if not self.shuffle:
            return np.array
        key = (_unsigned(self.seed), epoch)
        order = Permutation(self.n, key)
        if self.shares is None:
            return order
        # Evenly spaced marks on the shares laid end to end: each sample comes as often as it should, to within one.
        laid = order(range(self.n))
        ends = np.cumsum(self.shares[laid])
        marks = (np.arange(self.n) + np.random.default_rng(key).random()) / self.n * ends[-1]
        chosen = laid[np.minimum(np.searchsorted(ends, marks, side="right"), self.n - 1)]
        again = Permutation(self.n, (*key, 1))
        return lambda places: chosen[again(places)]

    def _starts(self) -> range:
        """Where this process's batches begin in the epoch's order."""
        stride = self.batch_size * self.world
        end = self.n // stride * stride if self.drop_last else self.n
        return range(self.rank * self.batch_size, end, stride)


def deterministic_loader(
    dataset: Dataset[Batch],
    sampler: DeterministicBatchSampler,
    workers: int,
    collate: Callable[[list[Any]], Any] | None = None,
) -> DataLoader[Batch]:
    """Batches in the sampler's order, the same for any number of workers. `collate` joins items; None: torch's own."""
    # Forked workers share the cached pictures; where there is no fork they get a copy.
    context = "fork" if workers and sys.platform == "linux" else None
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=collate,
        worker_init_fn=_start_worker,
        multiprocessing_context=context,
        generator=torch.Generator(),  # its own, so that iterating leaves the global random state alone
    )


def mix_seeds(seed: int, epoch: int, index: int) -> int:
    """One seed for each sample and epoch; neighbours have nothing in common."""
    told = _THREE.pack(_unsigned(seed), epoch, index)
    return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "little")


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    # Both signals reach the whole group at times; the trainer finishes its step and ends its workers itself. It does so
    # with SIGTERM, which therefore cannot be ignored; but to PyTorch a worker that it killed has failed, at whatever
    # line the trainer then is.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def _unsigned(seed: int) -> int:
    return seed % 2**64
