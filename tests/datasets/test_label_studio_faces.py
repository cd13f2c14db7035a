"""Label Studio's exports: which points are a face, percent of what, and where the pictures are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facetrain.configs.fpenet.schema import SourceConfig
from facetrain.datasets.formats.label_studio_faces import read_label_studio
from facetrain.datasets.formats.orientation import to_upright
from facetrain.datasets.image import read_image
from facetrain.errors import DataError

POINTS = {"1": (20.0, 20.0), "2": (60.0, 20.0), "3": (40.0, 60.0)}  # percent


def point(label: str, x: float, y: float, number: int = 0, **more: Any) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": 0.5, "keypointlabels": [label]}
    return {"id": f"{label}-{number}", "type": "keypointlabels", "from_name": "kp", "to_name": "img",
            "original_width": 200, "original_height": 100, "image_rotation": 0, "value": value} | more  # fmt: skip


def face(number: int = 0, shift: float = 0.0, **more: Any) -> list[dict[str, Any]]:
    return [point(label, x + shift, y, number, **more) for label, (x, y) in POINTS.items()]


def rectangle(key: str = "box", x: float = 10, **more: Any) -> dict[str, Any]:
    value = {"x": x, "y": 10, "width": 60, "height": 70, "rotation": 0, "rectanglelabels": ["Face"]}
    return {"id": key, "type": "rectanglelabels", "original_width": 200, "original_height": 100,
            "value": value | more.pop("value", {})} | more  # fmt: skip


def task(*results: Any, image: str = "/data/upload/3/0a1b2c3d-a.png", **more: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": image}, "annotations": [{"id": 4, "result": list(results)}]} | more


def read(folder: Path, *tasks: Any, k: int = 3, names: tuple[str, ...] = (), **settings):
    (folder / "pictures").mkdir(exist_ok=True)
    if not (folder / "pictures" / "a.png").exists():
        Image.new("L", (200, 100)).save(folder / "pictures" / "a.png")
    (folder / "export.json").write_text(json.dumps(list(tasks)))
    source = SourceConfig(format="label_studio", path="export.json", image_root="pictures", **settings)
    return read_label_studio(source, folder, k, names)


def test_a_picture_with_one_face(tmp_path: Path) -> None:
    (sample,), rejections = read(tmp_path, task(*reversed(face()), rectangle()))
    assert rejections == []
    np.testing.assert_allclose(sample.points, [[39.5, 19.5], [119.5, 19.5], [79.5, 59.5]])  # 20 % of 200 is an edge
    assert sample.states.tolist() == [2, 2, 2]
    assert sample.box is not None and sample.box.tolist() == [20, 10, 140, 80]
    assert (sample.image, sample.name) == (tmp_path / "pictures" / "a.png", "a.png")


def test_missing_and_occluded_points(tmp_path: Path) -> None:
    """A choice per region marks its point: a second result of the same id."""
    results = [*face()[:2], {"id": "2-0", "type": "choices", "value": {"x": 60, "y": 20, "choices": ["Occluded"]}}]
    (sample,), rejections = read(tmp_path, task(*results), k=4)
    assert rejections == []
    assert sample.states.tolist() == [2, 1, 0, 0]
    assert np.isnan(sample.points[2:]).all()


@pytest.mark.parametrize("how", ["parent", "relation"])
def test_two_faces_of_one_picture(tmp_path: Path, how: str) -> None:
    left, right = rectangle("L", 10, value={"width": 40}), rectangle("R", 55, value={"width": 40})
    results = [right, left]
    for number, shift, box in ((0, 0.0, "L"), (1, 35.0, "R")):
        points = face(number, shift)
        if how == "parent":
            results += [result | {"parentID": box} for result in points]
        else:
            results += points
            results += [{"type": "relation", "from_id": result["id"], "to_id": box} for result in points]
    samples, rejections = read(tmp_path, task(*results))
    assert rejections == []
    boxes = {sample.box[0]: sample.points[0, 0] for sample in samples if sample.box is not None}
    assert boxes == {20: 39.5, 110: 109.5}


def test_two_faces_that_nothing_parts(tmp_path: Path) -> None:
    samples, (rejection,) = read(tmp_path, task(*face(0), *face(1, 30)))
    assert (samples, rejection.reason) == ([], "broken label")
    assert "'1' occurs twice" in rejection.detail and "as parent" in rejection.detail


def test_labels_are_numbers_or_the_schemes_names(tmp_path: Path) -> None:
    results = [point("P2", 20, 20), point("nose", 60, 60), point("1", 50, 10)]
    (sample,), _ = read(tmp_path, task(*results), names=("eye_0", "eye_1", "nose"))
    np.testing.assert_allclose(sample.points[:, 0], [99.5, 39.5, 119.5])
    samples, (rejection,) = read(tmp_path, task(point("ear", 20, 20)), names=("eye_0", "eye_1", "nose"))
    assert samples == [] and "'ear' is no point: expected 1, 2, ... or P1, P2, ..., or a name" in rejection.detail
    (wide,), _ = read(tmp_path, task(point("7", 20, 20), point("1", 60, 60)))
    assert wide.num_keypoints == 7  # for the caller to choose from


def test_points_with_a_label_tag_of_their_own(tmp_path: Path) -> None:
    """KeyPoint with Labels: two results of one id, one has the geometry and the other repeats it with the label."""
    value = {"x": 20, "y": 20, "width": 1}
    results = [{"id": "a", "type": "keypoint", "value": value}]
    results += [{"id": "a", "type": "labels", "value": value | {"labels": ["1"]}}]
    (sample,), rejections = read(tmp_path, task(*results), k=1)
    assert (sample.states.tolist(), rejections) == ([2], [])


def test_json_min(tmp_path: Path) -> None:
    values = [result["value"] | {"original_width": 200, "original_height": 100} for result in face()]
    box = rectangle()["value"] | {"original_width": 200, "original_height": 100}
    minimal = {"img": "s3://bucket/some/a.png?x=1", "id": 1, "kp": values, "box": [box], "annotator": 1}
    (sample,), rejections = read(tmp_path, minimal)
    assert rejections == []
    assert sample.points[0].tolist() == [39.5, 19.5] and sample.box is not None


def test_which_annotation_counts(tmp_path: Path) -> None:
    versions = [face(0, shift) for shift in (0.0, 5.0, 10.0, 15.0)]
    flags = [{"ground_truth": True}, {}, {"was_cancelled": True}, {}]
    annotations = [{"result": result} | flag for result, flag in zip(versions, flags, strict=True)]
    (sample,), rejections = read(tmp_path, task(annotations=annotations))
    assert sample.points[0, 0] == 39.5
    assert [rejection.reason for rejection in rejections] == ["another annotation"] * 2
    (last,), _ = read(tmp_path, task(annotations=annotations[1:]))
    assert last.points[0, 0] == 69.5
    samples, (rejection,) = read(tmp_path, task(annotations=annotations[2:3]))
    assert (samples, rejection.reason) == ([], "no annotation")
    samples, (rejection,) = read(tmp_path, task())
    assert (samples, rejection.reason) == ([], "no points")


@pytest.mark.parametrize("tag", [5, 6, 7, 8])
def test_pictures_that_a_tag_turns(tmp_path: Path, tag: int) -> None:
    """Percent are of what the browser showed: turned in today's, as stored in older ones; the size tells which."""
    (tmp_path / "pictures").mkdir()
    stored = np.zeros((100, 200), np.uint8)
    stored[10:12, 150:152] = 255
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(stored).save(tmp_path / "pictures" / "a.png", exif=exif)
    upright = read_image(tmp_path / "pictures" / "a.png", grey=True)
    bright = np.argwhere(upright == 255)[:, ::-1].mean(axis=0)
    shown = {"original_width": 100, "original_height": 200}
    x, y = (bright + 0.5) / (100, 200) * 100
    others = [point("2", 30, 30, **shown), point("3", 60, 70, **shown)]
    (new,), _ = read(tmp_path, task(point("1", x, y, **shown), *others))
    np.testing.assert_allclose(new.points[0], bright, atol=1e-4)
    (old,), _ = read(tmp_path, task(point("1", 75.5, 11), point("2", 30, 30), point("3", 60, 70)))
    np.testing.assert_allclose(old.points[0], bright, atol=1e-4)
    edges = to_upright(np.array([[151.0, 11.0]]), tmp_path / "pictures" / "a.png", (200, 100))
    np.testing.assert_allclose(edges[0], bright + 0.5)


