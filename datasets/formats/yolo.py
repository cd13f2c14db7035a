"""YOLO's text labels: a file a picture, a line a box, `class cx cy w h` in shares of the picture's width and height."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from ...configs.facenet.schema import SourceConfig
from ...errors import DataError
from ..sample import Rejection
from .labelled import (
    BrokenLabel,
    Entry,
    LabelledBox,
    Labels,
    check_all,
    class_name,
    numbers,
    pictures_below,
    pictures_for,
    read_text,
    stem_in,
    whole_number,
)

COLUMNS = ("class", "cx", "cy", "w", "h")
LISTS = ("classes.txt", "obj.names", "classes.names")  # a name a line
SPECS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")  # Ultralytics': `names`
NOT_LABELS = (*LISTS, "train.txt", "val.txt", "valid.txt", "test.txt")  # beside labels: names, and lists of pictures
ABOVE = 1.01  # a share may be rounded up to this


def read_yolo(source: SourceConfig, root: Path) -> Labels:
    """Every picture of the folder `root / source.path`, in the order of their names.

    The folder is that of the labels, `labels/train` or the like, or one that holds a folder `labels`. Pictures are
    those of the same name, with any suffix, below `source.images`; else where `images` stands for `labels` in the path,
    else beside the labels. A picture without a label, or with an empty one, is one without a face, as Ultralytics'
    documentation has it; `train.txt`, `val.txt` and `test.txt` at the folder's top are lists of pictures, no labels.

    Classes are named by `names` in data.yaml (or dataset.yaml), or by the lines of classes.txt or obj.names, in the
    folder or one of the two above it; without any the number is the name: `class_mapping: {"0": face}`.

    A line that cannot be read takes its picture with it, also one of another length, such as a polygon; a box without
    area, or outside the picture, goes alone. Raises DataError where the names cannot be read.
    """
    folder = root / source.path
    if (folder / "labels").is_dir():
        folder = folder / "labels"
    names = _names(folder)
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() == ".txt" and not (file.parent == folder and file.name.lower() in NOT_LABELS)
    )
    images = root / source.images if source.images else _images(folder)
    pictures = pictures_below(images) if images else pictures_for(files, folder, None, ())
    labels = {stem_in(folder, file): file for file in files}
    entries, rejections = [], []
    for stem in sorted(labels.keys() | pictures.keys()):
        label, image = labels.get(stem), pictures.get(stem)
        if image is None:
            rejections.append(Rejection(str(label), None, "image missing", f"no picture {stem}.* for it"))
            continue
        try:
            boxes = _boxes(label, names) if label else []
            entries.append(Entry(label or image, image, stem + image.suffix, boxes, shares=True))
        except BrokenLabel as fault:
            rejections.append(fault.rejection(label or image))
        except DataError as error:
            rejections.append(Rejection(str(label), None, "label unreadable", str(error)))
    found, others = check_all(entries)
    return found, rejections + others


def _images(labels: Path) -> Path | None:
    """The folder of pictures where the last `labels` of a path is `images`, if there is one."""
    parts = list(labels.parts)
    for place in reversed(range(len(parts))):
        if parts[place] == "labels":
            parts[place] = "images"
            images = Path(*parts)
            return images if images.is_dir() else None
    return None


def _boxes(label: Path, names: Mapping[int, str] | None) -> list[LabelledBox]:
    lines = enumerate(read_text(label).splitlines(), start=1)
    return [_box(number, line, names) for number, line in lines if line.strip()]


def _box(number: int, line: str, names: Mapping[int, str] | None) -> LabelledBox:
    words = line.split()
    if len(words) != len(COLUMNS):
        detail = f"{len(words)} fields, expected {len(COLUMNS)} ({' '.join(COLUMNS)}): {line.strip():.80}"
        raise BrokenLabel(detail, number)
    class_id = whole_number(words[0])
    if class_id is None or (names is not None and class_id not in names):
        known = f"one of {_shown(names)}" if names is not None else "its number"
        raise BrokenLabel(f"expected a class, {known}, found {words[0]!r:.80}", number)
    cx, cy, width, height = shares = numbers(words[1:], number)
    if any(abs(share) > ABOVE for share in shares):
        detail = f"expected shares of the picture's width and height, 0 to 1, found {' '.join(words[1:]):.80}"
        raise BrokenLabel(detail, number)
    box = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
    return LabelledBox(names[class_id] if names is not None else str(class_id), box, number)


def _shown(names: Mapping[int, str]) -> str:
    words = [f"{number} ({name})" for number, name in list(names.items())[:5]]
    return ", ".join(words) + (", ..." if len(names) > 5 else "")


def _names(folder: Path) -> dict[int, str] | None:
    """The names of the classes by number; None where no file tells them."""
    for place in (folder, folder.parent, folder.parent.parent):
        for name in SPECS:
            if (place / name).is_file():
                return _names_of(place / name)
        for name in LISTS:
            if (place / name).is_file():
                lines = read_text(place / name).rstrip().splitlines()
                return {number: line.strip() for number, line in enumerate(lines)}
    return None


def _names_of(spec: Path) -> dict[int, str]:
    try:
        value = yaml.safe_load(read_text(spec))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{spec}: not valid YAML: {error}") from error
    names = value.get("names") if isinstance(value, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if (
        not isinstance(names, dict)
        or not all(type(number) is int for number in names)
        or not all(isinstance(name, (str, int, float)) for name in names.values())
    ):
        raise DataError(f"{spec}: `names` is no list of the classes' names, and no map from their numbers")
    try:
        return {number: class_name(str(name), f"{spec}: the name of class {number}") for number, name in names.items()}
    except BrokenLabel as fault:
        raise DataError(fault.detail) from None
