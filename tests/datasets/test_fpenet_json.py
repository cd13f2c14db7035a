"""FPENet's label file: what it means, and where it says that something is wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facetrain.configs.fpenet.schema import SourceConfig
from facetrain.datasets.formats.fpenet_json import read_face_boxes, read_fpenet_json
from facetrain.errors import DataError

SHARED = {"x": [20, 60, 40, 30], "y": [20, 20, 40, 60]}


def points(xs: list[Any] = SHARED["x"], ys: list[Any] = SHARED["y"], **more: Any) -> dict[str, Any]:
    chunk: dict[str, Any] = {"class": "FiducialPoints", "tool-version": "1.0"}
    for n, (x, y) in enumerate(zip(xs, ys, strict=True), start=1):
        chunk |= {f"P{n}x": x, f"P{n}y": y}
    return chunk | more


def box(x: float, y: float, width: float, height: float, kind: str = "tight", **more: Any) -> dict[str, Any]:
    sides = dict(zip(("x", "y", "width", "height"), (x, y, width, height), strict=True))
    return {"class": "FaceBbox", "tool-version": "1.0"} | {f"face_{kind}_bbox{k}": v for k, v in sides.items()} | more


def read(folder: Path, *chunk_lists: list[dict[str, Any]], k: int = 4, indent: int | None = 1, **settings: Any):
    for name in ("0.png", "1.png"):
        Image.new("L", (200, 100)).save(folder / name)
    value = [{"filename": f"{i}.png", "class": "image", "annotations": c} for i, c in enumerate(chunk_lists)]
    (folder / "labels.json").write_text(json.dumps(value, indent=indent))
    return read_fpenet_json(SourceConfig(format="fpenet_json", path="labels.json", **settings), folder, k)


def line_of(folder: Path, text: str, nth: int = 0) -> int:
    lines = (folder / "labels.json").read_text().splitlines()
    return [number for number, line in enumerate(lines, start=1) if text in line][nth]


def test_a_face_with_everything(tmp_path: Path) -> None:
    chunks = [
        box(10, 10, 60, 70, Occlusion="3"),
        {"class": "eyes", "l_eyex": 1},
        points(["20.5", 60, 40, 30], P2occluded=True, P3occluded=False, version="v1"),
        {"class": "GlareAndGlint", "Glasses": "yes"},
    ]
    (face,), rejections = read(tmp_path, chunks)
    assert rejections == []
    np.testing.assert_array_equal(face.points, [[20.5, 20], [60, 20], [40, 40], [30, 60]])
    assert face.states.tolist() == [2, 1, 2, 2]
    assert face.box is not None and face.box.tolist() == [10, 10, 70, 80]
    assert (face.name, face.image) == ("0.png", tmp_path / "0.png")


def test_missing_points_are_missing_and_never_of_another_face(tmp_path: Path) -> None:
    second = points(P2occluded=True)
    del second["P2x"], second["P2y"], second["P4x"], second["P4y"]
    (first, other), _ = read(tmp_path, [points(), second], k=5)
    assert first.states.tolist() == [2, 2, 2, 2, 0]
    assert other.states.tolist() == [2, 0, 2, 0, 0]
    assert np.isnan(other.points[[1, 3, 4]]).all()


def test_more_points_than_asked_for_are_kept_for_the_caller_to_choose(tmp_path: Path) -> None:
    (face,), _ = read(tmp_path, [points()], k=2)
    assert face.num_keypoints == 4


def test_outer_box_where_there_is_no_tight_one(tmp_path: Path) -> None:
    (face,), _ = read(tmp_path, [box(5, 6, 80, 70, kind="outer"), points()])
    assert face.box is not None and face.box.tolist() == [5, 6, 85, 76]


def test_boxes_find_their_points_whatever_the_order(tmp_path: Path) -> None:
    right = points([120, 160, 140, 130])
    (a, b), rejections = read(tmp_path, [box(110, 10, 60, 70), box(10, 10, 60, 70), points(), right])
    assert rejections == []
    assert a.box is not None and b.box is not None
    assert (a.box[0], b.box[0]) == (10, 110)


def test_a_box_without_points(tmp_path: Path) -> None:
    chunks = [box(110, 10, 60, 70), points()]
    (face,), (rejection,) = read(tmp_path, chunks)
    assert face.box is None
    assert rejection.reason == "no points"
    faces, rejections = read(tmp_path, chunks, labelled=False)
    assert (len(faces), rejections) == (2, [])
    assert faces[1].states.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("key", ["Occlusion", "Occlusionx"])
def test_occlusion_level(tmp_path: Path, key: str) -> None:
    chunks = [box(10, 10, 60, 70, **{key: 6}), points()]
    samples, (rejection,) = read(tmp_path, chunks)
    assert (samples, rejection.reason) == ([], "occlusion level")
    assert len(read(tmp_path, chunks, max_occlusion_level=6)[0]) == 1


def test_a_face_that_the_frame_cuts(tmp_path: Path) -> None:
    chunks = [box(-60, 10, 100, 70), points([10, 20, 30, 15])]
    samples, (rejection,) = read(tmp_path, chunks)
    assert (samples, rejection.reason) == ([], "cut off by the frame")
    assert "40%" in rejection.detail
    assert len(read(tmp_path, chunks, min_visible_fraction=0.4)[0]) == 1


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        ({"P3x": "left"}, "P3x", "P3x is 'left', expected a number"),
        ({"P3y": float("nan")}, "P3y", "P3y is nan"),
        ({"P3x": True}, "P3x", "P3x is True"),
        ({"Px": 3}, "Px", "'Px' names no point"),
        ({"P0x": 3}, "P0x", "'P0x' names no point"),
        ({"P9x": 3}, "P9x", "P9x without its other coordinate"),
        ({"P3occluded": "perhaps"}, "P3occluded", "expected true or false"),
    ],
)
def test_a_broken_face_is_named_by_file_line_and_key(tmp_path: Path, change: dict, key: str, words: str) -> None:
    samples, (rejection,) = read(tmp_path, [points()], [points(), points(**change)])
    assert len(samples) == 2  # the whole faces of the same file and picture are used
    assert rejection.reason == "broken label"
    assert words in rejection.detail and "1.png" in rejection.detail
    assert rejection.line == line_of(tmp_path, f'"{key}"', -1)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"annotations": []}, "filename is None"),
        ({"filename": "a.png"}, "annotations is None"),
        ("a.png", "expected an object"),
        ({"filename": "a.png", "annotations": []}, "no face is labelled"),
        ({"filename": "a.png", "annotations": [points()]}, "no such file"),
        ({"filename": "a.png", "annotations": [box(1, 2, 0, 5)]}, "0 x 5"),
    ],
)
def test_broken_entries(tmp_path: Path, entry: Any, words: str) -> None:
    (tmp_path / "labels.json").write_text("[\n\n" + json.dumps(entry) + "\n]")
    source = SourceConfig(format="fpenet_json", path="labels.json")
    samples, (rejection,) = read_fpenet_json(source, tmp_path, 4)
    assert (samples, rejection.line) == ([], 3)
    assert words in rejection.detail


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[\n {"filename": "a",\n  "annotations" []}]', "3:17"),
        ("[\n{}\n{}]", "3:1"),
        ("{}", "1:1"),
        ("[{}", "1:4"),
        ("[{}]\n]", "2:1"),
        ("[] x", "1:4"),
    ],
)
def test_json_that_is_none(tmp_path: Path, text: str, place: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(DataError, match=rf"labels\.json:{place}: "):
        read_fpenet_json(SourceConfig(path="labels.json"), tmp_path, 4)


def test_a_folder_of_files_and_an_image_root(tmp_path: Path) -> None:
    (tmp_path / "sets" / "b").mkdir(parents=True)
    (tmp_path / "pictures").mkdir()
    Image.new("L", (100, 100)).save(tmp_path / "pictures" / "p.png")
    for name in ("sets/z.json", "sets/b/a.json"):
        (tmp_path / name).write_text(json.dumps([{"filename": "p.png", "annotations": [points()]}]))
    source = SourceConfig(format="fpenet_json", path="sets", image_root="pictures")
    samples, rejections = read_fpenet_json(source, tmp_path, 4)
    assert (len(samples), rejections) == (2, [])


def test_face_boxes_for_inference(tmp_path: Path) -> None:
    read(tmp_path, [box(1, 2, 30, 40), points(), box(50, 2, 30.5, 40)], [box(5, 5, 10, 10)])
    faces = read_face_boxes(tmp_path / "labels.json")
    assert [(face.name, face.box.tolist()) for face in faces if face.box is not None] == [
        ("0.png", [1, 2, 31, 42]),
        ("0.png", [50, 2, 80.5, 42]),
        ("1.png", [5, 5, 15, 15]),
    ]
    assert read_face_boxes(tmp_path / "labels.json", tmp_path / "x")[0].image == tmp_path / "x" / "0.png"
    read(tmp_path, [box(1, 2, 30, 40, face_tight_bboxy="top")])
    with pytest.raises(DataError, match=r"labels\.json:\d+: broken label .*'top'"):
        read_face_boxes(tmp_path / "labels.json")


def test_real_file(shared_data: Path) -> None:
    source = SourceConfig(format="fpenet_json", path="ytfaces.json")
    samples, rejections = read_fpenet_json(source, shared_data / "ytfaces", 68)
    assert (len(samples), rejections) == (3201, [])
    assert samples[0].box is not None and samples[0].box.tolist() == [41, 77, 111, 143]
