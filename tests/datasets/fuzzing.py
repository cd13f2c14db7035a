"""Label files that nobody wrote: what any reader may do with them, and how they are made.

A reader gives samples and rejections, or raises DataError. It does nothing else: no other exception, no hang, no label
that is no number, no entry that is neither a sample nor a rejection.
"""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from hypothesis import strategies as st
from tensorboard.summary.writer.record_writer import RecordWriter

from facetrain.datasets.formats.tfrecord import _example_class
from facetrain.datasets.sample import Rejection
from facetrain.errors import DataError

LONGEST = 10.0  # seconds of the processor for a file of a few KiB; what takes that long hangs
TOKENS = (
    b"nan", b"-inf", b"1e999", b"1e30", b"-1e300", b"1e7", b"-1", b"0", b"1.5", b"1" * 5000, b"0x1f", b"1_0", b"true",
    "²".encode(), "\u0663".encode(), b"null", b"{}", b"[]", b'""', b'"\\ud800"', b'"\\u0000"', b"[" * 2000, b"x" * 300,
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", "\u2028".encode(), b"\x0b", b"\x1b[31m", b"\r", b"\n", b"\n\n", b"\t", b" ",
    b",", b";", b":", b'"', b"'", b"{", b"}", b"[", b"]", b"<", b">", b"&", b"/", b"..", b"../a.png", b"/dev/null",
    b"*a", b"&a", b"#", b"!!python/object", b"<![CDATA[", b"<!--", b"&lt;", b"<!DOCTYPE a [<!ENTITY x 'y'>]>", b"a.png",
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 2, 3.5, 1e30, 1e308, float("nan"), float("inf"), 10**400, "", "1", "nan", "1e999",
    "\u0663", "x" * 300, "a\0b", "\ud800", "\udc80", "../..", "/", "a.png", "c.png", [], [[]], {}, {"x": 1},
    [1, 2, 3, 4],
)  # fmt: skip
FLOATS = (0.0, -1.0, 1.5, 1e7, 1e30, -3e38, float("nan"), float("inf"))

Result = tuple[Sequence[Any], Sequence[Rejection]]


@dataclass(frozen=True)
class Target:
    """A reader to try.

    Attributes:
        file: the name of the label file that `read(folder)` reads.
        seeds: files that are right.
        read: gives samples and rejections.
        check: raises AssertionError for a sample that should not have come through.
        entries: how many samples and rejections a file must give at least, however broken they are.
        kind: "text", "json" or "records": how wrong files are made of right ones.
    """

    file: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], Result]
    check: Callable[[Any], None]
    entries: Callable[[bytes], int]
    kind: str = "text"


def try_file(target: Target, folder: Path, data: bytes) -> str:
    """Reads one file, and what came of it: "samples", "rejections" or "refused". Raises AssertionError, or whatever the
    reader raised that it should not have."""
    path = folder / target.file
    path.write_bytes(data)
    started = time.process_time()
    try:
        samples, rejections = target.read(folder)
    except DataError as error:
        refusal = str(error)
    else:
        refusal = ""
    assert time.process_time() - started < LONGEST
    if refusal:
        assert path.name in refusal
        refusal.encode()
        return "refused"
    for sample in samples:
        target.check(sample)
    for rejection in rejections:
        str(rejection).encode()
        assert rejection.reason and len(str(rejection)) < 2000
    assert len(samples) + len(rejections) >= target.entries(data)
    return "samples" if samples else "rejections"


def files(target: Target) -> st.SearchStrategy[bytes]:
    """Right files with a few things wrong, and files of anything."""
    seeds = st.sampled_from(target.seeds)
    wrong = st.builds(spoilt, st.just(target), seeds, st.randoms(use_true_random=False))
    return st.one_of(wrong, wrong, wrong, st.binary(max_size=200))


def spoilt(target: Target, data: bytes, chance: random.Random) -> bytes:
    """The file with one to four things wrong."""
    for _ in range(chance.randint(1, 4)):
        if target.kind == "json" and chance.random() < 0.7:
            data = _spoilt_json(data, chance)
        elif target.kind == "records" and chance.random() < 0.7:
            data = _spoilt_records(data, chance)
        else:
            data = _spoilt_bytes(data, chance)
    return data


