"""Settings that a class has of its own: the `per_class` key of a section."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from ...errors import ConfigError
from .schema import ClusteringConfig, LossConfig, MetricsConfig, RasterizerConfig

Section = TypeVar("Section", ClusteringConfig, LossConfig, MetricsConfig, RasterizerConfig)
SECTIONS = {
    ClusteringConfig: "clustering",
    LossConfig: "loss",
    MetricsConfig: "metrics",
    RasterizerConfig: "rasterizer",
}
LOSS = ("coverage_foreground_weight", "coverage_weight", "bbox_weight")  # its other numbers are of the whole network


def each_class(section: Section, classes: Sequence[str]) -> list[Section]:
    """The section of each of the target classes: `section`, with the class's entry in its `per_class` put over it.

    Raises:
        ConfigError: an entry for a class that is not detected, of a key that a class has not, or out of range.
    """
    numbers = {item.name: item.metadata for item in fields(section) if item.metadata["low"] is not None}
    own = {name: numbers[name] for name in (LOSS if isinstance(section, LossConfig) else numbers)}
    for name, values in section.per_class.items():
        place = f"{SECTIONS[type(section)]}.per_class.{name}"
        if name not in classes:
            raise ConfigError(f"{place}: not a target class{_nearest(name, classes)}")
        for key, value in values.items():
            if key not in own:
                raise ConfigError(f"{place}.{key}: a class has no such key{_nearest(key, own)}")
            low, high = own[key]["low"], own[key]["high"]
            if not low <= value < math.inf or (high is not None and value > high):
                accepted = f"at least {low:g}" if high is None else f"{low:g} to {high:g}"
                raise ConfigError(f"{place}.{key}={value} is not accepted [{accepted}]")
    entries: list[dict[str, Any]] = [dict(section.per_class.get(name, {})) for name in classes]
    return [replace(section, per_class={}, **entry) for entry in entries]


def _nearest(name: str, accepted: Iterable[str]) -> str:
    close = difflib.get_close_matches(name.lower(), list(accepted), n=1, cutoff=0.5)
    return (f"; did you mean {close[0]}? Accepted: " if close else "; accepted: ") + ", ".join(accepted)
