"""COCO's keypoints: v, crowds, pictures and what is broken."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facetrain.configs.fpenet.schema import SourceConfig
from facetrain.datasets.formats.coco_keypoints import read_coco_keypoints
from facetrain.errors import DataError

KEYPOINTS = [20, 20, 2, 60.5, 20, 1, 0, 0, 0, 40, 60, 2]


def annotation(**changes: Any) -> dict[str, Any]:
    value = {"id": 5, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [10, 10, 60, 70], "keypoints": KEYPOINTS}
    return {key: item for key, item in (value | changes).items() if item is not None}


def read(folder: Path, *annotations: Any, image: dict[str, Any] | None = None, **settings):
    (folder / "val2017").mkdir(exist_ok=True)
    Image.new("L", (100, 90)).save(folder / "val2017" / "a.png")
    images = [{"id": 1, "file_name": "a.png", "width": 100, "height": 90} | (image or {})]
    categories = [{"id": 1, "name": "face", "keypoints": ["a", "b", "c", "d"], "skeleton": []}]
    value = {"images": images, "annotations": list(annotations), "categories": categories}
    (folder / "person_keypoints_val2017.json").write_text(json.dumps(value, indent=1))
    source = SourceConfig(format="coco_keypoints", path="person_keypoints_val2017.json", **settings)
    return read_coco_keypoints(source, folder)


def test_v_is_the_state(tmp_path: Path) -> None:
    (face,), rejections = read(tmp_path, annotation())
    assert rejections == []
    assert face.states.tolist() == [2, 1, 0, 2]
    np.testing.assert_array_equal(face.points, [[20, 20], [60.5, 20], [np.nan, np.nan], [40, 60]])
    assert face.box is not None and face.box.tolist() == [10, 10, 70, 80]
    assert face.image == tmp_path / "val2017" / "a.png"


def test_crowds_and_faces_without_points_are_left_out(tmp_path: Path) -> None:
    unlabelled = annotation(keypoints=[0, 0, 0] * 4)
    samples, rejections = read(tmp_path, annotation(iscrowd=1), unlabelled, annotation(keypoints=None))
    assert samples == []
    assert [rejection.reason for rejection in rejections] == ["crowd", "no points", "no points"]
    samples, rejections = read(tmp_path, unlabelled, annotation(keypoints=None), labelled=False)
    assert ([sample.num_keypoints for sample in samples], rejections) == ([4, 4], [])


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"keypoints": KEYPOINTS[:-1]}, "keypoints is 11 numbers, expected 12 for its category"),
        ({"keypoints": KEYPOINTS * 2}, "keypoints is 24 numbers"),
        ({"keypoints": {"a": 1}}, "keypoints is {'a': 1}"),
        ({"keypoints": ["x", *KEYPOINTS[1:]]}, "a keypoint's number is 'x'"),
        ({"keypoints": [1e300, *KEYPOINTS[1:]]}, "a keypoint's number is 1e+300"),
        ({"keypoints": [*KEYPOINTS[:-1], 3]}, "v is not 0, 1 or 2"),
        ({"bbox": [10, 10, 0, 70]}, "the box is 0 x 70 pixels"),
        ({"bbox": [10, 10, 70]}, "expected [x, y, width, height]"),
        ({"image_id": 7}, "image_id 7 is not in images"),
        ({"category_id": 7}, "category_id 7 is not in categories"),
        ({"image_id": [1]}, "image_id is [1]"),
    ],
)
def test_a_broken_annotation_goes_alone(tmp_path: Path, changes: dict[str, Any], detail: str) -> None:
    samples, (rejection,) = read(tmp_path, annotation(), annotation(**changes))
    assert (len(samples), rejection.reason) == (1, "broken label")
    assert detail in rejection.detail
    lines = (tmp_path / "person_keypoints_val2017.json").read_text().splitlines()
    assert rejection.line == [n for n, line in enumerate(lines) if '"id": 5' in line][1]


def test_labels_of_the_picture_as_it_is_stored(tmp_path: Path) -> None:
    """An EXIF tag turns it by 90 degrees; the label says whether it was made before or after."""
    pixels = np.zeros((40, 60), np.uint8)
    pixels[5, 50] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "t.png", exif=exif)
    flat = [50, 5, 2, 10, 30, 2, 20, 20, 2, 30, 10, 2]
    told = {"file_name": "../t.png", "width": 60, "height": 40}
    (face,), _ = read(tmp_path, annotation(keypoints=flat, bbox=[5, 0, 50, 35]), image=told)
    assert face.points[0].tolist() == [34, 50]  # 40 rows become the columns 39 .. 0
    assert face.box is not None and face.box.tolist() == [5, 5, 40, 55]
    upright = [value for x, y in face.points.tolist() for value in (x, y, 2)]
    (same,), _ = read(tmp_path, annotation(keypoints=upright, bbox=None), image=told | {"width": 40, "height": 60})
    np.testing.assert_array_equal(same.points, face.points)
    samples, (rejection,) = read(tmp_path, annotation(keypoints=flat), image=told | {"width": 61})
    assert samples == [] and "61 x 40" in rejection.detail and "40 x 60 pixels" in rejection.detail


@pytest.mark.parametrize("text", ["[]", '{"images": []', '{"images": [], "annotations": {}}', "[" * 5000, "1" * 5000])
def test_other_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json"):
        read_coco_keypoints(SourceConfig(format="coco_keypoints", path="a.json"), tmp_path)
