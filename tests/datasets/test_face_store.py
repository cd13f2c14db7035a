"""Faces of stores: beside those of files, and a million of them."""

import json
import os
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facetrain.configs.fpenet.schema import AugmentConfig, DataConfig, SourceConfig
from facetrain.datasets.drawn.synthetic import draw_faces
from facetrain.datasets.faces import FaceDataset, face_loader, margin_for
from facetrain.datasets.preprocessing import Preprocessing
from facetrain.datasets.sample import FaceSample
from facetrain.datasets.sources import read_sets
from facetrain.datasets.store.faces import KIND, FaceCodec, FaceStore
from facetrain.datasets.store.store import INDEX, Store, index_crc
from facetrain.datasets.store.views import Joined, Picked, joined, picked
from facetrain.datasets.store.writer import StoreWriter
from facetrain.datasets.transforms import FaceAugment
from facetrain.errors import DataError

PREPROCESSING = Preprocessing(size=32)


def write(folder: Path, samples: list[FaceSample], preprocessing: Preprocessing = PREPROCESSING) -> Path:
    codec = FaceCodec(preprocessing, margin_for(preprocessing.size), samples[0].num_keypoints)
    writer = StoreWriter(folder, KIND, codec.about(), "faces", shard_bytes=2**40)
    for number, sample in enumerate(samples):
        writer.step(number + 1, [codec.encode(sample)])
    writer.finish()
    return folder


@pytest.fixture(scope="module")
def drawn() -> list[FaceSample]:
    return draw_faces(9, seed=4, num_keypoints=68)


def dataset(samples, changed: bool = True, cache: bool = True) -> FaceDataset:
    augment = FaceAugment(AugmentConfig(), 32, margin_for(32), None) if changed else None
    return FaceDataset(samples, PREPROCESSING, augment, seed=3, cache=cache)


def test_every_field_comes_back(drawn: list[FaceSample], tmp_path: Path) -> None:
    points = drawn[0].points.copy()
    points[3] = np.nan
    states = drawn[0].states.copy()
    states[3] = 0
    odd = replace(
        drawn[0], points=points, states=states, box=None, subject="", name="a/ü 1.png", source="set", labelled=False,
        weight=0.1, validate=False, mask_occluded=False,
    )  # fmt: skip
    strange = replace(drawn[1], subject=None, name="x" * 300 + "\udce9.png")  # a file name that is no UTF-8
    found = FaceStore(Store(write(tmp_path / "store", [odd, strange, drawn[2]])))
    assert len(found) == 3
    for one, other in zip((odd, strange, drawn[2]), found, strict=True):
        np.testing.assert_array_equal(one.points, other.points)
        np.testing.assert_array_equal(one.states, other.states)
        for name in ("subject", "name", "source", "labelled", "weight", "validate", "mask_occluded"):
            assert getattr(one, name) == getattr(other, name), name
    assert found[0].box is None
    np.testing.assert_array_equal(found[-1].box, drawn[2].box)
    with pytest.raises(IndexError):
        found[3]


@pytest.mark.parametrize("changed", [True, False])
def test_stores_and_lists_in_one_set(drawn: list[FaceSample], tmp_path: Path, changed: bool) -> None:
    stores = [FaceStore(Store(write(tmp_path / name, part))) for name, part in (("a", drawn[3:5]), ("b", drawn[5:]))]
    mixed = dataset(joined([drawn[:3], *stores]), changed)
    plain = dataset(drawn, changed)
    assert len(mixed) == len(plain) == 9
    for i in range(9):
        one, other = plain[2, i], mixed[2, i]
        names = one.keys() - (set() if changed else {"image"})  # which is the middle of the margin crop
        assert all(torch.equal(one[name], other[name]) for name in names)
        assert mixed.samples[i].name == drawn[i].name
    assert dataset(picked(stores[0], lambda face: face.name == "drawn-4-4")).samples[0].name == "drawn-4-4"


def test_loader_processes_read_the_same(drawn: list[FaceSample], tmp_path: Path) -> None:
    data = dataset(FaceStore(Store(write(tmp_path / "store", drawn))))

    def batches(workers: int) -> list[dict[str, torch.Tensor]]:
        return list(face_loader(data, 4, shuffle=True, drop_last=False, seed=1, workers=workers))

    for one, other in zip(batches(0), batches(2), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_crop_of_another_size_is_no_crop(drawn: list[FaceSample], tmp_path: Path) -> None:
    store = FaceStore(Store(write(tmp_path / "store", drawn)))
    other = FaceDataset(store, Preprocessing(size=48), None, seed=0, cache=False)
    with pytest.raises(DataError, match="48 pixels with 0 around them are asked for, and its store keeps 32 with 10"):
        other[0, 0]


def test_a_million_faces_are_there_at_once(tmp_path: Path) -> None:
    """1,253,376 records of full bookkeeping: one shard of 8,192 faces under 153 names."""
    small = Preprocessing(size=16)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (40, 40), np.uint8)
    faces = [
        FaceSample(picture, rng.uniform(10, 30, (5, 2)).astype(np.float32), np.full(5, 2, np.int8), name=f"{i:06}.jpg")
        for i in range(8192)
    ]
    block = write(tmp_path / "block", faces, small)
    content = json.loads((block / INDEX).read_text())["store"]
    (shard,) = content["shards"]
    content["shards"] = [{**shard, "file": f"{number:05}.shard"} for number in range(153)]
    (tmp_path / "large").mkdir()
    for entry in content["shards"]:
        os.symlink(block / shard["file"], tmp_path / "large" / entry["file"])
    (tmp_path / "large" / INDEX).write_text(json.dumps({"store": content, "crc32c": index_crc(content)}))

    tracemalloc.start()
    start = time.process_time()
    sets = read_sets(DataConfig(root=str(tmp_path), train=[SourceConfig(format="store", path="large")]), 5, [], small)
    data = FaceDataset(sets.train, small, FaceAugment(AugmentConfig(), 16, margin_for(16), None), seed=0, cache=True)
    loader = face_loader(data, 64, shuffle=True, drop_last=True, seed=0, workers=0)
    loader.batch_sampler.set_epoch(7, first_batch=10_000)
    batch = next(iter(loader))
    assert time.process_time() - start < 2
    assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    tracemalloc.stop()
    assert len(data) == 1_253_376
    assert len(set(batch["index"].tolist())) == 64


def test_views() -> None:
    letters = Joined([["a", "b"], [], ("c", "d", "e")])
    assert (len(letters), letters[0], letters[2], letters[-1]) == (5, "a", "c", "e")
    assert letters[1:4] == ["b", "c", "d"]
    assert list(Picked(letters, [4, 0])) == ["e", "a"]
    for index in (5, -6):
        with pytest.raises(IndexError):
            letters[index]
    assert joined([[], []]) == []
    one = ["a"]
    assert joined([[], one]) is one
    assert list(picked(Joined([["a", "b"], ("c", "d")]), lambda letter: letter in "bd")) == ["b", "d"]
