"""Training pictures of the detector a second on one core, from a store and from the files, at 736 x 416, both changed
by this package's augmentation.

    taskset -c 0 python benchmarks/store_pictures.py WIDER_FOLDER [--pictures 128] [--rounds 5]

Batches of 8 through torch's DataLoader in the process itself; CPU time, since a machine may have other work.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import torch

from facetrain.configs.facenet.schema import AugmentConfig, DataConfig, SourceConfig
from facetrain.datasets.detection_sources import read_detection_sets
from facetrain.datasets.picture_transforms import PictureAugment
from facetrain.datasets.pictures import PictureDataset, picture_loader
from facetrain.datasets.resizing import PicturePreprocessing
from facetrain.datasets.store.pictures import KIND, PictureStore, about, picture_records
from facetrain.datasets.store.store import Store
from facetrain.datasets.store.writer import StoreWriter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    source = SourceConfig(format="wider", path="wider_face_train_bbx_gt.txt", count=arguments.pictures)
    data = DataConfig(root=str(arguments.folder), train=[source])
    data.split.fraction = 0
    samples = read_detection_sets(data).train
    preprocessing = PicturePreprocessing(736, 416, False, "letterbox")
    augment = PictureAugment(AugmentConfig(), preprocessing)
    with tempfile.TemporaryDirectory() as work:
        writer = StoreWriter(Path(work) / "store", KIND, about(data, 0), "benchmark")
        for number, sample in enumerate(samples):
            writer.step(number + 1, picture_records(sample, 0))
        writer.finish()
        sets = {"store": PictureStore(Store(Path(work) / "store")), "files": samples}
        rates: dict[str, list[float]] = {name: [] for name in sets}
        for epoch in range(arguments.rounds + 1):
            for name, part in sets.items():
                dataset = PictureDataset(part, preprocessing, augment, data.ignore, seed=0)
                loader = picture_loader(dataset, 8, shuffle=True, drop_last=False, seed=0, workers=0)
                loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
                start = time.process_time()
                seen = sum(len(batch["image"]) for batch in loader)
                if epoch:  # the first round warms up
                    rates[name].append(seen / (time.process_time() - start))
    for name, values in rates.items():
        print(f"{name:10} {statistics.median(values):6.1f} pictures a second ({min(values):.1f}-{max(values):.1f})")


if __name__ == "__main__":
    main()
