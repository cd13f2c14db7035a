"""Triton's configurations: the text form of its ModelConfig message."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

WORDS = ("data_type", "kind")  # fields whose values are words of an enumeration

Message = Mapping[str, Any]
Dims = Mapping[str, tuple[str, Sequence[int]]]  # tensor -> type, as in "FP32", and dims


def rendered(head: Sequence[str], message: Message) -> str:
    """The text of a configuration: comments, then the fields of the message."""
    return "\n".join([*(f"# {line}" for line in head), *_lines(message)]) + "\n"


def _lines(message: Message, indent: str = "") -> list[str]:
    lines = []
    for key, value in message.items():
        for one in value if isinstance(value, list) and value and isinstance(value[0], dict) else [value]:
            if isinstance(one, dict) and set(one) == {"key", "value"} and isinstance(one["value"], str):  # of a map
                lines.append(f"{indent}{key} {{ key: {json.dumps(one['key'])} value: {json.dumps(one['value'])} }}")
            elif isinstance(one, dict):
                lines += [f"{indent}{key} {{", *_lines(one, f"{indent}  "), f"{indent}}}"]
            else:
                lines.append(f"{indent}{key}: {one if key in WORDS else json.dumps(one)}")
    return lines


def tensors(dims: Dims) -> list[Message]:
    """The fields of inputs or outputs."""
    return [{"name": name, "data_type": f"TYPE_{kind}", "dims": list(shape)} for name, (kind, shape) in dims.items()]
