"""One photograph twice, in one split or in two; persons in two splits; and how far two labels of one picture differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..datasets.sample import FaceSample
from .findings import Finding
from .pairs import Pair, originals, partner
from .sets import ORDER

Found = Callable[[str, int, str, float, int | None], Finding]  # kind, position, detail, badness, other


def duplicate_findings(
    pairs: Sequence[Pair], parts: Sequence[str], names: Sequence[str], found: Found, what: str
) -> list[Finding]:
    """A finding for each sample that repeats another: of another split before one of its own; in the train part before
    val, and in val before test, as training leaves out the former.

    Args:
        pairs: of samples.
        parts, names: of each sample.
        found: makes a finding.
        what: "picture" or "face".
    """
    findings = []
    for late, pair in originals(pairs, reading_order(parts), parts).items():
        other = partner(pair, late)
        kind = "duplicate" if parts[late] == parts[other] else "duplicate across splits"
        mirrored = ", mirrored" if pair.mirrored else ""
        detail = f"{what} of {parts[other]}: {names[other]}{mirrored}, correlation {pair.alike:.3f}"
        findings.append(found(kind, late, detail, pair.alike, other))
    return findings


def reading_order(parts: Sequence[str]) -> np.ndarray:
    """[N] a number for each sample by which a held-out one comes before a training one."""
    n = len(parts)
    return np.array([ORDER[part] * n + i for i, part in enumerate(parts)], np.int64)


def shared_subjects(samples: Sequence[FaceSample], parts: Sequence[str], found: Found) -> list[Finding]:
    """One finding for each person and pair of splits, at the first face of the part that should give way."""
    first: dict[str, dict[str, int]] = {}
    counts: dict[tuple[str, str], int] = {}
    for i, sample in enumerate(samples):
        if sample.subject:
            first.setdefault(sample.subject, {}).setdefault(parts[i], i)
            counts[sample.subject, parts[i]] = counts.get((sample.subject, parts[i]), 0) + 1
    findings = []
    for subject, places in first.items():
        ordered = sorted(places, key=lambda part: ORDER[part])
        for part in ordered[1:]:
            kept = ordered[0]
            detail = (
                f"{subject}: {counts[subject, part]} faces in {part}, {counts[subject, kept]} in {kept}; "
                "data.split.by=subject keeps persons together"
            )
            findings.append(
                found("subject in two splits", places[part], detail, float(counts[subject, part]), places[kept])
            )
    return findings
