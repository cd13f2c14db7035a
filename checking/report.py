"""What `check` leaves: tables on the screen, check.json and report.html."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.sample import ByteArray
from ..training import plots
from ..training.console import print_tables
from ..training.report import Figure, Pictures, Section, Table, write_report
from .findings import ERROR, ERRORS, WARNING, WARNINGS, Finding, by_kind, count

LISTED = 200  # findings of a kind in the report; check.json has all
FEW = 3  # of a kind on the screen
MEANINGS = {**ERRORS, **WARNINGS}

Values = Mapping[str, np.ndarray]  # numbers by split
Picture = Callable[[Finding], ByteArray | None]


@dataclass(frozen=True)
class Statistic:
    """A quantity of every face, box or picture.

    Attributes:
        name: what it is called in check.json.
        label: what it is, with its unit.
        values: by split; NaN where unknown.
        caption: of its plot.
        log: logarithmic.
    """

    name: str
    label: str
    values: Values
    caption: str
    log: bool = False


@dataclass(frozen=True)
class Checked:
    """What was found in a set.

    Attributes:
        noun: what is counted: "faces" or "pictures"; held: what they hold, such as "boxes".
        rows: counts by split and source, see `sets.count_rows`.
        findings: all.
        notes: sentences worth showing.
        statistics: quantities with their plots.
        sheets: (title, caption, pictures with a line each) of samples that no finding need be about.
    """

    noun: str
    held: str
    rows: Sequence[Mapping[str, str | int]]
    findings: Sequence[Finding]
    notes: Sequence[str]
    statistics: Sequence[Statistic]
    sheets: Sequence[tuple[str, str, Sequence[tuple[ByteArray, str]]]] = ()


def write_json(path: Path, checked: Checked) -> None:
    """All counts, findings and statistics."""
    grouped = by_kind(checked.findings)
    content = {
        "errors": count(checked.findings, ERROR),
        "warnings": count(checked.findings, WARNING),
        "counts": [dict(row) for row in checked.rows],
        "kinds": {kind: {"severity": found[0].severity, "count": len(found)} for kind, found in grouped.items()},
        "findings": [_plain(finding) for found in grouped.values() for finding in found],
        "notes": list(checked.notes),
        "statistics": {s.name: {part: _summary(v) for part, v in s.values.items()} for s in checked.statistics},
    }
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_page(
    path: Path, title: str, facts: Mapping[str, str], checked: Checked, pictures: int, draw: Picture
) -> None:
    """`report.html`: the first `pictures` findings of each kind are shown, drawn by `draw`."""
    sections = [Section("What was found", [*checked.notes, counts_table(checked), kinds_table(checked)])]
    for kind, found in by_kind(checked.findings).items():
        sections.append(Section(f"{kind.capitalize()}: {len(found)}", _kind_blocks(kind, found, pictures, draw)))
    for heading, caption, shown in checked.sheets:
        if shown:
            sections.append(Section(heading, [Pictures(shown, caption)]))
    figures = [_histogram(statistic) for statistic in checked.statistics if _drawn(statistic)]
    if figures:
        sections.append(Section("Statistics", [statistics_table(checked), *figures]))
    write_report(path, title, facts, sections)


def print_summary(checked: Checked, lines: Sequence[str]) -> None:
    """The tables, the worst of each kind, and the lines."""
    tables = [counts_table(checked)]
    if checked.findings:
        tables.append(kinds_table(checked))
    examples = [
        f"{finding.severity}: {finding}" for found in by_kind(checked.findings).values() for finding in found[:FEW]
    ]
    print_tables(tables, [*checked.notes, *examples, *lines])


def counts_table(checked: Checked) -> Table:
    rows = [list(row.values()) for row in checked.rows]
    header = ["split", "source", checked.noun, checked.held, "errors", "warnings"]
    return Table(header, rows, f"What was read, and how many findings it has: {checked.noun} by split and source.")


def kinds_table(checked: Checked) -> Table:
    rows: list[Sequence[str | float]] = [
        [found[0].severity, kind, len(found), MEANINGS.get(kind, "left out by training")]
        for kind, found in by_kind(checked.findings).items()
    ]
    errors, warnings = (count(checked.findings, severity) for severity in (ERROR, WARNING))
    return Table(["severity", "finding", "count", "meaning"], rows, f"{errors} errors, {warnings} warnings.")


def statistics_table(checked: Checked) -> Table:
    rows: list[Sequence[str | float]] = []
    for statistic in checked.statistics:
        for part, values in statistic.values.items():
            known = values[np.isfinite(values)]
            if len(known):
                rows.append([statistic.label, part, len(known), *np.percentile(known, [0, 5, 50, 95, 100]).tolist()])
    return Table(["quantity", "split", "count", "least", "5 %", "median", "95 %", "most"], rows, "How the set is made.")


def _kind_blocks(kind: str, found: Sequence[Finding], pictures: int, draw: Picture) -> list[Any]:
    blocks: list[Any] = [MEANINGS.get(kind, "Left out by training.").capitalize() + "."]
    shown: list[tuple[ByteArray, str]] = []
    for finding in found:
        if len(shown) >= pictures:
            break
        if finding.sample is not None and (picture := draw(finding)) is not None:
            shown.append((picture, f"{finding.part} {finding.source}: {finding.detail}"))
    if shown:
        blocks.append(Pictures(shown, f"The first {len(shown)} of {len(found)}, the worst first.", 14.0))
    rows = [[finding.part, finding.source, finding.place, finding.detail] for finding in found[:LISTED]]
    more = f" check.json lists the other {len(found) - LISTED}." if len(found) > LISTED else ""
    blocks.append(Table(["split", "source", "place", "what"], rows, f"{kind.capitalize()}.{more}"))
    return blocks


def _drawn(statistic: Statistic) -> bool:
    return any(np.isfinite(values).any() for values in statistic.values.values())


def _histogram(statistic: Statistic) -> Figure:
    return Figure(plots.histogram(statistic.values, statistic.label, log=statistic.log), statistic.caption)


def _summary(values: np.ndarray) -> dict[str, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return {"count": 0}
    names = ("least", "p5", "median", "p95", "most")
    figures = np.percentile(known, [0, 5, 50, 95, 100])
    return {"count": len(known), **{name: round(float(v), 4) for name, v in zip(names, figures, strict=True)}}


def _plain(finding: Finding) -> dict[str, Any]:
    plain = asdict(finding)
    del plain["sample"], plain["other"]
    return {"severity": finding.severity, **plain, "badness": round(float(finding.badness), 4)}
