"""Stores as sources of a spec: opened, and compared with what the spec says."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from ...configs.facenet.schema import DataConfig
from ...errors import ConfigError
from ..preprocessing import Preprocessing
from .faces import FaceStore
from .location import local_store
from .pictures import PictureStore
from .store import Store

FORMAT = "store"
OWN_KEYS = ("format", "path")


def open_faces(source: Any, root: Path, num_keypoints: int, preprocessing: Preprocessing, key: str) -> FaceStore:
    """The faces of a store; `key` is the source's place in the spec. Raises DataError and ConfigError as `Store`,
    `local_store` and `FaceStore.require` do, and for keys of the source that are settled."""
    faces = FaceStore(_opened(source, root, key))
    faces.require(preprocessing, num_keypoints, key)
    return faces


def open_pictures(source: Any, root: Path, data: DataConfig, key: str) -> PictureStore:
    """The pictures of a store, as `open_faces`."""
    pictures = PictureStore(_opened(source, root, key))
    pictures.require(data, key)
    return pictures


NO_VALIDATION = (
    "of stores nothing is held out, and data.val is empty: there is no validation; name the store that convert made of "
    "the validation part in data.val"
)


def _opened(source: Any, root: Path, key: str) -> Store:
    if not source.path:
        raise ConfigError(f"{key}.path is empty; format=store expects the folder that convert wrote, or its address")
    plain = type(source)()
    for name in (item.name for item in fields(source)):
        if name not in OWN_KEYS and getattr(source, name) != getattr(plain, name):
            raise ConfigError(
                f"{key}.{name}={getattr(source, name)}: that is settled when a store is made; leave it out, or convert "
                "the labels anew"
            )
    return Store(local_store(source.path, root, f"{key}.path"))
