"""COCO's JSON: lists of pictures, of categories, and of annotations with a box [x, y, width, height]."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..configs.facenet.schema import SourceConfig
from .coco_lists import Lined, read_lists
from .labelled import BrokenLabel, Entry, LabelledBox, Labels, check_all, folder_with
from .sample import Rejection


def read_coco(source: SourceConfig, root: Path) -> Labels:
    """Every picture of the label file `root / source.path`, in its order.

    Pictures are below `source.images`; else beside the file, or in `images` or the folder that the file's name ends
    with (`instances_val2017.json`: `val2017`), next to it or one folder up. Boxes with `iscrowd` or `ignore` are
    marked. A picture without annotations is one without a face.

    An annotation that cannot be read takes its picture with it; a box without area, or outside the picture, goes
    alone. Boxes that are partly outside stay as they are. Raises DataError when the file is no JSON with those lists.
    """
    path = root / source.path
    lists = read_lists(path)
    boxes, broken, rejections = _annotations(path, lists)
    found: dict[Any, tuple[str, tuple[int, int] | None, int]] = {}
    for line, value in lists["images"]:
        try:
            key, name, said = _image(value, line)
            if key in found:
                raise BrokenLabel(f"another picture has the id {key!r} too", line)
            found[key] = name, said, line
        except BrokenLabel as fault:
            rejections.append(fault.rejection(path))
    for key in boxes.keys() - found.keys():
        faults = [BrokenLabel(f"image_id {key!r} is not in images", box.line) for box in boxes[key]]
        rejections += [fault.rejection(path) for fault in faults]
    names = [name for name, *_ in found.values()]
    folder = root / source.images if source.images else folder_with(names, _folders(path))
    whole = {key: picture for key, picture in found.items() if key not in broken}
    pictures, others = check_all(
        Entry(path, folder / name, name, boxes.get(key, []), line, said) for key, (name, said, line) in whole.items()
    )
    return pictures, rejections + others


def _folders(path: Path) -> Iterator[Path]:
    part = path.stem.split("_")[-1]
    for place in (path.parent, path.parent.parent):
        yield from (place, place / "images", place / part, place / "images" / part)


def _annotations(path: Path, lists: dict[str, Lined]) -> tuple[dict[Any, list[LabelledBox]], set[Any], list[Rejection]]:
    """Boxes by the id of their picture, and the ids of pictures with an annotation that cannot be read."""
    categories: dict[Any, str] = {}
    boxes: dict[Any, list[LabelledBox]] = defaultdict(list)
    broken: set[Any] = set()
    rejections = []
    for line, value in lists["categories"]:
        try:
            categories[_id(value, "id", line)] = str(value.get("name"))
        except BrokenLabel as fault:
            rejections.append(fault.rejection(path))
    for line, value in lists["annotations"]:
        picture = None
        try:
            picture = _id(value, "image_id", line)
            boxes[picture].append(_box(value, categories, line))
        except BrokenLabel as fault:
            rejections.append(fault.rejection(path))
            broken.add(picture)
    return boxes, broken, rejections


def _image(value: Any, line: int) -> tuple[Any, str, tuple[int, int] | None]:
    """Id, name, and (width, height) where it is told."""
    key, name = _id(value, "id", line), value.get("file_name")
    if not isinstance(name, str) or not name:
        raise BrokenLabel(f"file_name is {name!r}, expected the name of a picture", line)
    width, height = value.get("width"), value.get("height")
    told = isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0
    return key, name, (width, height) if told else None


def _box(value: Any, categories: dict[Any, str], line: int) -> LabelledBox:
    category, box = _id(value, "category_id", line), value.get("bbox")
    if category not in categories:
        raise BrokenLabel(f"category_id {category!r} is not in categories", line)
    if not isinstance(box, list) or len(box) != 4 or not all(type(number) in (int, float) for number in box):
        raise BrokenLabel(f"bbox is {box!r:.80}, expected [x, y, width, height]", line)
    x, y, width, height = (float(number) for number in box)
    marked = bool(value.get("iscrowd") or value.get("ignore"))
    return LabelledBox(categories[category], (x, y, x + width, y + height), line, marked)


def _id(value: Any, key: str, line: int) -> int | str:
    if not isinstance(value, dict):
        raise BrokenLabel(f"expected an object, found {value!r:.80}", line)
    found = value.get(key)
    if not isinstance(found, (int, str)):
        raise BrokenLabel(f"{key} is {found!r:.80}, expected a number", line)
    return found
