"""WFLW's lists: the two forms of a line, and what a broken one gets."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facetrain.configs.fpenet.schema import SourceConfig
from facetrain.datasets.formats.wflw import read_wflw
from facetrain.datasets.sources import read_source
from facetrain.errors import DataError

XY = [10 + 60 * np.cos(n) ** 2 for n in range(196)]
WORDS = [f"{value:.6f}" for value in XY]
BOX = ["5", "6", "80", "90"]
NAME = "0--Parade/0_Parade_marchingband_1_116.jpg"


def read(folder: Path, *lines: list[str], **settings):
    (folder / "WFLW_images" / "0--Parade").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 120)).save(folder / "WFLW_images" / NAME)
    (folder / "list.txt").write_text("".join(" ".join(words) + "\n" for words in lines))
    return read_wflw(SourceConfig(format="wflw", path="list.txt", image_root="WFLW_images", **settings), folder)


def test_a_line_with_box_and_attributes(tmp_path: Path) -> None:
    (face,), rejections = read(tmp_path, [*WORDS, *BOX, "1", "0", "0", "0", "1", "0", NAME])
    assert rejections == []
    np.testing.assert_allclose(face.points.ravel(), XY, atol=1e-5)
    assert (face.states == 2).all()
    assert face.box is not None and face.box.tolist() == [5, 6, 80, 90]
    assert (face.name, face.image) == (NAME, tmp_path / "WFLW_images" / NAME)
    assert (face.label, face.line) == (str(tmp_path / "list.txt"), 1)


def test_a_line_with_points_only_and_two_faces_of_one_picture(tmp_path: Path) -> None:
    samples, rejections = read(tmp_path, [*WORDS, NAME], [], [*WORDS, NAME])
    assert (len(samples), rejections, samples[0].box) == (2, [], None)
    assert [face.line for face in samples] == [1, 3]


@pytest.mark.parametrize(
    ("words", "detail"),
    [
        ([*WORDS[:-1], NAME], "196 words, expected 207"),
        ([*WORDS[:-1], "nan", NAME], "word 196 is 'nan'"),
        ([*WORDS[:-1], "1e30", NAME], "word 196 is '1e30'"),
        ([*WORDS, "80", "6", "5", "90", *"000000", NAME], "the box is -75 x 84 pixels"),
        ([*WORDS, *BOX, *"000020", NAME], "occlusion is 2"),
    ],
)
def test_a_broken_line_goes_alone(tmp_path: Path, words: list[str], detail: str) -> None:
    (face,), (rejection,) = read(tmp_path, [*WORDS, NAME], words)
    assert face.line == 1
    assert (rejection.line, rejection.reason) == (2, "broken label")
    assert detail in rejection.detail


def test_a_picture_that_is_not_there(tmp_path: Path) -> None:
    samples, (rejection,) = read(tmp_path, [*WORDS, "0--Parade/other.jpg"])
    assert (samples, rejection.reason, rejection.line) == ([], "image missing", 1)


def test_the_98_points_become_68(tmp_path: Path) -> None:
    """Every second of the contour; brows' upper edge; eyes without the middle of the lids."""
    read(tmp_path, [*WORDS, NAME])
    source = SourceConfig(format="wflw", path="list.txt", image_root="WFLW_images", points="98_to_68")
    (face,), _ = read_source(source, tmp_path, 68, [])
    points = np.array(XY).reshape(98, 2)
    for new, old in ((0, 0), (8, 16), (16, 32), (17, 33), (22, 42), (30, 54), (33, 57), (36, 60), (38, 63), (39, 64),
                     (41, 67), (45, 72), (48, 76), (57, 85), (67, 95)):  # fmt: skip
        np.testing.assert_allclose(face.points[new], points[old], atol=1e-5)
    with pytest.raises(DataError, match=r"98 points, model\.num_keypoints=68; .*source_points"):
        read_source(SourceConfig(format="wflw", path="list.txt", image_root="WFLW_images"), tmp_path, 68, [])
