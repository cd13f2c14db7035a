"""The fast store: what went in comes out, what is damaged is found and named, what was killed goes on."""

import json
import os
import pickle
import random
import signal
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from facetrain.datasets.sample import Rejection
from facetrain.datasets.store.location import CACHE, local_store
from facetrain.datasets.store.store import INDEX, PLAN, TAIL, Store
from facetrain.datasets.store.writer import Record, StoreWriter, remove_store
from facetrain.errors import ConfigError, DataError

ABOUT = {"side": 8}
COUNT = 400


def records(position: int) -> list[Record]:
    """Of any size, none too; every seventh sample has two."""
    rng = np.random.default_rng(position)
    data = rng.bytes(int(rng.integers(0, 300)))
    return [Record(data, f"set {position % 3}", position)] * (2 if position % 7 == 0 else 1)


def write(folder: Path, source: str = "a", count: int = COUNT, pause: float = 0, **settings: bool) -> Path:
    writer = StoreWriter(folder, "things", ABOUT, source, shard_bytes=5000, **settings)
    for position in range(writer.done, count if not writer.complete else 0):
        time.sleep(pause)
        if position % 50 == 9:
            writer.step(position + 1, [], Rejection(f"{position}.png", None, "picture unreadable"))
        else:
            writer.step(position + 1, records(position))
    if not writer.complete:
        writer.finish()
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("stores") / "whole")


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    (tmp_path / "store").mkdir()
    for name, data in content(whole).items():
        (tmp_path / "store" / name).write_bytes(data)
    return tmp_path / "store"


def test_what_went_in_comes_out(whole: Path) -> None:
    store = Store(whole)
    expected = [record for position in range(COUNT) if position % 50 != 9 for record in records(position)]
    assert len(store.shards) > 5
    assert len(store) == len(expected)
    assert [store[i] for i in range(len(store))] == [record.data for record in expected]
    assert store.groups().tolist() == [record.group for record in expected]
    assert store.counts.tolist() == [record.count for record in expected]
    assert [rejection.file for rejection in store.left_out()] == [f"{n}.png" for n in range(9, COUNT, 50)]
    assert list(store.verify()) == list(range(len(store)))
    with pytest.raises(IndexError):
        store[len(store)]


def test_a_copy_in_another_process_reads_the_same(whole: Path) -> None:
    other = pickle.loads(pickle.dumps(Store(whole)))
    assert other[77] == Store(whole)[77]


def test_every_flipped_bit_is_found(store: Path) -> None:
    """Anywhere: in records, notes, tables, tails and the index."""
    rng = random.Random(0)
    for path in sorted(store.iterdir()):
        good = path.read_bytes()
        for place in [0, len(good) - 1, *(rng.randrange(len(good)) for _ in range(40))]:
            if path.name == INDEX and good[place : place + 1].isspace():
                continue  # between JSON's words white space says nothing
            path.write_bytes(good[:place] + bytes([good[place] ^ 1 << rng.randrange(8)]) + good[place + 1 :])
            with pytest.raises(DataError, match=path.name):
                list(Store(store).verify())
        path.write_bytes(good)
    list(Store(store).verify())


def test_a_flipped_byte_of_a_record_is_found_when_it_is_read(store: Path) -> None:
    path = store / "00002.shard"
    data = bytearray(path.read_bytes())
    data[100] ^= 4
    path.write_bytes(data)
    opened = Store(store)
    faults = []
    for index in range(len(opened)):
        try:
            opened[index]
        except DataError as error:
            faults.append(str(error))
    assert len(faults) == 1
    assert "00002.shard: damaged: the checksum of record " in faults[0]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: os.truncate(f / "00001.shard", 4000), r"00001\.shard: damaged: it has 4000 bytes"),
        (lambda f: (f / "00001.shard").unlink(), r"00001\.shard: damaged: No such file"),
        (lambda f: (f / "00001.shard").write_bytes((f / "00002.shard").read_bytes()), r"00001\.shard: damaged"),
        (lambda f: (f / INDEX).unlink(), "is no store: it has no store.json"),
        (lambda f: (f / INDEX).rename(f / PLAN), "is a partial store; run the same convert again"),
        (lambda f: (f / INDEX).write_text("{"), "store.json: damaged: it cannot be read"),
        (lambda f: (f / INDEX).write_text("[]"), "store.json: damaged: it cannot be read"),
    ],
)
def test_a_store_that_is_not_whole_is_named(store: Path, spoil, says: str) -> None:
    spoil(store)
    with pytest.raises(DataError, match=says):
        Store(store)


def test_a_later_format_is_refused(store: Path) -> None:
    from facetrain.datasets.store.store import index_crc

    value = json.loads((store / INDEX).read_text())
    value["store"]["format"] = 2
    value["crc32c"] = index_crc(value["store"])
    (store / INDEX).write_text(json.dumps(value))
    with pytest.raises(DataError, match="has format 2, this facetrain reads 1; update"):
        Store(store)


