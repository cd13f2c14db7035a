"""Pictures with boxes as batches of tensors for the detector. What a picture looks like is a function of (seed, epoch,
index) and of nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from ..configs.facenet.schema import IgnoreConfig
from ..errors import DataError
from .batches import Batch, DeterministicBatchSampler, deterministic_loader, mix_seeds
from .resizing import PicturePreprocessing, Placement
from .sample import ByteArray, DetectionSample, FloatArray, Rejection
from .store.pictures import PictureStore, read_picture
from .store.views import joined, parts_of

if TYPE_CHECKING:  # albumentations takes seconds to import, and evaluation has no use for it
    from .picture_transforms import PictureAugment

Loaded = tuple[ByteArray, Placement, tuple[int, int]]
READERS = 4  # threads; decoding a picture lets go of the interpreter's lock
GIB = 2**30
SINGLE = ("image", "weight", "index", "placement", "size")  # of one shape in every item


class PictureDataset(Dataset[Batch]):
    """Pictures as the network sees them.

    Args:
        samples: the pictures; those of a store are read when they are asked for.
        preprocessing: how they become the input.
        augment: random changes; None for evaluation.
        ignore: which boxes become ignore regions by their size and place in the input.
        seed: of the changes.
        cache_gib: decode now and keep pictures in memory up to this, GiB; the others are decoded at every use.

    Attributes:
        samples: the pictures that are left, in order; `index` counts in them.
        rejections: those found unreadable while filling the cache.
        notes: sentences worth showing.
    """

    def __init__(
        self,
        samples: Sequence[DetectionSample],
        preprocessing: PicturePreprocessing,
        augment: PictureAugment | None,
        ignore: IgnoreConfig,
        seed: int,
        cache_gib: float = 0.0,
    ) -> None:
        self.preprocessing, self.augment, self.ignore, self.seed = preprocessing, augment, ignore, seed
        self.rejections: list[Rejection] = []
        self._cached: list[Loaded | None] = []
        parts = [self._fill(part, cache_gib * GIB) if isinstance(part, list) else part for part in parts_of(samples)]
        self.samples = joined(parts)
        self.notes = [note for part in parts for note in self._cut_off(part)]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        """The picture `index` as it looks in `epoch`, key = (epoch, index).

        image [3, H, W] uint8 RGB; boxes [N, 4] float32 in pixels of the input; labels [N] int64; ignore [M, 4] float32;
        weight float32; index int64; placement [4] float32, that of `Placement`, NaN where augmented; size [2] int64,
        width and height of the picture. Raises DataError when the picture cannot be read.
        """
        epoch, index = key
        sample = self.samples[index]
        image, place, size = (self._cached[index] if index < len(self._cached) else None) or self._load(sample)
        boxes, labels, regions = sample.boxes, sample.labels, sample.ignore
        placement = [place.scale_x, place.scale_y, place.shift_x, place.shift_y]
        if self.augment is not None:
            view = self.augment(image, boxes, labels, regions, mix_seeds(self.seed, epoch, index))
            image, boxes, labels, regions = view.image, view.boxes, view.labels, view.ignore
            placement = [float("nan")] * 4
        else:
            boxes, regions = place.to_input(boxes), place.to_input(regions)
        out = ignored(boxes, self.ignore)
        return {
            "image": torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C")),
            "boxes": torch.from_numpy(boxes[~out].astype(np.float32)),
            "labels": torch.from_numpy(labels[~out].astype(np.int64)),
            "ignore": torch.from_numpy(np.concatenate([regions, boxes[out]]).astype(np.float32)),
            "weight": torch.tensor(sample.weight, dtype=torch.float32),
            "index": torch.tensor(index),
            "placement": torch.tensor(placement, dtype=torch.float32),
            "size": torch.tensor(size),
        }

    def _cut_off(self, samples: Sequence[DetectionSample]) -> list[str]:
        """A note where input.resize loses a part of pictures."""
        if self.preprocessing.resize != "pad_crop":
            return []
        cut = sum(sample.size is not None and self.preprocessing.cuts_off(*sample.size) for sample in samples)
        return [f"input.resize=pad_crop cuts off a part of {cut} pictures; letterbox keeps all"] if cut else []

    def _load(self, sample: DetectionSample) -> Loaded:
        """The picture as the augmentation takes it, or as the input; where it comes to lie; its own size."""
        image = read_picture(sample)
        size = image.shape[1], image.shape[0]
        if self.augment is None:
            return *self.preprocessing.apply(image), size
        return image, self.preprocessing.place(*size), size

    def _fill(self, samples: list[DetectionSample], limit: float) -> list[DetectionSample]:
        """Caches what there is room for; the samples but for those found unreadable."""

        def load(sample: DetectionSample) -> Loaded | Rejection:
            try:
                return self._load(sample)
            except DataError as error:
                return Rejection(str(sample.image), None, "picture unreadable", str(error))

        kept: list[DetectionSample] = []
        used = start = 0
        with ThreadPoolExecutor(READERS) as pool:
            while start < len(samples) and used < limit:
                part = samples[start : start + 4 * READERS]
                start += len(part)
                for sample, loaded in zip(part, pool.map(load, part), strict=True):
                    if isinstance(loaded, Rejection):
                        self.rejections.append(loaded)
                        continue
                    kept.append(sample)
                    used += loaded[0].nbytes
                    self._cached.append(loaded if used <= limit else None)
        return kept + samples[start:]


def ignored(boxes: FloatArray, config: IgnoreConfig) -> NDArray[np.bool_]:
    """Which boxes [N, 4], in pixels of the input, are ignored for their size or place (§2.3)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    out = (sides < (config.min_width, config.min_height)).any(axis=1)
    for axis, largest in enumerate((config.max_width, config.max_height)):
        if largest > 0:
            out |= sides[:, axis] > largest
    if config.crop:
        crop = np.asarray(config.crop, np.float32)
        out |= (boxes[:, :2] < crop[:2]).any(axis=1) | (boxes[:, 2:] > crop[2:]).any(axis=1)
    return np.asarray(out, np.bool_)


