"""Sources as a spec names them: settings arrive on the faces, mistakes are named with their key and remedy."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facetrain.configs.fpenet.schema import DataConfig, SourceConfig
from facetrain.configs.schema import SplitConfig
from facetrain.datasets.preprocessing import Preprocessing
from facetrain.datasets.source_files import count_reasons
from facetrain.datasets.sources import read_sets, read_source
from facetrain.errors import ConfigError, DataError


def put(folder: Path, name: str, seed: int = 0, points: int = 3, quality: int = 95, scale: float = 1.0) -> None:
    """A face-sized picture of smooth random patches, its own for each seed, with a .pts beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    side = round(120 * scale)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9), np.uint8))
    coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{name}.jpg", quality=quality)
    marks = np.random.default_rng(99).uniform(20, 100, (points, 2))
    marks[:2] = [20, 20], [100, 100]
    (folder / f"{name}.pts").write_text("".join(f"{x} {y}\n" for x, y in (marks + 0.5) * scale - 0.5))


def pts(path: str = "faces", **more) -> SourceConfig:
    return SourceConfig(format="pts", path=path, **more)


def test_settings_arrive_on_the_faces(tmp_path: Path) -> None:
    for i, name in enumerate(("ann_01", "ann_02", "bob_01")):
        put(tmp_path / "faces", name, i)
    source = pts(subject_pattern=r"^([a-z]+)_", weight=0.5, labelled=False, mask_occluded=False)
    samples, rejections = read_source(source, tmp_path, 3, [])
    assert rejections == []
    assert [sample.subject for sample in samples] == ["ann", "ann", "bob"]
    assert {(s.source, s.weight, s.labelled, s.mask_occluded) for s in samples} == {("faces", 0.5, False, False)}
    assert read_source(replace(source, name="mine"), tmp_path, 3, [])[0][0].source == "mine"


def test_faces_that_only_help_training_are_not_held_out(tmp_path: Path) -> None:
    for i in range(6):
        put(tmp_path / "faces", f"f{i}", i)
        put(tmp_path / "more", f"m{i}", 10 + i)

    def held_out(*sources: SourceConfig) -> list[str]:
        data = DataConfig(
            root=str(tmp_path), train=list(sources), split=SplitConfig(fraction=0.5), drop_duplicates=False
        )
        sets = read_sets(data, 3, [], Preprocessing())
        assert len(sets.train) + len(sets.val) == 6 * len(sources)
        return [sample.name for sample in sets.val]

    alone = held_out(pts())
    assert len(alone) == 3 and held_out(pts(), pts("more", validate=False)) == alone
    assert any(name.startswith("m") for name in held_out(pts(), pts("more")))


def test_count_is_a_reproducible_draw(tmp_path: Path) -> None:
    for i in range(8):
        put(tmp_path / "faces", f"f{i}", i)

    def drawn(**more) -> list[str]:
        return [sample.name for sample in read_source(pts(**more), tmp_path, 3, [])[0]]

    first = drawn(count=4, seed=1)
    assert len(first) == 4 and first == sorted(first) == drawn(count=4, seed=1)
    assert first != drawn(count=4, seed=2)
    assert len(drawn(count=100)) == 8


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    put(tmp_path / "helen" / "train", "a")
    with pytest.raises(DataError, match=r"data\.train\[1\]\.path=helen/trian.*nearest in .*helen: train"):
        read_source(pts("helen/trian"), tmp_path, 3, [], "data.train[1]")
    with pytest.raises(DataError, match=r"nearest in .*: helen"):
        read_source(pts("hellen/train"), tmp_path, 3, [])
    with pytest.raises(ConfigError, match=r"path is empty"):
        read_source(pts(""), tmp_path, 3, [])
    with pytest.raises(DataError, match=r"image_root=nowhere"):
        read_source(SourceConfig(format="fpenet_json", path="helen", image_root="nowhere"), tmp_path, 3, [])


def test_a_source_without_a_usable_face(tmp_path: Path) -> None:
    for i in range(5):
        put(tmp_path / "faces", f"f{i}")
        (tmp_path / "faces" / f"f{i}.jpg").unlink()
    (tmp_path / "faces" / "z.pts").write_text("1 two\n")
    with pytest.raises(DataError) as error:
        read_source(pts(), tmp_path, 3, [], "data.train[0]")
    message = str(error.value)
    assert "data.train[0].path=faces: no usable face in" in message
    assert "6 rejected: 5 image missing, 1 broken label" in message
    assert "f0.pts" in message and "f2.pts" in message and "f3.pts" not in message
    assert "a .pts file of the same name" in message
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no usable face"):
        read_source(pts("empty"), tmp_path, 3, [])


