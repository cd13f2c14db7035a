"""TensorFlow's record files of `tf.train.Example`, read without TensorFlow.

The framing is TensorFlow's `core/lib/io/record_writer.h`: an 8-byte length, the length's checksum, the data, the data's
checksum, all little-endian; checksums are CRC-32C, rotated right by 15 bits plus a constant. The data are a protocol
buffer, `core/example/example.proto` and `feature.proto`, whose messages are declared here by name and number.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from ...errors import DataError

Feature = list[bytes] | NDArray[np.float32] | NDArray[np.int64]

_LENGTH, _CHECKSUM = struct.Struct("<QI"), struct.Struct("<I")
_MASK = 0xA282EAD8  # so that the checksum of data that hold checksums is no weak one
_PACKAGE = "tensorflow"


def read_records(path: Path) -> Iterator[tuple[int, dict[str, Feature]]]:
    """Every record of a file: the byte that it starts at, and its features by name.

    A feature is a list of bytes, a float32 array [N] or an int64 array [N]; one without a value is an empty list.
    Raises DataError with file and byte where the file is truncated, a checksum is wrong or a record is no Example.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            while (start := file.tell()) < size:
                yield start, _features(_record(file, path, start, size), path, start)
    except OSError as error:
        raise DataError(f"{path}: the record file cannot be read ({error})") from error


def _record(file: BinaryIO, path: Path, start: int, size: int) -> bytes:
    """The data of the record at `start`."""
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise _damaged(path, start, f"the file ends after {len(head)} of the {_LENGTH.size} bytes of a record's head")
    length, checksum = _LENGTH.unpack(head)
    if checksum != _masked(head[:8]):
        hint = "; it is compressed: unpack it" if start == 0 and head[:2] in (b"\x1f\x8b", b"\x78\x9c") else ""
        raise _damaged(path, start, f"the checksum of the record's length is wrong{hint}")
    left = size - start - _LENGTH.size - _CHECKSUM.size
    if length > left:
        raise _damaged(path, start, f"the record says {length} bytes, the file has {max(left, 0)} more")
    data, tail = file.read(length), file.read(_CHECKSUM.size)
    if len(tail) < _CHECKSUM.size:
        raise _damaged(path, start, "the file became shorter while it was read")
    if _CHECKSUM.unpack(tail)[0] != _masked(data):
        raise _damaged(path, start, f"the checksum of the record's {length} bytes is wrong")
    return data


def _masked(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


def _features(data: bytes, path: Path, start: int) -> dict[str, Feature]:
    from google.protobuf.message import DecodeError

    try:
        example = _example_class().FromString(data)
    except DecodeError as error:
        raise _damaged(path, start, f"the record is no tf.train.Example ({error})") from None
    return {name: _values(feature) for name, feature in example.features.feature.items()}


def _values(feature: Any) -> Feature:
    kind = feature.WhichOneof("kind")
    if kind == "float_list":
        return np.array(feature.float_list.value, np.float32)
    if kind == "int64_list":
        return np.array(feature.int64_list.value, np.int64)
    return list(feature.bytes_list.value)


def _damaged(path: Path, start: int, what: str) -> DataError:
    return DataError(f"{path}: byte {start}: {what}; not a whole TFRecord file: copy or convert it anew")


@cache
def _example_class() -> Any:
    """The class of `tf.train.Example`, from its description in a pool of its own."""
    from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

    def field(name: str, number: int, kind: str, many: bool = False, **more: Any) -> dict[str, Any]:
        label = "LABEL_REPEATED" if many else "LABEL_OPTIONAL"
        named = {"type": "TYPE_MESSAGE", "typeName": f".{_PACKAGE}.{kind[1:]}"} if kind[0] == "." else {"type": kind}
        return {"name": name, "number": number, "label": label, **named, **more}

    def values(name: str, kind: str) -> dict[str, Any]:
        return {"name": name, "field": [field("value", 1, kind, many=True)]}

    kinds = ("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List")
    entry = {
        "name": "FeatureEntry",
        "field": [field("key", 1, "TYPE_STRING"), field("value", 2, ".Feature")],
        "options": {"mapEntry": True},
    }
    messages = [
        values("BytesList", "TYPE_BYTES"),
        values("FloatList", "TYPE_FLOAT"),
        values("Int64List", "TYPE_INT64"),
        {
            "name": "Feature",
            "field": [field(name, n, "." + kind, oneofIndex=0) for n, (name, kind) in enumerate(kinds, start=1)],
            "oneofDecl": [{"name": "kind"}],
        },
        {
            "name": "Features",
            "field": [field("feature", 1, ".Features.FeatureEntry", many=True)],
            "nestedType": [entry],
        },
        {"name": "Example", "field": [field("features", 1, ".Features")]},
    ]
    description = {"name": "example.proto", "package": _PACKAGE, "syntax": "proto3", "messageType": messages}
    pool = descriptor_pool.DescriptorPool()
    pool.Add(json_format.ParseDict(description, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Example"))
