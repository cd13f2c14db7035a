"""Keypoint schemes: how many points there are, which belong together, and which change places in a mirror."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError

BUILT_IN = (68, 80, 104)


@dataclass(frozen=True)
class Scheme:
    """A layout of K points.

    Attributes:
        num_keypoints: K.
        names: K names.
        regions: points of each region, 0-based; every point is in `all`. Regions may overlap.
        part_of: region -> the region that its points join when a loss weighs only the latter.
        flip: K indices, `mirrored[i] = original[flip[i]]`; None where the layout has no mirror image.
        eye_corners: the two outer eye corners, whose distance normalises errors; None if the layout lacks them.
        eyes: contour points of both eyes, whose centres' distance does; None if the layout lacks them.
    """

    num_keypoints: int
    names: tuple[str, ...]
    regions: dict[str, tuple[int, ...]]
    part_of: dict[str, str] = field(default_factory=dict)
    flip: tuple[int, ...] | None = None
    eye_corners: tuple[int, int] | None = None
    eyes: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The scheme as the model file's metadata keep it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Scheme:
        """The inverse of `to_dict`, after a trip through JSON."""
        return cls(
            num_keypoints=data["num_keypoints"],
            names=tuple(data["names"]),
            regions={name: tuple(points) for name, points in data["regions"].items()},
            part_of=dict(data["part_of"]),
            flip=tuple(data["flip"]) if data["flip"] is not None else None,
            eye_corners=(data["eye_corners"][0], data["eye_corners"][1]) if data["eye_corners"] else None,
            eyes=(tuple(data["eyes"][0]), tuple(data["eyes"][1])) if data["eyes"] else None,
        )

    def subset(self, points: Sequence[int]) -> Scheme:
        """The scheme of the chosen points, in their order.

        Regions, normalisers and the flip stay where the choice keeps them whole: a flip needs every chosen point's
        partner to be chosen too.
        """
        new = {old: i for i, old in enumerate(points)}
        kept = {name: tuple(new[p] for p in old if p in new) for name, old in self.regions.items()}
        regions = {name: chosen for name, chosen in kept.items() if chosen}
        flip = None
        if self.flip is not None and all(self.flip[p] in new for p in points):
            flip = tuple(new[self.flip[p]] for p in points)
        corners = self.eye_corners
        whole_eyes = self.eyes is not None and all(p in new for eye in self.eyes for p in eye)
        return Scheme(
            num_keypoints=len(points),
            names=tuple(self.names[p] for p in points),
            regions=regions,
            part_of={part: whole for part, whole in self.part_of.items() if part in regions},
            flip=flip,
            eye_corners=(new[corners[0]], new[corners[1]]) if corners and all(c in new for c in corners) else None,
            eyes=tuple(tuple(new[p] for p in eye) for eye in self.eyes) if self.eyes and whole_eyes else None,  # type: ignore[arg-type]
        )


def load_scheme(path: str, num_keypoints: int, source_points: Sequence[int] = ()) -> Scheme:
    """The scheme that `model.scheme`, `model.num_keypoints` and `model.source_points` ask for.

    Args:
        path: a scheme's YAML file, or "" for the built-in layout of 68, 80 or 104 points.
        num_keypoints: K of the network.
        source_points: where not empty, the K points, 0-based, that are kept of a larger layout.

    Raises:
        ConfigError: the YAML is wrong, or K does not fit.
    """
    if source_points:
        return select_points(_read(Path(path)) if path else _built_in(), num_keypoints, source_points)
    if path:
        scheme = _read(Path(path))
        if scheme.num_keypoints != num_keypoints:
            raise ConfigError(
                f"model.num_keypoints is {num_keypoints} but {path} describes {scheme.num_keypoints} points: "
                f"set model.num_keypoints={scheme.num_keypoints} or choose points with model.source_points"
            )
        return scheme
    if num_keypoints in BUILT_IN:
        return _built_in().subset(range(num_keypoints))
    everything = tuple(range(num_keypoints))
    return Scheme(num_keypoints, tuple(f"point_{i}" for i in everything), {"all": everything})


def select_points(source: Scheme, num_keypoints: int, source_points: Sequence[int]) -> Scheme:
    """The scheme of `model.source_points`. Raises ConfigError unless they are K different points of `source`."""
    if len(source_points) != num_keypoints or len(set(source_points)) != num_keypoints:
        raise ConfigError(
            f"model.source_points lists {len(source_points)} points, {len(set(source_points))} of them different, "
            f"but model.num_keypoints is {num_keypoints}: name each kept point once"
        )
    bad = [p for p in source_points if not 0 <= p < source.num_keypoints]
    if bad:
        raise ConfigError(f"model.source_points: {bad[0]} is not a point of 0..{source.num_keypoints - 1}")
    return source.subset(source_points)


@cache
def _built_in() -> Scheme:
    return _read(Path(__file__).with_name("schemes") / "104.yaml")


def _read(path: Path) -> Scheme:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"model.scheme: cannot read {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"model.scheme: {path} is not YAML: {str(error).replace(chr(10), ' ')}") from None
    known = {"num_keypoints", "names", "regions", "part_of", "flip", "eyes", "eye_corners"}
    if not isinstance(data, dict) or not isinstance(data.get("num_keypoints"), int) or data["num_keypoints"] < 1:
        raise ConfigError(f"{path}: a keypoint scheme is a mapping with a num_keypoints of at least 1")
    if unknown := set(data) - known:
        raise ConfigError(f"{path}: unknown key {min(unknown)!r}; a keypoint scheme has {', '.join(sorted(known))}")
    for name, kind in (("regions", dict), ("part_of", dict), ("flip", list), ("eyes", list)):
        if data.get(name) is not None and not isinstance(data[name], kind):
            raise ConfigError(f"{path}: {name} is a {'list' if kind is list else 'mapping'}, not {data[name]!r}")
    k = data["num_keypoints"]
    regions = {
        name: _points(value, k, f"{path}: regions.{name}") for name, value in (data.get("regions") or {}).items()
    }
    eyes = [_points(value, k, f"{path}: eyes") for value in data.get("eyes") or []]
    corners = _points(data.get("eye_corners") or [], k, f"{path}: eye_corners")
    if empty := [name for name, points in regions.items() if not points]:
        raise ConfigError(f"{path}: regions.{empty[0]} has no points; leave it out")
    if len(eyes) not in (0, 2) or len(corners) not in (0, 2):
        raise ConfigError(f"{path}: eyes are two lists of points, eye_corners two points")
    part_of = data.get("part_of") or {}
    if loose := [r for pair in part_of.items() for r in pair if r not in regions]:
        raise ConfigError(f"{path}: part_of names {loose[0]!r}, which is not among regions")
    return Scheme(
        num_keypoints=k,
        names=_names(data.get("names"), k, path),
        regions={"all": tuple(range(k)), **regions},
        part_of=part_of,
        flip=_flip(data.get("flip"), k, path),
        eye_corners=(corners[0], corners[1]) if corners else None,
        eyes=(eyes[0], eyes[1]) if eyes else None,
    )


def _points(value: Any, k: int, where: str) -> tuple[int, ...]:
    """Indices from 5, "0-16", or a list of either."""
    points: list[int] = []
    for item in value if isinstance(value, list) else [value]:
        first, _, last = str(item).partition("-")
        if not (first.isdecimal() and (last or first).isdecimal() and int(first) <= int(last or first) < k):
            raise ConfigError(f"{where}: {item!r} is not a point or a range of points within 0-{k - 1}")
        points += range(int(first), int(last or first) + 1)
    return tuple(points)


def _names(value: Any, k: int, path: Path) -> tuple[str, ...]:
    """K names from a list of K, or from a mapping of group name to points."""
    if isinstance(value, list):
        if len(value) != k:
            raise ConfigError(f"{path}: {len(value)} names for {k} points")
        return tuple(str(name) for name in value)
    if not isinstance(value or {}, dict):
        raise ConfigError(f"{path}: names is a list of {k}, or a mapping of group name to points, not {value!r}")
    names = [f"point_{i}" for i in range(k)]
    for group, points in (value or {}).items():
        indices = _points(points, k, f"{path}: names.{group}")
        for n, point in enumerate(indices):
            names[point] = f"{group}_{n}" if len(indices) > 1 else group
    return tuple(names)


def _flip(pairs: Any, k: int, path: Path) -> tuple[int, ...] | None:
    """The mirror permutation from pairs of partners, or from all K indices; points in no pair stay where they are."""
    if pairs is None:
        return None
    if pairs and all(isinstance(p, int) for p in pairs):
        table = list(pairs)
        if len(table) != k:
            raise ConfigError(f"{path}: flip has {len(table)} entries for {k} points")
    else:
        table = list(range(k))
        for pair in pairs:
            if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, int) for p in pair)):
                raise ConfigError(f"{path}: flip: {pair!r} is not a pair of points")
            a, b = _points(pair, k, f"{path}: flip")
            if table[a] != a or table[b] != b:
                raise ConfigError(f"{path}: flip: point {a if table[a] != a else b} is in two pairs")
            table[a], table[b] = b, a
    for i, partner in enumerate(table):
        if not 0 <= partner < k or table[partner] != i:
            raise ConfigError(
                f"{path}: flip is no involution at point {i}: it goes to {partner}, which "
                + (f"goes to {table[partner]}" if 0 <= partner < k else f"is not within 0-{k - 1}")
            )
    return tuple(table)