def test_layouts_with_another_number_of_points(tmp_path: Path) -> None:
    put(tmp_path / "faces", "a", points=5)
    put(tmp_path / "wide", "a", points=80)
    whole = read_source(pts(), tmp_path, 5, [])[0][0].points
    taken = read_source(pts(), tmp_path, 2, [4, 1])[0][0].points
    np.testing.assert_array_equal(taken, whole[[4, 1]])
    with pytest.raises(DataError, match=r"a\.jpg has 5 points, model\.num_keypoints=3; .*source_points .* 3 of 0\.\.4"):
        read_source(pts(), tmp_path, 3, [])
    with pytest.raises(DataError, match=r"has 5 points, model\.num_keypoints=8; set model\.num_keypoints=5$"):
        read_source(pts(), tmp_path, 8, [])
    assert read_source(pts("wide"), tmp_path, 68, [])[0][0].num_keypoints == 68  # the first points of 80 are the 68


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("([a", "no regular expression"), ("^a", "no group"), (r"^(\d+)", r"fits no file name.*a\.jpg")],
)
def test_subject_patterns_that_cannot_work(tmp_path: Path, pattern: str, words: str) -> None:
    put(tmp_path / "faces", "a")
    with pytest.raises(ConfigError, match=rf"data\.val\[0\]\.subject_pattern.*{words}"):
        read_source(pts(subject_pattern=pattern), tmp_path, 3, [], "data.val[0]")


def test_drawn_faces_need_no_path() -> None:
    samples, rejections = read_source(SourceConfig(count=3, seed=5), Path(), 68, [])
    assert (len(samples), rejections) == (3, [])
    assert {sample.source for sample in samples} == {"synthetic"}


@pytest.fixture
def three_sets(tmp_path: Path) -> Callable[..., DataConfig]:
    for i in range(10):
        put(tmp_path / "train", f"t{i}", i)
    for i in range(3):
        put(tmp_path / "test", f"x{i}", 100 + i)
    # The same photographs again: encoded anew, another size.
    put(tmp_path / "train", "t0_again", 0, quality=40)
    put(tmp_path / "train", "x1_again", 101, quality=50, scale=2.5)
    return lambda **more: DataConfig(root=str(tmp_path), train=[pts("train")], test=[pts("test")], **more)


def test_duplicates_leave_training_only(three_sets: Callable[..., DataConfig]) -> None:
    sets = read_sets(three_sets(split=SplitConfig(fraction=0.2)), 3, [], Preprocessing())
    assert (len(sets.train), len(sets.val), len(sets.test)) == (8, 2, 3)
    assert count_reasons(sets.rejections) == "2 duplicate"
    assert {(rejection.file, rejection.detail) for rejection in sets.rejections} == {
        ("train/t0_again.jpg", "of the training face train/t0.jpg"),
        ("train/x1_again.jpg", "of the held-out face test/x1.jpg"),
    }
    assert "2 training faces left out" in sets.notes[0]


def test_duplicates_may_stay(three_sets: Callable[..., DataConfig]) -> None:
    sets = read_sets(three_sets(drop_duplicates=False), 3, [], Preprocessing())
    assert len(sets.train) + len(sets.val) == 12
    assert sets.rejections == []


def test_labels_as_tao_writes_them(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((120, 120), np.uint8)).save(tmp_path / "a.png")
    chunk = {"class": "FiducialPoints", "P1x": 20.9, "P1y": 30.2, "P2x": 80.5, "P2y": 99.99, "P2occluded": True}
    labels = [{"filename": "a.png", "class": "image", "annotations": [chunk]}]
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    source = SourceConfig(format="fpenet_json", path="labels.json")

    def face(whole: bool) -> tuple[list, list]:
        data = DataConfig(root=str(tmp_path), test=[source], whole_points=whole)
        (sample,) = read_sets(data, 3, [], Preprocessing()).test
        return sample.points.tolist(), sample.states.tolist()

    assert face(True) == ([[20, 30], [80, 99], [0, 0]], [2, 1, 2])
    points, states = face(False)
    assert points[:2] == pytest.approx(np.array([[20.9, 30.2], [80.5, 99.99]]), abs=1e-4) and states == [2, 1, 0]


def test_given_validation_faces_are_not_split(three_sets: Callable[..., DataConfig]) -> None:
    sets = read_sets(three_sets(val=[pts("test", name="v")]), 3, [], Preprocessing())
    assert (len(sets.train), len(sets.val), len(sets.test)) == (10, 3, 3)


def test_points_that_no_face_has_are_noted(tmp_path: Path) -> None:
    put(tmp_path, "a")
    chunk = {"class": "FiducialPoints", **{f"P{n}{axis}": 20 * n for n in (1, 2, 4) for axis in "xy"}}
    label = [{"filename": "a.jpg", "annotations": [chunk]}]
    (tmp_path / "a.json").write_text(str(label).replace("'", '"'))
    data = DataConfig(root=str(tmp_path), test=[SourceConfig(format="fpenet_json", path="a.json")])
    assert read_sets(data, 5, [], Preprocessing()).notes == [
        "data.test[0]: 2 keypoints have no label in any face (P3, P5)"
    ]


def test_real_duplicates_are_found(shared_data: Path) -> None:
    data = DataConfig(
        root=str(shared_data / "300w"),
        train=[pts("lfpw/train", name="lfpw")],
        val=[pts("lfpw/test", name="val", count=4)],
        test=[pts("lfpw/test", name="test")],
    )
    sets = read_sets(data, 68, [], Preprocessing())
    found = {rejection.file: rejection.detail for rejection in sets.rejections}
    assert found["lfpw/image_0828.jpg"] == "of the held-out face test/image_0096.jpg"
    assert found["lfpw/image_0658.jpg"].startswith("of the training face lfpw/image_06")
    assert 40 < len(found) < 100
    assert len(sets.test) == 224
