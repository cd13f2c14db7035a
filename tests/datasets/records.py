"""TFRecord files for tests, by other code than ours: TensorBoard's framing, and `tf.train.Example` by hand from
https://protobuf.dev/programming-guides/encoding."""

import struct
from pathlib import Path

from tensorboard.summary.writer.record_writer import RecordWriter


def write_records(path: Path, *records: bytes) -> Path:
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for record in records:
            writer.write(record)
        writer.flush()
    return path


def example(features: dict[str, list]) -> bytes:
    """An Example; a list of ints, floats, or bytes each."""
    entries = b""
    for name, values in features.items():
        if values and isinstance(values[0], float):
            number, body = 2, _field(1, struct.pack(f"<{len(values)}f", *values))
        elif values and isinstance(values[0], int):
            number, body = 3, _field(1, b"".join(_varint(value % 2**64) for value in values))
        else:
            number, body = 1, b"".join(_field(1, value) for value in values)
        entries += _field(1, _field(1, name.encode()) + _field(2, _field(number, body)))
    return _field(1, entries)


def _field(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])
