"""A validation part taken from the training samples: faces, or pictures with what is to be found in them. The draw
depends on the seed and the samples, not on their order.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path, PurePath, PurePosixPath
from typing import Protocol, TypeVar

import numpy as np

from ..configs.schema import SplitConfig
from ..errors import ConfigError

MULTIPIE_KPI = "multipie_kpi"  # the subjects of NVIDIA's model card

Unit = tuple[str, str]  # source and name of what never parts; the source is "" where it spans sources


class Named(Protocol):
    """What has a source and the name of its picture; faces have a `subject` besides."""

    @property
    def source(self) -> str: ...

    @property
    def name(self) -> str: ...


Sample = TypeVar("Sample", bound=Named)


def split_samples(samples: list[Sample], split: SplitConfig, root: Path = Path()) -> tuple[list[Sample], list[Sample]]:
    """(train, val), both in the order of source and name.

    Samples of one picture never part; nor, by "sequence", do those of one folder of one source, or with the same group
    of `split.pattern`, or of one sequence of TAO's JSON; nor, by "subject", those of one person. A sample that no
    pattern, JSON or subject says anything of is one of its own.

    With folds, val is the fold asked for, and each sample is in val of exactly one fold: pictures are shuffled and
    dealt in turn, or cut into runs of their names by "head"; sequences and subjects are dealt in turn, the longest
    first, as TAO's sequence partition does (gridbox.md §4.4).

    Raises ConfigError when a part would be empty, when nothing says which sequence or subject anything is of, or when
    `root / split.list` cannot be read.
    """
    ordered = sorted(samples, key=lambda sample: (sample.source, sample.name))
    if split.by == "list":
        wanted = _listed(split.list, root)
        held_out = [_is_listed(sample, wanted) for sample in ordered]
    else:
        units = _units(ordered, split, root)
        drawn = _draw(Counter(units), split)
        held_out = [unit in drawn for unit in units]
    train = [sample for sample, out in zip(ordered, held_out, strict=True) if not out]
    val = [sample for sample, out in zip(ordered, held_out, strict=True) if out]
    if not train or not val:
        part, given = ("training", "validation") if val else ("validation", "training")
        raise ConfigError(
            f"data.split ({split.by}, {_told(split)}) leaves nothing for {part}, all {len(ordered)} samples go to "
            f"{given}; change it, or set data.val"
        )
    return train, val


def _told(split: SplitConfig) -> str:
    if split.by == "list":
        return f"list={split.list}"
    return f"fold={split.fold} of {split.folds}" if split.folds else f"fraction={split.fraction}"


def _units(samples: list[Sample], split: SplitConfig, root: Path) -> list[Unit]:
    """What each sample is held out with."""
    if split.by == "sequence":
        return _sequences(samples, split, root)
    if split.by == "subject":
        subjects = [_subject(sample) or _group(split.pattern, sample.name) for sample in samples]
        if not any(subjects):
            told = f"{split.pattern} is found in no name" if split.pattern else "is empty"
            raise ConfigError(
                f"data.split.by=subject: nothing has a subject, and data.split.pattern {told}; give a pattern whose "
                "first group is the subject, or data.train[].subject_pattern for faces"
            )
        return [
            ("", subject) if subject else _picture(sample) for subject, sample in zip(subjects, samples, strict=True)
        ]
    return [_picture(sample) for sample in samples]


def _sequences(samples: list[Sample], split: SplitConfig, root: Path) -> list[Unit]:
    if split.list:
        frames = _sequence_of_frames(split.list, root)
        found = [frames.get(_stem(sample.name)) or frames.get(PurePath(sample.name).stem) for sample in samples]
    elif split.pattern:
        found = [_group(split.pattern, sample.name) for sample in samples]
    else:
        found = [PurePosixPath(sample.name).parent.as_posix() for sample in samples]
    if not any(found):
        key, value = ("list", split.list) if split.list else ("pattern", split.pattern)
        example = f", such as {samples[0].name!r}" if samples else ""
        raise ConfigError(f"data.split.{key}={value} says of no picture which sequence it is of{example}")
    return [
        (sample.source, sequence) if sequence else _picture(sample)
        for sequence, sample in zip(found, samples, strict=True)
    ]


def _draw(sizes: Counter[Unit], split: SplitConfig) -> set[Unit]:
    """The units of the validation part; `sizes` is how many samples each has."""
    if split.by == "head":
        return _head(sizes, split)
    units = sorted(sizes)
    if split.folds and split.by in ("sequence", "subject"):
        units.sort(key=lambda unit: -sizes[unit])
        return set(units[split.fold :: split.folds])
    shuffled = [units[index] for index in np.random.default_rng(split.seed % 2**64).permutation(len(units))]
    return set(shuffled[split.fold :: split.folds] if split.folds else shuffled[: _share(len(units), split)])


def _head(units: Iterable[Unit], split: SplitConfig) -> set[Unit]:
    """The first of each source by name without suffix, as TAO's random partition takes them; or its fold-th run."""
    drawn: set[Unit] = set()
    by_source: dict[str, list[Unit]] = {}
    for unit in sorted(units, key=lambda unit: (unit[0], _stem(unit[1]), unit[1])):
        by_source.setdefault(unit[0], []).append(unit)
    for ordered in by_source.values():
        count = len(ordered)
        if split.folds:
            start, end = (count * number // split.folds for number in (split.fold, split.fold + 1))
        else:
            start, end = 0, _share(count, split)
        drawn.update(ordered[start:end])
    return drawn


def _share(count: int, split: SplitConfig) -> int:
    return max(round(split.fraction * count), 1) if split.fraction > 0 else 0


def _picture(sample: Named) -> Unit:
    return sample.source, sample.name


def _subject(sample: Named) -> str | None:
    return getattr(sample, "subject", None)


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix() if PurePosixPath(name).name else name


def _group(pattern: str, name: str) -> str | None:
    found = re.search(pattern, name) if pattern else None
    return found[1] if found else None


def _sequence_of_frames(name: str, root: Path) -> dict[str, str]:
    """Sequence by frame, of TAO's kitti_sequence_to_frames_file: {"sequence": ["frame", ...], ...}."""
    path = root / name
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"data.split.list={name}: {path} cannot be read ({error})") from error
    if not isinstance(value, dict) or not all(isinstance(frames, list) for frames in value.values()):
        raise ConfigError(
            f'data.split.list={name}: {path} is no map of sequences to their frames; by=sequence expects {{"0": '
            '["000000", "000001"], ...}, or a data.split.pattern, or nothing: the folders'
        )
    sequences: dict[str, str] = {}
    for sequence, frames in value.items():
        for frame in frames:
            if sequences.setdefault(str(frame), sequence) != sequence:
                raise ConfigError(
                    f"data.split.list={name}: {path}: frame {frame!r} is in the sequences {sequences[str(frame)]!r} "
                    f"and {sequence!r}; leave it in one"
                )
    return sequences


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
