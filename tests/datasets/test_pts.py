"""`.pts` files, whole and broken."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facetrain.configs.fpenet.schema import SourceConfig
from facetrain.datasets.formats.pts import read_pts, read_pts_folder
from facetrain.datasets.sample import PointState
from facetrain.errors import DataError

POINTS = np.array([[10.5, 20.25], [60, 30], [35, 70]], np.float32)
ROWS = "".join(f"{x} {y}\n" for x, y in POINTS)


def put(folder: Path, name: str, text: str = ROWS, suffix: str = ".png", size: tuple[int, int] = (100, 90)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("L", size).save(folder / (name + suffix))
    (folder / f"{name}.pts").write_text(text)
    return folder / f"{name}.pts"


def read(root: Path, **changes: float):
    return read_pts_folder(SourceConfig(format="pts", path="faces", **changes), root)


@pytest.mark.parametrize(
    "text",
    [
        f"version: 1\nn_points: 3\n{{\n{ROWS}}}\n",
        f"version: 1\r\nn_points:  3\r\n{{\r\n{ROWS}}}",
        ROWS,
        f"n_points: 3\n{ROWS}",
        f"\ufeffversion: 1\n\n{{\n{ROWS}}}\n\n",
    ],
)
def test_header_and_braces_are_optional(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.pts").write_text(text, encoding="utf-8")
    np.testing.assert_array_equal(read_pts(tmp_path / "a.pts"), POINTS)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (f"version: 1\nn_points: 4\n{{\n{ROWS}}}", 2, "n_points says 4, the file has 3"),
        ("1 2\n3 four\n5 6\n", 2, "3 four"),
        ("1 2\n3 nan\n5 6\n", 2, "finite"),
        ("1 2\n3 4 5\n", 2, "expected 'x y'"),
        ("n_points: many\n1 2\n", 1, "many"),
    ],
)
def test_a_broken_label_is_named_by_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = put(tmp_path / "faces", "a", text)
    with pytest.raises(DataError, match=words) as error:
        read_pts(path)
    assert f"a.pts:{line}: " in str(error.value)
    samples, (rejection,) = read(tmp_path)
    assert samples == []
    assert (rejection.file, rejection.line) == (str(path), line)


def test_folder_is_read_at_any_depth_in_order(tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    for name, suffix in (("b", ".JPG"), ("a", ".png"), ("sub/deep/c", ".Jpeg"), ("d", ".bmp")):
        put((faces / name).parent, Path(name).name, suffix=suffix)
    samples, rejections = read(tmp_path)
    assert rejections == []
    assert [sample.name for sample in samples] == ["a.png", "b.JPG", "d.bmp", "sub/deep/c.Jpeg"]
    np.testing.assert_array_equal(samples[3].points, POINTS)
    assert (samples[0].states == PointState.VISIBLE).all()


def test_pictures_missing_or_unreadable_are_rejections(tmp_path: Path) -> None:
    put(tmp_path / "faces", "alone").with_suffix(".png").unlink()
    put(tmp_path / "faces", "broken").with_suffix(".png").write_text("no picture")
    put(tmp_path / "faces", "good")
    samples, rejections = read(tmp_path)
    assert [sample.name for sample in samples] == ["good.png"]
    assert [rejection.reason for rejection in rejections] == ["image missing", "picture unreadable"]
    assert "alone.jpg" in rejections[0].detail


def test_points_outside_the_picture(tmp_path: Path) -> None:
    put(tmp_path / "faces", "far", "10 10\n60 60\n400 20\n")
    put(tmp_path / "faces", "near", "10 10\n60 60\n105 20\n20 -0.4\n")
    (near,), (far,) = read(tmp_path)
    assert near.states.tolist() == [2, 2, 1, 2]
    assert near.points[2].tolist() == [105, 20]
    assert far.reason == "point outside the picture"
    assert "point 3 at (400, 20), picture 100 x 90" in far.detail


def test_faces_cut_off_by_the_frame(tmp_path: Path) -> None:
    put(tmp_path / "faces", "a", "-40 10\n59 10\n59 80\n-40 80\n")  # 60 of 99 pixels of it are inside
    assert len(read(tmp_path)[0]) == 1
    samples, (rejection,) = read(tmp_path, min_visible_fraction=0.61)
    assert samples == []
    assert rejection.reason == "cut off by the frame"


def test_a_tree_as_300w_and_aflw_have_it(tmp_path: Path) -> None:
    """Folders in folders, suffixes in capitals, a version line in each wording, several faces of one picture."""
    head = {
        "01_Indoor/indoor_001": "version: 1\nn_points:  3\n{\n",
        "02_Outdoor/outdoor_001": "VERSION 1.0\nN_POINTS = 3\n{\n",
        "aflw/0/image00002_1": "version:1\nn_points:3\n{",
        "aflw/0/image00002_2": "{\n",
    }
    for name, text in head.items():
        put(tmp_path / "faces" / Path(name).parent, Path(name).name, f"{text}{ROWS}}}")
    for name in list(head)[:2]:
        (tmp_path / "faces" / f"{name}.pts").rename(tmp_path / "faces" / f"{name}.PTS")
        (tmp_path / "faces" / f"{name}.png").rename(tmp_path / "faces" / f"{name}.PNG")
    samples, rejections = read(tmp_path)
    assert rejections == []
    assert [sample.name.lower() for sample in samples] == [f"{name}.png".lower() for name in head]
    for sample in samples:
        np.testing.assert_array_equal(sample.points, POINTS)


def test_files_that_count_from_1(tmp_path: Path) -> None:
    put(tmp_path / "faces", "a")
    (sample,), _ = read(tmp_path, first_pixel=1)
    np.testing.assert_array_equal(sample.points, POINTS - 1)


@pytest.mark.parametrize("far", ["1e30", "-1e30", "2e7", "1e308", "1" * 400])
def test_absurd_coordinates_are_no_points(tmp_path: Path, far: str) -> None:
    put(tmp_path / "faces", "a", f"{ROWS}{far} 20\n")
    samples, (rejection,) = read(tmp_path, min_visible_fraction=0.0)
    assert samples == []
    assert rejection.reason in ("broken label", "point outside the picture")


def test_real_files(shared_data: Path) -> None:
    samples, rejections = read_pts_folder(SourceConfig(format="pts", path="lfpw/test"), shared_data / "300w")
    assert (len(samples), rejections) == (224, [])
    assert {sample.num_keypoints for sample in samples} == {68}
