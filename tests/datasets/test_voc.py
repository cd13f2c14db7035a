"""Pascal VOC's XML: pixels counted from 1, marks, and broken files."""

from pathlib import Path

import pytest
from PIL import Image

from facetrain.configs.facenet.schema import SourceConfig
from facetrain.datasets.formats.voc import read_voc

# Four levels of a hundred each: a hundred million letters.
BOMB = "<!DOCTYPE a [<!ENTITY a 'x'>{}]><annotation>&e;</annotation>".format(
    "".join(f"<!ENTITY {outer} '{f'&{inner};' * 100}'>" for inner, outer in ("ab", "bc", "cd", "de"))
)


def thing(box: str = "11 21 40 60", name: str = "face", more: str = "") -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box.split(), strict=False)
    inner = "".join(f"<{side}>{value}</{side}>\n" for side, value in sides)
    return f"<object>\n<name>{name}</name>{more}<bndbox>{inner}</bndbox></object>\n"


def put(
    root: Path, name: str, body: str, suffix: str = ".jpg", images: str = "JPEGImages", size: str = "100 80"
) -> None:
    for folder in (root / "Annotations", root / images):
        folder.mkdir(parents=True, exist_ok=True)
    width, height = size.split()
    head = f"<filename>stale.jpg</filename><size><width>{width}</width><height>{height}</height></size>\n"
    (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>\n{head}{body}</annotation>\n")
    Image.new("RGB", (100, 80)).save(root / images / (name + suffix))


def read(root: Path, **settings):
    return read_voc(SourceConfig(format="voc", path="Annotations", **settings), root)


def test_boxes_count_from_1_and_include_their_last_pixel(tmp_path: Path) -> None:
    marks = "<truncated>1</truncated><occluded>0</occluded><difficult>1</difficult>"
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    put(tmp_path, "a", thing("1 1 100 80") + thing("7 8 7 8", "Hand", marks) + thing(more=part), ".png")
    (picture,), rejections = read(tmp_path)
    assert rejections == []
    assert (picture.name, picture.size) == ("a.png", (100, 80))
    whole, pixel, plain = picture.boxes
    assert (whole.box, whole.marked, whole.attributes) == ((0, 0, 100, 80), False, {})
    assert (pixel.name, pixel.box, pixel.marked) == ("Hand", (6, 7, 7, 8), True)
    assert pixel.attributes == {"truncation": 1, "occlusion": 0}
    assert (plain.box, plain.line) == ((10, 20, 40, 60), 15)


@pytest.mark.parametrize(
    ("body", "line", "words"),
    [
        (thing("11 21 40"), 4, "has no ymax"),
        (thing("11 21 wide 60"), 4, "found 'wide'"),
        (thing(name=""), 3, "without a name"),
        ("<object><name>face</name></object>", 3, "no bndbox"),
        ("<object>", 3, "not valid XML"),
    ],
)
def test_a_label_that_cannot_be_read_takes_its_picture_with_it(
    tmp_path: Path, body: str, line: int, words: str
) -> None:
    put(tmp_path, "a", body)
    put(tmp_path, "b", thing())
    pictures, (rejection,) = read(tmp_path)
    assert [picture.name for picture in pictures] == ["b.jpg"]
    assert (rejection.reason, rejection.line) == ("broken label", line)
    assert rejection.file.endswith("a.xml") and words in rejection.detail


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "the entity 'a' is declared"),
        ("<!DOCTYPE a [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><annotation>&a;</annotation>", "the entity 'a'"),
        ("<?xml version='1.0' encoding='nope'?><annotation/>", "unknown encoding: nope"),
        ("<?xml version='1.0' encoding='shift_jis'?><annotation/>", "multi-byte encodings"),
        ("<a>" * 100000, "not valid XML"),
    ],
)
def test_xml_that_is_an_attack_or_of_another_kind(tmp_path: Path, text: str, words: str) -> None:
    put(tmp_path, "a", "")
    (tmp_path / "Annotations" / "a.xml").write_text(text)
    pictures, (rejection,) = read(tmp_path)
    assert (pictures, rejection.reason) == ([], "broken label") and words in rejection.detail


def test_boxes_that_cannot_be_used_go_alone(tmp_path: Path) -> None:
    odd = "40 21 11 60", "11 61 40 60", "101 1 110 20", "nan 1 9 9"
    put(tmp_path, "a", "".join(map(thing, odd)) + thing())
    (picture,), rejections = read(tmp_path)
    assert len(picture.boxes) == 1
    reasons = ["box inverted", "box without area", "box outside the picture", "box not finite"]
    assert [rejection.reason for rejection in rejections] == reasons


def test_pictures_that_are_missing_or_of_another_size(tmp_path: Path) -> None:
    put(tmp_path, "a", thing(), size="80 100")
    put(tmp_path, "b", thing(), size="0 0")  # some tools leave it at that
    put(tmp_path, "c", thing())
    (tmp_path / "JPEGImages" / "c.jpg").unlink()
    (tmp_path / "Annotations" / "d.xml").write_text("<html></html>")
    pictures, rejections = read(tmp_path)
    assert [picture.name for picture in pictures] == ["b.jpg"]
    assert {Path(rejection.file).stem: rejection.reason for rejection in rejections} == {
        "a": "size mismatch",
        "c": "image missing",
        "d": "broken label",
    }


def test_pictures_where_the_spec_says(tmp_path: Path) -> None:
    put(tmp_path, "a", thing(), images="frames")
    assert read(tmp_path)[0] == []
    assert len(read(tmp_path, images="frames")[0]) == 1
