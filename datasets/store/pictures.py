"""Pictures in a store, with their boxes. They are kept as they are decoded, not as the network sees them: training
changes them first, from their own resolution, so that only so it learns the same from the store as from the files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load, save

from ...configs.facenet.schema import DataConfig
from ...errors import ConfigError, DataError
from ..image import read_image
from ..sample import ByteArray, DetectionSample, FloatArray
from .store import Store
from .views import View
from .writer import Record

KIND = "pictures"


@dataclass(frozen=True)
class StoredPicture:
    """The picture of record `number`."""

    store: Store
    number: int

    def read(self) -> ByteArray:
        return load(self.store[self.number])["pixels"]


def read_picture(sample: DetectionSample) -> ByteArray:
    """The picture of a sample, RGB [H, W, 3] or grey [H, W]. Raises DataError when it cannot be read."""
    if isinstance(sample.image, Path):
        return read_image(sample.image, grey=False)
    return sample.image if isinstance(sample.image, np.ndarray) else sample.image.read()


def picture_records(sample: DetectionSample, longest_side: int) -> list[Record]:
    """The labels of a picture and its pixels, a record each, so that labels are read without pixels.

    A picture whose longer side has more pixels than `longest_side` is shrunk to that, with its boxes; 0: none is.
    Raises DataError when it cannot be read.
    """
    image = np.ascontiguousarray(read_picture(sample))
    sample = replace(sample, size=(image.shape[1], image.shape[0]))
    if 0 < longest_side < max(image.shape[:2]):
        sample, image = _shrunk(sample, image, longest_side)
    text = {
        "name": sample.name,
        "source": sample.source,
        "weight": sample.weight,
        "validate": sample.validate,
        "size": sample.size,
        "attributes": list(sample.attributes),
    }
    labels = {
        "boxes": sample.boxes,
        "labels": sample.labels,
        "ignore": sample.ignore,
        "attributes": np.array(list(sample.attributes.values()), np.float32).reshape(
            len(sample.attributes), len(sample.boxes)
        ),
        "text": np.frombuffer(json.dumps(text).encode(), np.uint8),
    }
    arrays = {name: np.ascontiguousarray(values) for name, values in labels.items()}
    return [Record(save(arrays), sample.source, len(sample.boxes)), Record(save({"pixels": image}), sample.source, 0)]


class PictureStore(View[DetectionSample]):
    """The pictures of a store, each made when it is asked for. Raises DataError where it is damaged."""

    def __init__(self, store: Store) -> None:
        if store.kind != KIND:
            raise DataError(f"{store.folder} is a store of {store.kind}, not of {KIND}")
        self.store = store
        self.boxes = int(store.counts.sum(dtype=np.int64))

    def __len__(self) -> int:
        return len(self.store) // 2

    def sources(self) -> NDArray[np.str_]:
        """The name of each picture's source."""
        return self.store.groups()[::2]

    def require(self, data: DataConfig, key: str) -> None:
        """Raises ConfigError, naming the key that differs, unless the spec means the same by its classes; `key` is the
        source's place in the spec."""
        wanted, found = meaning(data), self.store.about
        for name in ("class_mapping", "ignore.classes", "ignore.marked"):
            if found[name] != wanted[name]:
                raise ConfigError(
                    f"data.{name}={wanted[name]}: the store {self.store.folder} ({key}) was made with {found[name]}; "
                    "set that, or convert the pictures anew"
                )

    def _item(self, index: int) -> DetectionSample:
        arrays = load(self.store[2 * index])
        text = json.loads(arrays["text"].tobytes())
        return DetectionSample(
            image=StoredPicture(self.store, 2 * index + 1),
            boxes=arrays["boxes"],
            labels=arrays["labels"],
            ignore=arrays["ignore"],
            attributes=dict(zip(text["attributes"], arrays["attributes"], strict=True)),
            name=text["name"],
            source=text["source"],
            weight=text["weight"],
            validate=text["validate"],
            size=tuple(text["size"]),
        )


def meaning(data: DataConfig) -> dict[str, Any]:
    """What a spec says of classes, which is settled when a store is made."""
    return {
        "class_mapping": list(dict.fromkeys(data.class_mapping.values())),
        "ignore.classes": sorted(name.casefold() for name in data.ignore.classes),
        "ignore.marked": data.ignore.marked,
    }


def about(data: DataConfig, longest_side: int) -> dict[str, Any]:
    """What a store of such pictures is made for."""
    return {**meaning(data), "longest_side": longest_side}


def _table(sample: DetectionSample) -> FloatArray:
    """[A, N] the attributes of the boxes."""
    values = np.array(list(sample.attributes.values()), np.float32)
    return values.reshape(len(sample.attributes), len(sample.boxes))


def _shrunk(sample: DetectionSample, image: ByteArray, longest_side: int) -> tuple[DetectionSample, ByteArray]:
    rows, columns = image.shape[:2]
    share = longest_side / max(rows, columns)
    size = max(round(columns * share), 1), max(round(rows * share), 1)
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    scale = np.array([size[0] / columns, size[1] / rows] * 2)
    boxes, ignore = ((boxes * scale).astype(np.float32) for boxes in (sample.boxes, sample.ignore))
    return replace(sample, boxes=boxes, ignore=ignore, size=size), small