def test_the_view_that_the_annotator_turned_changes_nothing(tmp_path: Path) -> None:
    (sample,), _ = read(tmp_path, task(*face(image_rotation=90)))
    assert sample.points[0].tolist() == [39.5, 19.5]


def test_a_resized_picture_is_the_same_picture(tmp_path: Path) -> None:
    (sample,), _ = read(tmp_path, task(*face(original_width=2000, original_height=1001)))
    assert sample.points[0].tolist() == [39.5, 19.5]
    samples, (rejection,) = read(tmp_path, task(*face(original_width=150, original_height=100)))
    assert samples == [] and "150 x 100" in rejection.detail and "200 x 100 pixels" in rejection.detail


def test_a_rotated_rectangle_becomes_the_box_around_it(tmp_path: Path) -> None:
    """By 90 degrees clockwise about its top-left corner, in pixels: 40 x 20 at (100, 30) covers x 80..100, y 30..70."""
    box = rectangle(value={"x": 50, "y": 30, "width": 20, "height": 20, "rotation": 90})
    results = [point("1", 42, 35), point("2", 48, 35), point("3", 45, 65), box]
    (sample,), _ = read(tmp_path, task(*results))
    np.testing.assert_allclose(sample.box, [80, 30, 100, 70], atol=1e-4)


