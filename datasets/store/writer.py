"""Writing a store: shard by shard, each there whole or not at all, so that a conversion that is killed at any moment
goes on and ends with the same bytes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from ...errors import ConfigError, DataError
from ..sample import Rejection
from ..whole_file import whole_file
from .store import FORMAT, INDEX, MAGIC, PLAN, ROW, TAIL, Shard, damaged, index_crc, read_index, read_tail

SHARD_BYTES = 128 * 2**20  # of records: a step of resuming and of copying; a million crops are 160 files


@dataclass(frozen=True)
class Record:
    """One record: its bytes, the group that it belongs to, and the number of its labels."""

    data: bytes
    group: str
    count: int


@dataclass
class _Open:
    """The shard that is being filled."""

    records: list[Record] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    size: int = 0


class StoreWriter:
    """Fills a store with the samples of one source, in their order.

    Args:
        folder: of the store.
        kind, about: as `Store` has them.
        source: identifies the samples; a store knows those that it has.
        append: add to a store that stands there.
        shard_bytes: size that a shard is closed at.

    Attributes:
        done: samples that are in the store already, or were left out: go on behind them.
        complete: whether the store has all of this source.

    Raises ConfigError when another store, or another conversion, stands in the way; DataError when it is damaged.
    """

    def __init__(
        self,
        folder: Path,
        kind: str,
        about: dict[str, Any],
        source: str,
        *,
        append: bool = False,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.folder, self.shard_bytes = folder, shard_bytes
        self.done = 0
        self._open = _Open()
        stands = read_index(folder) if (folder / INDEX).is_file() else None
        if stands is not None:
            _require_same(folder, stands, kind, about)
        self.complete = stands is not None and source in stands["sources"]
        self._content = stands or {"format": FORMAT, "kind": kind, "about": about, "sources": [], "shards": []}
        if self.complete:
            with suppress(OSError):
                (folder / PLAN).unlink()
            return
        if stands is not None and not append:
            raise ConfigError(
                f"{folder} holds a store of other samples: convert.append=true adds these to it, overwrite=true "
                "deletes it first"
            )
        self._content["sources"] = [*self._content["sources"], source]
        self._begin()

    def step(self, done: int, records: Iterable[Record], left_out: Rejection | None = None) -> None:
        """Takes the records of one sample, or why it has none; `done` counts the samples so far, this one included."""
        for record in records:
            self._open.records.append(record)
            self._open.size += len(record.data)
        if left_out is not None:
            self._open.rejections.append(left_out)
        self.done = done
        if self._open.size >= self.shard_bytes:
            self._close_shard()

    def finish(self) -> None:
        """Makes the store complete: readers find it from here on."""
        if self._open.records or self._open.rejections:
            self._close_shard()
        with whole_file(self.folder / INDEX) as file:
            file.write(_json({"store": self._content, "crc32c": index_crc(self._content)}))
        (self.folder / PLAN).unlink()
        self.complete = True

    def _begin(self) -> None:
        """Goes on with the same conversion where it was stopped, else begins it."""
        plan = _json(self._content)
        path = self.folder / PLAN
        if path.is_file() and path.read_bytes() != plan:
            raise ConfigError(
                f"{self.folder} holds a part of another conversion: finish that one with its own settings, or give "
                "overwrite=true to delete it"
            )
        if not path.is_file():
            for left in self.folder.glob("*.shard"):
                if left.name not in {shard["file"] for shard in self._content["shards"]}:
                    raise ConfigError(f"{left} belongs to no store; remove it, or give overwrite=true")
            with whole_file(path) as file:
                file.write(plan)
        for left in self.folder.glob(".*.tmp"):
            left.unlink()
        while (file_path := self._next()).is_file() and self._take(file_path):
            pass

    def _take(self, path: Path) -> bool:
        """Counts a shard of an earlier attempt in, if it is whole; removes it otherwise."""
        try:
            note, shard = _checked(path)
        except DataError:
            path.unlink()
            return False
        self._content["shards"].append(asdict(shard))
        self.done = note["done"]
        return True

    def _close_shard(self) -> None:
        records, path = self._open.records, self._next()
        groups: dict[str, int] = {}
        rows = np.array(
            [
                (len(r.data), google_crc32c.value(r.data), groups.setdefault(r.group, len(groups)), r.count)
                for r in records
            ],
            ROW,
        )
        note = {
            "groups": list(groups),
            "done": self.done,
            "rejections": [list(astuple(rejection)) for rejection in self._open.rejections],
        }
        table = _json(note) + rows.tobytes()
        crc = google_crc32c.value(table)
        with whole_file(path) as file:
            for record in records:
                file.write(record.data)
            file.write(table)
            file.write(TAIL.pack(MAGIC, len(rows), len(table) - rows.nbytes, crc))
            size = file.tell()
        self._content["shards"].append(asdict(Shard(path.name, len(rows), size, crc)))
        self._open = _Open()

    def _next(self) -> Path:
        return self.folder / f"{len(self._content['shards']):05}.shard"


def remove_store(folder: Path) -> None:
    """Deletes a store, whole or partial; a folder that holds anything else is left alone (ConfigError)."""
    if not folder.exists():
        return
    strange = [
        file.name
        for file in folder.iterdir()
        if file.name not in (INDEX, PLAN) and file.suffix != ".shard" and not file.name.endswith(".tmp")
    ]
    if strange:
        raise ConfigError(f"{folder} holds more than a store, such as {strange[0]}: remove it yourself")
    shutil.rmtree(folder)


def _checked(path: Path) -> tuple[dict[str, Any], Shard]:
    """The note of a shard every record of which is as it was written."""
    note, rows, crc = read_tail(path)
    with path.open("rb") as file:
        for row in rows:
            if google_crc32c.value(file.read(row["length"])) != row["crc"]:
                raise damaged(path, "the checksum of a record is wrong")
    return note, Shard(path.name, len(rows), path.stat().st_size, crc)


def _require_same(folder: Path, stands: dict[str, Any], kind: str, about: dict[str, Any]) -> None:
    """Raises ConfigError where a store was made for something else than this."""
    if stands["kind"] != kind:
        raise ConfigError(f"{folder} is a store of {stands['kind']}, not of {kind}")
    for name in sorted(stands["about"].keys() | about.keys()):
        found, wanted = stands["about"].get(name), about.get(name)
        if found != wanted:
            raise ConfigError(
                f"{folder} is a store with {name}={found}, and this spec has {wanted}: write to another folder, or "
                "give overwrite=true to delete it first"
            )


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"
