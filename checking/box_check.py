"""All that is checked of a set of pictures with boxes, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..configs.check_schema import BoxCheckConfig
from ..configs.facenet.schema import DataConfig
from ..datasets.sample import FloatArray
from .boxes import ReadPictures, boxes_of, check_boxes, read_boxes, unknown_classes
from .duplicates import duplicate_findings
from .findings import Finding
from .label_noise import box_difference
from .pairs import find_pairs
from .pictures import scan_findings
from .report import Statistic
from .scan import Scan, Task, scan
from .sets import PARTS


@dataclass(frozen=True)
class CheckedPictures:
    """What was found: the pictures, each with its part; findings, notes and statistics."""

    read: ReadPictures
    findings: list[Finding]
    notes: list[str]
    statistics: list[Statistic]


def check_pictures(data: DataConfig, config: BoxCheckConfig) -> CheckedPictures:
    """Reads the pictures of a spec and checks them. Raises ConfigError for a wrong key."""
    read = read_boxes(data)
    seen = scan([Task(label.image, (), label.size) for label in read.labels], config.workers)
    paths = [label.image if isinstance(label.image, Path) else None for label in read.labels]

    def of_file(number: int, kind: str, detail: str) -> Finding:
        sample = read.samples[number]
        return Finding(kind, read.parts[number], sample.source, str(paths[number]), None, detail, number)

    names = [f"{sample.source}/{sample.name}" for sample in read.samples]
    repeated = duplicate_findings(find_pairs(seen.small, config.alike), read.parts, names, read.finding, "picture")
    findings = [
        *read.findings,
        *scan_findings(seen, paths, of_file),
        *check_boxes(read, config.max_aspect),
        *unknown_classes(read, data),
        *repeated,
        *_label_noise(read, repeated, config.label_noise),
    ]
    return CheckedPictures(read, findings, list(read.notes), _statistics(read, seen))


def _label_noise(read: ReadPictures, repeated: Sequence[Finding], least: float) -> list[Finding]:
    """Findings of duplicates whose boxes overlap by less than `least` in the mean, or are not as many."""
    findings = []
    for finding in repeated:
        one, other = finding.sample, finding.other
        assert one is not None and other is not None
        boxes = _in_frame(read, one, other, ", mirrored" in finding.detail)
        overlap, alone = box_difference(boxes, read.samples[other].boxes)
        if alone or overlap < least:
            detail = f"mean IoU {overlap:.2f}, {alone} boxes in one label only, {read.samples[other].name}"
            findings.append(read.finding("labels disagree", one, detail, alone + 1 - np.nan_to_num(overlap), other))
    return findings


def _in_frame(read: ReadPictures, one: int, other: int, mirrored: bool) -> FloatArray:
    """The boxes of picture `one` in pixels of picture `other`, which shows the same."""
    scale = np.array(read.labels[other].size, np.float64) / read.labels[one].size
    boxes = read.samples[one].boxes * np.tile(scale, 2)
    if mirrored:
        boxes = boxes[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + np.array([1, 0, 1, 0]) * read.labels[other].size[0]
    return boxes.astype(np.float32)


def _statistics(read: ReadPictures, seen: Scan) -> list[Statistic]:
    chosen = {part: [i for i, own in enumerate(read.parts) if own == part] for part in PARTS if part in read.parts}
    samples = {part: [read.samples[i] for i in members] for part, members in chosen.items()}
    sides = {part: boxes_of(group)[:, 2:] - boxes_of(group)[:, :2] for part, group in samples.items()}
    counts = {part: np.array([float(len(sample.boxes)) for sample in group]) for part, group in samples.items()}
    occlusion = {part: np.concatenate([_attribute(s.attributes, len(s.boxes)) for s in group])
                 for part, group in samples.items()}  # fmt: skip
    return [
        Statistic("height", "height of the boxes, pixels", {part: s[:, 1] for part, s in sides.items()},
                  "Heights, pixels of the pictures.", log=True),
        Statistic("aspect", "width / height", {part: s[:, 0] / s[:, 1] for part, s in sides.items()},
                  "Width over height of the boxes.", log=True),
        Statistic("boxes", "boxes in a picture", counts, "Boxes to learn in a picture."),
        Statistic("occlusion", "occlusion, as the labels count it", occlusion, "Occlusion of the boxes."),
        Statistic("light", "mean grey value of the picture",
                  {part: seen.light[members] for part, members in chosen.items()},
                  "Brightness of the pictures, 0 to 255."),
    ]  # fmt: skip


def _attribute(attributes: dict[str, FloatArray], count: int) -> FloatArray:
    return attributes.get("occlusion", np.full(count, np.nan, np.float32))
