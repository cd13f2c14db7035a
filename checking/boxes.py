"""Faults of boxes that their labels alone show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..configs.facenet.schema import DataConfig, SourceConfig
from ..datasets.detection_sources import ClassMapping, read_pictures
from ..datasets.formats.labelled import LabelledBox, LabelledPicture
from ..datasets.sample import DetectionSample, FloatArray
from ..datasets.split import split_samples
from ..errors import DataError
from .findings import Finding, from_rejection
from .label_noise import box_iou
from .sets import PARTS, refuse_store, source_name

SLACK = 1.0  # pixels that a box may reach out of its picture: labels are rounded, pictures resized
TWICE = 0.85  # IoU of two boxes that are one face
MOST_BOXES = 2000  # of a picture, compared with each other


@dataclass
class ReadPictures:
    """The pictures of a spec.

    Attributes:
        labels: as their labels have them; train's first, then val's, then test's.
        samples: the same with their classes mapped.
        parts: where each belongs.
        numbers: of the source within its part of the spec.
        classes: target classes.
        findings: what could not be read.
        notes: sentences worth showing.
    """

    labels: list[LabelledPicture]
    samples: list[DetectionSample]
    parts: list[str]
    numbers: list[int]
    classes: tuple[str, ...]
    findings: list[Finding]
    notes: list[str]

    def finding(
        self,
        kind: str,
        index: int,
        detail: str,
        badness: float = 0.0,
        other: int | None = None,
        *,
        line: int | None = None,
        box: NDArray[np.floating] | None = None,
    ) -> Finding:
        """A finding of picture `index`, or of its box `box` on `line`."""
        label, sample = self.labels[index], self.samples[index]
        file = label.label or f"{sample.source}/{sample.name}"
        place = label.line if line is None else line
        return Finding(
            kind,
            self.parts[index],
            sample.source,
            file,
            place,
            f"{sample.name}: {detail}",
            index,
            other,
            badness,
            None if box is None else _rounded(box),
        )


def read_boxes(data: DataConfig) -> ReadPictures:
    """Reads the pictures as training does, but to the end: a source or class that training would stop at is a finding.

    Raises ConfigError for a wrong key.
    """
    mapping = ClassMapping(data)
    read = ReadPictures([], [], [], [], mapping.classes, [], [])
    for part in PARTS:
        sources: list[SourceConfig] = getattr(data, part)
        for number, source in enumerate(sources):
            name, key = source_name(source, Path(data.root)), f"data.{part}[{number}]"
            refuse_store(source, key)
            try:
                pictures, rejections = read_pictures(source, Path(data.root), key)
            except DataError as error:
                file = str(Path(data.root) / source.path)
                read.findings.append(Finding("source unusable", part, name, file, detail=str(error)))
                continue
            read.findings += [from_rejection(one, part, name) for one in rejections]
            read.labels += pictures
            read.samples += [mapping.sample(picture, source) for picture in pictures]
            read.parts += [part] * len(pictures)
            read.numbers += [number] * len(pictures)
    read.notes += mapping.notes()
    _hold_out(read, data)
    return read


def _hold_out(read: ReadPictures, data: DataConfig) -> None:
    """Gives the pictures that training would hold out the part "val"."""
    held_out = {
        sample.image.resolve()
        for sample, part in zip(read.samples, read.parts, strict=True)
        if part != "train" and isinstance(sample.image, Path)
    }
    fit = [
        i
        for i, sample in enumerate(read.samples)
        if read.parts[i] == "train"
        and sample.validate
        and not (isinstance(sample.image, Path) and sample.image.resolve() in held_out)
    ]
    if data.val or not fit or not data.split.holds_out:
        return
    _, val = split_samples([read.samples[i] for i in fit], data.split, Path(data.root))
    chosen = {id(sample) for sample in val}
    for i in fit:
        if id(read.samples[i]) in chosen:
            read.parts[i] = "val"


def check_boxes(read: ReadPictures, max_aspect: float) -> list[Finding]:
    """Boxes that reach out of their picture, are many times longer than wide (`max_aspect`), or lie on each other; and
    classes without a box."""
    findings = []
    for index, label in enumerate(read.labels):
        for box in label.boxes:
            findings += _box_faults(read, index, box, max_aspect)
        findings += _twice(read, index)
    return findings + _classes(read)


def _box_faults(read: ReadPictures, index: int, labelled: LabelledBox, max_aspect: float) -> list[Finding]:
    (width, height), box, line = read.labels[index].size, np.array(labelled.box, np.float64), labelled.line
    corners = _corners(box)
    findings = []
    beyond = float(np.max([-box[0], -box[1], box[2] - width, box[3] - height]))
    if beyond > SLACK:
        share = beyond / float((box[2:] - box[:2]).max())
        detail = f"box {corners} by {beyond:.1f} pixels, picture {width} x {height}"
        findings.append(read.finding("box partly outside", index, detail, share, line=line, box=box))
    sides = np.sort(box[2:] - box[:2])
    if sides[1] > max_aspect * sides[0]:
        aspect = float(sides[1] / sides[0])
        detail = f"box {corners}, one side {aspect:.1f} times the other"
        findings.append(read.finding("absurd aspect", index, detail, aspect, line=line, box=box))
    return findings


def _twice(read: ReadPictures, index: int) -> list[Finding]:
    sample = read.samples[index]
    if not 2 <= len(sample.boxes) <= MOST_BOXES:
        return []
    overlap = np.triu(box_iou(sample.boxes, sample.boxes), 1)
    overlap[sample.labels[:, None] != sample.labels[None]] = 0
    lines = {_rounded(np.array(box.box, np.float32)): box.line for box in read.labels[index].boxes}
    findings = []
    for one, other in zip(*np.nonzero(overlap > TWICE), strict=True):
        box = sample.boxes[other]
        corners = f"{_corners(sample.boxes[one])} and {_corners(box)}"
        line, iou = lines.get(_rounded(box)), float(overlap[one, other])
        findings.append(read.finding("box twice", index, f"{corners}, IoU {iou:.2f}", iou, line=line, box=box))
    return findings


def _rounded(box: NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(float(value) for value in box)


def _corners(box: NDArray[np.floating]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in box) + ")"


def _classes(read: ReadPictures) -> list[Finding]:
    """Target classes of which a part that has pictures has no box, where training would refuse that."""
    findings = []
    for part in PARTS:
        chosen = [sample for sample, own in zip(read.samples, read.parts, strict=True) if own == part]
        if not chosen:
            continue
        counts = Counter(int(label) for sample in chosen for label in sample.labels)
        lacking = [name for label, name in enumerate(read.classes) if not counts[label]]
        if part == "train" or len(lacking) == len(read.classes):
            detail = f"data.{part} has none; the names in its labels: {_names(read, part)}"
            findings += [Finding("class without boxes", part, "", name, detail=detail) for name in lacking]
    return findings


def _names(read: ReadPictures, part: str) -> str:
    counts = Counter(
        box.name for label, own in zip(read.labels, read.parts, strict=True) if own == part for box in label.boxes
    )
    return ", ".join(f"{name!r} {count} times" for name, count in counts.most_common(8)) or "none"


def unknown_classes(read: ReadPictures, data: DataConfig) -> list[Finding]:
    """A finding for each name that neither data.class_mapping nor data.ignore.classes has, where it is first met."""
    known = {name.casefold() for name in (*data.class_mapping, *data.ignore.classes)}
    first: dict[str, tuple[int, int | None]] = {}
    counts: Counter[str] = Counter()
    for index, label in enumerate(read.labels):
        for box in label.boxes:
            if box.name.casefold() not in known:
                counts[box.name] += 1
                first.setdefault(box.name, (index, box.line))
    return [
        read.finding("unknown class", index, f"{name!r}, {counts[name]} boxes, is background", counts[name], line=line)
        for name, (index, line) in first.items()
    ]


def boxes_of(samples: Sequence[DetectionSample]) -> FloatArray:
    """[N, 4] all boxes."""
    return np.concatenate([sample.boxes for sample in samples] or [np.zeros((0, 4), np.float32)])
