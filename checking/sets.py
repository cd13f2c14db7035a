"""Names and counts of the parts of a set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Protocol

from ..errors import ConfigError
from .findings import ERROR, Finding

STORE = "store"
PARTS = ("train", "val", "test")
ORDER = {"test": 0, "val": 1, "train": 2}  # of two alike the one in the earlier part stays


class Source(Protocol):
    """What the sources of both networks have."""

    format: str
    path: str
    name: str


def source_name(source: Source, root: Path) -> str:
    """As samples have it."""
    path = root / source.path
    return source.name or (path.stem if path.is_file() else PurePath(source.path).name) or source.format


def refuse_store(source: Source, key: str) -> None:
    """Raises ConfigError for a source that is packed: its crops were read, and checked, when it was made."""
    if source.format == STORE:
        raise ConfigError(
            f"{key}.format={STORE}: check reads label files and pictures; give the sources that convert packed"
        )


def count_rows(
    parts: Sequence[str], sources: Sequence[str], counted: Sequence[int], findings: Iterable[Finding]
) -> list[dict[str, str | int]]:
    """A row for each source of each part: how many samples were read, what they hold, and what was found.

    Args:
        parts, sources: of each sample.
        counted: what each sample holds, such as its number of boxes.
    """
    samples = Counter(zip(parts, sources, strict=True))
    holds: Counter[tuple[str, str]] = Counter()
    for place, held in zip(zip(parts, sources, strict=True), counted, strict=True):
        holds[place] += held
    errors: Counter[tuple[str, str]] = Counter()
    warnings: Counter[tuple[str, str]] = Counter()
    for finding in findings:
        (errors if finding.severity == ERROR else warnings)[finding.part, finding.source] += 1
    places = sorted({*samples, *errors, *warnings}, key=lambda place: (PARTS.index(place[0]), place[1]))
    return [
        {
            "split": part,
            "source": source,
            "samples": samples[part, source],
            "holds": holds[part, source],
            "errors": errors[part, source],
            "warnings": warnings[part, source],
        }
        for part, source in places
    ]
