"""The faces of a spec, read as training reads them, but to the end: a source that training would stop at is a finding,
and duplicates are still among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..configs.fpenet.schema import DataConfig
from ..datasets.sample import FaceSample
from ..datasets.sources import read_source
from ..datasets.split import split_samples
from ..errors import DataError
from .findings import Finding, from_rejection
from .sets import PARTS, refuse_store, source_name


@dataclass
class ReadFaces:
    """What was read.

    Attributes:
        samples: the faces of all sources; train's first, then val's, then test's.
        parts: where each belongs; changed by `hold_out`.
        numbers: of the source within its part of the spec.
        findings: what could not be read.
    """

    samples: list[FaceSample] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def read_faces(data: DataConfig, num_keypoints: int, source_points: list[int], names: Sequence[str]) -> ReadFaces:
    """The faces of all sources; the other arguments are those of `read_source`.

    Raises ConfigError for a wrong key; a source that cannot be used is a finding.
    """
    root, result = Path(data.root), ReadFaces()
    for part in PARTS:
        for number, source in enumerate(getattr(data, part)):
            key = f"data.{part}[{number}]"
            refuse_store(source, key)
            try:
                samples, rejections = read_source(source, root, num_keypoints, source_points, key, names)
            except DataError as error:
                file = str(root / source.path)
                result.findings.append(
                    Finding("source unusable", part, source_name(source, root), file, detail=str(error))
                )
                continue
            result.findings += [from_rejection(one, part, source_name(source, root)) for one in rejections]
            result.samples += samples
            result.parts += [part] * len(samples)
            result.numbers += [number] * len(samples)
    return result


def hold_out(read: ReadFaces, data: DataConfig, dropped: set[int]) -> None:
    """Gives the faces that training would hold out the part "val"; `dropped`: those that it leaves out before.

    Raises ConfigError as training does where the split cannot be made.
    """
    fit = [
        i
        for i, sample in enumerate(read.samples)
        if read.parts[i] == "train" and i not in dropped and sample.labelled and sample.validate
    ]
    if data.val or not fit or not data.split.holds_out:
        return
    _, val = split_samples([read.samples[i] for i in fit], data.split, Path(data.root))
    chosen = {id(sample) for sample in val}
    for i in fit:
        if id(read.samples[i]) in chosen:
            read.parts[i] = "val"
