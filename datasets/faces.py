"""Faces as batches of tensors. Order and augmentation are a function of (seed, epoch, index) and of nothing else, so
that an epoch is the same whatever the number of processes, workers and restarts.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import ConfigError
from .crops import crop_face, crop_faces
from .preprocessing import Preprocessing, to_crop
from .sample import ByteArray, FaceSample, Rejection

if TYPE_CHECKING:  # albumentations takes seconds to import, and evaluation has no use for it
    from .transforms import FaceAugment

MARGIN = 0.3  # of the crop's side: a rotation by 0.5 rad and a shift by a few pixels stay in the picture

Batch = dict[str, torch.Tensor]


def margin_for(size: int) -> int:
    """Pixels of picture kept around a crop of `size` for the augmentation to draw from."""
    return round(MARGIN * size)


class FaceDataset(Dataset[Batch]):
    """Crops of faces.

    Args:
        samples: the faces. Those without a square, and with `cache` those whose picture cannot be read, are left out.
        preprocessing: how they are cut.
        augment: random changes; None for evaluation.
        seed: of the changes.
        cache: decode now and keep every crop in memory, instead of at every use.

    Attributes:
        samples: the faces that are left, in order; `index` counts in them.
        rejections: the others.
    """

    def __init__(
        self,
        samples: list[FaceSample],
        preprocessing: Preprocessing,
        augment: FaceAugment | None,
        seed: int,
        cache: bool,
    ) -> None:
        self.preprocessing, self.augment, self.seed = preprocessing, augment, seed
        self.margin = augment.margin if augment else 0
        self.rejections: list[Rejection] = []
        placed = [(sample, preprocessing.square(sample.points, sample.box)) for sample in samples]
        kept = [(sample, square) for sample, square in placed if square is not None]
        self.rejections += [_no_square(sample) for sample, square in placed if square is None]
        self._crops: ByteArray | None = None
        if cache:
            crops, failures = crop_faces(kept, preprocessing.size, self.margin)
            self.rejections += failures.values()
            self._crops = np.delete(crops, list(failures), axis=0) if failures else crops
            kept = [face for position, face in enumerate(kept) if position not in failures]
        self._faces = kept
        self.samples = [sample for sample, _ in kept]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        """The face `index` as it looks in `epoch`, key = (epoch, index).

        image [1, S, S] uint8; points [K, 2] float32 in pixels of the crop, 0 where missing; states [K] int8 of
        `PointState`; square [3] float32, (x1, y1, side) of the unaugmented crop in the full picture; index int64;
        weight float32; labelled bool; mask_occluded bool. Raises DataError when the picture cannot be read.
        """
        epoch, index = key
        (sample, square), size = self._faces[index], self.preprocessing.size
        image = crop_face(self._faces[index], size, self.margin) if self._crops is None else self._crops[index]
        points, states = to_crop(sample.points, square, size), sample.states
        if self.augment is not None:
            image, points, states = self.augment(image, points, states, _mix(self.seed, epoch, index))
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image))[None],
            "points": torch.from_numpy(np.nan_to_num(points, nan=0.0)),
            "states": torch.from_numpy(states.astype(np.int8)),
            "square": torch.tensor(square, dtype=torch.float32),
            "index": torch.tensor(index),
            "weight": torch.tensor(sample.weight, dtype=torch.float32),
            "labelled": torch.tensor(sample.labelled),
            "mask_occluded": torch.tensor(sample.mask_occluded),
        }


class DeterministicBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index). A global batch of batch_size * world faces is cut into one slice a process, so two
    processes at B see together what one process at 2 B sees.

    Args:
        n: number of faces.
        batch_size: faces a process and batch.
        rank, world: which process this is, of how many.
        seed: of the order.
        shuffle: a new order every epoch; False: 0, 1, 2, ...
        drop_last: leave out the global batch that is not full. False: every face comes exactly once in one of the
            processes, and their numbers of batches may differ.

    Raises ConfigError when `drop_last` would leave nothing.
    """

    def __init__(
        self, n: int, batch_size: int, rank: int, world: int, seed: int, shuffle: bool, drop_last: bool
    ) -> None:
        if drop_last and n < batch_size * world:
            raise ConfigError(
                f"train.batch_size={batch_size} on {world} process(es) is more than the {n} training faces; "
                f"lower it to {max(n // world, 1)} or add faces"
            )
        self.n, self.batch_size, self.rank, self.world = n, batch_size, rank, world
        self.seed, self.shuffle, self.drop_last = seed, shuffle, drop_last
        self.epoch, self.first_batch = 0, 0

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """The epoch to yield next, from this process's batch `first_batch` on."""
        self.epoch, self.first_batch = epoch, first_batch

    def __len__(self) -> int:
        return len(self._starts())

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.epoch
        if self.shuffle:
            order = np.random.default_rng((_unsigned(self.seed), epoch)).permutation(self.n).tolist()
        else:
            order = list(range(self.n))
        for start in self._starts()[self.first_batch :]:
            yield [(epoch, index) for index in order[start : start + self.batch_size]]

    def _starts(self) -> range:
        """Where this process's batches begin in the epoch's order."""
        stride = self.batch_size * self.world
        end = self.n // stride * stride if self.drop_last else self.n
        return range(self.rank * self.batch_size, end, stride)


def face_loader(
    dataset: FaceDataset,
    batch_size: int,
    *,
    rank: int = 0,
    world: int = 1,
    shuffle: bool,
    drop_last: bool,
    seed: int,
    workers: int,
) -> DataLoader[Batch]:
    """Batches of `FaceDataset.__getitem__`, a first dimension B added. Before each epoch call
    `loader.batch_sampler.set_epoch(epoch)`."""
    sampler = DeterministicBatchSampler(len(dataset), batch_size, rank, world, seed, shuffle, drop_last)
    # Forked workers share the cached crops; where there is no fork they get a copy.
    context = "fork" if workers and sys.platform == "linux" else None
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        multiprocessing_context=context,
        generator=torch.Generator(),  # its own, so that iterating leaves the global random state alone
    )


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the trainer ends its workers itself


def _no_square(sample: FaceSample) -> Rejection:
    return Rejection(sample.name or str(sample.image), None, "no extent", "neither points nor a box to cut around")


def _unsigned(seed: int) -> int:
    return seed % 2**64


def _mix(seed: int, epoch: int, index: int) -> int:
    """One seed for each face and epoch; neighbours have nothing in common."""
    return int(np.random.SeedSequence((_unsigned(seed), epoch, index)).generate_state(1, np.uint64)[0])
