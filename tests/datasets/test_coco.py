"""COCO's JSON: boxes, crowds, and where it says that something is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from facetrain.configs.facenet.schema import SourceConfig
from facetrain.datasets.formats.coco import read_coco
from facetrain.errors import DataError

CATEGORIES = [{"id": 1, "name": "Face"}, {"id": 7, "name": "hand"}]


def image(key: int, **more: Any) -> dict[str, Any]:
    return {"id": key, "file_name": f"{key}.jpg", "width": 100, "height": 80} | more


def box(picture: int, bbox: Any = (10, 20, 30, 40.5), category: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": 1000 + picture, "image_id": picture, "category_id": category, "bbox": bbox, "iscrowd": 0} | more


def read(
    root: Path,
    images: list[Any],
    annotations: list[Any],
    folder: str = "val2017",
    *,
    indent: int | None = 1,
    below="",
    categories: list[Any] = CATEGORIES,
):
    (root / folder).mkdir(parents=True, exist_ok=True)
    for key in range(1, 5):
        Image.new("RGB", (100, 80)).save(root / folder / f"{key}.jpg")
    value = {"info": {"images": [0]}, "images": images, "categories": categories, "annotations": annotations}
    file = root / "annotations" / "instances_val2017.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(value, indent=indent))
    return read_coco(SourceConfig(format="coco", path="annotations/instances_val2017.json", images=below), root)


def lines_of(root: Path, text: str) -> list[int]:
    lines = (root / "annotations" / "instances_val2017.json").read_text().splitlines()
    return [number for number, line in enumerate(lines, start=1) if text in line]


def test_boxes_classes_and_crowds(tmp_path: Path) -> None:
    annotations = [box(2, category=7), box(1), box(1, iscrowd=1), box(1, (90, 70, 30, 40), ignore=1)]
    (first, second, empty), rejections = read(tmp_path, [image(1), image(2), image(3)], annotations)
    assert rejections == []
    assert (first.name, first.image, first.size) == ("1.jpg", tmp_path / "val2017" / "1.jpg", (100, 80))
    assert [box.marked for box in first.boxes] == [False, True, True]
    assert first.boxes[0].box == (10, 20, 40, 60.5)
    assert first.boxes[2].box == (90, 70, 120, 110)  # partly outside: not cut
    assert [box.name for box in (*first.boxes, *second.boxes)] == ["Face"] * 3 + ["hand"]
    assert empty.boxes == ()


@pytest.mark.parametrize("folder", ["val2017", "images", "annotations", "images/val2017"])
def test_pictures_are_found_from_the_label_file(tmp_path: Path, folder: str) -> None:
    assert len(read(tmp_path, [image(1)], [box(1)], folder)[0]) == 1


def test_pictures_where_the_spec_says(tmp_path: Path) -> None:
    _, (rejection,) = read(tmp_path, [image(1)], [box(1)], "frames")
    assert rejection.reason == "image missing"
    assert len(read(tmp_path, [image(1)], [box(1)], "frames", below="frames")[0]) == 1


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (box(1, [10, 20, 30]), "expected [x, y, width, height]"),
        (box(1, [10, 20, "wide", 40]), "expected [x, y, width, height]"),
        (box(1, None), "bbox is None"),
        (box(1, category=3), "category_id 3 is not in categories"),
        (box(1, category=None), "category_id is None"),
    ],
)
def test_an_annotation_that_cannot_be_read_takes_its_picture_with_it(tmp_path: Path, broken: Any, words: str) -> None:
    pictures, (rejection,) = read(tmp_path, [image(1), image(2)], [box(2), broken, box(1)])
    assert [picture.name for picture in pictures] == ["2.jpg"]
    assert rejection.reason == "broken label" and words in rejection.detail
    assert rejection.line == lines_of(tmp_path, '"image_id": 1')[0] - 2  # the brace and the id come before it


def test_categories_that_cannot_be_read(tmp_path: Path) -> None:
    """A picture with a box of such a one is not kept."""
    wrong = [{"id": 1}, {"id": 2, "name": " "}, 5, {"id": 3, "name": "\ud800"}, {"id": 7, "name": "face"}]
    images, boxes = [image(1), image(2)], [box(1), box(2, category=7)]
    (picture,), rejections = read(tmp_path, images, boxes, categories=[*wrong, {"id": 7, "name": "hand"}])
    assert (picture.name, picture.boxes[0].name) == ("2.jpg", "face")
    assert [rejection.detail for rejection in rejections] == [
        "the name of a category is None, expected a name",
        "the name of a category is ' ', expected a name",
        "expected an object, found 5",
        "the name of a category is '\\ud800', expected a name",
        "another category, 'face', has the id 7 too",
        "category_id 1 is not in categories",
    ]


def test_boxes_that_cannot_be_used_go_alone(tmp_path: Path) -> None:
    odd = [[10, 20, 0, 40], [10, 20, -1, 40], [100, 20, 30, 40], [float("nan"), 20, 30, 40]]
    odd += [[10, 20, 10**400, 40], [10, 20, 1e8, 40]]
    (picture,), rejections = read(tmp_path, [image(1)], [box(1, bbox) for bbox in odd] + [box(1)], indent=None)
    assert len(picture.boxes) == 1
    reasons = ["box without area", "box inverted", "box outside the picture", "box not finite"]
    reasons += ["box not finite", "box not in pixels"]
    assert [rejection.reason for rejection in rejections] == reasons
    assert {rejection.line for rejection in rejections} == {1}


def test_pictures_that_do_not_fit_their_entry(tmp_path: Path) -> None:
    images = [image(1, width=80, height=100), image(2), image(2), image(3, file_name=""), image(9), "4.jpg"]
    pictures, rejections = read(tmp_path, images, [box(2), box(5)])
    assert [picture.name for picture in pictures] == ["2.jpg"]
    found = {rejection.detail.split("/")[-1]: rejection.reason for rejection in rejections}
    assert found == {
        "1.jpg: the label says 80 x 100, the upright picture has 100 x 80": "size mismatch",
        "another picture has the id 2 too": "broken label",
        "file_name is '', expected the name of a picture": "broken label",
        "9.jpg": "image missing",
        "expected an object, found '4.jpg'": "broken label",
        "image_id 5 is not in images": "broken label",
    }


def test_files_that_are_no_coco(tmp_path: Path) -> None:
    for text, words in (
        ('{"images": [],\n "annotations": [}', r"a\.json:2:18: not a valid label file"),
        ('{"images": [], "annotations": []}', "no list 'categories'"),
        ("[]", "no list 'images'"),
    ):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(DataError, match=words):
            read_coco(SourceConfig(format="coco", path="a.json"), tmp_path)
