"""Label Studio's JSON and JSON-MIN exports: pictures and the regions that were drawn on them.

From https://labelstud.io/guide/export and /guide/task_format: a list of tasks, each with its `data` (the picture's
address among them) and `annotations`, each a `result` list of regions; JSON-MIN has the regions of a task, without
ids, under the names of its labelling tags. `x`, `y`, `width`, `height` are percent of the picture (0 to 100 from its
left and top edge), `rotation` degrees clockwise about (x, y). The picture is the one that the browser shows: turned by
its EXIF tag in today's browsers, not so in older ones; `original_width` and `original_height` tell which.
`image_rotation`, by which the annotator turned the view, does not change `x` and `y` (`KeyPointRegion` and `Image` in
Label Studio's source).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ..frame import FARTHEST
from ..image import IMAGE_SUFFIXES
from ..sample import FloatArray, Rejection
from .json_list import JsonEntry, JsonList
from .label_studio_pictures import LocalPictures, address_path
from .labelled import BrokenLabel
from .orientation import Edges, Size, sizes, to_upright

LABELS = ("keypointlabels", "rectanglelabels", "labels")
GEOMETRY = ("x", "y", "width", "height", "rotation")
PICTURE_KEYS = ("image", "img", "picture", "photo", "url")  # what counts where a task names several pictures


@dataclass
class Region:
    """What was drawn once.

    Attributes:
        id, parent: of the region and of the one that it belongs to; "" where there is none.
        value: its geometry, in percent.
        labels, choices: the words that it was given.
        said: (width, height) of the picture that was shown, where told.
    """

    id: str
    parent: str = ""
    value: dict[str, Any] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)
    said: Size | None = None

    @property
    def is_box(self) -> bool:
        return "width" in self.value and "height" in self.value

    @property
    def is_point(self) -> bool:
        return "x" in self.value and "y" in self.value and not {"height", "radiusX"} & self.value.keys()


@dataclass(frozen=True)
class LabelStudioTask:
    """One picture and the regions of its annotation; `relations` are pairs of their ids."""

    file: Path
    line: int
    image: Path
    name: str
    regions: list[Region]
    relations: list[tuple[str, str]]


def read_tasks(path: Path, image_root: Path | None) -> Iterator[LabelStudioTask | Rejection]:
    """Every task of the export, or of all `.json` files below the folder, at `path`.

    Pictures are looked for below `image_root`, else below the file's folder. Of several annotations of a task the
    `ground_truth` counts, else the last; the others, skipped tasks, and tasks whose picture is not found are
    rejections. Raises DataError where a file is no JSON list.
    """
    for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
        pictures = LocalPictures(image_root or file.parent)
        for entry in JsonList(file):
            try:
                yield from _task(entry, pictures)
            except BrokenLabel as fault:
                yield Rejection(str(file), entry.line(), "broken label", fault.detail)


def on_picture(percents: Sequence[Sequence[float]], said: Size | None, path: Path) -> Edges:
    """Positions [N, 2] in percent as pixels from the top-left corner of the upright picture.

    Raises BrokenLabel when the picture that was shown, `said`, has the shape of neither the upright nor the stored one.
    """
    share = np.array(percents, np.float64).reshape(-1, 2) / 100
    try:
        upright, stored, _ = sizes(path)
    except DataError:
        return share  # whoever opens the picture next will say so
    if said is None or _alike(said, upright):
        return share * upright
    if _alike(said, stored):
        said = stored
    return to_upright(share * said, path, said)


def box_on_picture(region: Region, path: Path) -> FloatArray:
    """[x1, y1, x2, y2] of a rectangle in the upright picture; of a rotated one the box around it."""
    x, y, width, height = (percent(region.value.get(key), key) for key in ("x", "y", "width", "height"))
    if width <= 0 or height <= 0:
        raise BrokenLabel(f"the rectangle is {width:g} x {height:g} percent")
    shape = np.array(region.said or _upright_size(path), np.float64)  # turning is done in pixels, which are square
    angle = np.deg2rad(percent(region.value.get("rotation", 0), "rotation"))
    right = np.array([np.cos(angle), np.sin(angle)]) * width * shape[0]
    down = np.array([-np.sin(angle), np.cos(angle)]) * height * shape[1]
    start = np.array([x, y]) * shape
    corners = np.array([start, start + right, start + down, start + right + down]) / shape
    edges = on_picture(corners.tolist(), region.said, path)
    return np.array([*edges.min(axis=0), *edges.max(axis=0)], np.float32)


def percent(value: Any, what: str) -> float:
    """A number that can be one of percent. Raises BrokenLabel, naming `what` it is, otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= FARTHEST:
        raise BrokenLabel(f"{what} is {value!r:.80}, expected a number in percent")
    return float(value)


def _upright_size(path: Path) -> Size:
    try:
        return sizes(path)[0]
    except DataError:
        return 1, 1


