"""Batches: the same whatever the number of workers, processes and restarts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facetrain.configs.fpenet.schema import AugmentConfig
from facetrain.datasets.batches import DeterministicBatchSampler
from facetrain.datasets.faces import FaceDataset, face_loader, margin_for
from facetrain.datasets.preprocessing import Preprocessing
from facetrain.datasets.sample import FaceSample
from facetrain.datasets.transforms import FaceAugment
from facetrain.errors import ConfigError, DataError

PREPROCESSING = Preprocessing(size=32)


def faces(folder: Path, n: int = 11) -> list[FaceSample]:
    rng = np.random.default_rng(0)
    samples = []
    for i in range(n):
        Image.fromarray(rng.integers(0, 256, (60, 70, 3), np.uint8)).save(folder / f"{i}.png")
        points = rng.uniform(5, 55, (4, 2)).astype(np.float32)
        points[3], states = np.nan, np.array([2, 1, 2, 0], np.int8)
        samples.append(FaceSample(folder / f"{i}.png", points, states, name=f"{i}.png", weight=0.5 + i))
    return samples


def dataset(samples: list[FaceSample], *, changed: bool = True, cache: bool = True, seed: int = 1) -> FaceDataset:
    augment = FaceAugment(AugmentConfig(), 32, margin_for(32), [1, 0, 2, 3]) if changed else None
    return FaceDataset(samples, PREPROCESSING, augment, seed, cache)


def epoch_of(data: FaceDataset, epoch: int, workers: int = 0, rank: int = 0, world: int = 1, batch: int = 4):
    loader = face_loader(data, batch, rank=rank, world=world, shuffle=True, drop_last=True, seed=3, workers=workers)
    loader.batch_sampler.set_epoch(epoch)
    return list(loader)


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


def test_what_a_face_is(tmp_path: Path) -> None:
    samples = faces(tmp_path, 2)
    item = dataset(samples, changed=False)[0, 1]
    assert {key: (tuple(value.shape), value.dtype) for key, value in item.items()} == {
        "image": ((1, 32, 32), torch.uint8),
        "points": ((4, 2), torch.float32),
        "states": ((4,), torch.int8),
        "square": ((3,), torch.float32),
        "index": ((), torch.int64),
        "weight": ((), torch.float32),
        "labelled": ((), torch.bool),
        "mask_occluded": ((), torch.bool),
    }
    assert item["points"][3].tolist() == [0, 0] and item["states"].tolist() == [2, 1, 2, 0]
    assert (item["index"].item(), item["weight"].item()) == (1, 1.5)
    x1, y1, side = item["square"].tolist()
    back = (item["points"][:3].numpy() + 0.5) * side / 32 + [x1, y1] - 0.5
    np.testing.assert_allclose(back, samples[1].points[:3], atol=1e-4)


def test_margin() -> None:
    assert (margin_for(80), margin_for(112)) == (24, 34)


@pytest.mark.parametrize("changed", [False, True])
def test_cache_changes_nothing(tmp_path: Path, changed: bool) -> None:
    samples = faces(tmp_path, 3)
    kept, fresh = (dataset(samples, changed=changed, cache=cache) for cache in (True, False))
    assert all(equal(kept[epoch, i], fresh[epoch, i]) for epoch in (0, 5) for i in range(3))


def test_pictures_in_memory(tmp_path: Path) -> None:
    (sample,) = faces(tmp_path, 1)
    with Image.open(tmp_path / "0.png") as image:
        held = FaceSample(np.asarray(image), sample.points, sample.states, weight=sample.weight)
    assert equal(dataset([sample])[0, 0], dataset([held])[0, 0])


def test_epochs_differ_and_repeat(tmp_path: Path) -> None:
    data = dataset(faces(tmp_path))
    first, second = epoch_of(data, 0), epoch_of(data, 1)
    assert not torch.equal(first[0]["index"], second[0]["index"])
    again = epoch_of(dataset(data.samples), 1)  # as after a restart, without epoch 0
    assert all(map(equal, second, again))
    assert not torch.equal(data[0, 2]["image"], data[1, 2]["image"])
    assert not torch.equal(data[0, 2]["image"], dataset(data.samples, seed=2)[0, 2]["image"])


def test_workers_change_nothing(tmp_path: Path) -> None:
    data = dataset(faces(tmp_path))
    alone = epoch_of(data, 4)
    assert len(alone) == 2
    for workers in (1, 2):
        assert all(map(equal, alone, epoch_of(data, 4, workers)))


def test_iterating_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    data = dataset(faces(tmp_path, 4))
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    epoch_of(data, 0)
    assert torch.equal(torch.rand(1), expected)


def test_two_processes_see_what_one_sees(tmp_path: Path) -> None:
    data = dataset(faces(tmp_path, 13))
    whole = epoch_of(data, 2, batch=4)
    halves = [epoch_of(data, 2, rank=rank, world=2, batch=2) for rank in (0, 1)]
    assert len(whole) == len(halves[0]) == len(halves[1]) == 3
    for both, left, right in zip(whole, *halves, strict=True):
        assert equal(both, {key: torch.cat([left[key], right[key]]) for key in left})


@pytest.mark.parametrize("n", [1, 7, 8, 9, 24])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_validation_sees_every_face_once(n: int, world: int) -> None:
    samplers = [DeterministicBatchSampler(n, 4, rank, world, 0, False, False) for rank in range(world)]
    batches = [list(sampler) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(each) for each in batches]
    assert sorted(index for each in batches for batch in each for _, index in batch) == list(range(n))


def test_too_few_faces_for_a_batch() -> None:
    with pytest.raises(ConfigError, match=r"train\.batch_size=8 on 2 process\(es\).* 15 training faces; lower it to 7"):
        DeterministicBatchSampler(15, 8, 0, 2, 0, True, True)


def test_pictures_that_cannot_be_read(tmp_path: Path) -> None:
    samples = faces(tmp_path, 5)
    (tmp_path / "2.png").write_text("no picture")
    boxless = FaceSample(tmp_path / "0.png", np.full((4, 2), np.nan, np.float32), np.zeros(4, np.int8), name="empty")
    data = dataset([*samples, boxless])
    assert [sample.name for sample in data.samples] == ["0.png", "1.png", "3.png", "4.png"]
    assert [rejection.reason for rejection in data.rejections] == ["no extent", "picture unreadable"]
    assert data[0, 2]["weight"].item() == 3.5
    assert equal(data[0, 2], dataset([samples[0], samples[1], samples[3]])[0, 2])
    for workers in (0, 1):
        with pytest.raises(DataError, match=r"2\.png"):
            epoch_of(dataset(samples, cache=False), 0, workers, batch=5)
