"""COCO's three lists, each entry with the line that it begins on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..source_files import picture_name
from .labelled import BrokenLabel, read_text

LISTS = ("images", "annotations", "categories")
_NEXT = re.compile(r"\s*[,:]?\s*")

Lined = list[tuple[int, Any]]  # values with the line that each begins on


def read_lists(path: Path) -> dict[str, Lined]:
    """The lists by name. Raises DataError when the file is no JSON object with all three."""
    text = read_text(path)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}:{error.colno}: not a valid label file: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, lists a thousand deep
        raise DataError(f"{path}: not a valid label file: {error}") from error
    for name in LISTS:
        if not isinstance(value, dict) or not isinstance(value.get(name), list):
            raise DataError(f"{path}: no list {name!r}; COCO has an object with {', '.join(LISTS)}")
    lines = _lines(text)
    return {name: list(zip(lines[name], value[name], strict=True)) for name in LISTS}


def picture_folders(path: Path) -> Iterator[Path]:
    """Where the pictures of a label file may lie: beside it, or in `images` or the folder that the file's name ends
    with (`instances_val2017.json`: `val2017`), next to it or one folder up."""
    part = path.stem.split("_")[-1]
    for place in (path.parent, path.parent.parent):
        yield from (place, place / "images", place / part, place / "images" / part)


def picture_of(value: Any, line: int) -> tuple[Any, str, tuple[int, int] | None]:
    """Id, name, and (width, height) where it is told."""
    key, name = id_of(value, "id", line), picture_name(value.get("file_name"), "file_name", line)
    width, height = value.get("width"), value.get("height")
    told = isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0
    return key, name, (width, height) if told else None


def id_of(value: Any, key: str, line: int) -> int | str:
    """The id at `key`. Raises BrokenLabel when `value` is no object, or has none."""
    if not isinstance(value, dict):
        raise BrokenLabel(f"expected an object, found {value!r:.80}", line)
    found = value.get(key)
    if not isinstance(found, (int, str)):
        raise BrokenLabel(f"{key} is {found!r:.80}, expected a number", line)
    return found


def _lines(text: str) -> dict[str, list[int]]:
    """The line on which each entry of the lists in an object begins. The text is known to be valid JSON."""
    decode = json.JSONDecoder().raw_decode
    lines: dict[str, list[int]] = {}
    line, counted = 1, 0

    def after(position: int) -> int:
        found = _NEXT.match(text, position)
        return found.end() if found else position

    position = after(text.index("{") + 1)
    while text[position] != "}":
        name, end = decode(text, position)
        position = after(end)
        if text[position] != "[":
            position = after(decode(text, position)[1])
            continue
        lines[name] = []
        position = after(position + 1)
        while text[position] != "]":
            line, counted = line + text.count("\n", counted, position), position
            lines[name].append(line)
            position = after(decode(text, position)[1])
        position = after(position + 1)
    return lines
