"""Cleaned label lists beside the originals, which nobody touches, and a spec that trains on them."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..datasets.sample import DetectionSample, FaceSample
from ..datasets.whole_file import whole_file
from .findings import ERROR, Finding

FOLDER = "cleaned"
REMOVED = ("duplicate",)  # warnings whose sample goes all the same

Sample = FaceSample | DetectionSample


@dataclass(frozen=True)
class Kept:
    """What is left of one source.

    Attributes:
        part, number: its place in the spec.
        samples: those that stay.
        images: the folder that their names start from; None where they are not of files.
    """

    part: str
    number: int
    samples: Sequence[Any]
    images: Path | None

    def list_path(self, folder: Path) -> Path:
        """Where its list goes."""
        source = re.sub(r"[^\w.-]+", "_", self.samples[0].source)
        return folder / FOLDER / f"{self.part}_{self.number}_{source}.json"


def removed_samples(findings: Iterable[Finding], keep_duplicates: bool) -> dict[int, Finding]:
    """Positions of the samples that cannot stay, and the first reason of each.

    `keep_duplicates`: those inside a split stay, as data.drop_duplicates=false has it.
    """
    reasons: dict[int, Finding] = {}
    for finding in findings:
        goes = finding.severity == ERROR or (finding.kind in REMOVED and not keep_duplicates)
        if finding.sample is not None and goes:
            reasons.setdefault(finding.sample, finding)
    return reasons


def kept_sources(
    samples: Sequence[Sample], places: Sequence[tuple[str, int]], removed: dict[int, Finding]
) -> list[Kept]:
    """What stays of each source; `places` are part and number of the source of each sample."""
    groups: dict[tuple[str, int], list[Sample]] = {}
    for i, (sample, place) in enumerate(zip(samples, places, strict=True)):
        if i not in removed:
            groups.setdefault(place, []).append(sample)
    return [Kept(part, number, group, images_folder(group)) for (part, number), group in groups.items()]


def images_folder(samples: Sequence[Sample]) -> Path | None:
    """The folder from which all names lead to their pictures; where there is none, that which holds them all.

    None where a picture is no file."""
    paths = [sample.image for sample in samples if isinstance(sample.image, Path)]
    if len(paths) < len(samples):
        return None
    whole = [os.path.abspath(path) for path in paths]
    ends = ["/" + sample.name for sample in samples]
    if all(path.endswith(end) for path, end in zip(whole, ends, strict=True)):
        folders = {path.removesuffix(end) for path, end in zip(whole, ends, strict=True)}
        if len(folders) == 1:
            return Path(folders.pop())
    return Path(os.path.commonpath([os.path.dirname(path) for path in whole]))


def write_removed(folder: Path, findings: Iterable[Finding], removed: dict[int, Finding]) -> Path:
    """removed.csv: what is not in the cleaned lists, one a line: rejected labels, and samples taken out."""
    path = folder / FOLDER / "removed.csv"
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["split", "source", "file", "line", "reason", "detail"])
    left_out = [finding for finding in findings if finding.sample is None and finding.file]
    for finding in [*left_out, *removed.values()]:
        line = "" if finding.line is None else finding.line
        table.writerow([finding.part, finding.source, finding.file, line, finding.kind, finding.detail])
    with whole_file(path) as file:
        file.write(text.getvalue().encode())
    return path


def write_spec(folder: Path, spec: dict[str, Any], program: str) -> Path:
    """cleaned.yaml: the spec's data and what else it needs, its sources those of the cleaned lists."""
    path = folder / FOLDER / "cleaned.yaml"
    head = f"# The data of a `{program} check`, without what was wrong with them: {program} train -e {path}\n"
    with whole_file(path) as file:
        file.write((head + yaml.safe_dump(spec, sort_keys=False, allow_unicode=True)).encode())
    return path
