"""Validation parts: the same from the same seed, nobody on both sides."""

from pathlib import Path

import numpy as np
import pytest

from facetrain.configs.schema import SplitConfig
from facetrain.datasets.sample import FaceSample
from facetrain.datasets.split import split_samples
from facetrain.errors import ConfigError


def face(name: str, subject: str | None = None) -> FaceSample:
    return FaceSample(Path(name), np.zeros((1, 2), np.float32), np.full(1, 2, np.int8), subject=subject, name=name)


PEOPLE = [face(f"{person:03d}_{frame}.png", f"{person:03d}") for person in range(20) for frame in range(5)]


def names(samples: list[FaceSample]) -> list[str]:
    return [sample.name for sample in samples]


def test_fraction_is_deterministic_and_independent_of_order() -> None:
    split = SplitConfig(fraction=0.2, seed=3)
    train, val = split_samples(PEOPLE, split)
    assert (len(train), len(val)) == (80, 20)
    assert sorted(names(train) + names(val)) == sorted(names(PEOPLE))
    again = split_samples(PEOPLE[::-1], split)
    assert (names(again[0]), names(again[1])) == (names(train), names(val))
    assert names(split_samples(PEOPLE, SplitConfig(fraction=0.2, seed=4))[1]) != names(val)


def test_faces_of_one_picture_stay_together() -> None:
    twice = [*PEOPLE, *PEOPLE]
    train, val = split_samples(twice, SplitConfig(fraction=0.3))
    assert not set(names(train)) & set(names(val))


def test_subjects_never_part() -> None:
    train, val = split_samples(PEOPLE, SplitConfig(by="subject", fraction=0.25))
    assert {sample.subject for sample in val}.isdisjoint({sample.subject for sample in train})
    assert (len(train), len(val)) == (75, 25)


def test_list_of_names_or_subjects(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("# held out\n003\n007_2.png\n008_1\n\n")
    _, val = split_samples(PEOPLE, SplitConfig(by="list", list="val.txt"), tmp_path)
    assert names(val) == [*(f"003_{i}.png" for i in range(5)), "007_2.png", "008_1.png"]


def test_multipie_subjects_of_the_model_card() -> None:
    people = [face(f"{person:03d}_01.png", f"{person:03d}") for person in range(1, 347)]
    train, val = split_samples(people, SplitConfig(by="list", list="multipie_kpi"))
    assert len(val) == 23
    expected = {f"{n:03d}" for n in (*range(79, 85), *range(164, 170), *range(250, 256), *range(342, 347))}
    assert {sample.subject for sample in val} == expected
    assert len(train) == 323


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (SplitConfig(fraction=0.0), "nothing for validation"),
        (SplitConfig(by="list", list="absent.txt"), r"data\.split\.list=absent\.txt"),
        (SplitConfig(by="list"), r"data\.split\.list is empty"),
        (SplitConfig(by="list", list="multipie_kpi"), "nothing for validation"),
    ],
)
def test_what_cannot_be_split(split: SplitConfig, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        split_samples([face("a.png"), face("b.png")], split, tmp_path)


def test_by_subject_without_subjects() -> None:
    with pytest.raises(ConfigError, match="subject_pattern"):
        split_samples([face("a.png"), face("b.png")], SplitConfig(by="subject"))


def test_one_picture_leaves_no_training_faces() -> None:
    with pytest.raises(ConfigError, match="nothing for training"):
        split_samples([face("a.png")], SplitConfig(fraction=0.1))
