"""COCO's keypoints: `keypoints` [x1, y1, v1, ...] of every annotation, and their names in its category.

From COCO's data format (https://cocodataset.org/#format-data): v is 0 for a point that is not labelled (then x and y
are 0), 1 for one that is labelled and not visible, 2 for a visible one. Keypoints are 0-based pixel indices, as here;
`bbox` [x, y, width, height] is measured from the picture's top-left corner.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.fpenet.schema import SourceConfig
from ..sample import FloatArray, Rejection
from ..source_files import printable
from .coco_lists import Lined, id_of, picture_folders, picture_of, read_lists
from .labelled import BrokenLabel, folder_with
from .labelled_faces import FaceEntry, Faces, check_faces, face_box, face_points, pixels
from .orientation import to_upright

Picture = tuple[str, tuple[int, int] | None]  # name, and (width, height) where it is told


def read_coco_keypoints(source: SourceConfig, root: Path) -> Faces:
    """Every annotation of the label file `root / source.path`, in its order.

    Pictures are below `source.image_root`; else where `coco_lists.picture_folders` looks. Crowds (`iscrowd`) are
    rejections. Points of v = 1 are occluded, of v = 0 missing. Raises DataError when the file is no such JSON.
    """
    path = root / source.path
    lists = read_lists(path)
    rejections: list[Rejection] = []
    pictures = _by_id(path, lists["images"], picture_of, rejections)
    widths = _by_id(path, lists["categories"], _category, rejections)
    names = [name for name, _ in pictures.values()]
    folder = root / source.image_root if source.image_root else folder_with(names, picture_folders(path))
    samples, others = check_faces(_faces(path, lists["annotations"], pictures, widths, folder), source)
    return samples, rejections + others


def _by_id(path: Path, entries: Lined, read: Any, rejections: list[Rejection]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for line, value in entries:
        try:
            key, *rest = read(value, line)
            if key in found:
                raise BrokenLabel(f"another entry has the id {key!r:.80} too", line)
            found[key] = tuple(rest)
        except BrokenLabel as fault:
            rejections.append(fault.rejection(path))
    return found


def _category(value: Any, line: int) -> tuple[Any, int | None]:
    """Id, and the number of keypoints where their names are told."""
    key, names = id_of(value, "id", line), value.get("keypoints")
    return key, len(names) if isinstance(names, list) else None


def _faces(
    path: Path, annotations: Lined, pictures: dict[Any, Picture], widths: dict[Any, Any], folder: Path
) -> Iterator[FaceEntry | Rejection]:
    for line, value in annotations:
        try:
            key = id_of(value, "image_id", line)
            if key not in pictures:
                raise BrokenLabel(f"image_id {key!r:.80} is not in images", line)
            category = id_of(value, "category_id", line)
            if category not in widths:
                raise BrokenLabel(f"category_id {category!r:.80} is not in categories", line)
            (name, said), (count,) = pictures[key], widths[category]
            if value.get("iscrowd"):
                yield Rejection(str(path), line, "crowd", printable(name))
            else:
                yield _face(path, line, value, folder / name, name, said, count)
        except BrokenLabel as fault:
            yield fault.rejection(path)


def _face(
    path: Path, line: int, value: Any, image: Path, name: str, said: tuple[int, int] | None, count: int | None
) -> FaceEntry:
    flat, box = value.get("keypoints", [0, 0, 0] * (count or 0)), value.get("bbox")
    if not isinstance(flat, list) or len(flat) % 3 or (count is not None and len(flat) != 3 * count):
        many = f"{len(flat)} numbers" if isinstance(flat, list) else repr(flat)[:80]
        raise BrokenLabel(f"keypoints is {many}, expected {3 * count if count else 'x, y, v'} for its category", line)
    rows = np.array([pixels(number, "a keypoint's number", line) for number in flat]).reshape(-1, 3)
    if not np.isin(rows[:, 2], (0, 1, 2)).all():
        raise BrokenLabel("a keypoint's v is not 0, 1 or 2", line)
    corners = np.empty((0, 2))
    if box is not None:
        if not isinstance(box, list) or len(box) != 4:
            raise BrokenLabel(f"bbox is {box!r:.80}, expected [x, y, width, height]", line)
        x, y, width, height = (pixels(number, "bbox", line) for number in box)
        corners = face_box([x, y, x + width, y + height], line).astype(np.float64).reshape(2, 2)
    edges = np.concatenate([rows[:, :2] + 0.5, corners])
    if said:
        edges = to_upright(edges, image, said, line)
    edges, corners = edges[: len(rows)], edges[len(rows) :]
    edges[rows[:, 2] == 0] = np.nan
    points, states = face_points(edges - 0.5, rows[:, 2] == 1)
    return FaceEntry(path, line, image, name, points, states, _box(corners))


def _box(corners: np.ndarray) -> FloatArray | None:
    return np.array([*corners.min(axis=0), *corners.max(axis=0)], np.float32) if len(corners) else None
