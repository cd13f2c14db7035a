"""Open Images' CSV of boxes: a line a box, its corners in shares of the picture's width and height.

The columns are those of https://storage.googleapis.com/openimages/web/download_v7.html.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from ...configs.facenet.schema import SourceConfig
from ...errors import DataError
from ..sample import Rejection
from ..source_files import picture_name, printable
from .labelled import PROBES, BrokenLabel, Entry, LabelledBox, Labels, check_all, numbers, pictures_named, read_text

NEEDED = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
FLAGS = {"IsTruncated": "truncation", "IsOccluded": "occlusion"}
ABOVE = 1.01  # a share may be rounded up to this
GROUP = "IsGroupOf"
DESCRIPTIONS = "*class-descriptions*.csv"
PARTS = ("train", "validation", "test")  # folders of pictures, and words in the names of the CSVs


def read_open_images(source: SourceConfig, root: Path) -> Labels:
    """Every picture that the CSV `root / source.path` has a box of, in its order.

    A picture is ImageID with any suffix, below `source.images`; else beside the file or one folder up, in `images`,
    `data`, the part that the file's name tells (`validation-annotations-bbox.csv`: `validation`), or there. Columns
    may stand in any order; others are passed over. Where a file `*class-descriptions*.csv` lies beside it classes have
    its names ("Human face"), else those of LabelName ("/m/0dzct"). Boxes with IsGroupOf are marked. Attributes:
    "truncation" and "occlusion" (0 or 1), where they are known.

    A line that cannot be read takes its picture with it; a box without area, or outside the picture, goes alone.
    Raises DataError when the file cannot be read or lacks a column.
    """
    path = root / source.path
    names = _descriptions(path)
    boxes: dict[str, list[LabelledBox]] = defaultdict(list)
    lines: dict[str, int] = {}
    broken: set[str] = set()
    rejections = []
    for line, row in _rows(path):
        key = ""
        try:
            key = picture_name(row.get("ImageID"), "ImageID", line)
            lines.setdefault(key, line)
            boxes[key].append(_box(row, names, line))
        except BrokenLabel as fault:
            rejections.append(fault.rejection(path))
            broken.add(key)
    whole = [key for key in boxes if key not in broken]
    pictures = _pictures(source, root, whole)
    rejections += [
        Rejection(str(path), lines[key], "image missing", f"no picture {printable(key):.200}.* for it")
        for key in whole
        if key not in pictures
    ]
    found, others = check_all(
        Entry(path, pictures[key], key + pictures[key].suffix, boxes[key], lines[key], shares=True)
        for key in whole
        if key in pictures
    )
    return found, rejections + others


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Each line after the header with its number, by column; without some of the columns where it is too short.

    Raises DataError where it is no such CSV.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            if missing := [name for name in NEEDED if name not in header]:
                found = ", ".join(header) or "nothing"
                words = f"no column {', '.join(missing)}; format=open_images expects them, found {found:.200}"
                raise DataError(f"{path}:1: {words}")
            for row in reader:
                if row:
                    yield reader.line_num, dict(zip(header, row, strict=False))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not valid CSV: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the label file cannot be read ({error})") from error


def _box(row: dict[str, str], names: dict[str, str], line: int) -> LabelledBox:
    if missing := [name for name in NEEDED if not row.get(name, "").strip()]:
        raise BrokenLabel(f"{', '.join(missing)} is empty", line)
    label = row["LabelName"].strip()
    x1, x2, y1, y2 = numbers([row[name] for name in NEEDED[2:]], line)
    if any(abs(share) > ABOVE for share in (x1, x2, y1, y2)):
        raise BrokenLabel(f"expected shares of the picture's width and height, 0 to 1, found {x1} {x2} {y1} {y2}", line)
    attributes = {name: float(row[flag]) for flag, name in FLAGS.items() if row.get(flag) in ("0", "1")}
    return LabelledBox(names.get(label, label), (x1, y1, x2, y2), line, row.get(GROUP) == "1", attributes)


def _descriptions(path: Path) -> dict[str, str]:
    """Names of the classes by LabelName, of the file beside the CSV; none without one."""
    for file in sorted(path.parent.glob(DESCRIPTIONS)):
        try:
            rows = list(csv.reader(read_text(file).splitlines()))
        except csv.Error as error:
            raise DataError(f"{file}: not valid CSV ({error})") from error
        return {row[0].strip(): row[1].strip() for row in rows if len(row) > 1 and row[1].strip()}
    return {}


def _pictures(source: SourceConfig, root: Path, names: list[str]) -> dict[str, Path]:
    path = root / source.path
    if source.images:
        return pictures_named(names, root / source.images)
    part = next((part for part in PARTS if part in path.stem.lower()), "images")
    for place in (path.parent, path.parent.parent):
        for folder in (place / part, place / "images" / part, place / "images", place / "data", place):
            if pictures_named(names[:PROBES], folder):
                return pictures_named(names, folder)
    return {}
