"""KITTI labels: a text file a picture, a line a box, 15 columns (gridbox.md §4.2) or 16 with a detection's score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...configs.facenet.schema import SourceConfig
from ...errors import DataError
from ..sample import FloatArray, Rejection
from .labelled import BrokenLabel, Entry, LabelledBox, Labels, check_all, numbers, pictures_for, read_text, stem_in

COLUMNS = 15
IMAGE_FOLDERS = ("images", "image_2", "image")  # beside the folder of labels


def read_kitti(source: SourceConfig, root: Path) -> Labels:
    """Every `.txt` file below `root / source.path`, at any depth, in the order of their names.

    Pictures are those of the same name, with any suffix, below `source.images`; else beside the labels, else in a
    folder `images`, `image_2` or `image` next to theirs. A file without a line is a picture without a face.
    Attributes: "truncation" (0 to 1) and "occlusion" (0 none to 2 large, 3 unknown), absent where they are negative. A
    score is passed over.

    A line that cannot be read takes its picture with it, as an unknown face would be learnt as background; a box
    without area, or outside the picture, goes alone. Boxes that are partly outside stay as they are.
    """
    folder = root / source.path
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() == ".txt")
    pictures = pictures_for(files, folder, root / source.images if source.images else None, IMAGE_FOLDERS)
    entries, rejections = [], []
    for file in files:
        stem = stem_in(folder, file)
        if stem not in pictures:
            rejections.append(Rejection(str(file), None, "image missing", f"no picture {stem}.* for it"))
            continue
        try:
            boxes = [_box(number, line) for number, line in _lines(file)]
        except BrokenLabel as fault:
            rejections.append(fault.rejection(file))
        except DataError as error:
            rejections.append(Rejection(str(file), None, "label unreadable", str(error)))
        else:
            entries.append(Entry(file, pictures[stem], stem + pictures[stem].suffix, boxes))
    found, others = check_all(entries)
    return found, rejections + others


def kitti_line(name: str, box: Sequence[float] | FloatArray, score: float) -> str:
    """A detection as a line of 16 fields (§9.2): class, box (x1, y1, x2, y2) in pixel edges, score last.

    White space in the class becomes "_", as fields are parted by it.
    """
    corners = " ".join(f"{value:.3f}" for value in box)
    return f"{'_'.join(name.split())} 0.00 0 0.00 {corners} {' '.join(['0.00'] * 7)} {score:.3f}"


def write_kitti(path: Path, names: Sequence[str], boxes: FloatArray, scores: FloatArray) -> None:
    """The detections of one picture, boxes [N, 4] and scores [N]; an empty file where there are none."""
    lines = [kitti_line(*detection) for detection in zip(names, boxes, scores, strict=True)]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(read_text(path).splitlines(), start=1) if line.strip())


def _box(number: int, line: str) -> LabelledBox:
    words = line.split()
    if len(words) not in (COLUMNS, COLUMNS + 1):
        detail = f"{len(words)} fields, expected {COLUMNS}, or {COLUMNS + 1} with a score: {line.strip():.80}"
        raise BrokenLabel(detail, number)
    values = numbers(words[1:], number)
    x1, y1, x2, y2 = values[3:7]
    known = {"truncation": values[0], "occlusion": values[1]}
    attributes = {name: value for name, value in known.items() if value >= 0}
    return LabelledBox(words[0], (x1, y1, x2, y2), number, attributes=attributes)