def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    rng = random.Random(1)
    kills = 0
    for attempt in range(12):
        folder = tmp_path / str(attempt % 3)
        process = get_context("fork").Process(target=write, args=(folder,), kwargs={"pause": 0.0005})
        process.start()
        process.join(rng.uniform(0.005, 0.25))
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
    assert kills >= 4
    for number in range(3):
        write(tmp_path / str(number))
        assert content(tmp_path / str(number)) == content(whole)


def test_a_half_written_shard_of_a_killed_attempt_is_written_again(whole: Path, tmp_path: Path) -> None:
    """As a file system that lost power may leave it, with the right size and zeros."""
    folder = write(tmp_path / "store")
    index = json.loads((folder / INDEX).read_text())["store"]
    plan = {**index, "shards": []}
    (folder / INDEX).unlink()
    (folder / PLAN).write_bytes(json.dumps(plan, indent=1, ensure_ascii=False).encode() + b"\n")
    spoilt = folder / "00003.shard"
    spoilt.write_bytes(bytes(1000) + spoilt.read_bytes()[1000:])
    write(folder)
    assert content(folder) == content(whole)


def test_a_second_set_is_added_once(whole: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "store")
    with pytest.raises(ConfigError, match=r"holds a store of other samples: convert\.append=true"):
        write(folder, "b", 30)
    write(folder, "b", 30, append=True)
    after = content(folder)
    assert len(Store(folder)) == len(Store(whole)) + 30 + 5 - 1
    write(folder, "b", 30, append=True)
    write(folder, "a")
    assert content(folder) == after
    with pytest.raises(ConfigError, match="side=8, and this spec has 9"):
        StoreWriter(folder, "things", {"side": 9}, "c", append=True)
    with pytest.raises(ConfigError, match="is a store of things, not of others"):
        StoreWriter(folder, "others", ABOUT, "c", append=True)


def test_readers_see_the_old_store_while_another_set_is_added(whole: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "store")
    writer = StoreWriter(folder, "things", ABOUT, "b", append=True, shard_bytes=100)
    writer.step(1, [Record(bytes(200), "set 0", 0)])
    assert len(Store(folder)) == len(Store(whole))
    writer.finish()
    assert len(Store(folder)) == len(Store(whole)) + 1


def test_another_conversion_is_not_mixed_in(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    StoreWriter(folder, "things", ABOUT, "a")
    with pytest.raises(ConfigError, match="holds a part of another conversion"):
        StoreWriter(folder, "things", ABOUT, "b")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds more than a store, such as notes\.txt"):
        remove_store(folder)
    (folder / "notes.txt").unlink()
    remove_store(folder)
    assert not folder.exists()


def test_more_shards_than_open_files(tmp_path: Path) -> None:
    import resource

    writer = StoreWriter(tmp_path / "store", "things", ABOUT, "a", shard_bytes=1)
    for position in range(700):
        writer.step(position + 1, [Record(bytes([position % 256]), "set", 0)])
    writer.finish()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(400, hard), hard))
    try:
        store = Store(tmp_path / "store")
        assert all(store[i] == bytes([i % 256]) for i in random.Random(0).sample(range(700), 700))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_nothing_in_it(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "store", "things", ABOUT, "a")
    writer.finish()
    assert len(Store(tmp_path / "store")) == 0


def test_the_tail_is_what_the_documentation_says() -> None:
    assert TAIL.size == 28


def test_a_store_at_an_address_is_copied_once(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    far = fsspec.filesystem("memory")
    for name, data in content(whole).items():
        far.pipe_file(f"/bucket/train/{name}", data)
    folder = local_store("memory://bucket/train", Path("/data"))
    assert list(Store(folder).verify())
    far.rm("/bucket/train/00001.shard")
    assert local_store("memory://bucket/train", Path("/data")) == folder  # nothing is read again
    with pytest.raises(DataError, match=r"memory://bucket/other: cannot read store\.json there"):
        local_store("memory://bucket/other", Path())
    with pytest.raises(DataError, match="nowhere://bucket"):
        local_store("nowhere://bucket", Path())


def test_a_copy_that_was_stopped_goes_on(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    far = fsspec.filesystem("memory")
    shards = content(whole)
    for name, data in shards.items():
        far.pipe_file(f"/stopped/train/{name}", data[:-1] if name == "00004.shard" else data)
    with pytest.raises(DataError, match=r"00004\.shard: damaged: it has \d+ bytes"):
        local_store("memory://stopped/train", Path())
    far.rm("/stopped/train/00000.shard")  # which is here already
    far.pipe_file("/stopped/train/00004.shard", shards["00004.shard"])
    assert list(Store(local_store("memory://stopped/train", Path())).verify())


def test_a_file_address_and_a_wrong_folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    assert list(Store(local_store(f"file://{whole}", Path())).verify())
    assert local_store("whole", whole.parent) == whole
    with pytest.raises(DataError, match=r"data\.train\[0\]\.path=hole: .* is no folder of a store; nearest"):
        local_store("hole", whole.parent, "data.train[0].path")
