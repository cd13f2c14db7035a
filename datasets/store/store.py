"""The fast store: a folder of numbered records, read by number from few large files, every byte under a checksum.

    store.json      what is in it: kind, what it was made for, its shards; with a checksum of its own
    00000.shard     records one after the other, a note (JSON), a table of the records, a tail of fixed size
    ...

Nothing here knows what a record is; `faces` and `pictures` do. Records are read with pread and not through a
memory map: a map counts all that was ever touched as resident, and a file that another machine cuts short ends the
process instead of raising an error. Processes share the pages through the system's cache in either case.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ..sample import Rejection

FORMAT = 1
INDEX, PLAN = "store.json", "writing.json"
MAGIC = b"FTSHARD1"
# Bytes and CRC-32C of a record, which of the note's groups it belongs to, and how many labels it holds.
ROW = np.dtype([("length", "<u4"), ("crc", "<u4"), ("group", "<u4"), ("count", "<u4")])
TAIL = struct.Struct("<8sQQI")  # MAGIC, number of records, bytes of the note, CRC-32C of note and table
OPEN_FILES = 256

Rows = NDArray[np.void]


@dataclass(frozen=True)
class Shard:
    """A shard as store.json lists it; `crc` is that of its note and table, which hold those of its records."""

    file: str
    records: int
    size: int
    crc: int


class Store(Sequence[bytes]):
    """The records of a store, in order.

    Attributes:
        folder: where it lies.
        kind: "faces" or "pictures".
        about: what it was made for; a reader compares it with what it needs.
        notes: what is said of each shard.
        counts: [N] labels of each record.

    Raises DataError when it is missing, partial, damaged, or of a newer format. Opening reads the tables, not the
    records: each of these is checked whenever it is read, and all of them by `verify`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        content = read_index(folder)
        self.kind, self.about = str(content["kind"]), dict(content["about"])
        self.sources = list(content["sources"])
        self.shards = [Shard(**shard) for shard in content["shards"]]
        parts = [read_table(folder, shard) for shard in self.shards]
        self.notes = [note for note, _ in parts]
        rows = np.concatenate([np.zeros(0, ROW), *(table for _, table in parts)])
        self._first = np.cumsum([0, *(shard.records for shard in self.shards)])  # record that each shard begins with
        self._start = _starts(self._first, rows["length"])
        self._crc, self.counts = rows["crc"].copy(), rows["count"].copy()
        self._group = rows["group"].copy()
        self._file = _open_files([folder / shard.file for shard in self.shards])

    def __len__(self) -> int:
        return len(self._crc)

    def __getitem__(self, index: int) -> bytes:  # type: ignore[override]
        """Record `index`, checked. Raises DataError when it cannot be read or is not what was written."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = int(np.searchsorted(self._first, index, side="right")) - 1
        start, end = self._start[index + number : index + number + 2].tolist()
        try:
            data = os.pread(self._file(number).handle, end - start, start)
        except OSError as error:
            raise self._damaged(number, str(error)) from error
        if len(data) != end - start or google_crc32c.value(data) != self._crc[index]:
            raise self._damaged(number, f"the checksum of record {index - self._first[number]} is wrong")
        return data

    def groups(self) -> NDArray[np.str_]:
        """[N] the name of each record's group."""
        names = [
            np.asarray(note["groups"], str)[self._group[first:end]]
            for note, (first, end) in zip(self.notes, pairwise(self._first), strict=True)
            if end > first
        ]
        return np.concatenate(names) if names else np.zeros(0, str)

    def left_out(self) -> list[Rejection]:
        """The samples that could not be stored."""
        return [Rejection(*values) for note in self.notes for values in note["rejections"]]

    def verify(self) -> Iterator[int]:
        """Reads everything, and yields the number of each record that is as it was written. Raises DataError at the
        first that is not."""
        for index in range(len(self)):
            self[index]
            yield index

    def __reduce__(self) -> tuple[type[Store], tuple[Path]]:
        return Store, (self.folder,)

    def _damaged(self, number: int, what: str) -> DataError:
        return damaged(self.folder / self.shards[number].file, what)


class _File:
    """A file that is open as long as somebody uses it."""

    def __init__(self, path: Path) -> None:
        self.handle = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            os.close(self.handle)


def _open_files(paths: list[Path]) -> Callable[[int], _File]:
    """A function from a file's number to the open file, that keeps the latest open. It knows nothing of the store, so
    that they are closed with the store's last user."""
    return lru_cache(OPEN_FILES)(lambda number: _File(paths[number]))


def _starts(first: NDArray[np.int64], lengths: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Where records begin in their files: for each shard its records' starts and the last one's end."""
    parts = [np.concatenate([[0], np.cumsum(lengths[a:b], dtype=np.int64)]) for a, b in pairwise(first)]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def read_index(folder: Path) -> dict[str, Any]:
    """The content of store.json. Raises DataError where it is missing, damaged or of another format."""
    path = folder / INDEX
    if not path.is_file():
        if (folder / PLAN).is_file():
            raise DataError(f"{folder} is a partial store; run the same convert again, it goes on where it stopped")
        raise DataError(f"{folder} is no store: it has no {INDEX}; `convert convert.to=store` makes one")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        content, crc = value["store"], value["crc32c"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"it cannot be read ({error})") from None
    if crc != index_crc(content):
        raise damaged(path, "its checksum is wrong")
    if content["format"] != FORMAT:
        raise DataError(f"{path} has format {content['format']}, this facetrain reads {FORMAT}; update it")
    return content


def index_crc(content: dict[str, Any]) -> str:
    """The checksum of store.json's content, whatever its white space."""
    return f"{google_crc32c.value(json.dumps(content, sort_keys=True).encode()):08x}"


def read_table(folder: Path, shard: Shard) -> tuple[dict[str, Any], Rows]:
    """The note and the rows of a shard. Raises DataError when they, or the file's size, are not as they should be."""
    path = folder / shard.file
    try:
        size = path.stat().st_size
        if size != shard.size:
            raise damaged(path, f"it has {size} bytes, {INDEX} says {shard.size}")
        note, rows, crc = read_tail(path)
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from None
    if len(rows) != shard.records or crc != shard.crc:
        raise damaged(path, f"it is not the shard that {INDEX} lists")
    return note, rows


def read_tail(path: Path) -> tuple[dict[str, Any], Rows, int]:
    """The note, the rows and their checksum, as the file itself has them. Raises DataError where they don't fit."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - TAIL.size, 0))
        tail = file.read()
        if len(tail) != TAIL.size or not tail.startswith(MAGIC):
            raise damaged(path, "its end is not that of a shard")
        _, records, note_bytes, crc = TAIL.unpack(tail)
        length = records * ROW.itemsize + note_bytes
        if length > size - TAIL.size:
            raise damaged(path, "its table is larger than the file")
        file.seek(size - TAIL.size - length)
        data = file.read(length)
    if google_crc32c.value(data) != crc:
        raise damaged(path, "the checksum of its table is wrong")
    rows = np.frombuffer(data, ROW, offset=note_bytes)
    if int(rows["length"].sum(dtype=np.int64)) != size - TAIL.size - length:
        raise damaged(path, "its table does not fit its records")
    return json.loads(data[:note_bytes]), rows, crc


def damaged(path: Path, what: str) -> DataError:
    return DataError(f"{path}: damaged: {what}; copy the store again, or make it anew with convert")
