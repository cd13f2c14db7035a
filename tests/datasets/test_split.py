"""Validation parts: the same from the same seed, nobody on both sides."""

import json
from dataclasses import replace
from pathlib import Path, PurePath

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


LENGTHS = {"b": 9, "a": 9, "d/e": 4, "c": 2}
VIDEO = [face(f"{clip}/{frame:03d}.png") for clip, length in LENGTHS.items() for frame in range(length)]


def folds_of(samples: list[FaceSample], root: Path = Path(), **settings) -> list[list[str]]:
    """The validation names of every fold; each of the other samples is trained on."""
    parts = []
    for fold in range(settings["folds"]):
        train, val = split_samples(samples, SplitConfig(fold=fold, **settings), root)
        assert sorted(names(train) + names(val)) == sorted(names(samples)) and not set(names(train)) & set(names(val))
        parts.append(names(val))
    return parts


@pytest.mark.parametrize("by", ["fraction", "head", "sequence", "subject"])
def test_every_sample_is_validated_in_exactly_one_fold(by: str) -> None:
    parts = folds_of(PEOPLE, by=by, folds=4, pattern="^(...)_" if by == "sequence" else "")
    assert sorted(name for part in parts for name in part) == sorted(names(PEOPLE))
    assert [len(part) for part in parts] == [25] * 4
    if by != "fraction":
        assert all(len({name[:3] for name in part}) == 5 for part in parts)


def test_folds_of_pictures_are_a_seeded_shuffle() -> None:
    first = folds_of(PEOPLE, by="fraction", folds=5, seed=1)
    assert first == folds_of(PEOPLE[::-1], by="fraction", folds=5, seed=1)
    assert first != folds_of(PEOPLE, by="fraction", folds=5, seed=2)
    assert all(len({name[:3] for name in part}) > 5 for part in first)


def test_head_is_the_first_of_each_source_by_name_without_suffix() -> None:
    pictures = [face(name) for name in ("b.png", "a-1.png", "a.png", "c.jpg")]
    assert names(split_samples(pictures, SplitConfig(by="head", fraction=0.25))[1]) == ["a.png"]
    other = [replace(picture, source="other") for picture in pictures]
    train, val = split_samples([*pictures, *other], SplitConfig(by="head", fraction=0.5))
    assert [(sample.source, sample.name) for sample in val] == [
        ("", "a-1.png"), ("", "a.png"), ("other", "a-1.png"), ("other", "a.png")
    ]  # fmt: skip
    assert names(train) == ["b.png", "c.jpg"] * 2
    assert folds_of(pictures, by="head", folds=2) == [["a-1.png", "a.png"], ["b.png", "c.jpg"]]


def test_sequences_are_folders_dealt_the_longest_first() -> None:
    parts = folds_of(VIDEO, by="sequence", folds=2)
    assert [{str(PurePath(name).parent) for name in part} for part in parts] == [{"a", "d/e"}, {"b", "c"}]
    _, val = split_samples(VIDEO, SplitConfig(by="sequence", fraction=0.5))
    clips = {str(PurePath(sample.name).parent) for sample in val}
    assert len(clips) == 2 and len(val) == sum(str(PurePath(name).parent) in clips for name in names(VIDEO))


def test_sequences_of_tao(tmp_path: Path) -> None:
    """Three partitions as TAO deals them: by length, then by name, in turn."""
    sequences = {"9": ["f1", "f2"], "1": ["f3", "f4"], "5": ["f5", "f6", "f7"], "2": ["f8"]}
    (tmp_path / "sequences.json").write_text(json.dumps(sequences))
    pictures = [face(f"image_2/f{number}.png") for number in range(1, 9)] + [face("image_2/unlisted.png")]
    parts = folds_of(pictures, tmp_path, by="sequence", folds=3, list="sequences.json")
    assert [[PurePath(name).stem for name in part] for part in parts] == [
        ["f5", "f6", "f7", "f8"], ["f3", "f4", "unlisted"], ["f1", "f2"]
    ]  # fmt: skip


def test_a_subject_by_the_name_spans_sources_and_a_sequence_does_not() -> None:
    pictures = [replace(sample, subject=None, source=source) for source in ("a", "b") for sample in PEOPLE]
    for by, units in (("subject", 20), ("sequence", 40)):
        _, val = split_samples(pictures, SplitConfig(by=by, pattern=r"^(\d+)_", fraction=1 / units))
        assert {(sample.name[:3]) for sample in val} == {val[0].name[:3]}
        assert len(val) == 200 // units


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"folds": 1}, r"data\.split\.folds=1.*2 folds or more"),
        ({"folds": 3, "fold": 3}, r"data\.split\.fold=3.*from 0 to folds - 1"),
        ({"fold": 1}, r"folds=0, data\.split\.fold=1"),
        ({"folds": 3, "by": "list"}, r"by=list holds out what its file names"),
        ({"by": "sequence", "pattern": "("}, r"data\.split\.pattern=\( is no regular expression"),
        ({"by": "sequence", "pattern": "a"}, r"data\.split\.pattern=a has no group"),
        ({"pattern": "(a)"}, r"by=fraction takes none"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SplitConfig(**settings)


def test_sequences_that_nothing_tells_of(tmp_path: Path) -> None:
    def split(**settings) -> None:
        split_samples(PEOPLE, SplitConfig(by="sequence", **settings), tmp_path)

    with pytest.raises(ConfigError, match=r"pattern=\(x\) says of no picture.*'000_0\.png'"):
        split(pattern="(x)")
    with pytest.raises(ConfigError, match="leaves nothing for training"):
        split()  # one folder
    for text, words in (
        ("{", "cannot be read"),
        ('["a"]', "no map of sequences"),
        ('{"1": ["f"]}', "says of no picture"),
        ('{"1": ["f"], "2": ["f"]}', "frame 'f' is in the sequences '1' and '2'"),
    ):
        (tmp_path / "s.json").write_text(text)
        with pytest.raises(ConfigError, match=f"list=s.json.*{words}"):
            split(list="s.json")
    with pytest.raises(ConfigError, match=r"list=none\.json.*cannot be read"):
        split(list="none.json")
    with pytest.raises(ConfigError, match=r"nothing has a subject, and data\.split\.pattern \(y\) is found in no name"):
        split_samples([face("a"), face("b")], SplitConfig(by="subject", pattern="(y)"))
