"""Label Studio's rectangles: turned ones, turned pictures, several labels, other shapes."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from facetrain.configs.facenet.schema import SourceConfig
from facetrain.datasets.formats.label_studio_boxes import read_label_studio_boxes
from facetrain.datasets.image import ORIENTATION
from facetrain.errors import DataError

IDS = itertools.count()  # regions with one id are one region


def rectangle(x: float = 10, y: float = 20, width: float = 30, height: float = 40, **more: Any) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": ["face"]}
    size = {"original_width": 200, "original_height": 100}
    return {"id": f"r{next(IDS)}", "type": "rectanglelabels", **(size | more.pop("size", {})), "value": value | more}


def task(*results: Any, image: str = "a.png", **more: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": image}, "annotations": [{"id": 4, "result": list(results)}], **more}


def read(folder: Path, *tasks: Any, orientation: int = 1, **settings):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    for name in "ab":
        Image.new("RGB", (200, 100)).save(folder / f"{name}.png", exif=exif)
    (folder / "export.json").write_text(json.dumps(list(tasks), indent=1))
    return read_label_studio_boxes(SourceConfig(format="label_studio", path="export.json", **settings), folder)


def test_percent_become_pixels(tmp_path: Path) -> None:
    hand = rectangle(-5, 50, 20, 60, rectanglelabels=["hand", "glove"])
    (picture, empty), rejections = read(tmp_path, task(rectangle(), hand), task(image="b.png"))
    assert rejections == []
    assert (picture.name, picture.size, picture.line) == ("a.png", (200, 100), 2)
    assert [(box.name, box.box) for box in picture.boxes] == [
        ("face", (20, 20, 80, 60)), ("hand", (-10, 50, 30, 110)), ("glove", (-10, 50, 30, 110))
    ]  # fmt: skip
    assert (empty.name, empty.boxes) == ("b.png", ())


def test_json_min(tmp_path: Path) -> None:
    size = {"original_width": 200, "original_height": 100}
    (picture,), rejections = read(tmp_path, {"image": "a.png", "id": 1, "label": [rectangle()["value"] | size]})
    assert rejections == [] and picture.boxes[0].box == (20, 20, 80, 60)


def test_a_turned_rectangle_becomes_the_box_around_it(tmp_path: Path) -> None:
    """Turned by 90 degrees clockwise about its top left corner, 60 x 40 pixels lie to the left and below."""
    (picture,), _ = read(tmp_path, task(rectangle(50, 20, rotation=90), rectangle(50, 20, 20, 40, rotation=-45)))
    assert picture.boxes[0].box == pytest.approx((60, 20, 100, 80), abs=1e-4)
    half = 40 / 2**0.5
    assert picture.boxes[1].box == pytest.approx((100, 20 - half, 100 + 2 * half, 20 + half), abs=1e-4)


def test_a_picture_that_its_exif_tag_turns(tmp_path: Path) -> None:
    """Shown upright, 100 x 200, or as it is stored, 200 x 100: `original_width` tells which."""
    upright = rectangle(size={"original_width": 100, "original_height": 200})
    (picture,), rejections = read(tmp_path, task(upright), orientation=6)
    assert rejections == [] and picture.size == (100, 200)
    assert picture.boxes[0].box == pytest.approx((10, 40, 40, 120))
    (picture,), _ = read(tmp_path, task(rectangle()), orientation=6)  # stored (x, y) is (100 - y, x) upright
    assert picture.boxes[0].box == pytest.approx((40, 20, 80, 80))


def test_points_are_passed_over_and_other_shapes_are_named(tmp_path: Path) -> None:
    point = {"id": "p", "type": "keypointlabels", "value": {"x": 5, "y": 5, "width": 1, "keypointlabels": ["1"]}}
    shapes = [
        {"id": "poly", "type": "polygonlabels", "value": {"points": [[1, 1], [9, 9], [1, 9]], "polygonlabels": ["a"]}},
        {"id": "oval", "type": "ellipselabels", "value": {"x": 9, "y": 9, "radiusX": 3, "radiusY": 2}},
    ]
    (picture,), rejections = read(tmp_path, task(rectangle(), point, *shapes))
    assert len(picture.boxes) == 1
    assert [rejection.reason for rejection in rejections] == ["not a rectangle"] * 2
    assert "a.png: region 'oval'" in rejections[1].detail


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (rectangle(rectanglelabels=[]), "has no label"),
        ({**rectangle(40), "id": "first"}, "the id 'first' is given to two regions"),
        (rectangle(width=0), "the rectangle is 0 x 40 percent"),
        (rectangle(x="1"), "x is '1', expected a number in percent"),
        (rectangle(y=float("nan")), "y is nan"),
        (rectangle(height=1e300), "height is 1e+300"),
        (rectangle(rotation=None), "rotation is None"),
        (rectangle(size={"original_width": 300}), "300 x 100"),
    ],
)
def test_a_broken_rectangle_takes_its_picture_with_it(tmp_path: Path, broken: dict[str, Any], words: str) -> None:
    first = {**rectangle(), "id": "first"}
    (picture,), (rejection,) = read(tmp_path, task(first, broken), task(rectangle(), image="b.png"))
    assert (picture.name, rejection.reason, rejection.line) == ("b.png", "broken label", 2)
    assert words in rejection.detail


def test_what_no_box_can_be_read_of(tmp_path: Path) -> None:
    skipped = task(image="b.png", annotations=[])
    pictures, rejections = read(tmp_path, task(image="c.png"), skipped, task(image="video.mp4"), 5)
    assert pictures == []
    reasons = ["image missing", "no annotation", "broken label", "broken label"]
    assert [rejection.reason for rejection in rejections] == reasons
    (tmp_path / "export.json").write_text("{}")
    with pytest.raises(DataError, match=r"export\.json:1"):
        read_label_studio_boxes(SourceConfig(format="label_studio", path="export.json"), tmp_path)
