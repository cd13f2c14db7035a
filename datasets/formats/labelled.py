"""Boxes as label files have them, before classes are mapped, and the checks that all formats share."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import TypeVar

from ...errors import DataError
from ..frame import FARTHEST
from ..image import IMAGE_SUFFIXES, image_size
from ..sample import ByteArray, Rejection

Box = tuple[float, float, float, float]
AnyPath = TypeVar("AnyPath", bound=PurePath)

LONGEST = 300  # letters of a name in a message
PROBES = 50  # pictures that are looked for before a folder is given up


@dataclass(frozen=True)
class LabelledBox:
    """One box of a label.

    Attributes:
        name: the class in the label's own words.
        box: (x1, y1, x2, y2), pixel edges of the full picture.
        line: where it stands in the label file.
        marked: whether the label itself says that it is not to be counted (invalid, crowd, difficult).
        attributes: what else the label says of it, by name, in the label's own scale.
    """

    name: str
    box: Box
    line: int | None = None
    marked: bool = False
    attributes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelledPicture:
    """One picture, its name in the label, its upright (width, height) and its boxes, none of which is broken; and the
    file and line that it stands in."""

    image: Path | ByteArray
    name: str
    size: tuple[int, int]
    boxes: tuple[LabelledBox, ...]
    label: str = ""
    line: int | None = None


class BrokenLabel(Exception):
    """What cannot be read of a picture's label, and on which line.

    It takes the picture with it: a face that is not known would be learnt as background.
    """

    def __init__(self, detail: str, line: int | None = None) -> None:
        super().__init__(detail)
        self.detail, self.line = detail, line

    def rejection(self, label: Path) -> Rejection:
        return Rejection(str(label), self.line, "broken label", self.detail)


Labels = tuple[list[LabelledPicture], list[Rejection]]  # what every reader returns


@dataclass(frozen=True)
class Entry:
    """One picture as a reader found it in `label` at `line`; `said` is its size, where the label gives it. Boxes are in
    pixels, or in `shares` of the upright picture's width and height."""

    label: Path
    image: Path
    name: str
    boxes: Sequence[LabelledBox]
    line: int | None = None
    said: tuple[int, int] | None = None
    shares: bool = False


def check(entry: Entry) -> tuple[LabelledPicture | None, list[Rejection]]:
    """The picture with the boxes that can be used, and the others.

    Of a box that reaches out of the picture nothing is cut off: where the face ends is what a network has to learn.
    The picture is None when its file is missing, unreadable, or of another size than the label says. Only its head is
    read.
    """
    label = str(entry.label)
    try:
        size = image_size(entry.image)
    except DataError as error:
        if os.path.isfile(entry.image):  # asked only now: of a million files that takes a while; no name makes it raise
            return None, [Rejection(label, entry.line, "picture unreadable", str(error))]
        return None, [Rejection(label, entry.line, "image missing", f"no such file: {_shown(str(entry.image))}")]
    if entry.said and entry.said != size:
        detail = "the label says {} x {}, the upright picture has {} x {}".format(*entry.said, *size)
        return None, [Rejection(label, entry.line, "size mismatch", f"{_shown(str(entry.image))}: {detail}")]
    kept, rejections = [], []
    for box in _in_pixels(entry.boxes, size) if entry.shares else entry.boxes:
        reason = box_fault(box.box, size) or _attribute_fault(box)
        if reason is None:
            kept.append(box)
        else:
            corners = ", ".join(f"{value:g}" for value in box.box)
            detail = f"{_shown(box.name):.80} ({corners}) in {_shown(entry.name)}, {size[0]} x {size[1]}"
            rejections.append(Rejection(label, box.line or entry.line, reason, detail))
    return LabelledPicture(entry.image, entry.name, size, tuple(kept), label, entry.line), rejections


