"""WIDER FACE's text labels: for each picture its path, the number of faces, and a line a face."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...configs.facenet.schema import SourceConfig
from ...errors import DataError
from ..image import IMAGE_SUFFIXES
from .labelled import BrokenLabel, Entry, LabelledBox, Labels, check_all, folder_with, numbers, read_text, whole_number

NAME = "face"  # WIDER has one class and does not name it
COLUMNS = ("x1", "y1", "w", "h", "blur", "expression", "illumination", "invalid", "occlusion", "pose")
SCALES = ("blur", "expression", "illumination", "occlusion", "pose")

Line = tuple[int, str]


def read_wider(source: SourceConfig, root: Path) -> Labels:
    """Every picture of the label file `root / source.path`, in its order.

    Pictures are below `source.images`; else beside the file, in `images`, `WIDER_train/images` or `WIDER_val/images`
    next to it or one folder up. `invalid` boxes are marked. Attributes: "blur" (0 clear to 2 heavy), "occlusion" (0
    none to 2 heavy), "pose", "expression", "illumination" (0 typical, 1 not). A picture of 0 faces may be followed by
    one line of zeros, as in the original.

    A picture of which anything cannot be read is left out whole, as an unknown face would be learnt as background; a
    box without area, or outside the picture, goes alone. Boxes that are partly outside stay as they are. Raises
    DataError when the file cannot be read or names no picture.
    """
    path = root / source.path
    lines = [(number, text.strip()) for number, text in enumerate(read_text(path).splitlines(), start=1)]
    blocks = list(_blocks([line for line in lines if line[1]]))
    names = [name for (_, name), _ in blocks if name]
    if not names:
        raise DataError(f"{path}: no line names a picture ({', '.join(IMAGE_SUFFIXES)}); expected WIDER FACE's text")
    folder = root / source.images if source.images else folder_with(names, _folders(path))
    entries, rejections = [], []
    for (number, name), body in blocks:
        try:
            if not name:
                raise BrokenLabel(f"expected the path of a picture, found {body[0][1]!r:.80}", body[0][0])
            entries.append(Entry(path, folder / name, name, _boxes(number, body), number))
        except BrokenLabel as fault:
            rejections.append(fault.rejection(path))
    pictures, others = check_all(entries)
    return pictures, rejections + others


def _folders(path: Path) -> Iterator[Path]:
    part = "WIDER_val" if "val" in path.stem else "WIDER_train"
    for place in (path.parent, path.parent.parent):
        yield from (place / part / "images", place / "images", place)


def _blocks(lines: list[Line]) -> Iterator[tuple[Line, list[Line]]]:
    """Each picture's name and the lines up to the next; lines before the first come with the name ''."""
    name: Line = (1, "")
    body: list[Line] = []
    for number, text in lines:
        if text.lower().endswith(IMAGE_SUFFIXES):
            if name[1] or body:
                yield name, body
            name, body = (number, text), []
        else:
            body.append((number, text))
    yield name, body


def _boxes(number: int, body: list[Line]) -> list[LabelledBox]:
    """The faces of the picture named on line `number`."""
    count = whole_number(body[0][1]) if body else None
    if count is None:
        found = f"found {body[0][1]!r:.80}" if body else "the next line names another picture"
        raise BrokenLabel(f"expected the number of faces, {found}", body[0][0] if body else number)
    line, rows = body[0][0], body[1:]
    boxes = [_box(*row) for row in rows]
    if count == 0 and len(boxes) == 1 and boxes[0].box == (0, 0, 0, 0):
        return []
    if count != len(rows):
        raise BrokenLabel(f"{count} faces are announced, {len(rows)} lines follow", line)
    return boxes


def _box(number: int, text: str) -> LabelledBox:
    words = text.split()
    if len(words) != len(COLUMNS):
        detail = f"{len(words)} numbers, expected {len(COLUMNS)} ({' '.join(COLUMNS)}): {text:.80}"
        raise BrokenLabel(detail, number)
    row = dict(zip(COLUMNS, numbers(words, number), strict=True))
    box = (row["x1"], row["y1"], row["x1"] + row["w"], row["y1"] + row["h"])
    return LabelledBox(NAME, box, number, row["invalid"] != 0, {name: row[name] for name in SCALES})
