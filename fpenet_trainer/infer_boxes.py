"""The boxes of the faces that `fpenet infer` looks at, and which picture each belongs to."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..datasets.formats.fpenet_json import read_face_boxes
from ..datasets.inputs import Inputs, Picture
from ..datasets.sample import FloatArray
from ..errors import DataError


@dataclass(frozen=True)
class FaceBox:
    """A face's box [x1, y1, x2, y2] in pixel edges of the picture, and the detector's score."""

    box: FloatArray
    score: float | None = None


class FaceBoxes:
    """The boxes that a file or folder names, found again by picture or frame.

    A picture's name need not be written as we write it: a label's `/data/set/a.jpg` is our `set/a.jpg`, as long as the
    file name is the same and no other picture shares a longer tail of the path. Frames go by number: `12`, `000012.txt`
    and `clip_000012.jpg` are all frame 12 (from 0).

    Attributes:
        unmatched: names in the file that no picture of `inputs` bears, or that could be more than one.
    """

    def __init__(self, source: str, inputs: Inputs) -> None:
        """Raises DataError as `read_boxes`."""
        boxes = read_boxes(source)
        if inputs.kind == "pictures":
            names: dict[str, str] | dict[str, int] = _match(list(boxes), inputs.names, inputs.root)
        else:
            names = _frame_numbers(list(boxes))
        self.unmatched = [name for name in boxes if name not in names]
        self._boxes: dict[str | int, list[FaceBox]] = {}
        for name, key in names.items():
            self._boxes.setdefault(key, []).extend(boxes[name])

    def of(self, picture: Picture) -> list[FaceBox]:
        """The picture's faces, in the file's order; none if the file does not name it."""
        return self._boxes.get(picture.name if picture.frame is None else picture.frame, [])


def _match(wanted: list[str], pictures: list[str], root: Path) -> dict[str, str]:
    """Names of the boxes file -> pictures, where that is certain."""
    bearers: dict[str, list[str]] = {}
    for picture in pictures:
        path = PurePosixPath(picture)
        for alias in {path.name, path.stem, path.stem.lstrip("0") or "0"}:  # as labels, as KITTI, as COCO's numbers
            bearers.setdefault(alias, []).append(picture)
    folder = root.resolve()
    claims: dict[str, list[tuple[float, str]]] = {}
    for name in wanted:
        path = PurePosixPath(name.replace("\\", "/"))
        found = bearers.get(path.name) or (bearers.get(path.stem) if path.suffix == ".txt" else None) or []
        scores = {picture: _common_tail(path, folder / picture) for picture in found}
        exact = [picture for picture in found if PurePosixPath(picture).with_suffix(path.suffix) == path]
        nearest = exact or [picture for picture in found if scores[picture] == max(scores.values())]
        if len(nearest) == 1:
            claims.setdefault(nearest[0], []).append((math.inf if exact else scores[nearest[0]], name))
    result: dict[str, str] = {}
    for picture, claimants in claims.items():  # a/x.jpg and b/x.jpg may both look like our one x.jpg
        best = max(score for score, _ in claimants)
        names = [name for score, name in claimants if score == best]
        if len(names) == 1:
            result[names[0]] = picture
    return result


def _common_tail(path: PurePosixPath, picture: Path) -> int:
    """How many folders, counted from the file upwards, have the same name."""
    pairs = list(zip(reversed(path.parent.parts), reversed(picture.parent.parts), strict=False))
    return next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))


def _frame_numbers(names: list[str]) -> dict[str, int]:
    found = {name: re.search(r"(\d+)$", PurePosixPath(name).stem) for name in names}
    return {name: int(digits[1]) for name, digits in found.items() if digits}


def read_boxes(source: str) -> dict[str, list[FaceBox]]:
    """Boxes by the name of their picture. The file's content says which of these it is:

    * an FPENet label JSON: `face_tight_bbox`, or `face_outer_bbox` where a face has no tight one;
    * facetrain's own: `{"a.jpg": [[x1, y1, x2, y2], [x1, y1, x2, y2, score]], "b.jpg": []}`, pixel edges;
    * COCO results `[{"image_id" or "file_name": ..., "bbox": [x, y, w, h], "score": ...}]`, or a COCO data set with
      `images` and `annotations`;
    * a folder of KITTI `.txt` files, one a picture: 15 columns, or 16 with the score; `DontCare` is passed over.

    Raises:
        DataError: missing, none of these, or a box that is no box; the message says where.
    """
    path = Path(source)
    if path.is_dir():
        return _read_kitti(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"boxes={source}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"boxes={source} is not JSON ({error}); accepted: JSON, or a folder of KITTI .txt") from None
    if isinstance(content, dict) and "annotations" in content and "images" in content:
        names = {image["id"]: image["file_name"] for image in content["images"]}
        return _read_coco(content["annotations"], names, source)
    if isinstance(content, dict):
        return {name: _own(rows, f"{source}: {name}") for name, rows in content.items()}
    if content == [] or (isinstance(content, list) and isinstance(content[0], dict) and "bbox" in content[0]):
        return _read_coco(content, {}, source)
    return _read_fpenet(path)


def _own(rows: Any, place: str) -> list[FaceBox]:
    if not isinstance(rows, list):
        raise DataError(f"{place}: {rows!r} is no list of boxes; accepted: [[x1, y1, x2, y2], ...]")
    return [_box(row, place) for row in rows]


def _read_fpenet(path: Path) -> dict[str, list[FaceBox]]:
    boxes: dict[str, list[FaceBox]] = {}
    for face in read_face_boxes(path):
        if face.box is not None:
            boxes.setdefault(face.name, []).append(_box(face.box.tolist(), f"{path}: {face.name}"))
    if not boxes:
        raise DataError(f"boxes={path}: no FaceBbox in this label file; leave boxes empty if each picture is one face")
    return boxes


def _read_coco(rows: list[dict[str, Any]], names: dict[Any, str], source: str) -> dict[str, list[FaceBox]]:
    boxes: dict[str, list[FaceBox]] = {name: [] for name in names.values()}
    for number, row in enumerate(rows):
        place = f"{source}: entry {number}"
        try:
            name = row.get("file_name") or names.get(row["image_id"], str(row["image_id"]))
            x, y, width, height = row["bbox"]
            values = [x, y, x + width, y + height] + ([row["score"]] if "score" in row else [])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{place}: needs image_id or file_name, and bbox [x, y, w, h] ({error!r})") from None
        boxes.setdefault(name, []).append(_box(values, place))
    return boxes


def _read_kitti(folder: Path) -> dict[str, list[FaceBox]]:
    files = sorted(folder.rglob("*.txt"))
    if not files:
        raise DataError(f"boxes={folder}: no KITTI .txt file in this folder or below it")
    boxes: dict[str, list[FaceBox]] = {}
    for file in files:
        faces = boxes.setdefault(file.relative_to(folder).as_posix(), [])
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            columns = line.split()
            if not columns or columns[0] == "DontCare":
                continue
            if len(columns) not in (15, 16):
                raise DataError(f"{file}:{number}: {len(columns)} columns; KITTI has 15, or 16 with the score")
            faces.append(_box(columns[4:8] + columns[15:], f"{file}:{number}"))
    return boxes


def _box(values: Any, place: str) -> FaceBox:
    try:
        numbers = [float(value) for value in values]
        x1, y1, x2, y2 = numbers[:4]
        score = numbers[4] if len(numbers) > 4 else None
    except (TypeError, ValueError):
        raise DataError(f"{place}: {values!r} is no box; accepted: four numbers x1 y1 x2 y2, and a score") from None
    if not (all(map(math.isfinite, numbers)) and x1 < x2 and y1 < y2):
        raise DataError(f"{place}: {values!r} is an empty box; needs x1 < x2 and y1 < y2, as finite numbers")
    return FaceBox(np.array([x1, y1, x2, y2], np.float32), score)
