"""FDDB's ellipses, and the boxes around them."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facetrain.configs.facenet.schema import SourceConfig
from facetrain.datasets.formats.fddb import box_around, read_fddb
from facetrain.errors import DataError

PLAIN = "20.0 10.0 1.57079632679 50.0 40.0  1\n"


def read(root: Path, text: str, folder: str = "originalPics", path: str = "FDDB-folds", fold: int = 1, **settings):
    for name in ("2002/08/11/big/img_591", "2002/08/26/big/img_265", "2003/a/img_1"):
        (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 80)).save(root / folder / f"{name}.jpg")
    (root / "FDDB-folds").mkdir(exist_ok=True)
    (root / "FDDB-folds" / f"FDDB-fold-{fold:02d}-ellipseList.txt").write_text(text)
    return read_fddb(SourceConfig(format="fddb", path=path, **settings), root)


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.265839, math.pi / 2, -0.7, 3.0])
def test_the_box_touches_the_ellipse_on_all_sides(angle: float) -> None:
    """Against the ellipse walked in a hundred thousand steps."""
    turn = np.linspace(0, 2 * np.pi, 100001)
    x = 269.6934 + 0.5 + 123.5833 * np.cos(turn) * np.cos(angle) - 85.5495 * np.sin(turn) * np.sin(angle)
    y = 161.7812 + 0.5 + 123.5833 * np.cos(turn) * np.sin(angle) + 85.5495 * np.sin(turn) * np.cos(angle)
    box = box_around(123.5833, 85.5495, angle, 269.6934, 161.7812)
    assert box == pytest.approx((x.min(), y.min(), x.max(), y.max()), abs=1e-5)


def test_pictures_and_faces(tmp_path: Path) -> None:
    text = f"2002/08/11/big/img_591\n2\n{PLAIN}20 10 0 95 40 1\n2002/08/26/big/img_265\n0\n2003/a/img_1\n1\n{PLAIN}"
    (first, none, last), rejections = read(tmp_path, text)
    assert rejections == []
    assert (first.name, first.size, first.line) == ("2002/08/11/big/img_591.jpg", (100, 80), 1)
    upright, aside = first.boxes
    assert (upright.name, upright.line) == ("face", 3) and upright.box == pytest.approx((40.5, 20.5, 60.5, 60.5))
    assert aside.box == (75.5, 30.5, 115.5, 50.5)  # partly outside: not cut
    assert (none.boxes, len(last.boxes)) == ((), 1)


def test_all_folds_of_a_folder_or_one(tmp_path: Path) -> None:
    read(tmp_path, f"2003/a/img_1\n1\n{PLAIN}", fold=2)
    text = f"2002/08/11/big/img_591\n1\n{PLAIN}"
    assert [picture.name for picture in read(tmp_path, text)[0]] == ["2002/08/11/big/img_591.jpg", "2003/a/img_1.jpg"]
    (one,), _ = read(tmp_path, text, path="FDDB-folds/FDDB-fold-02-ellipseList.txt")
    assert one.name == "2003/a/img_1.jpg"
    with pytest.raises(DataError, match=r"no file \*-ellipseList\.txt"):
        read(tmp_path, text, path="originalPics")


@pytest.mark.parametrize("folder", ["originalPics", "images", "", "FDDB-folds/originalPics", "FDDB-folds"])
def test_pictures_are_found_from_the_folds(tmp_path: Path, folder: str) -> None:
    assert len(read(tmp_path, f"2003/a/img_1\n1\n{PLAIN}", folder)[0]) == 1


def test_pictures_where_the_spec_says(tmp_path: Path) -> None:
    text = f"2003/a/img_1\n1\n{PLAIN}2003/a/img_7\n0\n"
    assert read(tmp_path, text, "far")[0] == []
    (picture,), (rejection,) = read(tmp_path, text, "far", images="far")
    assert picture.name == "2003/a/img_1.jpg"
    assert (rejection.reason, rejection.line) == ("image missing", 4) and "2003/a/img_7.*" in rejection.detail


def test_pictures_of_the_fold_that_have_no_ellipses(tmp_path: Path) -> None:
    (tmp_path / "FDDB-folds").mkdir()
    (tmp_path / "FDDB-folds" / "FDDB-fold-01.txt").write_text("2003/a/img_1\n2002/08/11/big/img_591\n")
    _, (rejection,) = read(tmp_path, f"2003/a/img_1\n1\n{PLAIN}")
    assert (rejection.reason, rejection.line) == ("label missing", 2)
    assert (
        rejection.file.endswith("FDDB-fold-01.txt") and "img_591 is not in FDDB-fold-01-ellipseList" in rejection.detail
    )


@pytest.mark.parametrize(
    ("body", "line", "words"),
    [
        (f"3\n{PLAIN}{PLAIN}", 2, "3 faces are announced, 2 lines follow"),
        (f"0\n{PLAIN}", 2, "0 faces are announced, 1 lines follow"),
        (f"{'9' * 5000}\n{PLAIN}", 2, "number of faces, found '999"),
        (f"1.0\n{PLAIN}", 2, "number of faces, found '1.0'"),
        ("", 1, "the next line names another picture"),
        ("1\n20 10 0 50 40\n", 3, "5 numbers, expected 6"),
        ("1\n20 10 0 wide 40 1\n", 3, "found 'wide'"),
        ("1\n20 -10 0 50 40 1\n", 3, "no ellipse"),
        ("1\n20 10 nan 50 40 1\n", 3, "no ellipse"),
        ("1\n20 10 inf 50 40 1\n", 3, "no ellipse"),
    ],
)
def test_a_broken_picture_is_left_out_and_the_next_is_read(tmp_path: Path, body: str, line: int, words: str) -> None:
    (picture,), (rejection,) = read(tmp_path, f"2003/a/img_1\n{body}2002/08/11/big/img_591\n1\n{PLAIN}")
    assert picture.name == "2002/08/11/big/img_591.jpg"
    assert (rejection.reason, rejection.line) == ("broken label", line) and words in rejection.detail


def test_a_face_outside_goes_alone(tmp_path: Path) -> None:
    (picture,), (rejection,) = read(tmp_path, f"2003/a/img_1\n2\n{PLAIN}20 10 0 500 40 1\n")
    assert len(picture.boxes) == 1 and (rejection.line, rejection.reason) == (4, "box outside the picture")


@pytest.mark.parametrize("text", ["", "\n\n", "1\n2003/a/img_1\n", "1 2 3\n"])
def test_a_file_of_another_kind(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"ellipseList\.txt(:1)?: expected a picture's path"):
        read(tmp_path, text)
