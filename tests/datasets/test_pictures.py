import numpy as np
import pytest
import torch

from facetrain.configs.facenet.schema import AugmentConfig, IgnoreConfig
from facetrain.datasets.picture_transforms import PictureAugment
from facetrain.datasets.pictures import PictureDataset, picture_loader
from facetrain.datasets.resizing import PicturePreprocessing
from facetrain.datasets.sample import DetectionSample
from facetrain.errors import DataError

SIZE = PicturePreprocessing(96, 64)


def sample(number, boxes=((10, 10, 40, 50),), source="a", image=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    pixels = np.random.default_rng(number).integers(0, 256, (128, 192, 3), np.uint8)
    empty = np.zeros((0, 4), np.float32)
    picture = pixels if image is None else image
    return DetectionSample(picture, boxes, np.zeros(len(boxes), np.int64), empty, source=source)


def loaded(samples, workers=0, ignore=None, augment=None, epoch=0, **options):
    dataset = PictureDataset(samples, SIZE, augment, ignore or IgnoreConfig(), 1)
    loader = picture_loader(dataset, 2, shuffle=False, drop_last=False, seed=1, workers=workers, **options)
    loader.batch_sampler.set_epoch(epoch)
    return list(loader)


def test_a_batch_is_padded():
    batch = loaded([sample(0, ((10, 10, 40, 50), (0, 0, 30, 30))), sample(1, ())])[0]
    assert batch["image"].shape == (2, 3, 64, 96) and batch["image"].dtype == torch.uint8
    assert batch["boxes"][0, 0].tolist() == [5, 5, 20, 25]
    assert batch["labels"].tolist() == [[0, 0], [-1, -1]]
    assert batch["ignore"].shape == (2, 0, 4) and batch["placement"][0].tolist() == [0.5, 0.5, 0, 0]


def test_ignore_filters_count_in_pixels_of_the_input():
    samples = [sample(0, ((0, 0, 20, 20), (0, 0, 60, 60), (100, 40, 140, 80)))]
    for config, kept in (
        (IgnoreConfig(min_height=12.0), 2),
        (IgnoreConfig(max_width=25.0), 2),
        (IgnoreConfig(crop=[0.0, 0.0, 48.0, 64.0]), 2),
    ):
        batch = loaded(samples, ignore=config)[0]
        assert batch["boxes"].shape[1] == kept and batch["ignore"].shape[1] == 3 - kept


def test_augmented_pictures_depend_on_seed_epoch_and_index_only():
    augment = PictureAugment(AugmentConfig(rotate_rad_max=0.2), SIZE)
    samples = [sample(number) for number in range(4)]
    alone, worker, later = (
        loaded(samples, workers, augment=augment, epoch=epoch) for workers, epoch in ((0, 2), (1, 2), (0, 3))
    )
    for one, other, next_epoch in zip(alone, worker, later, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in ("image", "boxes", "labels", "index"))
        assert not torch.equal(one["image"], next_epoch["image"])


def test_a_corrupt_picture(tmp_path):
    path = tmp_path / "bad.jpg"
    path.write_bytes(b"nothing")
    samples = [sample(0, image=path), sample(1)]
    cached = PictureDataset(samples, SIZE, None, IgnoreConfig(), 0, cache_gib=1.0)
    assert len(cached) == 1 and cached.rejections[0].reason == "picture unreadable"
    with pytest.raises(DataError, match=r"bad\.jpg"):
        PictureDataset(samples, SIZE, None, IgnoreConfig(), 0)[0, 0]


def test_uniform_sampling_takes_the_sources_alike():
    dataset = PictureDataset(
        [sample(n, source="a" if n < 30 else "b") for n in range(40)], SIZE, None, IgnoreConfig(), 0
    )
    loader = picture_loader(dataset, 4, shuffle=True, drop_last=True, seed=0, workers=0, uniform=True)
    drawn = [index for batch in loader.batch_sampler for _, index in batch]
    assert len(drawn) == 40 and sum(index >= 30 for index in drawn) in (19, 20, 21)
