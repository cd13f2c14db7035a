"""WFLW's lists: a line a face, with 98 points, a box, six attributes and the picture's name.

The columns are those of the README that comes with WFLW's annotations (https://wywu.github.io/projects/LAB/WFLW.html):
x0 y0 ... x97 y97, x_min y_min x_max y_max, pose expression illumination make-up occlusion blur (0 or 1 each), name. Of
`list_98pt_test` only points and name. It does not say where (0, 0) is; points are taken as pixel indices and the box's
corners as pixel edges, as everywhere here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...configs.fpenet.schema import SourceConfig
from ..sample import Rejection
from ..source_files import picture_name
from .labelled import BrokenLabel, read_text
from .labelled_faces import FaceEntry, Faces, check_faces, face_box, face_points, pixels

POINTS = 98
ATTRIBUTES = ("pose", "expression", "illumination", "make-up", "occlusion", "blur")
SHORT, LONG = 2 * POINTS + 1, 2 * POINTS + 4 + len(ATTRIBUTES) + 1  # words a line


def read_wflw(source: SourceConfig, root: Path) -> Faces:
    """Every face of the list `root / source.path`, in its order; pictures are below `source.image_root`, else beside
    the list.

    All points are visible: the attribute `occlusion` is of the face and does not say which. Attributes are checked and
    not kept. Raises DataError when the list cannot be read.
    """
    path = root / source.path
    folder = root / source.image_root if source.image_root else path.parent
    return check_faces(_entries(path, folder), source)


def _entries(path: Path, folder: Path) -> Iterator[FaceEntry | Rejection]:
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        if text.strip():
            try:
                yield _face(path, folder, line, text.split())
            except BrokenLabel as fault:
                yield fault.rejection(path)


def _face(path: Path, folder: Path, line: int, words: list[str]) -> FaceEntry:
    if len(words) not in (SHORT, LONG):
        raise BrokenLabel(f"{len(words)} words, expected {LONG} (98 points, box, 6 attributes, picture)", line)
    numbers = [pixels(word, f"word {n}", line) for n, word in enumerate(words[:-1], start=1)]
    box = None
    if len(words) == LONG:
        box = face_box(numbers[2 * POINTS : 2 * POINTS + 4], line)
        for name, value in zip(ATTRIBUTES, numbers[2 * POINTS + 4 :], strict=True):
            if value not in (0, 1):
                raise BrokenLabel(f"{name} is {value:g}, expected 0 or 1", line)
    points, states = face_points(numbers[: 2 * POINTS])
    name = picture_name(words[-1], "the last word", line)
    return FaceEntry(path, line, folder / name, name, points, states, box)