def packed(records: Sequence[bytes]) -> bytes:
    """A record file."""
    file = io.BytesIO()
    writer = RecordWriter(file)
    for record in records:
        writer.write(record)
    return file.getvalue()


def unpacked(data: bytes) -> list[bytes]:
    """The records of a file, as far as their lengths lead."""
    records, position = [], 0
    while position + 16 <= len(data):
        length = int.from_bytes(data[position : position + 8], "little")
        records.append(data[position + 12 : position + 12 + length])
        position += length + 16
    return records


def _spoilt_bytes(data: bytes, chance: random.Random) -> bytes:
    start = chance.randint(0, len(data))
    end = min(len(data), start + chance.choice([0, 1, 1, 2, 8, 50]))
    token = chance.choice(TOKENS)
    way = chance.randrange(7)
    if way == 0:
        return data[:start]
    if way == 1:
        return data[:start] + data[end:]
    if way == 2:
        return data[:start] + data[start:end] * 3 + data[end:]
    if way == 3:
        return data[:start] + bytes([chance.randint(0, 255)]) + data[start + 1 :]
    if way == 4:
        lines = data.split(b"\n")
        return b"\n".join(chance.sample(lines, len(lines)))
    if way == 5:
        start, end = _word(data, start)
    return data[:start] + token + data[end:]


def _word(data: bytes, place: int) -> tuple[int, int]:
    """Where the word around a place begins and ends."""
    signs = b" \t\r\n,:;<>[]{}\"'"
    start = end = place
    while start > 0 and data[start - 1] not in signs:
        start -= 1
    while end < len(data) and data[end] not in signs:
        end += 1
    return start, end


def _spoilt_json(data: bytes, chance: random.Random) -> bytes:
    """Some value within replaced, left out or doubled: JSON still."""
    try:
        value = [json.loads(data)]
    except (ValueError, RecursionError):
        return _spoilt_bytes(data, chance)
    place: Any = value
    key: Any = 0
    while isinstance(place[key], (dict, list)) and place[key] and chance.random() < 0.85:
        place = place[key]
        key = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
    way = chance.random()
    if place is value or way < 0.6:
        place[key] = chance.choice(ODD)
    elif way < 0.8:
        del place[key]
    elif isinstance(place, list):
        place.insert(key, place[key])
    else:
        place[repr(chance.choice(ODD[:-1]))[:20]] = place[key]
    try:
        return json.dumps(value[0], indent=chance.choice([None, 1])).encode()
    except (ValueError, RecursionError):
        return data


def _spoilt_records(data: bytes, chance: random.Random) -> bytes:
    """The data of one record spoilt, and its checksums put right."""
    records = unpacked(data)
    if not records:
        return _spoilt_bytes(data, chance)
    number = chance.randrange(len(records))
    spoil = _spoilt_bytes if chance.random() < 0.3 else _spoilt_features
    records[number] = spoil(records[number], chance)
    return packed(records)


def _spoilt_features(data: bytes, chance: random.Random) -> bytes:
    """Some feature of an Example left out, or some of its values replaced, left out or added: an Example still."""
    try:
        example = _example_class().FromString(data)
    except DecodeError:
        return _spoilt_bytes(data, chance)
    features = example.features.feature
    name = chance.choice([*sorted(features), "x"])
    feature = features[name]
    if chance.random() < 0.15:
        del features[name]
    elif chance.random() < 0.2:
        feature.float_list.value[:] = [chance.choice(FLOATS) for _ in range(chance.randint(0, 3))]
    elif (kind := feature.WhichOneof("kind")) is not None:
        values = getattr(feature, kind).value
        odd = {"bytes_list": TOKENS, "float_list": FLOATS, "int64_list": (-1, 0, 1, 2, 10**6, 2**63 - 1, -(2**63))}[
            kind
        ]
        place = chance.randint(0, len(values))
        values[place : place + chance.randint(0, 2)] = [chance.choice(odd) for _ in range(chance.randint(0, 2))]
    return bytes(example.SerializeToString())
