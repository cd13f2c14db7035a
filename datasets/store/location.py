"""Where a store lies: a folder, or an address such as s3://bucket/faces/train that fsspec reads."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..source_files import nearest_path
from ..whole_file import whole_file
from .store import INDEX, Shard, read_index, read_table

CACHE = "FACETRAIN_CACHE"  # the environment's name for the folder of local copies


def is_address(path: str) -> bool:
    return "://" in path


def local_store(path: str, root: Path, key: str = "path") -> Path:
    """The folder of a store: `root / path`, or the local copy of what lies at an address.

    A copy is made once for each machine, shard by shard, and goes on where it was stopped; other processes wait for it.
    Raises DataError, naming `key`, when there is nothing there, or it cannot be read.
    """
    if is_address(path):
        return _copied(path, key)
    folder = root / path
    if not folder.is_dir():
        near = "" if folder.exists() else nearest_path(folder)
        raise DataError(f"{key}={path}: {folder} is no folder of a store{near}")
    return folder


def cache_folder() -> Path:
    """Where local copies lie: $FACETRAIN_CACHE, else ~/.cache/facetrain."""
    given = os.environ.get(CACHE) or os.environ.get("XDG_CACHE_HOME")
    home = Path(given) if given else Path.home() / ".cache"
    return (home if os.environ.get(CACHE) else home / "facetrain") / "stores"


def _copied(address: str, key: str) -> Path:
    import fsspec  # type: ignore[import-untyped]  # torch brings it

    try:
        system, place = fsspec.url_to_fs(address)
    except (ImportError, ValueError) as error:  # fsspec says which package reads such an address
        raise DataError(f"{key}={address}: {error}") from error
    try:
        index = system.cat_file(f"{place}/{INDEX}")
    except Exception as error:  # every file system has its own
        raise DataError(f"{key}={address}: cannot read {INDEX} there ({error or type(error).__name__})") from error
    # Named by its content: a store that was added to is another copy.
    folder = cache_folder() / hashlib.sha256(address.encode() + index).hexdigest()[:24]
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if not (folder / INDEX).is_file():
            with whole_file(folder / "copying" / INDEX) as file:
                file.write(index)
            for entry in read_index(folder / "copying")["shards"]:
                _copy(system, f"{place}/{entry['file']}", folder, Shard(**entry), address)
            os.replace(folder / "copying" / INDEX, folder / INDEX)
    return folder


def _copy(system: Any, place: str, folder: Path, shard: Shard, address: str) -> None:
    """One shard, unless it is there already."""
    if (folder / shard.file).is_file():
        return
    try:
        with system.open(place, "rb") as far, whole_file(folder / shard.file) as near:
            shutil.copyfileobj(far, near, 2**22)
    except OSError as error:
        raise DataError(f"{address}/{shard.file}: cannot be copied to {folder} ({error})") from error
    try:
        read_table(folder, shard)
    except DataError:
        (folder / shard.file).unlink()
        raise


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process of this machine at a time."""
    with open(folder / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
