"""What `check` finds: kinds of faults, how bad each is, and where it was met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ..datasets.sample import Rejection

ERROR, WARNING = "error", "warning"

# What training leaves out or would learn wrongly is an error; what it can live with, or what the spec asks for, is a
# warning. The order is that of the report.
WARNINGS = {
    "cut off by the frame": "the picture shows less of the face than min_visible_fraction",
    "occlusion level": "above max_occlusion_level",
    "duplicate": "a picture or face that its own split has already",
    "labels disagree": "one picture labelled twice, and the labels differ",
    "point out of place": "far from where the other points and the other faces let expect it",
    "points outside the picture": "learnt as occluded",
    "points outside the box": "some points lie outside the face's box",
    "box partly outside": "reaches out of the picture; nothing is cut off in training",
    "absurd aspect": "one side is many times the other",
    "box twice": "the same place is labelled twice in one picture",
    "unknown class": "a name that data.class_mapping does not have: it is background",
    "wrongly named": "the file is of another format than its name says",
    "transparency": "transparent parts become black",
    "16 bits": "samples become 8 bits",
    "CMYK": "converted without a colour profile",
    "turned by EXIF": "turned before use; labels must have been made on the upright picture",
}
ERRORS = {
    "source unusable": "nothing of a source can be used",
    "picture unreadable": "truncated, or no picture",
    "class without boxes": "a target class of which there is no box",
    "collapsed points": "many points in one place",
    "mirrored points": "left and right are exchanged",
    "wrong order": "points stand where others belong",
    "points in another box": "most points lie outside the face's box",
    "duplicate across splits": "a picture or face that another split has too",
    "subject in two splits": "a person that another split has too",
}


@dataclass(frozen=True)
class Finding:
    """One object that is wrong or suspicious.

    Attributes:
        kind: a key of `WARNINGS` or `ERRORS`, or the reason of a rejection.
        part, source: "train", "val" or "test", and the name of the source.
        file, line: of the label, or the picture's file where it is at fault.
        detail: what exactly.
        sample: position of the face or picture among those that were read; None where it could not be read.
        other: position of what it is a duplicate of.
        badness: worse is larger; sorts findings of a kind.
        box: (x1, y1, x2, y2) of the box that it is about.
    """

    kind: str
    part: str
    source: str
    file: str
    line: int | None = None
    detail: str = ""
    sample: int | None = None
    other: int | None = None
    badness: float = 0.0
    box: tuple[float, ...] | None = None

    @property
    def severity(self) -> str:
        return WARNING if self.kind in WARNINGS else ERROR

    @property
    def place(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def __str__(self) -> str:
        return f"{self.place}: {self.kind}" + (f" ({self.detail})" if self.detail else "")


def from_rejection(rejection: Rejection, part: str, source: str) -> Finding:
    """A label that a reader has left out."""
    return Finding(rejection.reason, part, source, rejection.file, rejection.line, rejection.detail)


def by_kind(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Findings of each kind, the worst first; errors before warnings, common kinds before rare ones."""
    listed = list(findings)
    counts = Counter(finding.kind for finding in listed)
    kinds = sorted(counts, key=lambda kind: (kind in WARNINGS, -counts[kind], kind))
    order = sorted(listed, key=lambda finding: -finding.badness)
    return {kind: [finding for finding in order if finding.kind == kind] for kind in kinds}


def count(findings: Iterable[Finding], severity: str) -> int:
    return sum(finding.severity == severity for finding in findings)