def with_ignored(sample: DetectionSample, place: Placement, config: IgnoreConfig) -> DetectionSample:
    """The sample with those of its boxes among the ignore regions that `ignored` names; `place`: its picture's."""
    out = ignored(place.to_input(sample.boxes), config)
    if not out.any():
        return sample
    return replace(
        sample,
        boxes=sample.boxes[~out],
        labels=sample.labels[~out],
        ignore=np.concatenate([sample.ignore, sample.boxes[out]]),
        attributes={name: values[~out] for name, values in sample.attributes.items()},
    )


def collate_pictures(items: list[Batch]) -> Batch:
    """Items joined, a first dimension B added: boxes padded with 0, labels with -1, ignore with NaN."""
    batch = {name: torch.stack([item[name] for item in items]) for name in SINGLE}
    for name, fill in (("boxes", 0.0), ("labels", -1), ("ignore", float("nan"))):
        parts = [item[name] for item in items]
        batch[name] = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=fill)
    return batch


def count_boxes(samples: Sequence[DetectionSample]) -> int:
    """How many boxes there are to learn."""
    return sum(
        part.boxes if isinstance(part, PictureStore) else sum(len(sample.boxes) for sample in part)
        for part in parts_of(samples)
    )


def source_shares(samples: Sequence[DetectionSample]) -> NDArray[np.float64]:
    """[n] how often each picture must come so that all sources come alike: data.sampling=uniform."""
    sources = [
        part.sources() if isinstance(part, PictureStore) else np.array([sample.source for sample in part])
        for part in parts_of(samples)
    ]
    names, which, counts = np.unique(np.concatenate(sources), return_inverse=True, return_counts=True)
    return np.asarray(len(samples) / (len(names) * counts[which]), np.float64)


def picture_loader(
    dataset: PictureDataset,
    batch_size: int,
    *,
    rank: int = 0,
    world: int = 1,
    shuffle: bool,
    drop_last: bool,
    seed: int,
    workers: int,
    uniform: bool = False,
) -> DataLoader[Batch]:
    """Batches of `PictureDataset.__getitem__`, padded by `collate_pictures`. Before each epoch call
    `loader.batch_sampler.set_epoch(epoch)`. `uniform`: every source comes as often, in a shuffled epoch."""
    shares = source_shares(dataset.samples) if uniform else None
    sampler = DeterministicBatchSampler(
        len(dataset), batch_size, rank, world, seed, shuffle, drop_last, noun="pictures", shares=shares
    )
    return deterministic_loader(dataset, sampler, workers, collate_pictures)
