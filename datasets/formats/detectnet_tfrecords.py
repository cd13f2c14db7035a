"""TAO DetectNet_v2's TFRecords, as its `dataset_convert` writes them (gridbox.md §4.3), without pixels."""

from __future__ import annotations

from collections.abc import Iterator
from glob import glob
from pathlib import Path, PurePosixPath

import numpy as np

from ...configs.facenet.schema import SourceConfig
from ...errors import DataError
from ..sample import Rejection
from ..source_files import picture_name, printable
from .labelled import PROBES, BrokenLabel, Entry, LabelledBox, Labels, check_all, class_name, pictures_named
from .tfrecord import Feature, read_records

ID, WIDTH, HEIGHT = "frame/id", "frame/width", "frame/height"
CLASS = "target/object_class"
SIDES = tuple(f"target/coordinates_{side}" for side in ("x1", "y1", "x2", "y2"))
SUFFIXES = (".tfrecord", ".tfrecords")
ATTRIBUTES = ("truncation", "occlusion")

Record = tuple[Path, int, dict[str, Feature]]


def read_detectnet_tfrecords(source: SourceConfig, root: Path) -> Labels:
    """Every picture of the record files at `root / source.path`: a file, a folder of them, or a pattern such as
    `tfrecords/*fold-000-of-002*`, which takes one of TAO's folds.

    The picture of a record is `frame/id` with any suffix, below `source.images`; else below the folder of the file, or
    one of the two above it, whichever has any. Boxes are (x1, y1, x2, y2) in pixel edges, as the KITTI labels that TAO
    converts have them. Attributes: "truncation" (0 to 1) and "occlusion" (0 none to 2 large, 3 unknown), absent where
    they are negative.

    A record that cannot be read takes its picture with it, and its rejection names the byte that it starts at; a box
    without area, or outside the picture, goes alone. Raises DataError where a file is damaged.
    """
    files = record_files(source.path, root)
    entries, rejections = [], []
    named: list[tuple[str, Record]] = []
    for file in files:
        for start, features in read_records(file):
            try:
                named.append((_frame(features), (file, start, features)))
            except BrokenLabel as fault:
                rejections.append(_rejection(file, start, "broken label", fault.detail))
    names = [name for name, _ in named]
    folder = root / source.images if source.images else _folder(names, files)
    pictures = pictures_named(names, folder)
    for name, (file, start, features) in named:
        image = pictures.get(name)
        if image is None:
            nothing = (
                f"no picture {printable(name):.200}.* below {folder}; `images` is the folder that frame/id starts from"
            )
            rejections.append(_rejection(file, start, "image missing", nothing))
            continue
        try:
            boxes = list(_boxes(features))
            entries.append(Entry(file, image, name + image.suffix, boxes, None, _size(features)))
        except BrokenLabel as fault:
            rejections.append(_rejection(file, start, "broken label", f"{printable(name):.200}: {fault.detail}"))
    found, others = check_all(entries)
    return found, rejections + others


def record_files(path: str, root: Path) -> list[Path]:
    """The record files at `root / path`: itself, those of a folder, or what a pattern finds but for TAO's JSON.

    Raises DataError when there are none.
    """
    place = root / path
    if place.is_dir():
        files = [file for file in place.iterdir() if "-fold-" in file.name or file.suffix.lower() in SUFFIXES]
    else:
        files = [place] if place.is_file() else [root / name for name in glob(path, root_dir=root)]
    files = sorted(file for file in files if file.is_file() and file.suffix.lower() != ".json")
    if not files:
        raise DataError(f"{place}: no record file, such as train-fold-000-of-002-shard-00000-of-00010")
    return files


def _rejection(file: Path, start: int, reason: str, detail: str) -> Rejection:
    return Rejection(str(file), None, reason, f"record at byte {start}: {detail}")


def _folder(names: list[str], files: list[Path]) -> Path:
    """The folder that the frames' names start from."""
    places = [files[0].parent, files[0].parent.parent, files[0].parent.parent.parent]
    return next((place for place in places if pictures_named(names[:PROBES], place)), places[0])


def _frame(features: dict[str, Feature]) -> str:
    return PurePosixPath(picture_name(_text(_one(features, ID)), ID)).as_posix()


def _text(value: object) -> object:
    """Bytes as text where they are; anything else as it is."""
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value


def _size(features: dict[str, Feature]) -> tuple[int, int] | None:
    """(width, height), where both are told."""
    if WIDTH not in features or HEIGHT not in features:
        return None
    width, height = _one(features, WIDTH), _one(features, HEIGHT)
    if not isinstance(width, np.integer) or not isinstance(height, np.integer):
        raise BrokenLabel(f"{WIDTH} and {HEIGHT} are no whole numbers")
    return int(width), int(height)


def _one(features: dict[str, Feature], key: str) -> object:
    values = features.get(key, [])
    if len(values) != 1:
        raise BrokenLabel(f"{key} has {len(values)} values, expected 1")
    return values[0]


def _boxes(features: dict[str, Feature]) -> Iterator[LabelledBox]:
    names = features.get(CLASS, [])
    sides = [_numbers(features, key, len(names)) for key in SIDES]
    told = [name for name in ATTRIBUTES if f"target/{name}" in features]
    others = {name: _numbers(features, f"target/{name}", len(names)) for name in told}
    for index, word in enumerate(names):
        name = class_name(_text(word), CLASS)
        attributes = {key: values[index] for key, values in others.items() if values[index] >= 0}
        x1, y1, x2, y2 = (values[index] for values in sides)
        yield LabelledBox(name, (x1, y1, x2, y2), None, attributes=attributes)


def _numbers(features: dict[str, Feature], key: str, count: int) -> list[float]:
    values = features.get(key, [])
    if len(values) != count or (count and not isinstance(values, np.ndarray)):
        raise BrokenLabel(f"{key} has {len(values)} values, {CLASS} {count}; expected as many numbers")
    return [float(value) for value in values]
