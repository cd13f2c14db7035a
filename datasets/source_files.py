"""What sources of faces and of pictures share: where their files are, which are drawn, what is said of the others."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..errors import DataError
from .formats.labelled import BrokenLabel
from .image import IMAGE_SUFFIXES
from .sample import Rejection

Sample = TypeVar("Sample")
LONGEST_PATH, LONGEST_NAME = 1000, 255  # bytes; what file systems take of a name, and enough of a path


def nearest_path(path: Path) -> str:
    """The name nearest to that of a path which does not exist, as the end of a sentence."""
    parent = path.parent
    missing = path.name
    while not parent.is_dir() and parent != parent.parent:
        parent, missing = parent.parent, parent.name
    siblings = sorted(child.name for child in parent.iterdir()) if parent.is_dir() else []
    close = difflib.get_close_matches(missing, siblings, n=1, cutoff=0.0)
    return f"; nearest in {parent}: {close[0]}" if close else f"; {parent} is empty"


def nothing_usable(noun: str, setting: str, path: Path, expected: str, rejections: list[Rejection]) -> str:
    """The message for a source of which nothing is left; `setting` is its key and value in the spec."""
    lines = [f"{setting}: no usable {noun} in {path}; expected {expected}"]
    if rejections:
        lines.append(f"{len(rejections)} rejected: {count_reasons(rejections)}; such as")
        lines += [f"  {rejection}" for rejection in rejections[:3]]
    return "\n".join(lines)


def count_reasons(rejections: Iterable[Rejection]) -> str:
    """'12 image missing, 3 broken label': the reasons by how often they occur."""
    counts = Counter(rejection.reason for rejection in rejections)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())


def draw(samples: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    """`count` of the samples, at random but in order; all where there are no more, or count is 0."""
    if not 0 < count < len(samples):
        return list(samples)
    chosen = np.random.default_rng(seed % 2**64).permutation(len(samples))[:count]
    return [samples[index] for index in sorted(chosen)]


def picture_files(folder: str, key: str, of: str = "pictures") -> list[Path]:
    """The pictures in a folder and below it, sorted. Raises DataError, naming `key`, when there are none."""
    path = Path(folder)
    if not path.is_dir():
        kind = "a file" if path.exists() else "missing"
        near = "" if path.exists() else nearest_path(path)
        raise DataError(f"{key}={folder} is {kind}; give a folder of {of}{near}")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if not files:
        raise DataError(f"{key}={folder}: no picture ({', '.join(IMAGE_SUFFIXES)}) in this folder or below it")
    return files


def picture_name(value: object, what: str, line: int | None = None) -> str:
    """A file name that the system can have. Raises BrokenLabel, naming `what` it is, otherwise."""
    try:
        coded = value.encode() if isinstance(value, str) and value.strip() else b"\0"
    except UnicodeEncodeError:
        coded = b"\0"
    if b"\0" not in coded and len(coded) <= LONGEST_PATH and max(map(len, coded.split(b"/"))) <= LONGEST_NAME:
        return str(value)
    raise BrokenLabel(f"{what} is {value!r:.80}, expected the name of a picture", line)


def printable(text: str) -> str:
    """The text, for messages: without what no terminal or file can take."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