def _shown(text: str) -> str:
    """The text for a message: escaped where a terminal could not take it, the middle left out where it is endless."""
    short = text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}...{text[-LONGEST // 2 :]}"
    return short if short.isprintable() else repr(short)


def check_all(entries: Iterable[Entry]) -> Labels:
    """`check` of many."""
    pictures, rejections = [], []
    for entry in entries:
        picture, faults = check(entry)
        rejections += faults
        if picture is not None:
            pictures.append(picture)
    return pictures, rejections


def box_fault(box: Box, size: tuple[int, int]) -> str | None:
    """Why a box cannot be used in a picture of `size` (width, height); None where it can."""
    x1, y1, x2, y2 = box
    if not all(map(math.isfinite, box)):
        return "box not finite"
    if max(map(abs, box)) > FARTHEST:
        return "box not in pixels"
    if x2 < x1 or y2 < y1:
        return "box inverted"
    if x2 == x1 or y2 == y1:
        return "box without area"
    if x2 <= 0 or y2 <= 0 or x1 >= size[0] or y1 >= size[1]:
        return "box outside the picture"
    return None


def _attribute_fault(box: LabelledBox) -> str | None:
    return None if all(abs(value) <= FARTHEST for value in box.attributes.values()) else "attribute not finite"


def _in_pixels(boxes: Iterable[LabelledBox], size: tuple[int, int]) -> list[LabelledBox]:
    width, height = size
    return [
        replace(box, box=(box.box[0] * width, box.box[1] * height, box.box[2] * width, box.box[3] * height))
        for box in boxes
    ]


def numbers(words: Sequence[str], line: int | None = None) -> list[float]:
    """The words as numbers. "nan" is one here: `box_fault` tells more of it. Raises BrokenLabel at `line`."""
    values = []
    for word in words:
        try:
            values.append(float(word.replace("_", "?")))  # Python would read 1_0 as 10
        except ValueError:
            raise BrokenLabel(f"expected a number, found {word!r:.80}", line) from None
    return values


def class_name(value: object, what: str, line: int | None = None) -> str:
    """A class in the label's own words. Raises BrokenLabel, naming `what` it is, where it is no text."""
    if isinstance(value, str) and value.strip() and not any("\ud800" <= letter <= "\udfff" for letter in value):
        return value.strip()
    raise BrokenLabel(f"{what} is {value!r:.80}, expected a name", line)


def whole_number(word: str) -> int | None:
    """A word of up to 9 digits as a number; None where it is something else."""
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 9 else None


def read_text(path: Path) -> str:
    """A label file as text. Raises DataError when it cannot be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")  # read_text takes the first bytes of a mark for an empty file
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the label file cannot be read ({error})") from error


def stem_in(folder: Path, file: Path) -> str:
    """The file's path below the folder, without suffix: what a label and its picture have in common."""
    return file.relative_to(folder).with_suffix("").as_posix()


def pictures_for(labels: list[Path], folder: Path, images: Path | None, siblings: Sequence[str]) -> dict[str, Path]:
    """The pictures of the label files below `folder`, by `stem_in`: those below `images` if that is given; else beside
    the labels; else in the first of the folders next to theirs that has any."""
    if images is not None:
        return pictures_below(images)
    stems = {stem_in(folder, label) for label in labels}
    for place in (folder, *(folder.parent / name for name in siblings)):
        pictures = pictures_below(place) if place.is_dir() else {}
        if not stems.isdisjoint(pictures):
            return pictures
    return {}


def pictures_named(stems: Iterable[str], folder: Path) -> dict[str, Path]:
    """The pictures `folder/stem.*` of those stems, by stem; other folders than theirs are not looked into."""
    wanted = set(stems)
    pictures = {}
    for place in {PurePosixPath(stem).parent for stem in wanted}:
        with suppress(OSError, ValueError):  # no such folder, or a name that the system cannot have
            found = (place / name for name in os.listdir(folder / place))
            pictures.update({_stem(file): folder / file for file in _by_suffix(found) if _stem(file) in wanted})
    return pictures


def _stem(file: PurePosixPath) -> str:
    return file.with_suffix("").as_posix()


def pictures_below(folder: Path) -> dict[str, Path]:
    """Every picture below the folder, by `stem_in`."""
    return {stem_in(folder, file): file for file in _by_suffix(sorted(folder.rglob("*")))}


def _by_suffix(files: Iterable[AnyPath]) -> list[AnyPath]:
    """The pictures among the files. Of those that share a stem the first kind of IMAGE_SUFFIXES comes last, so that it
    stays in a dictionary."""
    pictures = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(pictures, key=lambda file: IMAGE_SUFFIXES.index(file.suffix.lower()), reverse=True)


def folder_with(names: Sequence[str], candidates: Iterable[Path]) -> Path:
    """The first folder that holds one of the first `names`; the first of all where none does."""
    folders = list(candidates)
    for folder in folders:
        if any(os.path.isfile(folder / name) for name in names[:PROBES]):
            return folder
    return folders[0]