def _alike(a: Size, b: Size) -> bool:
    """Whether one is the other, resized: as near as whole pixels of the smaller one tell."""
    small, large = sorted((a, b))
    return abs(large[0] * small[1] - large[1] * small[0]) <= max(large)


def _task(entry: JsonEntry, pictures: LocalPictures) -> Iterator[LabelStudioTask | Rejection]:
    file, line, task = entry.file.path, entry.line(), entry.value
    if not isinstance(task, dict):
        raise BrokenLabel(f"expected a task, found {task!r:.60}")
    data = task.get("data", task)
    address = _address(data)
    found = pictures.find(address)
    if isinstance(found, tuple):
        yield Rejection(str(file), line, *found)
        return
    if isinstance(annotations := task.get("annotations", task.get("completions")), list):
        chosen, left_out = _choose(annotations)
        for _ in range(left_out):
            yield Rejection(str(file), line, "another annotation", f"{found.name} was labelled several times")
        if chosen is None:
            yield Rejection(str(file), line, "no annotation", f"{found.name} was skipped or not labelled")
            return
        results = chosen.get("result")
        regions, relations = _regions(results)
    elif "data" in task:
        raise BrokenLabel(f"annotations is {annotations!r:.60}, expected a list")
    else:
        regions, relations = _regions_of_min(task), []
    name = found.relative_to(pictures.folder).as_posix()
    yield LabelStudioTask(file, line, found, name, regions, relations)


def _address(data: Any) -> str:
    """Where the picture of a task is, in the words of its `data`."""
    if not isinstance(data, dict):
        raise BrokenLabel(f"data is {data!r:.60}, expected an object with the picture's address")
    addresses = {
        key: value
        for key, value in data.items()
        if isinstance(value, str) and address_path(value).lower().endswith(IMAGE_SUFFIXES)
    }
    for key in PICTURE_KEYS:
        if key in addresses:
            return addresses[key]
    if len(addresses) != 1:
        detail = f"{len(addresses)} of its values are addresses of pictures ({', '.join(IMAGE_SUFFIXES)})"
        raise BrokenLabel(f"data: {detail}; expected one, or one called {', '.join(PICTURE_KEYS)}")
    return next(iter(addresses.values()))


def _choose(annotations: list[Any]) -> tuple[dict[str, Any] | None, int]:
    """The annotation that counts, and how many others there are."""
    if not all(isinstance(annotation, dict) for annotation in annotations):
        raise BrokenLabel(f"annotations is {annotations!r:.60}, expected a list of objects")
    kept = [annotation for annotation in annotations if not annotation.get("was_cancelled")]
    if not kept:
        return None, 0
    true = [annotation for annotation in kept if annotation.get("ground_truth")]
    return (true or kept)[-1], len(kept) - 1


def _regions(results: Any) -> tuple[list[Region], list[tuple[str, str]]]:
    """The regions of a `result`; what several tags say of one region, by its id, is put together."""
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise BrokenLabel(f"result is {results!r:.60}, expected a list of objects")
    regions: dict[Any, Region] = {}
    relations = []
    for number, result in enumerate(results):
        if result.get("type") == "relation":
            relations.append((str(result.get("from_id")), str(result.get("to_id"))))
            continue
        if result.get("item_index"):
            raise BrokenLabel("a task of several pictures; export them one a task")
        key = result.get("id")
        region = regions.setdefault(str(key) if key else number, Region(str(key or "")))
        _add(region, result, result.get("value"))
    return list(regions.values()), relations


def _regions_of_min(task: dict[str, Any]) -> list[Region]:
    """The regions of a JSON-MIN task, each under its own: they have no ids."""
    regions = []
    for value in task.values():
        for number, item in enumerate(value if isinstance(value, list) else []):
            if isinstance(item, dict) and "x" in item:
                regions.append(Region(""))
                _add(regions[-1], item, item)
            elif isinstance(item, dict) and any(key in item for key in LABELS):
                raise BrokenLabel(f"region {number} has no x")
    return regions


def _add(region: Region, result: dict[str, Any], value: Any) -> None:
    if not isinstance(value, dict):
        raise BrokenLabel(f"the value of region {region.id!r:.40} is {value!r:.60}, expected an object")
    if any(region.value[key] != value[key] for key in GEOMETRY if key in region.value and key in value):
        raise BrokenLabel(f"the id {region.id!r:.40} is given to two regions")
    region.parent = region.parent or str(result.get("parentID") or "")
    region.value = {**region.value, **value}
    for key in LABELS:
        region.labels += [word for word in _words(value.get(key)) if word not in region.labels]
    region.choices += _words(value.get("choices"))
    said = (result.get("original_width"), result.get("original_height"))
    if said != (None, None):
        if not all(isinstance(side, int) and 0 < side <= FARTHEST for side in said):
            raise BrokenLabel(f"original_width and original_height are {said!r:.60}, expected pixels")
        region.said = (said[0], said[1])  # type: ignore[assignment]


def _words(value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise BrokenLabel(f"labels are {value!r:.60}, expected a list of words")
    return value
