"""TensorFlow's record files: what TensorFlow documents, and what damage gets."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from tensorboard.summary.writer.record_writer import RecordWriter

from facetrain.datasets.formats.tfrecord import read_records
from facetrain.errors import DataError

# The serialised Example that TensorFlow's guide to TFRecord prints: feature0 False, feature1 4, feature2 b"goat",
# feature3 0.9876 (https://www.tensorflow.org/tutorials/load_data/tfrecord).
EXAMPLE = (
    b"\nR\n\x11\n\x08feature0\x12\x05\x1a\x03\n\x01\x00\n\x11\n\x08feature1\x12\x05\x1a\x03\n\x01\x04"
    b"\n\x14\n\x08feature2\x12\x08\n\x06\n\x04goat\n\x14\n\x08feature3\x12\x08\x12\x06\n\x04[\xd3|?"
)


def write(path: Path, *records: bytes) -> Path:
    """The records in TensorBoard's framing, which is not ours."""
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for record in records:
            writer.write(record)
        writer.flush()
    return path


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    (first, features), (second, _), (third, empty) = read_records(write(tmp_path / "a", EXAMPLE, EXAMPLE, b""))
    assert (first, second, third, empty) == (0, len(EXAMPLE) + 16, 2 * len(EXAMPLE) + 32, {})
    assert features["feature0"].tolist() == [0]
    assert features["feature1"].tolist() == [4]
    assert features["feature2"] == [b"goat"]
    assert features["feature3"].tolist() == [np.float32(0.9876)]
    assert [features[f"feature{n}"].dtype for n in (1, 3)] == [np.int64, np.float32]


def test_unpacked_lists_and_negative_numbers(tmp_path: Path) -> None:
    """Writers may put every number into a field of its own."""
    numbers = b"\x08\x01\x08" + b"\xff" * 9 + b"\x01"  # 1, -1
    feature = b"\x1a" + bytes([len(numbers)]) + numbers
    entry = b"\n\x01n\x12" + bytes([len(feature)]) + feature
    features = b"\n" + bytes([len(entry)]) + entry
    ((_, found),) = read_records(write(tmp_path / "a", b"\n" + bytes([len(features)]) + features))
    assert found["n"].tolist() == [1, -1]


def test_every_cut_and_every_flipped_byte_is_found(tmp_path: Path) -> None:
    whole = write(tmp_path / "a", EXAMPLE, EXAMPLE).read_bytes()
    second, broken = len(whole) // 2, tmp_path / "b"
    for cut in range(1, len(whole)):
        if cut != second:
            broken.write_bytes(whole[:cut])
            with pytest.raises(DataError, match=f"b: byte {0 if cut < second else second}: "):
                list(read_records(broken))
    for place in range(len(whole)):
        broken.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(DataError, match=f"byte {0 if place < second else second}: the checksum"):
            list(read_records(broken))


def test_records_before_the_damage_are_given(tmp_path: Path) -> None:
    path = write(tmp_path / "a", EXAMPLE, EXAMPLE)
    path.write_bytes(path.read_bytes()[:-1])
    records = read_records(path)
    assert next(records)[0] == 0
    with pytest.raises(DataError, match="the file has"):
        next(records)


def test_what_is_no_example(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"byte 0: the record is no tf\.train\.Example"):
        list(read_records(write(tmp_path / "a", b"\xff\xff\xff")))
    (tmp_path / "b").write_bytes(gzip.compress(write(tmp_path / "a", EXAMPLE).read_bytes()))
    with pytest.raises(DataError, match="it is compressed: unpack it"):
        list(read_records(tmp_path / "b"))
    with pytest.raises(DataError, match="cannot be read"):
        list(read_records(tmp_path))


def test_an_absurd_length_with_a_right_checksum_takes_no_memory(tmp_path: Path) -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 2**62

    with (tmp_path / "a").open("wb") as file:
        RecordWriter(file).write(Huge(b"x"))
    assert struct.unpack("<Q", (tmp_path / "a").read_bytes()[:8]) == (2**62,)
    with pytest.raises(DataError, match="the record says 4611686018427387904 bytes"):
        list(read_records(tmp_path / "a"))
