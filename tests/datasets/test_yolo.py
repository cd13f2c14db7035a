"""YOLO's text labels: where pictures and names are found, and broken lines."""

from pathlib import Path

import pytest
from PIL import Image

from facetrain.configs.facenet.schema import SourceConfig
from facetrain.datasets.formats.yolo import read_yolo
from facetrain.errors import DataError


def put(root: Path, label: str, text: str | None, image: str) -> None:
    """A label and a picture of 100 x 80."""
    for name in (label, image):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    if text is not None:
        (root / label).write_text(text)
    Image.new("RGB", (100, 80)).save(root / image)


def read(root: Path, path: str = "labels", **settings):
    return read_yolo(SourceConfig(format="yolo", path=path, **settings), root)


def test_shares_become_pixels(tmp_path: Path) -> None:
    put(tmp_path, "labels/a.txt", "0 0.5 0.5 0.2 0.25\n\n1 0.05 1.0 0.2 0.5\n", "images/a.jpg")
    (tmp_path / "classes.txt").write_text("face\nhand\n")
    (picture,), rejections = read(tmp_path)
    assert rejections == []
    assert (picture.name, picture.size) == ("a.jpg", (100, 80))
    face, hand = picture.boxes
    assert (face.name, face.line) == ("face", 1) and face.box == pytest.approx((40, 30, 60, 50))
    assert (hand.name, hand.line) == ("hand", 3) and hand.box == pytest.approx((-5, 60, 15, 100))  # not cut


def test_pictures_without_a_label_have_no_face(tmp_path: Path) -> None:
    put(tmp_path, "labels/a.txt", "0 0.5 0.5 0.2 0.2\n", "images/a.jpg")
    put(tmp_path, "labels/b.txt", "", "images/b.jpg")
    put(tmp_path, "labels/c.txt", None, "images/sub/c.png")
    pictures, rejections = read(tmp_path)
    assert rejections == []
    assert [(picture.name, len(picture.boxes)) for picture in pictures] == [
        ("a.jpg", 1),
        ("b.jpg", 0),
        ("sub/c.png", 0),
    ]


@pytest.mark.parametrize(
    ("label", "image", "path", "images"),
    [
        ("labels/train/a.txt", "images/train/a.jpg", "labels/train", ""),  # Ultralytics
        ("labels/train/a.txt", "images/train/a.jpg", "", ""),
        ("train/labels/a.txt", "train/images/a.jpg", "train", ""),  # Roboflow
        ("obj_train_data/a.txt", "obj_train_data/a.jpg", "obj_train_data", ""),  # darknet, CVAT
        ("a.txt", "frames/a.jpg", "", "frames"),
        ("labels/x/labels/a.txt", "labels/x/images/a.jpg", "labels/x/labels", ""),
    ],
)
def test_layouts(tmp_path: Path, label: str, image: str, path: str, images: str) -> None:
    put(tmp_path, label, "0 0.5 0.5 0.2 0.2\n", image)
    (tmp_path / "train.txt").write_text("./images/train/a.jpg\n")
    (picture,), rejections = read(tmp_path, path, images=images)
    assert rejections == [] and picture.image == tmp_path / image and len(picture.boxes) == 1


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("data.yaml", "train: x\nnc: 2\nnames: [hand, face]\n"),
        ("data.yaml", "path: .\nnames:\n  0: hand\n  1: face\n"),
        ("dataset.yaml", "names: {1: face}\n"),
        ("obj.names", "hand\nface\n"),
        ("labels/classes.txt", "hand\nface\n\n"),
        ("../classes.txt", "hand\nface\n"),
    ],
)
def test_names_of_classes(tmp_path: Path, file: str, text: str) -> None:
    root = tmp_path / "set"
    put(root, "labels/a.txt", "1 0.5 0.5 0.2 0.2\n", "images/a.jpg")
    (root / file).write_text(text)
    (picture,), rejections = read(root)
    assert rejections == [] and picture.boxes[0].name == "face"


def test_without_names_the_number_is_the_name(tmp_path: Path) -> None:
    put(tmp_path, "labels/a.txt", "07 0.5 0.5 0.2 0.2\n", "images/a.jpg")
    assert read(tmp_path)[0][0].boxes[0].name == "7"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("names: [a", "not valid YAML"),
        ("names: 3", "`names` is no list"),
        ("[1, 2]", "`names` is no list"),
        ("names: {a: b}", "`names` is no list"),
        ("names: [[a]]", "`names` is no list"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]", "`names` is no list"),
    ],
)
def test_names_that_cannot_be_read(tmp_path: Path, text: str, words: str) -> None:
    put(tmp_path, "labels/a.txt", "", "images/a.jpg")
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=rf"data\.yaml: {words}"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.2", "4 fields, expected 5 (class cx cy w h)"),
        ("0 0.1 0.1 0.9 0.1 0.9 0.9", "7 fields"),  # a polygon
        ("0 0.5 0.5 0.2 0.2 0.87", "6 fields"),  # a detection with its score
        ("face 0.5 0.5 0.2 0.2", "expected a class, one of 0 (face), found 'face'"),
        ("1 0.5 0.5 0.2 0.2", "found '1'"),
        ("-1 0.5 0.5 0.2 0.2", "found '-1'"),
        ("² 0.5 0.5 0.2 0.2", "found '²'"),
        ("9" * 5000 + " 0.5 0.5 0.2 0.2", "found '999"),
        ("0 50 40 20 20", "expected shares of the picture's width and height, 0 to 1, found 50 40 20 20"),
        ("0 inf 0.5 0.2 0.2", "expected shares"),
        ("0 0.5 0.5 wide 0.2", "found 'wide'"),
        ("0 0.5 0_5 0.2 0.2", "found '0_5'"),
    ],
)
def test_a_broken_line_takes_its_picture_with_it(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "classes.txt").write_text("face\n")
    put(tmp_path, "labels/a.txt", f"0 0.5 0.5 0.2 0.2\n{line}\n", "images/a.jpg")
    put(tmp_path, "labels/b.txt", "0 0.5 0.5 0.2 0.2\n", "images/b.jpg")
    (picture,), (rejection,) = read(tmp_path)
    assert picture.name == "b.jpg"
    assert (rejection.reason, rejection.line) == ("broken label", 2) and rejection.file.endswith("a.txt")
    assert words in rejection.detail


def test_what_cannot_be_used_goes_alone(tmp_path: Path) -> None:
    text = "0 0.5 0.5 0 0.2\n0 0.5 0.5 -0.2 0.2\n0 nan 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n"
    put(tmp_path, "labels/a.txt", text, "images/a.jpg")
    put(tmp_path, "labels/b.txt", "", "images/a.jpg")
    (tmp_path / "labels" / "c.txt").write_bytes(b"\xff\xff")
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "c.png")
    (picture,), rejections = read(tmp_path)
    assert len(picture.boxes) == 1
    assert [(Path(rejection.file).name, rejection.line, rejection.reason) for rejection in rejections] == [
        ("b.txt", None, "image missing"),
        ("c.txt", None, "label unreadable"),
        ("a.txt", 1, "box without area"),
        ("a.txt", 2, "box inverted"),
        ("a.txt", 3, "box not finite"),
    ]
