"""Training crops a second on one core: from a store, from tar shards, from a file a crop, from the original pictures;
and how a store's rate, start-up and memory hold up to a million faces.

    pip install webdataset
    taskset -c 0 python benchmarks/store.py FOLDER_WITH_PTS [--rounds 5] [--faces 1250000] [--work FOLDER]

Every way gives batches of 64 through torch's DataLoader in the process itself, shuffled; all figures are of CPU time,
since a machine may have other work. The original pictures are read the plain way of `reader.py`: decoded, cut and
changed by albumentations' own transforms. The other ways read the same margin crops (128 x 128 for an input of 80) and
change them by this package's augmentation: raw arrays in the store and in the tar shards, a PNG a crop in the folder.

A large store is the same shard of 8,192 faces under as many names as it takes, so that it fits on any disk: the rates
are those of the software, with all bytes in the system's cache.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from facetrain.benchmarks.reader import plain_item, plain_pipeline
from facetrain.configs.fpenet.schema import AugmentConfig, DataConfig, SourceConfig
from facetrain.datasets.faces import FaceDataset, face_loader, margin_for
from facetrain.datasets.formats.pts import read_pts_folder
from facetrain.datasets.preprocessing import Preprocessing, to_crop
from facetrain.datasets.sample import FaceSample
from facetrain.datasets.sources import read_sets
from facetrain.datasets.store.faces import KIND, FaceCodec, FaceStore
from facetrain.datasets.store.store import INDEX, Store, index_crc
from facetrain.datasets.store.writer import StoreWriter
from facetrain.datasets.transforms import FaceAugment
from facetrain.fpenet_trainer.schemes import load_scheme

SIZE, BATCH = 80, 64
SHARD = 8192
PREPROCESSING = Preprocessing(size=SIZE)
Augment = Callable[[np.ndarray, np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray, np.ndarray]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--faces", type=int, default=1_250_000)
    parser.add_argument("--work", type=Path, help="folder for shards; empty: a temporary one")
    parser.add_argument("--opened", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    if arguments.opened:
        print(json.dumps(opened(arguments.opened)))
        return
    samples, _ = read_pts_folder(SourceConfig(format="pts", path="."), arguments.folder)
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        side_by_side(samples, Path(work), arguments.rounds)
        growing(samples, Path(work), arguments.faces, arguments.folder)


def augmentation() -> FaceAugment:
    scheme = load_scheme("", 68)
    assert scheme.flip is not None
    return FaceAugment(AugmentConfig(), SIZE, margin_for(SIZE), list(scheme.flip))


def side_by_side(samples: list[FaceSample], work: Path, rounds: int) -> None:
    """The ways in turn, so that each meets the same weather."""
    stored = FaceStore(write_store(work / "store", samples))
    augment, scheme = augmentation(), load_scheme("", 68)
    ways: dict[str, Callable[[int], Iterable[Any]]] = {"store": store_way(stored, augment)}
    if (tars := tar_way(stored, work / "tar", augment)) is not None:
        ways["WebDataset, tar shards of raw crops"] = tars
    ways["torch Dataset, a PNG a crop"] = file_way(stored, work / "png", augment)
    ways["original pictures, albumentations"] = plain_way(samples, plain_pipeline(AugmentConfig()), scheme.flip)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for epoch in range(rounds + 1):
        for name, way in ways.items():
            start, seen = time.process_time(), 0
            for batch in way(epoch):
                seen += len(batch[0] if isinstance(batch, (list, tuple)) else batch["image"])
            if epoch:  # the first round warms up
                rates[name].append(seen / (time.process_time() - start))
    print(f"{len(samples)} faces, batches of {BATCH}, {rounds} rounds, median (range)\n")
    print(f"{'way':40} {'faces a second':>22} {'store is':>10}")
    for name, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates["store"], values, strict=True))
        spread = f"{statistics.median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})"
        print(f"{name:40} {spread:>22} {ratio:>8.2f} x")


def write_store(folder: Path, samples: list[FaceSample]) -> Store:
    codec = FaceCodec(PREPROCESSING, margin_for(SIZE), 68)
    writer = StoreWriter(folder, KIND, codec.about(), "benchmark", shard_bytes=2**40)
    for number, sample in enumerate(samples):
        writer.step(number + 1, [codec.encode(replace(sample, source="300-W"))])
    writer.finish()
    return Store(folder)


def store_way(stored: FaceStore, augment: FaceAugment) -> Callable[[int], Iterable[Any]]:
    dataset = FaceDataset(stored, PREPROCESSING, augment, seed=0, cache=False)
    loader = face_loader(dataset, BATCH, shuffle=True, drop_last=False, seed=0, workers=0)

    def batches(epoch: int) -> Iterable[Any]:
        loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
        return loader

    return batches


def changed(augment: Augment, crop: np.ndarray, points: np.ndarray, states: np.ndarray, seed: int) -> dict[str, Any]:
    image, points, states = augment(crop, points, states, seed)
    return {"image": torch.from_numpy(image)[None], "points": torch.from_numpy(points),
            "states": torch.from_numpy(states)}  # fmt: skip


def tar_way(stored: FaceStore, folder: Path, augment: Augment) -> Callable[[int], Iterable[Any]] | None:
    """Shards of 500 faces, each a raw crop and a raw array of its points, shuffled through a buffer of 1,000."""
    try:
        import webdataset as wds
    except ImportError:
        print("webdataset is not installed: pip install webdataset; its row is left out")
        return None
    folder.mkdir()
    with wds.ShardWriter(str(folder / "%05d.tar"), maxcount=500, verbose=0) as sink:
        for number, sample in enumerate(stored):
            points = to_crop(sample.points, sample.cut.square, SIZE)
            sink.write({"__key__": f"{number:07}", "crop": sample.image.tobytes(), "points": points.tobytes(),
                        "states": sample.states.tobytes()})  # fmt: skip
    side = SIZE + 2 * margin_for(SIZE)

    def decoded(epoch: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def decode(record: dict[str, Any]) -> dict[str, Any]:
            crop = np.frombuffer(record["crop"], np.uint8).reshape(side, side)
            points = np.frombuffer(record["points"], np.float32).reshape(-1, 2)
            states = np.frombuffer(record["states"], np.int8)
            return changed(augment, crop, points, states, hash((epoch, record["__key__"])) % 2**63)

        return decode

    shards = sorted(str(path) for path in folder.iterdir())

    def batches(epoch: int) -> Iterable[Any]:
        data = wds.WebDataset(shards, shardshuffle=len(shards), seed=epoch, empty_check=False).shuffle(1000)
        return DataLoader(data.map(decoded(epoch)), BATCH)

    return batches


class PngCrops(Dataset[dict[str, Any]]):
    """The plainest reader: a picture file a crop, the points in memory."""

    def __init__(self, stored: FaceStore, folder: Path, augment: Augment) -> None:
        folder.mkdir()
        self.folder, self.augment, self.epoch = folder, augment, 0
        self.labels = [(to_crop(face.points, face.cut.square, SIZE), face.states) for face in stored]
        for number, face in enumerate(stored):
            cv2.imwrite(str(folder / f"{number:07}.png"), face.image)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        crop = cv2.imread(str(self.folder / f"{index:07}.png"), cv2.IMREAD_GRAYSCALE)
        return changed(self.augment, crop, *self.labels[index], self.epoch * 2**32 + index)


def file_way(stored: FaceStore, folder: Path, augment: Augment) -> Callable[[int], Iterable[Any]]:
    dataset = PngCrops(stored, folder, augment)

    def batches(epoch: int) -> Iterable[Any]:
        dataset.epoch = epoch
        return DataLoader(dataset, BATCH, shuffle=True, generator=torch.Generator().manual_seed(epoch))

    return batches


class Originals(Dataset[Any]):
    """Full pictures, decoded, cut and changed at every use."""

    def __init__(self, samples: list[FaceSample], pipeline: Any, flip: Any) -> None:
        self.samples, self.pipeline, self.flip = samples, pipeline, flip

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        image, points = plain_item(self.samples[index], PREPROCESSING, self.pipeline, self.flip)
        return torch.from_numpy(image[..., 0].copy())[None], torch.from_numpy(points.astype(np.float32))


def plain_way(samples: list[FaceSample], pipeline: Any, flip: Any) -> Callable[[int], Iterable[Any]]:
    dataset = Originals(samples, pipeline, flip)
    return lambda epoch: DataLoader(dataset, BATCH, shuffle=True, generator=torch.Generator().manual_seed(epoch))


def growing(samples: list[FaceSample], work: Path, most: int, folder: Path) -> None:
    """Rate, start-up and memory of stores of more and more faces, each in a process of its own."""
    print(f"\n{'faces':>10} {'faces a second':>15} {'opened in, s':>13} {'first batch, s':>15} {'grown by, MiB':>14} "
          f"{'resident, MiB':>14}")  # fmt: skip
    block = [samples[i % len(samples)] for i in range(SHARD)]
    write_store(work / "block", block)
    for count in (*(10**p for p in range(3, 7) if 10**p < most), most):
        store = large_store(work / f"store_{count}", work / "block", count)
        command = [sys.executable, __file__, str(folder), "--opened", str(store)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{found['faces']:>10,} {found['rate']:>15,.0f} {found['opened']:>13.2f} {found['first']:>15.2f} "
              f"{found['grown']:>14.0f} {found['resident']:>14.0f}")  # fmt: skip
        shutil.rmtree(store)


def large_store(folder: Path, block: Path, count: int) -> Path:
    """A store of about so many faces: the block's shard again and again."""
    folder.mkdir()
    if count < SHARD:
        writer = StoreWriter(folder, KIND, Store(block).about, "benchmark")
        codec, faces = FaceCodec.of(Store(block)), FaceStore(Store(block))
        for number in range(count):
            writer.step(number + 1, [codec.encode(faces[number])])
        writer.finish()
        return folder
    content = json.loads((block / INDEX).read_text())["store"]
    (shard,) = content["shards"]
    content["shards"] = [{**shard, "file": f"{number:05}.shard"} for number in range(-(-count // SHARD))]
    for entry in content["shards"]:
        os.symlink(block / shard["file"], folder / entry["file"])
    (folder / INDEX).write_text(json.dumps({"store": content, "crc32c": index_crc(content)}))
    return folder


def opened(store: Path) -> dict[str, float]:
    """What a training process goes through: the spec's sets, the data set, the first batch, 20,000 faces at random."""
    augment, before = augmentation(), resident()
    start = time.perf_counter()
    data = DataConfig(train=[SourceConfig(format="store", path=str(store))])
    sets = read_sets(data, 68, [], PREPROCESSING)
    batches = store_way(sets.train, augment)  # type: ignore[arg-type]
    at_hand = time.perf_counter() - start
    batch = iter(batches(0))
    next(batch)
    first = time.perf_counter() - start
    seen, begun = 0, time.process_time()
    for items in several(batches, 20_000):
        seen += len(items["image"])
    rate = seen / (time.process_time() - begun)
    return {"faces": len(sets.train), "rate": rate, "opened": at_hand, "first": first,
            "grown": resident() - before, "resident": resident()}  # fmt: skip


def several(batches: Callable[[int], Iterable[Any]], count: int) -> Iterator[Any]:
    """So many faces, over as many epochs as it takes."""
    epoch, seen = 1, 0
    while seen < count:
        for items in batches(epoch):
            yield items
            seen += len(items["image"])
            if seen >= count:
                return
        epoch += 1


def resident() -> float:
    """The most memory that this process has held, MiB; getrusage would count its parent's in."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
