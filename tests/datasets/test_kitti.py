"""KITTI's label files: what is read, what is written, what is refused and where."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facetrain.configs.facenet.schema import SourceConfig
from facetrain.datasets.formats.kitti import kitti_line, read_kitti, write_kitti

REST = "1.5 1.6 3.9 1.0 2.0 20.0 -1.6"


def line(box: str = "10 20 40 60.5", name: str = "face", marks: str = "0.25 1 -1.57") -> str:
    return f"{name} {marks} {box} {REST}\n"


def put(root: Path, name: str, text: str, suffix: str = ".png", labels: str = "labels", images: str = "images") -> None:
    for folder, file in ((labels, f"{name}.txt"), (images, f"{name}{suffix}")):
        (root / folder / file).parent.mkdir(parents=True, exist_ok=True)
    (root / labels / f"{name}.txt").write_text(text)
    Image.new("RGB", (100, 80)).save(root / images / f"{name}{suffix}")


def read(root: Path, **settings):
    return read_kitti(SourceConfig(format="kitti", path="labels", **settings), root)


def test_boxes_classes_and_marks(tmp_path: Path) -> None:
    text = line() + "\n" + line("-5.5 0 200 80", "DontCare", "-1 -1 -10") + line(marks="0 3 0").replace("\n", " 0.93\n")
    put(tmp_path, "a", text)
    (picture,), rejections = read(tmp_path)
    assert rejections == []
    assert (picture.name, picture.image, picture.size) == ("a.png", tmp_path / "images" / "a.png", (100, 80))
    assert [box.name for box in picture.boxes] == ["face", "DontCare", "face"]
    assert picture.boxes[0].box == (10, 20, 40, 60.5)
    assert picture.boxes[0].attributes == {"truncation": 0.25, "occlusion": 1}
    assert picture.boxes[1].box == (-5.5, 0, 200, 80)  # partly outside: not cut
    assert picture.boxes[1].attributes == {}  # -1 says that it is not known
    assert [box.line for box in picture.boxes] == [1, 3, 4]


def test_pictures_of_any_suffix_in_any_usual_place(tmp_path: Path) -> None:
    for name, suffix in (("a", ".jpg"), ("b", ".PNG"), ("c", ".jpeg"), ("deep/d", ".bmp")):
        put(tmp_path, name, line(), suffix)
    put(tmp_path, "empty", "")
    assert [picture.name for picture in read(tmp_path)[0]] == ["a.jpg", "b.PNG", "c.jpeg", "deep/d.bmp", "empty.png"]
    assert [len(picture.boxes) for picture in read(tmp_path)[0]] == [1, 1, 1, 1, 0]
    for images in ("labels", "image_2"):
        put(tmp_path / images, "a", line(), ".jpg", images=images)
        assert [picture.name for picture in read(tmp_path / images)[0]] == ["a.jpg"]
    put(tmp_path / "own", "a", line(), images="frames/left")
    assert read(tmp_path / "own")[0] == []
    assert len(read(tmp_path / "own", images="frames/left")[0]) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("face 0 0 0 10 20 40 60 1 1 1 0 0 0\n", "14 fields, expected 15"),
        (line().replace("\n", " 0.9 0.8\n"), "17 fields"),
        (line("10 twenty 40 60"), "expected a number, found 'twenty'"),
        (line(name="no mask"), "expected a number, found 'mask'"),  # 16 fields, the second a word
    ],
)
def test_a_line_that_cannot_be_read_takes_its_picture_with_it(tmp_path: Path, text: str, words: str) -> None:
    put(tmp_path, "a", line() + text)
    put(tmp_path, "b", line())
    pictures, (rejection,) = read(tmp_path)
    assert [picture.name for picture in pictures] == ["b.png"]
    assert (rejection.file, rejection.line) == (str(tmp_path / "labels" / "a.txt"), 2)
    assert rejection.reason == "broken label" and words in rejection.detail


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ("40 20 10 60", "box inverted"),
        ("10 60 40 20", "box inverted"),
        ("10 20 10 60", "box without area"),
        ("10 20 40 20", "box without area"),
        ("100 20 140 60", "box outside the picture"),
        ("10 -40 40 0", "box outside the picture"),
        ("nan 20 40 60", "box not finite"),
        ("10 20 inf 60", "box not finite"),
    ],
)
def test_a_box_that_cannot_be_used_goes_alone(tmp_path: Path, box: str, reason: str) -> None:
    put(tmp_path, "a", line() + line(box))
    (picture,), (rejection,) = read(tmp_path)
    assert [box.line for box in picture.boxes] == [1]
    assert (rejection.reason, rejection.line) == (reason, 2)
    assert "a.png, 100 x 80" in str(rejection)


def test_pictures_missing_or_broken(tmp_path: Path) -> None:
    for name in ("alone", "broken", "good", "latin"):
        put(tmp_path, name, line())
    (tmp_path / "images" / "alone.png").unlink()
    (tmp_path / "images" / "broken.png").write_text("no picture")
    (tmp_path / "labels" / "latin.txt").write_bytes(b"\xff\xfe\x00")
    pictures, rejections = read(tmp_path)
    assert [picture.name for picture in pictures] == ["good.png"]
    assert {Path(rejection.file).stem: rejection.reason for rejection in rejections} == {
        "alone": "image missing",
        "broken": "picture unreadable",
        "latin": "label unreadable",
    }


def test_a_detection_is_written_in_16_fields_that_read_back(tmp_path: Path) -> None:
    expected = "face 0.00 0 0.00 10.123 20.500 40.000 60.999 0.00 0.00 0.00 0.00 0.00 0.00 0.00 1.250"
    assert kitti_line("face", (10.1234, 20.5, 40, 60.9989), 1.25) == expected
    assert len(kitti_line("no mask", (0, 0, 1, 1), 0.5).split()) == 16
    put(tmp_path, "a", "")
    boxes, scores = np.array([[1, 2, 3.5, 4], [-2, 0, 50, 60]], np.float32), np.array([0.9, 12.0], np.float32)
    write_kitti(tmp_path / "labels" / "a.txt", ["face", "no mask"], boxes, scores)
    (picture,), rejections = read(tmp_path)
    assert rejections == []
    assert [(box.name, box.box) for box in picture.boxes] == [("face", (1, 2, 3.5, 4)), ("no_mask", (-2, 0, 50, 60))]
    write_kitti(tmp_path / "labels" / "a.txt", [], boxes[:0], scores[:0])
    assert (tmp_path / "labels" / "a.txt").read_text() == ""
