"""The `.pts` files of 300-W and its kin: one face a file, the picture of the same name beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ...configs.fpenet.schema import SourceConfig
from ...errors import DataError
from ..frame import FARTHEST, fit_to_picture
from ..image import IMAGE_SUFFIXES
from ..sample import FaceSample, FloatArray, PointState, Rejection

_HEADER = re.compile(r"(version|n_points)\s*[:=]?\s*(\S*)", re.IGNORECASE)


def read_pts(path: Path) -> FloatArray:
    """Points [K, 2] of one file, with or without its header and braces. Raises DataError with file and line."""
    points = _parse(path)
    if isinstance(points, Rejection):
        raise DataError(str(points))
    return points


def read_pts_folder(source: SourceConfig, root: Path) -> tuple[list[FaceSample], list[Rejection]]:
    """Every `.pts` file below `root / source.path`, at any depth, in the order of their names.

    A picture's name is its path below that folder. Coordinates count from `source.first_pixel`: 300-W's own files are
    MATLAB's, where the first pixel is 1 (https://ibug.doc.ic.ac.uk/resources/300-W/). A broken label, one without a
    picture and a face outside the source's rules are rejections.
    """
    folder = root / source.path
    files = sorted(folder.rglob("*"))
    pictures = _by_stem(files)
    samples, rejections = [], []
    for file in files:
        if file.suffix.lower() != ".pts":
            continue
        points = _parse(file)
        picture = pictures.get(file.with_suffix(""))
        if isinstance(points, Rejection):
            rejections.append(points)
        elif picture is None:
            expected = ", ".join(file.stem + suffix for suffix in IMAGE_SUFFIXES)
            rejections.append(Rejection(str(file), None, "image missing", f"none of {expected} beside it"))
        else:
            states = np.full(len(points), PointState.VISIBLE, np.int8)
            name = picture.relative_to(folder).as_posix()
            sample = FaceSample(picture, points - source.first_pixel, states, name=name, label=str(file))
            checked = fit_to_picture(sample, source.min_visible_fraction)
            if isinstance(checked, FaceSample):
                samples.append(checked)
            else:
                rejections.append(Rejection(str(file), None, *checked))
    return samples, rejections


def _by_stem(files: Iterable[Path]) -> dict[Path, Path]:
    """Pictures by their path without suffix; where several share it, the first kind of IMAGE_SUFFIXES counts."""
    pictures = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    pictures.sort(key=lambda file: IMAGE_SUFFIXES.index(file.suffix.lower()), reverse=True)
    return {file.with_suffix(""): file for file in pictures}


def _parse(path: Path) -> FloatArray | Rejection:
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        return Rejection(str(path), None, "label unreadable", str(error))
    rows: list[list[float]] = []
    announced, announced_at = None, None
    for number, line in enumerate(lines, start=1):
        text = line.strip().strip("{}").strip()
        if not text:
            continue
        if header := _HEADER.fullmatch(text):
            if header[1].lower() == "n_points":
                if not (header[2].isascii() and header[2].isdigit() and len(header[2]) < 9):
                    detail = f"n_points is {header[2]!r:.80}, not a number of points"
                    return Rejection(str(path), number, "broken label", detail)
                announced, announced_at = int(header[2]), number
            continue
        row = _row(text)
        if isinstance(row, str):
            return Rejection(str(path), number, "broken label", row)
        rows.append(row)
    if announced is not None and announced != len(rows):
        detail = f"n_points says {announced}, the file has {len(rows)}"
        return Rejection(str(path), announced_at, "n_points mismatch", detail)
    if not rows:
        return Rejection(str(path), None, "no points", "the file has no line 'x y'")
    return np.array(rows, np.float32)


def _row(text: str) -> list[float] | str:
    """The point of one line, or what is wrong with the line."""
    words = text.replace(",", " ").split()
    if len(words) != 2:
        return f"expected 'x y', found {text!r:.80}"
    try:
        row = [float(word) for word in words]
    except ValueError:
        return f"expected two numbers, found {text!r:.80}"
    far = not all(abs(value) <= FARTHEST for value in row)  # nan too
    return f"expected finite numbers of pixels, found {text!r:.80}" if far else row
