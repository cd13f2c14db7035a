"""COCO's JSON: lists of pictures, of categories, and of annotations with a box [x, y, width, height]."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from ...configs.facenet.schema import SourceConfig
from ..sample import Rejection
from .coco_lists import Lined, id_of, picture_folders, picture_of, read_lists
from .labelled import BrokenLabel, Entry, LabelledBox, Labels, check_all, class_name, folder_with


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
            key, name, said = picture_of(value, line)
            if key in found:
                raise BrokenLabel(f"another picture has the id {key!r} too", line)
            found[key] = name, said, line
        except BrokenLabel as fault:
            rejections.append(fault.rejection(path))
    for key in boxes.keys() - found.keys():
        faults = [BrokenLabel(f"image_id {key!r} is not in images", box.line) for box in boxes[key]]
        rejections += [fault.rejection(path) for fault in faults]
    names = [name for name, *_ in found.values()]
    folder = root / source.images if source.images else folder_with(names, picture_folders(path))
    whole = {key: picture for key, picture in found.items() if key not in broken}
    pictures, others = check_all(
        Entry(path, folder / name, name, boxes.get(key, []), line, said) for key, (name, said, line) in whole.items()
    )
    return pictures, rejections + others


def _annotations(path: Path, lists: dict[str, Lined]) -> tuple[dict[Any, list[LabelledBox]], set[Any], list[Rejection]]:
    """Boxes by the id of their picture, and the ids of pictures with an annotation that cannot be read."""
    categories: dict[Any, str] = {}
    boxes: dict[Any, list[LabelledBox]] = defaultdict(list)
    broken: set[Any] = set()
    rejections = []
    for line, value in lists["categories"]:
        try:
            key = id_of(value, "id", line)
            name = class_name(value.get("name"), "the name of a category", line)
            if categories.setdefault(key, name) != name:
                raise BrokenLabel(f"another category, {categories[key]!r}, has the id {key!r} too", line)
        except BrokenLabel as fault:
            rejections.append(fault.rejection(path))
    for line, value in lists["annotations"]:
        picture = None
        try:
            picture = id_of(value, "image_id", line)
            boxes[picture].append(_box(value, categories, line))
        except BrokenLabel as fault:
            rejections.append(fault.rejection(path))
            broken.add(picture)
    return boxes, broken, rejections


def _box(value: Any, categories: dict[Any, str], line: int) -> LabelledBox:
    category, box = id_of(value, "category_id", line), value.get("bbox")
    if category not in categories:
        raise BrokenLabel(f"category_id {category!r} is not in categories", line)
    if not isinstance(box, list) or len(box) != 4 or not all(type(number) in (int, float) for number in box):
        raise BrokenLabel(f"bbox is {box!r:.80}, expected [x, y, width, height]", line)
    x, y, width, height = (float(number) if abs(number) < 1e300 else math.inf for number in box)
    marked = bool(value.get("iscrowd") or value.get("ignore"))
    return LabelledBox(categories[category], (x, y, x + width, y + height), line, marked)
