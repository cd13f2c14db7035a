"""One self-contained `report.html`: facts, tables, figures and pictures, with nothing to fetch and no script.

Knows no keypoints and no boxes: a trainer hands over `Section`s.
"""

from __future__ import annotations

import base64
import platform
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..datasets.sample import Rejection
from ..training import plots
from .model_file import write_atomic
from .report_style import STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot


Row = Sequence[str | float]


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header; numbers are aligned right and shown as `number` has it."""

    header: Sequence[str]
    rows: Sequence[Row]
    caption: str


@dataclass(frozen=True)
class Figure:
    """A plot. The caption says what is shown and in which unit."""

    plot: Plot
    caption: str


@dataclass(frozen=True)
class Pictures:
    """RGB pictures, uint8 [H, W, 3], each with its own line of text, and a caption for all.

    Attributes:
        width: least width that a picture is shown at, rem; as many stand side by side as there is room for.
    """

    pictures: Sequence[tuple[NDArray[np.uint8], str]]
    caption: str
    width: float = 11.0


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; a block of type str is a paragraph."""

    title: str
    blocks: Sequence[Table | Figure | Pictures | str]


@dataclass(frozen=True)
class CurveGroup:
    """Metrics that share one plot.

    Attributes:
        kind: "train" or "val": which lines of the log.
        metrics: regular expression that the metric's whole name matches.
        ylabel: what is plotted, with its unit.
    """

    kind: str
    metrics: str
    ylabel: str
    caption: str
    log: bool = False
    low: float | None = None


def write_report(path: Path, title: str, facts: Mapping[str, str], sections: Sequence[Section]) -> None:
    """Writes the page; `facts` stand at its head, each section below has an entry in the table of contents."""
    contents = "".join(f'<li><a href="#s{i}">{escape(s.title)}</a></li>' for i, s in enumerate(sections))
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{escape(title)}</title>\n'
        f"<style>\n{STYLE}</style>\n</head>\n<body>\n<header><h1>{escape(title)}</h1></header>\n"
        f"<nav><ul>{contents}</ul></nav>\n<main>\n{_facts(facts)}"
        + "".join(_section(i, section) for i, section in enumerate(sections))
        + "</main>\n</body>\n</html>\n"
    )
    write_atomic(path, page.encode())


def write_run_report(
    run_dir: Path,
    title: str,
    facts: Mapping[str, str],
    training: Section,
    drawn: Mapping[str, Plot],
    sections: Sequence[Section],
) -> None:
    """Writes `report.html` of a training run, and its plots once more as pictures in `plots/`.

    Args:
        training: the section of curves, which comes first.
        drawn: plots by the name of their file; the curves are named by their number.
    """
    curves = {f"training_{i}": block.plot for i, block in enumerate(training.blocks) if isinstance(block, Figure)}
    for name, plot in {**curves, **drawn}.items():
        plots.save_png(plot, run_dir / "plots" / f"{name}.png")
    write_report(run_dir / "report.html", title, facts, [training, *sections])


def number(value: float) -> str:
    """As tables show it: a count as it is, anything else with 4 digits, NaN as a dash."""
    if not np.isfinite(value):
        return "\N{EN DASH}"
    return str(value) if isinstance(value, int) else f"{value:#.4g}".rstrip(".")


def curve_section(title: str, log: Sequence[Mapping[str, Any]], groups: Sequence[CurveGroup]) -> Section:
    """A plot over the step for every group that has anything to show.

    Args:
        log: the records of `metrics.jsonl`: {"kind", "step", "epoch", metric: value, ...}.
    """
    blocks = []
    for group in groups:
        series: dict[str, tuple[list[float], list[float]]] = {}
        for line in log:
            if line["kind"] != group.kind:
                continue
            for name, value in line.items():
                if name not in ("kind", "step", "epoch") and re.fullmatch(group.metrics, name) and _finite(value):
                    x, y = series.setdefault(name, ([], []))
                    x.append(line["step"])
                    y.append(value)
        if series:
            plot = plots.curves(series, "optimiser step", group.ylabel, log=group.log, low=group.low)
            blocks.append(Figure(plot, group.caption))
    return Section(title, blocks or ["Nothing was logged."])


