"""Faces from a table: a header that names the columns, then a line a face.

There is no one format of this kind, so names of columns may be told (`columns` of the source); the defaults are the
names that are common, OpenFace's `x_0` and HRNet's `original_0_x` among them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...configs.fpenet.schema import SourceConfig
from ...errors import ConfigError, DataError
from ..sample import PointState, Rejection
from ..source_files import picture_name
from .fpenet_json import MOST_POINTS
from .labelled import BrokenLabel, read_text
from .labelled_faces import FaceEntry, Faces, check_faces, face_box, face_points, pixels

DELIMITERS = ",;\t|"
# {} stands for the point's number, from 0 or from 1. The first that the header has counts.
DEFAULTS = {
    "image": ("image", "image_name", "filename", "file_name", "file", "path", "name"),
    "x": ("x{}", "x_{}", "P{}x", "P{}_x", "{}_x", "original_{}_x", "landmark_{}_x", "point_{}_x"),
    "y": ("y{}", "y_{}", "P{}y", "P{}_y", "{}_y", "original_{}_y", "landmark_{}_y", "point_{}_y"),
    "v": ("v{}", "v_{}", "P{}v", "P{}_v", "{}_v", "landmark_{}_v", "point_{}_v"),
    "x_min": ("x_min", "xmin"),
    "y_min": ("y_min", "ymin"),
    "x_max": ("x_max", "xmax"),
    "y_max": ("y_max", "ymax"),
    "subject": ("subject", "person", "identity"),
}
BOX = ("x_min", "y_min", "x_max", "y_max")
NUMBERED = ("x", "y", "v")

Columns = dict[str, list[int]]  # positions in a row: one, or of x, y, v one a point


def read_face_csv(source: SourceConfig, root: Path) -> Faces:
    """Every line of the table `root / source.path`; pictures are below `source.image_root`, else beside the table.

    Any of comma, semicolon, tab and bar parts the columns. An empty x and y is a missing point; v, where there is such
    a column, is 0 for a missing point, 1 for an occluded, 2 for a visible one, as in COCO. Coordinates count from
    `source.first_pixel`: the first pixel's index for points, its left and top edge for the box. Raises DataError when
    the file is no table, or its header has no columns for the picture and the points.
    """
    path = root / source.path
    folder = root / source.image_root if source.image_root else path.parent
    rows = _rows(path)
    line, header = next(rows, (1, []))
    columns = _columns(header, source.columns, f"{path}:{line}")
    return check_faces(_faces(path, folder, rows, len(header), columns, source.first_pixel), source)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines that hold anything, with the number that each begins on."""
    text = read_text(path)
    head = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(DELIMITERS, key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    line = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield line, [cell.strip() for cell in row]
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{line}: not a table of columns ({error})") from None


def _columns(header: list[str], told: dict[str, str], where: str) -> Columns:
    """The positions of each kind of column that there is."""
    if unknown := sorted(told.keys() - DEFAULTS.keys()):
        raise ConfigError(f"columns: unknown key {unknown[0]!r}; expected {', '.join(DEFAULTS)}")
    if plain := [key for key in NUMBERED if key in told and told[key].count("{}") != 1]:
        raise ConfigError(f"columns.{plain[0]}={told[plain[0]]}: write {{}} where the number of the point stands")
    place = {name.lower(): position for position, name in enumerate(header)}
    if len(place) < len(header):
        raise DataError(f"{where}: two columns of the header have the same name, or none")
    columns: Columns = {}
    for key, names in DEFAULTS.items():
        for name in (told[key],) if key in told else names:
            found = (
                _numbered(name, place) if key in NUMBERED else [place[name.lower()]] if name.lower() in place else []
            )
            if found:
                columns[key] = found
                break
        else:
            if key in told:
                raise DataError(
                    f"{where}: no column {told[key]!r}, which columns.{key} names; the header has {_some(header)}"
                )
    if not {"image", "x", "y"} <= columns.keys() or len(columns["x"]) != len(columns["y"]):
        raise DataError(
            f"{where}: no columns for the picture and for x and y of its points; the header has {_some(header)}. Name "
            "them: columns: {image: ..., x: 'x{}', y: 'y{}'}"
        )
    if "v" in columns and len(columns["v"]) != len(columns["x"]):
        raise DataError(f"{where}: {len(columns['v'])} columns of v for {len(columns['x'])} points")
    if 0 < (sides := len(columns.keys() & set(BOX))) < len(BOX):
        raise DataError(f"{where}: {sides} of the box's four columns ({', '.join(BOX)})")
    return columns


def _numbered(name: str, place: dict[str, int]) -> list[int]:
    """The positions of the points' columns, in the order of their numbers, which begin at 0 or 1 and leave none out."""
    for first in (0, 1):
        found = []
        for number in range(first, MOST_POINTS + first):
            if (column := name.replace("{}", str(number)).lower()) not in place:
                break
            found.append(place[column])
        if found:
            return found
    return []


def _some(header: list[str]) -> str:
    return ", ".join(f"{name!r:.40}" for name in header[:8]) + (", ..." if len(header) > 8 else "") or "nothing"


def _faces(
    path: Path, folder: Path, rows: Iterator[tuple[int, list[str]]], width: int, columns: Columns, first_pixel: int
) -> Iterator[FaceEntry | Rejection]:
    for line, row in rows:
        try:
            if len(row) != width:
                raise BrokenLabel(f"{len(row)} columns, the header has {width}", line)
            yield _face(path, folder, line, row, columns, first_pixel)
        except BrokenLabel as fault:
            yield fault.rejection(path)


def _face(path: Path, folder: Path, line: int, row: list[str], columns: Columns, first_pixel: int) -> FaceEntry:
    def cells(key: str) -> list[str]:
        return [row[position] for position in columns.get(key, [])]

    xy = np.full((len(columns["x"]), 2), np.nan)
    states = np.full(len(xy), PointState.VISIBLE)
    for n, value in enumerate(cells("v")):
        if value not in ("0", "1", "2", ""):
            raise BrokenLabel(f"v of point {n + 1} is {value!r:.40}, expected 0, 1 or 2", line)
        states[n] = int(value or PointState.VISIBLE)
    for n, (x, y) in enumerate(zip(cells("x"), cells("y"), strict=True)):
        if states[n] != PointState.MISSING and (x or y):
            xy[n] = pixels(x, f"x of point {n + 1}", line), pixels(y, f"y of point {n + 1}", line)
    points, kept = face_points(xy - first_pixel, states == PointState.OCCLUDED)
    corners = [value for key in BOX for value in cells(key)]
    box = None
    if any(corners):
        box = face_box([pixels(value, "the box", line) - first_pixel for value in corners], line)
    name = picture_name(cells("image")[0], "the picture", line)
    subject = (cells("subject") or [""])[0] or None
    return FaceEntry(path, line, folder / name, name, points, kept, box, subject)
