"""Open Images' CSV: its columns, and broken lines."""

from pathlib import Path

import pytest
from PIL import Image

from facetrain.configs.facenet.schema import SourceConfig
from facetrain.datasets.formats.open_images import read_open_images
from facetrain.errors import DataError

HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
PLAIN = "a,xclick,/m/0dzct,1,0.25,0.5,0.125,0.75,0,0,0,0,0"


def read(
    root: Path, *lines: str, file: str = "validation-annotations-bbox.csv", folder: str = "validation", **settings
):
    for name in ("a.jpg", "b.jpg"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 80)).save(root / folder / name)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text("".join(line + "\n" for line in lines))
    return read_open_images(SourceConfig(format="open_images", path=file, **settings), root)


def test_boxes_flags_and_groups(tmp_path: Path) -> None:
    group = "b,activemil,/m/0dzct,1,0,1,-0.005,1.004,1,1,1,0,0"
    unknown = "a,xclick,/m/04hgtk,1,0.5,0.75,0.5,1,-1,-1,-1,-1,-1"
    (a, b), rejections = read(tmp_path, HEADER, PLAIN, group, unknown)
    assert rejections == []
    assert (a.name, a.image, a.size, a.line) == ("a.jpg", tmp_path / "validation" / "a.jpg", (100, 80), 2)
    face, head = a.boxes
    assert (face.name, face.box, face.line, face.marked) == ("/m/0dzct", (25, 10, 50, 60), 2, False)
    assert face.attributes == {"truncation": 0, "occlusion": 0}
    assert (head.name, head.line, head.attributes) == ("/m/04hgtk", 4, {})
    (whole,) = b.boxes
    assert whole.marked and whole.attributes == {"truncation": 1, "occlusion": 1}
    assert whole.box == pytest.approx((0, -0.4, 100, 80.32))


def test_names_of_classes(tmp_path: Path) -> None:
    (tmp_path / "oidv7-class-descriptions-boxable.csv").write_text(
        'LabelName,DisplayName\n/m/0dzct,Human face\n/m/0x,"A, B"\n'
    )
    (picture,), _ = read(tmp_path, HEADER, PLAIN, PLAIN.replace("/m/0dzct", "/m/0x"), PLAIN.replace("/m/0dzct", "/m/1"))
    assert [box.name for box in picture.boxes] == ["Human face", "A, B", "/m/1"]


def test_columns_in_another_order(tmp_path: Path) -> None:
    """As of version 4, without flags, and with the coordinates of a later one's clicks."""
    (picture,), rejections = read(
        tmp_path, "YMax,YMin,XMax,XMin,LabelName,ImageID,XClick", "0.75,0.125,0.5,0.25,x,a,0.3"
    )
    assert rejections == [] and picture.boxes[0].box == (25, 10, 50, 60) and picture.boxes[0].attributes == {}


@pytest.mark.parametrize("folder", ["validation", "images/validation", "images", "data", "", "sub/validation"])
def test_pictures_are_found_from_the_csv(tmp_path: Path, folder: str) -> None:
    (picture,), _ = read(tmp_path, HEADER, PLAIN, file="sub/validation-annotations-bbox.csv", folder=folder)
    assert picture.image == tmp_path / folder / "a.jpg"


def test_pictures_where_the_spec_says(tmp_path: Path) -> None:
    pictures, (rejection,) = read(tmp_path, HEADER, PLAIN, folder="elsewhere")
    assert (pictures, rejection.reason, rejection.line) == ([], "image missing", 2)
    assert len(read(tmp_path, HEADER, PLAIN, folder="elsewhere", images="elsewhere")[0]) == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a,xclick,/m/0dzct,1,0.25,0.5,0.125", "YMax is empty"),
        (PLAIN.replace("/m/0dzct", " "), "LabelName is empty"),
        (PLAIN.replace("0.25", "wide"), "found 'wide'"),
        (PLAIN.replace("0.25", "25"), "expected shares of the picture's width and height, 0 to 1, found 25"),
        (PLAIN.replace("0.25", "inf"), "expected shares"),
    ],
)
def test_a_broken_line_takes_its_picture_with_it(tmp_path: Path, line: str, words: str) -> None:
    (picture,), (rejection,) = read(tmp_path, HEADER, PLAIN, "", line, PLAIN.replace("a", "b", 1))
    assert picture.name == "b.jpg"
    assert (rejection.reason, rejection.line) == ("broken label", 4) and words in rejection.detail


def test_a_line_without_a_picture(tmp_path: Path) -> None:
    pictures, (rejection,) = read(tmp_path, HEADER, PLAIN, PLAIN.replace("a", "", 1))
    assert len(pictures) == 1 and (rejection.line, rejection.reason) == (3, "broken label")


def test_boxes_that_cannot_be_used_go_alone(tmp_path: Path) -> None:
    odd = PLAIN.replace("0.5", "0.25"), PLAIN.replace("0.5", "0.125"), PLAIN.replace("0.5", "nan")
    (picture,), rejections = read(tmp_path, HEADER, *odd, PLAIN)
    assert [box.line for box in picture.boxes] == [5]
    reasons = ["box without area", "box inverted", "box not finite"]
    assert [rejection.reason for rejection in rejections] == reasons


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("ImageID,LabelName,XMin,YMin,Width,Height", "a,b,0,0,1,1"), r":1: no column XMax, YMax; .*found ImageID, "),
        ((), r":1: no column .*found nothing"),
        ((HEADER, PLAIN, "a," + "x" * 200000), r":\d: not valid CSV"),
    ],
)
def test_a_file_of_another_kind(tmp_path: Path, lines: tuple[str, ...], words: str) -> None:
    with pytest.raises(DataError, match=rf"validation-annotations-bbox\.csv{words}"):
        read(tmp_path, *lines)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"ImageID\xff")
    with pytest.raises(DataError, match=r"a\.csv: the label file cannot be read"):
        read_open_images(SourceConfig(format="open_images", path="a.csv"), tmp_path)
