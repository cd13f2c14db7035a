"""A converted spec: our keys and values, and what became of each of TAO's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import yaml

from .values import Given

SAME, RENAMED, INVERTED, FIXED = "same", "renamed", "inverted", "fixed"
IMPLIED = "implied"  # what TAO does where its spec says nothing, or cannot say anything
NONE = "no counterpart"
WEIGHTS_NOTE = "what import-weights makes of it, with the file's path without its ending as results_dir"
KINDS = (SAME, RENAMED, INVERTED, FIXED, IMPLIED, NONE)
# The sections of our specs as a reader goes through them; single keys stand before.
ORDER = ("data", "input", "crop", "augment", "model", "rasterizer", "loss", "clustering", "metrics", "train", "track")


@dataclass(frozen=True)
class Entry:
    """One line of the account.

    Attributes:
        kind: one of `KINDS`.
        given: TAO's value; None where the entry is implied.
        key: ours, dotted; empty without a counterpart.
        value: ours.
        note: what changed, or why there is no counterpart.
    """

    kind: str
    given: Given | None
    key: str = ""
    value: Any = None
    note: str = ""

    def comment(self) -> str:
        """The entry as it stands beside our key."""
        origin = f"{self.given.key}, line {self.given.line}" if self.given else "not in TAO's spec"
        kind = "" if self.kind in (SAME, IMPLIED) else f"; {self.kind}"
        return f"{origin}{kind}" + (f": {self.note}" if self.note else "")

    def to_dict(self) -> dict[str, Any]:
        """The entry as a file keeps it."""
        tao = {"tao": self.given.key, "line": self.given.line, "tao_value": shown(self.given)} if self.given else {}
        return {"kind": self.kind, **tao, "key": self.key, "value": self.value, "note": self.note}


@dataclass
class Conversion:
    """A spec of TAO's as one of ours.

    Attributes:
        file: where it was read.
        program, verb: which of our commands it is a spec of.
        compat: "tao" where the quirks of TAO that change numbers are kept.
        entries: the account, in the order of the file.
    """

    file: str
    program: str
    verb: str
    compat: str
    entries: list[Entry] = field(default_factory=list)

    def add(self, kind: str, given: Given | None, key: str = "", value: Any = None, note: str = "") -> None:
        """Adds an entry. A key that has another value already keeps it, and the entry says so."""
        if key and any(entry.key == key and entry.value != value for entry in self.entries):
            kept = next(entry for entry in self.entries if entry.key == key)
            first = f" (of {kept.given.key})" if kept.given else ""
            self.entries.append(Entry(NONE, given, note=f"{key} is one value here, and {kept.value}{first} is taken"))
            return
        self.entries.append(Entry(kind, given, key, value, note))

    def add_of_class(self, owner: str, kind: str, given: Given, key: str, value: Any, note: str = "") -> None:
        """Adds an entry for a value of one class: a number under the section's per_class, where the key has another.

        Args:
            owner: the class; empty for the one that the section's own keys are of.
        """
        section, _, name = key.rpartition(".")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not owner or not number or self.values.get(key) == value:
            self.add(kind, given, key, value, note)
        else:
            self.put(kind, given, f"{section}.per_class", (owner, name), float(value), note)

    def put(self, kind: str, given: Given, key: str, path: tuple[str, ...], value: Any, note: str = "") -> None:
        """Adds an entry for a value inside a mapping, such as one by class, whose names may hold dots."""
        whole = self.values.get(key, {})
        place = whole
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value
        self.entries.append(Entry(kind, given, key, whole, note))

    def imply(self, key: str, value: Any, note: str = "") -> None:
        """Adds what TAO does without a key, unless the spec has said otherwise."""
        if key not in self.values:
            self.entries.append(Entry(IMPLIED, None, key, value, note))

    @property
    def values(self) -> dict[str, Any]:
        """Our keys, dotted, and their values."""
        return {entry.key: entry.value for entry in self.entries if entry.key}

    def nested(self) -> dict[str, Any]:
        """Our keys and values as a spec nests them."""
        return ({"compat": "tao"} if self.compat == "tao" else {}) | nested(self.values)

    def summary(self) -> list[str]:
        """The account in brief: how many keys of which kind, and the lines that change a meaning."""
        counts = {kind: sum(entry.kind == kind for entry in self.entries) for kind in KINDS}
        words = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        lines = [f"{self.file} is a spec of TAO's, read as one of `{self.program} {self.verb}`: {words}"]
        for entry in self.entries:
            if entry.kind in (INVERTED, FIXED):
                lines.append(f"  {entry.given.key if entry.given else ''} -> {entry.key}: {entry.note}")
        return lines

    def yaml(self) -> str:
        """Our spec with the account as its comments."""
        head = [
            f"# {self.program} {self.verb} -e this.yaml",
            f"# Made from {PurePath(self.file).name}, a spec of TAO's. Beside each key stands the one that it was "
            "there, its line and what changed.",
            *([f"compat: {self.compat}  # quirks of TAO that change numbers are kept"] if self.compat == "tao" else []),
        ]
        sections = sorted(
            nested(self.values).items(), key=lambda item: ORDER.index(item[0]) if item[0] in ORDER else -1
        )
        lines = [*head, *_lines(dict(sections), self.entries, "", "")]
        lost = [entry for entry in self.entries if entry.kind == NONE]
        if lost:
            lines += ["", "# Keys without a counterpart:"]
            lines += [f"#   {e.given.key}: {shown(e.given)}  (line {e.given.line}): {e.note}" for e in lost if e.given]
        return "\n".join(lines) + "\n"

    def table(self) -> str:
        """The account as JSON."""
        body = {"file": self.file, "program": self.program, "verb": self.verb, "compat": self.compat}
        return json.dumps({**body, "entries": [entry.to_dict() for entry in self.entries]}, indent=1) + "\n"


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested dicts."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        *path, name = key.split(".")
        place = result
        for part in path:
            place = place.setdefault(part, {})
        place[name] = value
    return result


def shown(given: Given) -> str:
    """TAO's value in words; a W&B key is nobody's business."""
    return "(not shown)" if given.key.endswith("wandb_config.key") else plain(given.value)


def plain(value: Any) -> str:
    """A value as YAML writes it in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=100000, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _lines(values: dict[str, Any], entries: list[Entry], prefix: str, indent: str) -> Iterator[str]:
    for name, value in values.items():
        key = prefix + name
        own = [entry for entry in entries if entry.key == key]
        if not own:
            yield f"{indent}{name}:"
            yield from _lines(value, entries, key + ".", indent + "  ")
            continue
        if len(own) > 1:
            yield from (f"{indent}# {entry.comment()}" for entry in own)
            yield f"{indent}{name}: {plain(value)}"
        else:
            yield f"{indent}{name}: {plain(value)}  # {own[0].comment()}"
