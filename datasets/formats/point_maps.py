"""Layouts of points turned into others, as YAML says: so that sets with different layouts train one network.

A file holds `from` and `to`, the numbers of points, and `points`, an entry for each of the `to` points: a 0-based index
into the `from` points, a list of indices for the mean of them, or null for a point that the other layout lacks. "33-37"
is short for the indices from 33 to 37, each an entry or each a member of a list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ...errors import ConfigError
from ..sample import FaceSample, PointState

_RANGE = re.compile(r"(\d{1,4})-(\d{1,4})")
MOST = 1000  # as model.num_keypoints


@dataclass(frozen=True)
class PointMap:
    """`rows` has, for each of the new points, the old ones that it is the mean of; none where it is missing."""

    name: str
    old_points: int
    rows: tuple[tuple[int, ...], ...]

    def __call__(self, sample: FaceSample) -> FaceSample:
        """The sample with the new points. One that needs a missing point is missing, one that needs an occluded point
        is occluded. Raises ValueError when the sample has not `old_points`."""
        if sample.num_keypoints != self.old_points:
            raise ValueError(f"{sample.num_keypoints} points instead of {self.old_points}")
        points = np.full((len(self.rows), 2), np.nan, np.float32)
        states = np.full(len(self.rows), PointState.MISSING, np.int8)
        for new, old in enumerate(self.rows):
            if old and (state := sample.states[list(old)].min()) != PointState.MISSING:
                points[new] = sample.points[list(old)].mean(axis=0, dtype=np.float64)
                states[new] = state
        return replace(sample, points=points, states=states)


def built_in_maps() -> list[str]:
    """The names of the maps that come with the package."""
    return sorted(file.name.removesuffix(".yaml") for file in _home().iterdir() if file.name.endswith(".yaml"))


def load_point_map(name: str, root: Path, key: str = "points") -> PointMap:
    """The built-in map of that name, or that of the YAML file `root / name`.

    Raises ConfigError, naming `key`, when there is none or when its entries do not fit `from` and `to`.
    """
    built_in = name in built_in_maps()
    file = _home() / f"{name}.yaml" if built_in else root / name
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{key}={name}: neither {', '.join(built_in_maps())} nor a YAML file that can be read ({error})"
        ) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{key}={name}: {file} is not YAML: {' '.join(str(error).split())}") from None
    return _checked(name, content, f"{key}={name}")


def _home() -> Any:
    return files(__package__) / "points"


def _checked(name: str, content: Any, where: str) -> PointMap:
    if not isinstance(content, dict) or content.keys() != {"from", "to", "points"}:
        found = ", ".join(map(str, content)) if isinstance(content, dict) else repr(content)[:60]
        raise ConfigError(f"{where}: it has {found}; expected the keys from, to and points")
    for side in ("from", "to"):
        if type(content[side]) is not int or not 1 <= content[side] <= MOST:
            raise ConfigError(f"{where}: {side} is {content[side]!r:.40}, expected a number of points from 1 to {MOST}")
    entries = content["points"]
    if not isinstance(entries, list):
        raise ConfigError(f"{where}: points is {entries!r:.60}, expected a list of {content['to']}")
    rows: list[tuple[int, ...]] = []
    for entry in entries:
        if entry is None:
            rows.append(())
        elif isinstance(entry, list) and entry:
            rows.append(tuple(index for item in entry for index in _indices(item, content["from"], where)))
        else:
            rows += [(index,) for index in _indices(entry, content["from"], where)]
    if len(rows) != content["to"]:
        raise ConfigError(f"{where}: points has {len(rows)} entries, to is {content['to']}")
    if not any(rows):
        raise ConfigError(f"{where}: all points are missing")
    return PointMap(name, content["from"], tuple(rows))


def _indices(item: Any, count: int, where: str) -> list[int]:
    if type(item) is int:
        first = last = item
    elif isinstance(item, str) and (found := _RANGE.fullmatch(item)):
        first, last = int(found[1]), int(found[2])
    else:
        first, last = 1, 0
    if not 0 <= first <= last < count:
        raise ConfigError(f"{where}: {item!r:.40} is no point, range or list of points within 0-{count - 1}, nor null")
    return list(range(first, last + 1))
