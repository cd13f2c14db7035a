"""FDDB's ellipses: for each picture its path, the number of faces, and a line a face, as boxes around them.

The text is described in the set's README (http://vis-www.cs.umass.edu/fddb/): `major_axis_radius minor_axis_radius
angle center_x center_y 1`, lengths in pixels, the angle in radians between the major axis and the x axis. Coordinates
are taken as pixel indices, as the set's evaluation draws its ellipses with OpenCV.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ...configs.facenet.schema import SourceConfig
from ...errors import DataError
from ..sample import Rejection
from ..source_files import picture_name, printable
from .labelled import (
    PROBES,
    Box,
    BrokenLabel,
    Entry,
    LabelledBox,
    Labels,
    check_all,
    numbers,
    pictures_named,
    read_text,
    whole_number,
)

NAME = "face"  # FDDB has one class and does not name it
COLUMNS = ("major_axis_radius", "minor_axis_radius", "angle", "center_x", "center_y", "1")
ENDING = "-ellipseList.txt"

Line = tuple[int, str]


def read_fddb(source: SourceConfig, root: Path) -> Labels:
    """Every picture of the file `root / source.path`, or of all `*-ellipseList.txt` of that folder, in their order.

    Pictures are below `source.images`; else below the file's folder, `originalPics` or `images` in it, or the same one
    folder up. Where the list of a fold's pictures lies beside its ellipses (`FDDB-fold-01.txt`), those of it that have
    none are rejections.

    A picture of which anything cannot be read is left out whole, as an unknown face would be learnt as background; a
    box outside the picture goes alone. Boxes that are partly outside, as FDDB has them at a picture's edge, stay.
    Raises DataError when a file cannot be read or names no picture.
    """
    path = root / source.path
    files = sorted(path.glob(f"*{ENDING}")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: no file *{ENDING}; expected FDDB's, such as FDDB-fold-01{ENDING}")
    entries, rejections = [], []
    folder = root / source.images if source.images else None
    for file in files:
        blocks = list(_blocks(file))
        names = [name for (_, name), _ in blocks]
        if folder is None:
            folder = _folder(names, file)
        pictures = pictures_named(names, folder)
        rejections += _unlabelled(file, set(names))
        for (line, name), body in blocks:
            try:
                boxes = _boxes(line, body)
                image = pictures.get(picture_name(name, "the picture", line))
            except BrokenLabel as fault:
                rejections.append(fault.rejection(file))
                continue
            if image is None:
                nothing = f"no picture {printable(name):.200}.* below {folder}"
                rejections.append(Rejection(str(file), line, "image missing", nothing))
            else:
                entries.append(Entry(file, image, name + image.suffix, boxes, line))
    found, others = check_all(entries)
    return found, rejections + others


def box_around(major: float, minor: float, angle: float, x: float, y: float) -> Box:
    """(x1, y1, x2, y2), the smallest upright box around an ellipse: of the points (a cos t, b sin t), turned by the
    angle, x goes as far as |(a cos angle, b sin angle)| and y as |(a sin angle, b cos angle)|. (x, y) is a pixel index,
    the box has pixel edges."""
    cos, sin = math.cos(angle), math.sin(angle)
    width, height = math.hypot(major * cos, minor * sin), math.hypot(major * sin, minor * cos)
    return x + 0.5 - width, y + 0.5 - height, x + 0.5 + width, y + 0.5 + height


def _folder(names: list[str], file: Path) -> Path:
    places = [place / name for place in (file.parent, file.parent.parent) for name in ("originalPics", "images", "")]
    return next((place for place in places if pictures_named(names[:PROBES], place)), places[0])


def _unlabelled(ellipses: Path, labelled: set[str]) -> list[Rejection]:
    """The pictures of a fold's list that its ellipses leave out."""
    listed = ellipses.with_name(ellipses.name.removesuffix(ENDING) + ".txt")
    if listed == ellipses or not listed.is_file():
        return []
    lines = [(number, line.strip()) for number, line in enumerate(read_text(listed).splitlines(), start=1)]
    return [
        Rejection(str(listed), number, "label missing", f"{printable(name):.200} is not in {ellipses.name}")
        for number, name in lines
        if name and PurePosixPath(name).as_posix() not in labelled
    ]


def _blocks(path: Path) -> Iterator[tuple[Line, list[Line]]]:
    """Each picture's name and the lines up to the next name, which is what does not begin with a number.

    Raises DataError when there is none, and when anything stands before the first.
    """
    lines = [(number, text.strip()) for number, text in enumerate(read_text(path).splitlines(), start=1)]
    lines = [line for line in lines if line[1]]
    starts = [at for at, (_, text) in enumerate(lines) if not _is_number(text.split()[0])]
    if not starts or starts[0] != 0:
        where = f":{lines[0][0]}" if lines else ""
        raise DataError(f"{path}{where}: expected a picture's path, as in FDDB's {ENDING.removeprefix('-')}")
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        number, name = lines[start]
        yield (number, PurePosixPath(name).as_posix()), lines[start + 1 : end]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _boxes(line: int, body: list[Line]) -> list[LabelledBox]:
    """The faces of the picture named on the line."""
    count = whole_number(body[0][1]) if body else None
    if count is None:
        found = f"found {body[0][1]!r:.80}" if body else "the next line names another picture"
        raise BrokenLabel(f"expected the number of faces, {found}", body[0][0] if body else line)
    if count != len(body) - 1:
        raise BrokenLabel(f"{count} faces are announced, {len(body) - 1} lines follow", body[0][0])
    return [_box(*row) for row in body[1:]]


def _box(number: int, text: str) -> LabelledBox:
    words = text.split()
    if len(words) != len(COLUMNS):
        raise BrokenLabel(f"{len(words)} numbers, expected {len(COLUMNS)} ({' '.join(COLUMNS)}): {text:.80}", number)
    major, minor, angle, x, y, _ = values = numbers(words, number)
    if not all(map(math.isfinite, values)) or major <= 0 or minor <= 0:
        raise BrokenLabel(f"no ellipse: {text:.80}", number)
    return LabelledBox(NAME, box_around(major, minor, angle, x, y), number)
