"""A validation part taken from the training samples: faces, or pictures with what is to be found in them. The draw
depends on the seed and the samples, not on their order.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path, PurePath
from typing import Protocol, TypeVar

import numpy as np

from ..configs.schema import SplitConfig
from ..errors import ConfigError

MULTIPIE_KPI = "multipie_kpi"  # the subjects of NVIDIA's model card


class Named(Protocol):
    """What has a source and the name of its picture; faces have a `subject` besides."""

    @property
    def source(self) -> str: ...

    @property
    def name(self) -> str: ...


Sample = TypeVar("Sample", bound=Named)


def split_samples(samples: list[Sample], split: SplitConfig, root: Path = Path()) -> tuple[list[Sample], list[Sample]]:
    """(train, val), both in the order of source and name.

    Samples of one picture never part; by "subject", nor do those of one person (one without a subject is one of its
    own). Raises ConfigError when a part would be empty, or when `root / split.list` cannot be read.
    """
    ordered = sorted(samples, key=lambda sample: (sample.source, sample.name))
    if split.by == "list":
        wanted = _listed(split.list, root)
        held_out = [_is_listed(sample, wanted) for sample in ordered]
    else:
        if split.by == "subject" and not any(_subject(sample) for sample in ordered):
            raise ConfigError("data.split.by=subject: no face has a subject; set data.train[].subject_pattern")
        units = [_unit(sample, by_subject=split.by == "subject") for sample in ordered]
        drawn = _draw(sorted(set(units)), split)
        held_out = [unit in drawn for unit in units]
    train = [sample for sample, out in zip(ordered, held_out, strict=True) if not out]
    val = [sample for sample, out in zip(ordered, held_out, strict=True) if out]
    if not train or not val:
        part, given = ("training", "validation") if val else ("validation", "training")
        value = f"list={split.list}" if split.by == "list" else f"fraction={split.fraction}"
        raise ConfigError(
            f"data.split ({split.by}, {value}) leaves nothing for {part}, all {len(ordered)} samples go to {given}; "
            "change it, or set data.val"
        )
    return train, val


def _subject(sample: Named) -> str | None:
    return getattr(sample, "subject", None)


def _unit(sample: Named, *, by_subject: bool) -> tuple[str, str]:
    """What is drawn as a whole."""
    subject = _subject(sample) if by_subject else None
    return ("", subject) if subject else (sample.source, sample.name)


def _draw(units: list[tuple[str, str]], split: SplitConfig) -> set[tuple[str, str]]:
    count = round(split.fraction * len(units))
    if split.fraction > 0:
        count = max(count, 1)
    chosen = np.random.default_rng(split.seed % 2**64).permutation(len(units))[:count]
    return {units[index] for index in chosen}


def _listed(name: str, root: Path) -> set[str]:
    """The names of a list file, or of the list that comes with the package."""
    if not name:
        raise ConfigError(f"data.split.list is empty; name a file of pictures or subjects, or {MULTIPIE_KPI!r}")
    if name == MULTIPIE_KPI:
        text = files(__package__).joinpath(f"{MULTIPIE_KPI}.txt").read_text(encoding="utf-8")
    else:
        try:
            text = (root / name).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"data.split.list={name}: {root / name} cannot be read ({error})") from error
    return {line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")}


def _is_listed(sample: Named, wanted: set[str]) -> bool:
    path = PurePath(sample.name)
    return not wanted.isdisjoint({sample.name, path.name, path.stem, _subject(sample) or sample.name})
