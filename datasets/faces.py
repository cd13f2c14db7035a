"""Faces as batches of tensors. Order and augmentation are a function of (seed, epoch, index) and of nothing else, so
that an epoch is the same whatever the number of processes, workers and restarts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import ConfigError
from .batches import Batch, DeterministicBatchSampler, deterministic_loader, mix_seeds
from .crops import crop_face, crop_faces
from .preprocessing import Preprocessing, square_of, to_crop
from .sample import Cut, FaceSample, Rejection
from .sources import FaceSets
from .store.views import joined, parts_of
from .transforms import FaceAugment

MARGIN = 0.3  # of the crop's side: a rotation by 0.5 rad and a shift by a few pixels stay in the picture


def margin_for(size: int) -> int:
    """Pixels of picture kept around a crop of `size` for the augmentation to draw from."""
    return round(MARGIN * size)


class FaceDataset(Dataset[Batch]):
    """Crops of faces.

    Args:
        samples: the faces. Of those in lists, the ones without a square, and with `cache` those whose picture cannot be
            read, are left out; faces of a store are made when they are asked for, from what it keeps of them.
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
        samples: Sequence[FaceSample],
        preprocessing: Preprocessing,
        augment: FaceAugment | None,
        seed: int,
        cache: bool,
    ) -> None:
        self.preprocessing, self.augment, self.seed = preprocessing, augment, seed
        self.margin = augment.margin if augment else 0
        self.rejections: list[Rejection] = []
        parts = [self._usable(part, cache) if isinstance(part, list) else (part, part) for part in parts_of(samples)]
        self.samples, self._cut = (joined(part) for part in zip(*parts, strict=True))

    def _usable(self, samples: list[FaceSample], cache: bool) -> tuple[list[FaceSample], list[FaceSample]]:
        """The faces that can be used, and the same with crops for pictures if they are cached."""
        placed = [(sample, square_of(sample, self.preprocessing)) for sample in samples]
        kept = [(sample, square) for sample, square in placed if square is not None]
        self.rejections += [no_square(sample) for sample, square in placed if square is None]
        if not cache:
            return [sample for sample, _ in kept], [sample for sample, _ in kept]
        crops, failures = crop_faces(kept, self.preprocessing.size, self.margin)
        self.rejections += failures.values()
        good = [(*face, crop) for i, (face, crop) in enumerate(zip(kept, crops, strict=True)) if i not in failures]
        cut = [replace(sample, image=crop, cut=Cut(square, self.margin)) for sample, square, crop in good]
        return [sample for sample, *_ in good], cut

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        """The face `index` as it looks in `epoch`, key = (epoch, index).

        image [1, S, S] uint8; points [K, 2] float32 in pixels of the crop, 0 where missing; states [K] int8 of
        `PointState`; square [3] float32, (x1, y1, side) of the unaugmented crop in the full picture; index int64;
        weight float32; labelled bool; mask_occluded bool. Raises DataError when the picture cannot be read.
        """
        epoch, index = key
        sample, size = self._cut[index], self.preprocessing.size
        square = square_of(sample, self.preprocessing)
        assert square is not None
        image = crop_face((sample, square), size, self.margin)
        points, states = to_crop(sample.points, square, size), sample.states
        if self.augment is not None:
            image, points, states = self.augment(image, points, states, mix_seeds(self.seed, epoch, index))
        return {
            "image": torch.from_numpy(np.array(image, order="C"))[None],
            "points": torch.from_numpy(np.where(np.isnan(points), np.float32(0), points)),
            "states": torch.from_numpy(states.astype(np.int8)),
            "square": torch.tensor(square, dtype=torch.float32),
            "index": torch.tensor(index),
            "weight": torch.tensor(sample.weight, dtype=torch.float32),
            "labelled": torch.tensor(sample.labelled),
            "mask_occluded": torch.tensor(sample.mask_occluded),
        }


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
    return deterministic_loader(dataset, sampler, workers)


def require_faces(sets: FaceSets, preprocessing: Preprocessing) -> None:
    """Raises ConfigError when a set has labelled faces and none of them can be used; reads up to the first that can."""
    for part, samples in (("train", sets.train), ("val", sets.val), ("test", sets.test)):
        left_out: list[Rejection] = []
        for probe in (FaceDataset([s], preprocessing, None, seed=0, cache=True) for s in samples if s.labelled):
            if probe.samples:
                break
            left_out += probe.rejections
        else:
            if left_out:
                raise no_usable_face(part, left_out)


def no_usable_face(part: str, left_out: Sequence[Rejection]) -> ConfigError:
    """The error to raise where the set `part`, such as "test", has no labelled face but these."""
    reasons = f"{len(left_out)} were left out, the first: {left_out[0]}" if left_out else "its sources are empty"
    return ConfigError(f"data.{part} holds no labelled face that can be used: {reasons}")


def no_square(sample: FaceSample) -> Rejection:
    """What is said of a face that has no square."""
    return Rejection(sample.name or str(sample.image), None, "no extent", "neither points nor a box to cut around")
