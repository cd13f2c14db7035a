"""The faces of a Label Studio export: key points, and rectangles around them where there are any.

A face is what hangs together by `parentID` or by relations: its points, and its rectangle. Points of a picture that
hang on nothing are one face, with the picture's rectangle if it has just one that no point hangs on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...configs.fpenet.schema import SourceConfig
from ..sample import Rejection
from .fpenet_json import MOST_POINTS
from .label_studio import LabelStudioTask, Region, box_on_picture, on_picture, percent, read_tasks
from .labelled import BrokenLabel
from .labelled_faces import FaceEntry, Faces, check_faces, face_points

OCCLUDED = "occluded"  # a choice per region that marks its point


def read_label_studio(source: SourceConfig, root: Path, num_keypoints: int, names: Sequence[str] = ()) -> Faces:
    """Every face of the export, or of all `.json` files below the folder, at `root / source.path`.

    A point's label is its number, "1" or "P1" for the first, or one of `names`, the scheme's. Points that a face lacks
    are missing; all faces have `num_keypoints` points, or more where the labels have. A point whose region was given
    the choice "occluded" is occluded. A point lies at x percent of the picture's width from its left edge. Raises
    DataError where a file is no JSON list.
    """
    image_root = root / source.image_root if source.image_root else None
    index = {name: n for n, name in enumerate(names)}
    entries = [entry for task in read_tasks(root / source.path, image_root) for entry in _faces(task, index, source)]
    highest = max((len(entry.points) for entry in entries if isinstance(entry, FaceEntry)), default=0)
    return check_faces((_padded(entry, max(num_keypoints, highest)) for entry in entries), source)


def _faces(
    task: LabelStudioTask | Rejection, index: dict[str, int], source: SourceConfig
) -> Iterator[FaceEntry | Rejection]:
    if isinstance(task, Rejection):
        yield task
        return
    groups = _groups(task)
    if not groups:
        yield Rejection(str(task.file), task.line, "no points", f"{task.name}: no face is labelled")
    for group in groups:
        try:
            yield _face(task, group, index)
        except BrokenLabel as fault:
            yield Rejection(str(task.file), task.line, "broken label", f"{task.name}: {fault.detail}")


def _groups(task: LabelStudioTask) -> list[list[Region]]:
    """The points and rectangles of each face."""
    regions = [region for region in task.regions if region.is_point or region.is_box]
    place = {region.id: n for n, region in enumerate(regions) if region.id}
    top = list(range(len(regions)))  # of each region one that it hangs together with, at last the same for all of them

    def find(n: int) -> int:
        while top[n] != n:
            top[n] = n = top[top[n]]
        return n

    for a, b in [*((region.id, region.parent) for region in regions), *task.relations]:
        if a in place and b in place:
            top[find(place[a])] = find(place[b])
    together: dict[int, list[Region]] = defaultdict(list)
    for n, region in enumerate(regions):
        together[find(n)].append(region)
    loose = [group[0] for group in together.values() if len(group) == 1 and group[0].is_point]
    faces = [group for group in together.values() if len(group) > 1 or group[0].is_box]
    boxes = [group for group in faces if all(region.is_box for region in group)]
    if loose and len(boxes) == 1:
        boxes[0] += loose
    elif loose:
        faces.append(loose)
    return faces


def _face(task: LabelStudioTask, group: list[Region], index: dict[str, int]) -> FaceEntry:
    boxes = [region for region in group if region.is_box]
    if len(boxes) > 1:
        raise BrokenLabel(f"{len(boxes)} rectangles hang together, such as {boxes[0].id!r:.40} and {boxes[1].id!r:.40}")
    numbers: dict[int, Region] = {}
    for region in group:
        if region.is_point:
            n = _number(region, index)
            if n in numbers:
                raise BrokenLabel(
                    f"the label {region.labels[0]!r:.40} occurs twice in a face; where a picture has several faces, "
                    "give the points of each the face's rectangle as parent, or relate them to it"
                )
            numbers[n] = region
    percents = np.full((max(numbers, default=-1) + 1, 2), np.nan)
    for n, region in numbers.items():
        percents[n] = [percent(region.value[key], f"{key} of {region.labels[0]!r:.40}") for key in "xy"]
    said = {region.said for region in numbers.values()}
    if len(said) > 1:
        raise BrokenLabel(f"the points' original_width and original_height differ: {sorted(map(str, said))}")
    edges = on_picture(percents.tolist(), next(iter(said), None), task.image)
    occluded = [n in numbers and OCCLUDED in map(str.lower, numbers[n].choices) for n in range(len(percents))]
    points, states = face_points(edges - 0.5, np.array(occluded, bool))
    box = box_on_picture(boxes[0], task.image) if boxes else None
    return FaceEntry(task.file, task.line, task.image, task.name, points, states, box)


def _number(region: Region, index: dict[str, int]) -> int:
    """The 0-based number of a point by its label."""
    if len(region.labels) != 1:
        raise BrokenLabel(
            f"point {region.id!r:.40} has {len(region.labels)} labels, expected one: {region.labels!r:.80}"
        )
    word = region.labels[0].strip()
    if word in index:
        return index[word]
    digits = word.removeprefix("P").removeprefix("p")
    if digits.isascii() and digits.isdigit() and len(digits) < 9 and 1 <= int(digits) <= MOST_POINTS:
        return int(digits) - 1
    raise BrokenLabel(f"the label {word!r:.40} is no point: expected 1, 2, ... or P1, P2, ..., or a name of the scheme")


def _padded(entry: FaceEntry | Rejection, width: int) -> FaceEntry | Rejection:
    if isinstance(entry, Rejection):
        return entry
    lacking = width - len(entry.points)
    points = np.pad(entry.points, ((0, lacking), (0, 0)), constant_values=np.nan)
    return replace(entry, points=points, states=np.pad(entry.states, (0, lacking)))