def data_section(rejections: Iterable[Rejection], notes: Sequence[str] = ()) -> Section:
    """What was left out, counted by reason, with the first case of each."""
    cases = list(rejections)
    first = {case.reason: str(case) for case in reversed(cases)}
    rows: list[Row] = [
        [reason, count, first[reason]] for reason, count in Counter(case.reason for case in cases).most_common()
    ]
    table = Table(["reason", "cases", "first case"], rows, f"Labels and pictures that were left out: {len(cases)}.")
    return Section("Data", [*notes, table if rows else "No label or picture was left out."])


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and bool(np.isfinite(value))


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>\n" for name, value in facts.items())
    return f'<dl class="facts">\n{rows}</dl>\n'


def _section(index: int, section: Section) -> str:
    blocks, figures = [], []
    for block in section.blocks:
        if isinstance(block, Figure):
            figures.append(_figure(block))
            continue
        blocks += _grid(figures)
        figures = []
        blocks.append(f"<p>{escape(block)}</p>\n" if isinstance(block, str) else _table(block)
                      if isinstance(block, Table) else _pictures(block))  # fmt: skip
    blocks += _grid(figures)
    return f'<section id="s{index}">\n<h2>{escape(section.title)}</h2>\n{"".join(blocks)}</section>\n'


def _grid(figures: Sequence[str]) -> list[str]:
    """Figures that follow each other stand side by side where the screen is wide enough."""
    return [f'<div class="figures">\n{"".join(figures)}</div>\n'] if figures else []


def _figure(figure: Figure) -> str:
    caption = escape(figure.caption)
    svg = plots.to_svg(figure.plot).replace("<svg", f'<svg role="img" aria-label="{caption}"', 1)
    return f"<figure>\n{svg}<figcaption>{caption}</figcaption>\n</figure>\n"


def _table(table: Table) -> str:
    numeric = [any(not isinstance(row[i], str) for row in table.rows) for i in range(len(table.header))]
    head = "".join(
        f'<th scope="col"{" class=number" * is_number}>{escape(name)}</th>'
        for name, is_number in zip(table.header, numeric, strict=True)
    )
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in table.rows)
    return (
        f'<figure class="table">\n<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table></div>\n<figcaption>{escape(table.caption)}</figcaption>\n</figure>\n"
    )


def _cell(value: str | float) -> str:
    return f"<td>{escape(value)}</td>" if isinstance(value, str) else f'<td class="number">{number(value)}</td>'


def _pictures(block: Pictures) -> str:
    items = "".join(
        f'<figure><img src="{_jpeg(picture)}" alt="{escape(text)}" width="{picture.shape[1]}" '
        f'height="{picture.shape[0]}"><figcaption>{escape(text)}</figcaption></figure>\n'
        for picture, text in block.pictures
    )
    caption = f"<figcaption>{escape(block.caption)}</figcaption>"
    style = f"--least: {block.width:g}rem"
    return f'<figure>\n<div class="pictures" style="{style}">\n{items}</div>\n{caption}\n</figure>\n'


def _jpeg(picture: NDArray[np.uint8]) -> str:
    from PIL import Image

    data = BytesIO()
    # Full colour resolution, or thin coloured lines smear.
    Image.fromarray(picture).save(data, "JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")


def machine_facts(device: str) -> dict[str, str]:
    """Which machine and versions a result was made with."""
    import torch

    name = (
        torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or platform.machine()
    )
    return {
        "Device": f"{device} ({name})",
        "Versions": f"facetrain {__version__}, PyTorch {torch.__version__}, Python {platform.python_version()}",
        "Written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    }
