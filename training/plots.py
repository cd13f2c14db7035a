"""The plots of reports: curves, bars, histograms, cumulative errors, precision over recall, circles on a plane.

Every function returns a Matplotlib `Figure` that belongs to no window; `to_svg` makes it part of a page that may be
light or dark, `save_png` a file. Matplotlib takes half a second to import, so it is imported where it is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[Sequence[float], Sequence[float]]

# After Okabe and Ito, for colour-blind readers. In SVG they become the page's --c0 to --c5, which a dark page lightens.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("-", "--", ":")
_INK = "#14161a"  # replaced in SVG by the page's own text colour
_FAINT = "#b4b8be"  # replaced in SVG by the page's line colour
# Small enough to stay readable when a phone shows it at 90 % of its width.
_WIDTH = 4.8


def curves(
    series: Mapping[str, Curve], xlabel: str, ylabel: str, *, log: bool = False, low: float | None = None
) -> Figure:
    """One line for each (x, y) of `series`; `low`: lower end of the y axis.

    `log` makes y logarithmic where that shows more: all values are positive and span a factor of 5.
    """
    figure, axes = _axes(3.0)
    for i, (name, (x, y)) in enumerate(series.items()):
        marker = "o" if len(x) < 3 else None  # a line through one point is invisible
        axes.plot(x, y, _DASHES[i // len(COLOURS) % len(_DASHES)], color=COLOURS[i % len(COLOURS)], label=name,
                  marker=marker, linewidth=1.4)  # fmt: skip
    values = np.concatenate([np.asarray(y, np.float64) for _, y in series.values()])
    if log and values.min() > 0 and values.max() > 5 * values.min():
        _log_scale(axes)
    elif low is not None:
        axes.set_ylim(bottom=low)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    _legend(axes, len(series))
    return figure


def bars(values: Mapping[str, Mapping[str, float]], xlabel: str) -> Figure:
    """Horizontal bars, series -> name -> value; each value is written beside its bar, and NaN leaves a gap."""
    names = list(dict.fromkeys(name for series in values.values() for name in series))
    thickness = 0.8 / len(values)
    figure, axes = _axes(0.7 + max(0.3, 0.22 * len(values)) * len(names))
    for i, (label, series) in enumerate(values.items()):
        place = np.arange(len(names)) + (i - (len(values) - 1) / 2) * thickness
        drawn = axes.barh(place, [series.get(name, np.nan) for name in names], thickness, color=COLOURS[i], label=label)
        numbers = [f"{v:#.3g}" if np.isfinite(v := series.get(name, np.nan)) else "" for name in names]
        axes.bar_label(drawn, numbers, padding=2, fontsize=7.5, color=_INK)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(xlabel)
    _legend(axes, len(values), above=True)  # bars may be anywhere below
    return figure


def ced(
    errors: Mapping[str, NDArray[np.floating]], xlabel: str, *, limit: float, thresholds: Sequence[float] = ()
) -> Figure:
    """Cumulative error distribution: the share of samples whose error is at most x, for 0 <= x <= `limit`.

    Args:
        errors: series -> [N] errors; those that are not finite are left out.
        thresholds: errors marked by a vertical line.
    """
    figure, axes = _axes(3.0)
    for threshold in thresholds:
        axes.axvline(threshold, color=_FAINT, linewidth=1, linestyle="--")
    for i, (name, values) in enumerate(errors.items()):
        known = np.sort(values[np.isfinite(values)])
        share = 100 * np.arange(len(known) + 1) / max(1, len(known))
        axes.step(np.concatenate([[0.0], known, [max(limit, known[-1] if len(known) else 0)]]),
                  np.append(share, share[-1]), where="post", color=COLOURS[i % len(COLOURS)], label=name,
                  linewidth=1.4)  # fmt: skip
    axes.set(xlim=(0, limit), ylim=(0, 102), xlabel=xlabel, ylabel="faces at most that far off, %")
    _legend(axes, len(errors))
    return figure


def precision_recall(series: Mapping[str, Curve], marks: Mapping[str, tuple[float, float]]) -> Figure:
    """Precision over recall, 0 to 1: a line for each (recall, precision) of `series`, a dot at its point in `marks`."""
    figure, axes = _axes(3.0)
    for i, (name, (recall, precision)) in enumerate(series.items()):
        axes.plot(recall, precision, _DASHES[i // len(COLOURS) % len(_DASHES)], color=COLOURS[i % len(COLOURS)],
                  label=name, linewidth=1.4)  # fmt: skip
        if name in marks:
            axes.plot(*marks[name], "o", color=COLOURS[i % len(COLOURS)], markersize=5)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.legend(fontsize=7.5, frameon=False, labelcolor=_INK, loc="lower left")
    return figure


def histogram(series: Mapping[str, NDArray[np.floating]], xlabel: str, *, log: bool = False, bins: int = 40) -> Figure:
    """The share of each series' values in every bin, percent; values that are not finite are left out.

    `log` makes bins and axis logarithmic where all values are positive.
    """
    known = {name: values[np.isfinite(values)].astype(np.float64) for name, values in series.items()}
    known = {name: values for name, values in known.items() if len(values)}
    everything = np.concatenate([*known.values(), np.zeros(0)])
    low, high = (float(everything.min()), float(everything.max())) if len(everything) else (0.0, 1.0)
    high = high if high > low else low + 1.0
    log = log and low > 0
    edges = np.geomspace(low, high, bins + 1) if log else np.linspace(low, high, bins + 1)
    figure, axes = _axes(2.4)
    for i, (name, values) in enumerate(known.items()):
        share = 100 * np.histogram(values, edges)[0] / len(values)
        axes.stairs(share, edges, color=COLOURS[i % len(COLOURS)], label=name, linewidth=1.4)
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel=xlabel, ylabel="share, %")
    axes.set_ylim(bottom=0)
    _legend(axes, len(known))
    return figure


def circles(centres: NDArray[np.floating], radii: NDArray[np.floating], labels: Sequence[str] = ()) -> Figure:
    """Circles [M] at the points [M, 2], to scale, y downwards; a radius that is not finite draws a cross."""
    from matplotlib.patches import Circle

    figure, axes = _axes(0.92 * _WIDTH)
    known = np.isfinite(radii)
    for centre, radius in zip(centres[known], radii[known], strict=True):
        axes.add_patch(Circle((centre[0], centre[1]), radius, facecolor=COLOURS[0] + "33", edgecolor=COLOURS[0]))
    axes.plot(*centres[known].T, ".", color=COLOURS[0], markersize=2)
    axes.plot(*centres[~known].T, "x", color=_INK, markersize=4)
    tops = centres - np.stack([np.zeros(len(radii)), np.where(known, radii, 0)], axis=1)
    for top, label in zip(tops, labels, strict=False):
        axes.annotate(label, top, (0, 0.5), textcoords="offset points", ha="center", fontsize=5.5, color=_INK)
    axes.set_aspect("equal")
    axes.margins(0.03)
    axes.invert_yaxis()
    axes.axis("off")
    return figure


def to_svg(figure: Figure) -> str:
    """The figure as an `<svg>` element for a page: transparent, in the page's text colour, as wide as its frame."""
    import matplotlib

    text = StringIO()
    # A fixed salt gives equal marks equal ids, so several figures can stand in one page, and the same run gives the
    # same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "facetrain"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*pt"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*pt"', r"\1", svg, count=1)
    svg = re.sub(r"font: [^;\"]*?(\d[\d.]*px)[^;\"]*", r"font: \1 system-ui, sans-serif", svg)
    for i, colour in enumerate(COLOURS):
        svg = svg.replace(colour, f"var(--c{i})")
    return svg.replace(_INK, "currentColor").replace(_FAINT, "var(--line)")


def save_png(figure: Figure, path: Path) -> None:
    """Writes the figure on white."""
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, format="png", dpi=120, facecolor="white")


def _axes(height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(colors=_INK, labelsize=8, length=2.5)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_FAINT)
    axes.xaxis.label.set(color=_INK, size=8.5)
    axes.yaxis.label.set(color=_INK, size=8.5)
    axes.grid(color=_FAINT, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _log_scale(axes: Axes) -> None:
    """Logarithmic y with plain numbers at 1, 2 and 5: a loss that falls to a fifth may pass no power of ten."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,), numticks=20))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")


def _legend(axes: Axes, count: int, *, above: bool = False) -> None:
    """Where lines leave room, or in one row above the plot."""
    if count > 1:
        place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)} if above else {}
        columns = count if above else 1 if count <= 4 else 2
        axes.legend(fontsize=7.5, frameon=False, labelcolor=_INK, ncols=columns, **place)
