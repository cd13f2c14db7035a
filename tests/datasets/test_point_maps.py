"""Layouts of points turned into others: what maps do, what a wrong one is told, and two layouts in one training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from facetrain.configs.fpenet.schema import SourceConfig
from facetrain.datasets.drawn.synthetic import draw_faces
from facetrain.datasets.formats.point_maps import built_in_maps, load_point_map
from facetrain.datasets.sample import FaceSample
from facetrain.datasets.sources import read_source
from facetrain.errors import ConfigError, DataError
from facetrain.tests import runs
from facetrain.tests.datasets.keypoint_files import WRITERS
from facetrain.training.model_file import load_model


def numbered(count: int) -> FaceSample:
    """A face whose point i lies at (i, 2 i)."""
    points = np.stack([np.arange(count), 2 * np.arange(count)], axis=1).astype(np.float32)
    return FaceSample(np.zeros((9, 9), np.uint8), points, np.full(count, 2, np.int8))


def write(folder: Path, **content) -> Path:
    (folder / "map.yaml").write_text(yaml.safe_dump(content))
    return folder


def test_entries_are_points_ranges_means_and_nothing(tmp_path: Path) -> None:
    write(tmp_path, **{"from": 8, "to": 6, "points": [7, "2-3", [0, "4-6"], None, [1]]})
    points = load_point_map("map.yaml", tmp_path)
    face = points(numbered(8))
    np.testing.assert_array_equal(face.points[:, 0], [7, 2, 3, 3.75, np.nan, 1])
    np.testing.assert_array_equal(face.points[:, 1], 2 * face.points[:, 0])
    assert face.states.tolist() == [2, 2, 2, 2, 0, 2]


def test_a_mean_is_known_no_better_than_its_points(tmp_path: Path) -> None:
    write(tmp_path, **{"from": 4, "to": 3, "points": [[0, 1], [1, 2], [2, 3]]})
    old = numbered(4)
    old.points[3] = np.nan
    face = load_point_map("map.yaml", tmp_path)(replace(old, states=np.array([2, 2, 1, 0], np.int8)))
    assert face.states.tolist() == [2, 1, 0]
    np.testing.assert_array_equal(face.points[:, 0], [0.5, 1.5, np.nan])


@pytest.mark.parametrize("name", built_in_maps())
def test_built_in_maps_are_what_they_are_called(name: str) -> None:
    old, new = (int(word) for word in name.split("_to_"))
    face = load_point_map(name, Path())(numbered(old))
    assert face.num_keypoints == new
    known = face.points[face.states > 0, 0]
    assert len(set(known.tolist())) == len(known) > 0  # no point is used twice


def test_what_the_built_in_maps_say() -> None:
    def points(name: str, count: int) -> np.ndarray:
        return load_point_map(name, Path())(numbered(count)).points[:, 0]

    np.testing.assert_array_equal(points("68_to_104", 68)[:68], np.arange(68))
    assert np.isnan(points("68_to_104", 68)[68:]).all() and np.isnan(points("68_to_80", 68)[68:]).all()
    np.testing.assert_array_equal(points("98_to_104", 98)[:68], points("98_to_68", 98))
    # The ten of TAO's notebook, counted from 1 there.
    np.testing.assert_array_equal(points("68_to_10", 68) + 1, [1, 9, 17, 20, 25, 34, 39, 45, 49, 55])
    np.testing.assert_array_equal(points("68_to_5", 68), [38.5, 44.5, 30, 48, 54])
    few = points("29_to_68", 29)
    assert {int(i): int(few[i]) for i in np.flatnonzero(~np.isnan(few))} == {
        8: 28, 17: 0, 21: 2, 22: 3, 26: 1, 36: 8, 39: 10, 42: 11, 45: 9, 48: 22, 51: 24, 54: 23, 57: 27, 62: 25, 66: 26
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: [", "is not YAML"),
        ("3", "it has 3; expected the keys from, to and points"),
        ("{from: 3, points: [0]}", "it has from, points; expected"),
        ("{from: 0, to: 1, points: [0]}", "from is 0, expected a number of points from 1 to 1000"),
        ("{from: 3, to: true, points: [0]}", "to is True, expected"),
        ("{from: 3, to: 2, points: {a: 1}}", "points is {'a': 1}, expected a list of 2"),
        ("{from: 3, to: 2, points: [0]}", "points has 1 entries, to is 2"),
        ("{from: 3, to: 1, points: [3]}", "3 is no point, range or list of points within 0-2, nor null"),
        ("{from: 3, to: 1, points: [-1]}", "-1 is no point"),
        ("{from: 3, to: 1, points: ['2-1']}", "'2-1' is no point"),
        ("{from: 3, to: 1, points: [[]]}", "[] is no point"),
        ("{from: 3, to: 1, points: [[[0]]]}", "[0] is no point"),
        ("{from: 3, to: 1, points: [1.0]}", "1.0 is no point"),
        ("{from: 3, to: 2, points: [~, ~]}", "all points are missing"),
    ],
)
def test_a_wrong_map_is_told_before_anything_is_read(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "map.yaml").write_text(content)
    source = SourceConfig(format="pts", path="nowhere", points="map.yaml")
    with pytest.raises(ConfigError) as error:
        read_source(source, tmp_path, 2, [], "data.train[0]")
    assert str(error.value).startswith("data.train[0].points=map.yaml: ")
    assert words in str(error.value)


def test_a_map_that_is_not_there_and_one_of_another_layout(tmp_path: Path, faces: Path) -> None:
    with pytest.raises(ConfigError, match=r"points=98_to_86: neither 29_to_68, .* nor a YAML file that can be read"):
        read_source(SourceConfig(format="pts", path=".", points="98_to_86"), faces, 68, [], "data.train[0]")
    with pytest.raises(DataError, match=r"data\.train\[0\]: 00\.png has 68 points, .*points=98_to_68 takes 98"):
        read_source(SourceConfig(format="pts", path=".", points="98_to_68"), faces, 68, [], "data.train[0]")


def test_a_label_file_is_read_in_its_own_layout(tmp_path: Path, faces: Path) -> None:
    """A reader that fills up to model.num_keypoints fills up to what the map takes."""
    samples, _ = read_source(SourceConfig(format="pts", path="."), faces, 68, [])
    source = WRITERS["label_studio"](tmp_path, [replace(face, image=faces / face.name) for face in samples])
    for face in samples:
        (tmp_path / face.name).write_bytes((faces / face.name).read_bytes())
    mapped, _ = read_source(replace(source, points="68_to_80"), tmp_path, 80, [])
    assert [face.num_keypoints for face in mapped] == [80] * len(samples)
    np.testing.assert_allclose(mapped[0].points[:68], samples[0].points, atol=1e-3)
    assert not mapped[0].states[68:].any()


def test_sets_of_different_layouts_train_one_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """80 points from drawn faces that have them all, and from faces labelled with 98 or with 68 points in other
    formats: the first 68 are learnt from all, the others from the drawn ones."""
    runs.leave_out_reports(monkeypatch.setattr)
    drawn = draw_faces(12, seed=3, num_keypoints=68)
    files = []
    for n, face in enumerate(drawn):
        Image.fromarray(face.image).save(tmp_path / f"{n:02}.png")
        files.append(replace(face, image=tmp_path / f"{n:02}.png", name=f"{n:02}.png"))
    WRITERS["csv"](tmp_path, files[:6])
    WRITERS["wflw"](tmp_path, files[6:])
    sources = (
        "data.train=[{format: csv, path: faces.csv, points: 68_to_80},"
        "{format: wflw, path: list.txt, points: 98_to_104},{format: synthetic, count: 8, seed: 9}]"
    )
    folder = tmp_path / "run"
    arguments = ["train", f"data.root={tmp_path}", f"results_dir={folder}", *runs.SMALL, sources]
    assert runs.fpenet(*arguments, "model.num_keypoints=80", "data.split.fraction=0.2") == 0
    said = capsys.readouterr().out
    assert "faces: 16 to train on, 4 to validate on" in said
    assert "data.train[1]: 12 keypoints have no label in any face (P69, P70," in said
    weights, meta = load_model(folder / "best.safetensors")
    assert meta.scheme["num_keypoints"] == 80
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())