@pytest.mark.parametrize(
    "address",
    [
        "/data/upload/12/0a1b2c3d-b%20c.png",
        "/data/local-files/?d=home/me/sub/b%20c.png",
        "http://host:8080/data/local-files/?d=sub%5Cb c.png",
        "s3://bucket/sub/b c.png",
        "https://host/x/b%20c.png?token=abc#frag",
        "C:\\pictures\\b c.png",
    ],
)
def test_addresses(tmp_path: Path, address: str) -> None:
    (tmp_path / "pictures" / "sub").mkdir(parents=True)
    Image.new("L", (200, 100)).save(tmp_path / "pictures" / "sub" / "b c.png")
    (sample,), rejections = read(tmp_path, task(*face(), image=address))
    assert rejections == []
    assert (sample.name, sample.image) == ("sub/b c.png", tmp_path / "pictures" / "sub" / "b c.png")


def test_addresses_of_nothing_and_of_several(tmp_path: Path) -> None:
    samples, (rejection,) = read(tmp_path, task(*face(), image="https://host/z.png"))
    assert (samples, rejection.reason) == ([], "image missing")
    assert "'https://host/z.png': no z.png below" in rejection.detail and "image_root" in rejection.detail
    for place in ("x", "y"):
        (tmp_path / "pictures" / place).mkdir()
        Image.new("L", (200, 100)).save(tmp_path / "pictures" / place / "b.png")
    samples, (rejection,) = read(tmp_path, task(*face(), image="/data/upload/1/b.png"))
    assert samples == [] and "2 pictures are called b.png" in rejection.detail
    (sample,), _ = read(tmp_path, task(*face(), image="s3://bucket/y/b.png"))  # the longest tail decides
    assert sample.name == "y/b.png"
    outside = task(*face(), image="/data/local-files/?d=../../export.png")
    samples, (rejection,) = read(tmp_path, outside)
    assert (samples, rejection.reason) == ([], "image missing")


@pytest.mark.parametrize(
    ("wrong", "detail"),
    [
        (5, "expected a task"),
        ({"data": {"image": "a.png"}}, "annotations is None"),
        ({"data": {"text": "words"}, "annotations": []}, "0 of its values are addresses of pictures"),
        ({"data": {"p": "a.png", "q": "b.png"}, "annotations": []}, "2 of its values"),
        (task({"id": "a", "type": "keypointlabels", "value": 3}), "is 3, expected an object"),
        (task(point("1", 20, 20, original_width=0)), "original_width and original_height are (0, 100)"),
        (task(point("1", float("nan"), 20)), "x of '1' is nan"),
        (task(point("1", "20", 20)), "x of '1' is '20'"),
        (task(*face(), rectangle(value={"width": 0})), "the rectangle is 0 x 70 percent"),
        (task(*[r | {"parentID": "box"} for r in face()], rectangle(), rectangle("c", parentID="box")), "2 rectangles"),
        (task(point("1", 20, 20, item_index=1)), "a task of several pictures"),
        (
            task(point("1", 20, 20, value={"x": 1, "y": 1, "keypointlabels": ["1", "2"]})),
            "2 labels, expected one: ['1', '2']",
        ),
    ],
)
def test_a_broken_task_goes_alone(tmp_path: Path, wrong: Any, detail: str) -> None:
    (_,), (rejection,) = read(tmp_path, task(*face()), wrong)
    assert (rejection.reason, rejection.line) == ("broken label", 1)
    assert detail in rejection.detail


def test_no_list(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"id": 1}')
    with pytest.raises(DataError, match=r"a\.json:1:1: not a valid label file: expected a list"):
        read_label_studio(SourceConfig(format="label_studio", path="a.json"), tmp_path, 3)
