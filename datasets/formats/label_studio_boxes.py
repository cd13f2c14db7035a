"""Boxes of Label Studio's exports: `rectanglelabels`."""

from __future__ import annotations

from pathlib import Path

from ...configs.facenet.schema import SourceConfig
from ..sample import Rejection
from ..source_files import printable
from .label_studio import LabelStudioTask, box_on_picture, read_tasks
from .labelled import BrokenLabel, Entry, LabelledBox, Labels, check_all, class_name


def read_label_studio_boxes(source: SourceConfig, root: Path) -> Labels:
    """Every annotated picture of the export at `root / source.path`, JSON or JSON-MIN, or of a folder of them.

    How pictures are found below `source.images`, else below the file's folder, and what is made of turned ones, is
    said in `label_studio_pictures`. A rotated rectangle becomes the upright box around it, which is larger than what
    was drawn. One with several labels is a box of each. Points are passed over; regions of other shapes are rejections,
    without their picture. A picture that was annotated with nothing is one without a face.

    A rectangle that cannot be read takes its picture with it. Raises DataError where a file is no JSON list.
    """
    entries, rejections = [], []
    for task in read_tasks(root / source.path, root / source.images if source.images else None):
        if isinstance(task, Rejection):
            rejections.append(task)
            continue
        try:
            entries.append(Entry(task.file, task.image, task.name, _boxes(task), task.line))
            rejections += _others(task)
        except BrokenLabel as fault:
            detail = f"{printable(task.name)}: {fault.detail}"
            rejections.append(Rejection(str(task.file), task.line, "broken label", detail))
    found, others = check_all(entries)
    return found, rejections + others


def _boxes(task: LabelStudioTask) -> list[LabelledBox]:
    boxes = []
    for region in task.regions:
        if not region.is_box:
            continue
        if not region.labels:
            raise BrokenLabel(f"rectangle {region.id!r:.80} has no label")
        x1, y1, x2, y2 = box_on_picture(region, task.image).tolist()
        names = [class_name(label, f"the label of rectangle {region.id!r:.80}") for label in region.labels]
        boxes += [LabelledBox(name, (x1, y1, x2, y2), task.line) for name in names]
    return boxes


def _others(task: LabelStudioTask) -> list[Rejection]:
    return [
        Rejection(str(task.file), task.line, "not a rectangle", f"{printable(task.name)}: region {region.id!r:.80}")
        for region in task.regions
        if not region.is_box and not region.is_point
    ]
