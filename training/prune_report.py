"""What `prune` leaves: the smaller model file, a table of its layers, status.json, a plot and report.html."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..training import plots
from .console import print_tables
from .model_file import ModelMeta, save_model, write_atomic
from .prune_network import Pruned
from .report import Figure, Section, Table, machine_facts, write_report
from .run_folder import RunFolder, make_folder
from .trackers import TrackerGroup

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot

MODEL = "pruned.safetensors"


def write_results(
    folder: Path, trackers: TrackerGroup, spec: Mapping[str, Any], meta: ModelMeta, pruned: Pruned, title: str
) -> Path:
    """Writes everything, prints the table and the pruning ratio, and returns the model file.

    pruned.safetensors; layers.csv (layer,before,after,note); prune.json (the same, costs, ratio and threshold);
    channels.png and report.html unless the spec's `report` is off; and a line in status.json with TAO's
    `pruning_ratio`, `size` (bytes of the model file) and `param_count` (with batch normalisation's statistics).

    Args:
        spec: the verb's spec as plain values.
        meta: of the model that was pruned. Its metrics and INT8 ranges are dropped, for they are not the smaller
            network's, and its training config gets a section `prune`.
    """
    make_folder(folder)
    model = folder / MODEL
    architecture = pruned.network.architecture.to_dict()  # type: ignore[union-attr, operator]
    asked = {**spec["prune"], "model": spec["model"], "threshold": pruned.threshold}
    config = {**meta.config, "prune": asked}
    meta = replace(meta, architecture=architecture, metrics={}, quantization={}, config=config)
    save_model(model, pruned.network.state_dict(), meta)
    _write_tables(folder, pruned)
    figures = summary(pruned)
    trackers.start(dict(spec))
    trackers.log({f"prune/{name}": value for name, value in figures.items()}, 0)
    if spec["report"]:
        picture = _write_report(folder, spec, pruned, title)
        trackers.pictures("prune/channels", [(picture, "output channels of each layer")], 0)
    trackers.finish(model, figures)
    status = {"pruning_ratio": pruned.ratio, "size": model.stat().st_size, "param_count": pruned.after.parameters}
    RunFolder(folder).log_status("SUCCESS", "Pruning is done", kpi={**figures, **status})
    _print(pruned, model)
    return model


def summary(pruned: Pruned) -> dict[str, float]:
    """Costs before and after, the ratio and the threshold, by flat names."""
    costs = {
        f"{name}_{when}": value
        for when, cost in (("before", pruned.before), ("after", pruned.after))
        for name, value in asdict(cost).items()
    }
    return {"pruning_ratio": pruned.ratio, "threshold": pruned.threshold, **costs}


def cost_table(pruned: Pruned) -> Table:
    """Parameters, multiply-accumulates and latency of the two networks."""
    before, after = pruned.before, pruned.after
    pairs: list[tuple[str, float, float]] = [
        ("parameters", before.parameters, after.parameters),
        ("GMAC", before.gmac, after.gmac),
        ("latency, ms", before.latency_ms, after.latency_ms),
    ]
    rows = [(name, first, second, f"{100 * second / first:.1f} %") for name, first, second in pairs]
    caption = (
        "Of one input. Parameters with batch normalisation's statistics; latency: median of forward passes on the CPU"
    )
    return Table(["", "before", "after", "left"], rows, caption)


def layer_table(pruned: Pruned) -> Table:
    """Output channels of every layer before and after."""
    rows = [(layer.name, layer.before, layer.after, layer.note) for layer in pruned.layers]
    return Table(["layer", "before", "after", "note"], rows, "Output channels of each layer")


def _write_tables(folder: Path, pruned: Pruned) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([layer_table(pruned).header, *layer_table(pruned).rows])
    write_atomic(folder / "layers.csv", text.getvalue().encode())
    content = {**summary(pruned), "layers": [asdict(layer) for layer in pruned.layers]}
    write_atomic(folder / "prune.json", (json.dumps(content, indent=2) + "\n").encode())


def _write_report(folder: Path, spec: Mapping[str, Any], pruned: Pruned, title: str) -> Any:
    """Writes plot and page; returns the plot as a picture."""
    from PIL import Image

    png = folder / "channels.png"
    plots.save_png(_channel_plot(pruned), png)
    facts = {
        "Model": str(spec["model"]),
        "Pruning ratio": f"{pruned.ratio:.4f} (pruned / original parameters)",
        "Threshold": f"{pruned.threshold:.6g}",
        **{name.replace("_", " "): str(value) for name, value in spec["prune"].items() if name != "threshold"},
        **machine_facts("cpu"),
        "CPU threads": str(torch.get_num_threads()),
    }
    figure = Figure(_channel_plot(pruned), "Output channels of each layer before and after.")
    sections = [
        Section("Size and speed", [cost_table(pruned), *_notes(pruned)]),
        Section("Layers", [figure, layer_table(pruned)]),
    ]
    write_report(folder / "report.html", title, facts, sections)
    return np.asarray(Image.open(png).convert("RGB"))


def _channel_plot(pruned: Pruned) -> Plot:
    """Bars of every layer's output channels, before and after."""
    series = {
        "before": {layer.name: float(layer.before) for layer in pruned.layers},
        "after": {layer.name: float(layer.after) for layer in pruned.layers},
    }
    figure = plots.bars(series, "output channels")
    (axes,) = figure.axes
    for label in axes.texts:  # these are counts
        label.set_text(label.get_text().removesuffix(".").removesuffix(".0").removesuffix(".00"))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=7.5)  # no corner is free
    return figure


def _notes(pruned: Pruned) -> list[str]:
    held = [layer.name for layer in pruned.layers if layer.note == "min_filters"]
    if not held:
        return []
    return [f"prune.min_filters kept more than the threshold alone would have of {', '.join(held)}"]


def _print(pruned: Pruned, model: Path) -> None:
    lines = [*_notes(pruned), f"threshold: {pruned.threshold:.6g}",
             f"Pruning ratio (pruned model / original model): {pruned.ratio}", f"model: {model}"]  # fmt: skip
    print_tables([layer_table(pruned), cost_table(pruned)], lines)
