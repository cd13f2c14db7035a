"""DetectNet_v2's specs, in protobuf's text format: read by protobuf's own parser, with the line of every value."""

from __future__ import annotations

import difflib
import re
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message

from ..errors import ConfigError
from .detectnet_messages import MESSAGES, ROOTS, TRAINING, empty_message, fields_of
from .values import Given

_ROOT_FIELD = re.compile(r"^\s*(\w+)\s*(?::\s*)?[{<]", re.MULTILINE)


def looks_like_text_format(text: str) -> bool:
    """Whether a file begins as DetectNet_v2's specs do: with one of their blocks."""
    return _root(text) is not None


def read_text_spec(text: str, file: str) -> tuple[str, list[Given], list[tuple[Given, int]]]:
    """The message that the file holds (`TRAINING`, `CONVERSION` or `INFERENCE`), its values in their order, and those
    that do not count, as the file gives them again further down, with the line of the one that does.

    A value's key is its path; entries of maps are named by their key, other repeated ones by their number:
    `cost_function_config.target_classes[0].objectives[1].name`, `target_class_config[face].clustering_config`.
    A block that is written but empty is a value of its own, {}.

    Raises ConfigError with file and line: an unknown field, a value of another type.
    """
    root = _root(text) or TRAINING
    message = empty_message(root, every=True)
    try:
        text_format.Merge(text, empty_message(root))  # as TAO reads it
        text_format.Parse(text, message)
        lines = _lines(text_format.Tokenizer(text.splitlines()))
    except text_format.ParseError as error:
        raise ConfigError(_explain(error, file)) from None
    values = list(_values(message, root, "", "", lines, {}))
    last = {item.key: item for item in values}
    replaced = [(item, last[item.key].line) for item in values if last[item.key] is not item]
    return root, [item for item in values if last[item.key] is item], replaced


def _root(text: str) -> str | None:
    bare = re.sub(r"#.*", "", text)
    for match in _ROOT_FIELD.finditer(bare):
        name = match[1]
        if found := [root for root in ROOTS if name in fields_of(root)]:
            return found[0]
    return None


def _explain(error: text_format.ParseError, file: str) -> str:
    where = f"{file}:{error.GetLine()}" if error.GetLine() else file
    reason = re.sub(r"^\d+:\d+ : ", "", str(error))
    reason = re.sub(r"^'.*': ", "", reason)  # the line itself, which may hold a key
    if found := re.search(r'type "tao\.(\w+)" has no field named "([^"]*)"', reason):
        known = list(fields_of(found[1]))
        close = difflib.get_close_matches(found[2], known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"{where}: there is no field {found[2]!r} here; {hint}TAO has {', '.join(known)}"
    reason = re.sub(r'Enum type "\w*Scope\.(\w+)"', r"\1", reason.replace('"tao.', '"'))
    return f"{where}: {reason}"


def _lines(tokens: Any) -> dict[str, int]:
    """The line of every field, from 1, by its path with a number at every name: `a[0].b[2]`.

    The text has been parsed already, so this only follows its brackets.
    """
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}

    def fields(prefix: str, end: str) -> None:
        while not tokens.AtEnd() and not (end and tokens.TryConsume(end)):
            line = tokens.ParseError("").GetLine()
            name = tokens.ConsumeIdentifier()
            tokens.TryConsume(":")
            listed = tokens.TryConsume("[")
            while not (listed and tokens.TryConsume("]")):
                count = counts.get(prefix + name, 0)
                counts[prefix + name] = count + 1
                path = f"{prefix}{name}[{count}]"
                lines[path] = line
                value(path)
                tokens.TryConsume(",")
                if not listed:
                    break
            tokens.TryConsume(";") or tokens.TryConsume(",")

    def value(path: str) -> None:
        for start, end in (("{", "}"), ("<", ">")):
            if tokens.TryConsume(start):
                fields(path + ".", end)
                return
        quoted = tokens.token[:1] in ("'", '"')
        tokens.NextToken()
        while quoted and tokens.token[:1] in ("'", '"'):  # strings beside each other are one
            tokens.NextToken()

    fields("", "")
    return lines


def _values(
    message: Message, kind: str, path: str, numbered: str, lines: Mapping[str, int], counts: dict[str, int]
) -> Iterator[Given]:
    """The values of a message that keeps every one, in the order of its fields; those of one field in the order of the
    file. `counts`: how many there have been of each repeated field.
    """
    for name, field_kind in fields_of(kind).items():
        inner = field_kind.removesuffix("*")
        is_entry = inner.endswith("Entry")
        for number, value in enumerate(getattr(message, name)):
            place = f"{numbered}{name}[{number}]"
            line = lines.get(place, 0)
            key = path + name
            if is_entry:
                key += f"[{value.key[-1] if value.key else ''}]"
                yield from _entry(value, inner, key, place, line, lines, counts)
                continue
            if field_kind.endswith("*"):
                counts[key] = counts.get(key, -1) + 1
                key += f"[{counts[key]}]"
            if inner in MESSAGES:
                yield from _inside(value, inner, key, f"{place}.", line, lines, counts)
            else:
                yield Given(key, _plain(message, name, value), line)


def _entry(
    entry: Message, kind: str, key: str, place: str, line: int, lines: Mapping[str, int], counts: dict[str, int]
) -> Iterator[Given]:
    """What a map has under a key; nothing is the empty value of its kind."""
    inner = fields_of(kind)["value"]
    if inner in MESSAGES:
        if not entry.value:
            yield Given(key, {}, line)
        for number, value in enumerate(entry.value):
            yield from _inside(value, inner, key, f"{place}.value[{number}].", line, lines, counts)
    else:
        yield Given(
            key, _plain(entry, "value", entry.value[-1] if entry.value else {"string": ""}.get(inner, 0.0)), line
        )


def _inside(
    message: Message, kind: str, key: str, numbered: str, line: int, lines: Mapping[str, int], counts: dict[str, int]
) -> Iterator[Given]:
    inside = list(_values(message, kind, key + ".", numbered, lines, counts))
    yield from inside or [Given(key, {}, line)]


def _plain(message: Message, name: str, value: Any) -> Any:
    """A scalar as Python has it: words of enumerations, and floats by the fewest digits that mean the same number."""
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    if field.type == field.TYPE_FLOAT:
        return _shortest(value)
    return value


def _shortest(value: float) -> float:
    """0.1 for the single-precision number nearest to 0.1."""
    for digits in range(6, 10):
        short = float(f"{value:.{digits}g}")
        if struct.pack("f", short) == struct.pack("f", value):
            return short
    return value
