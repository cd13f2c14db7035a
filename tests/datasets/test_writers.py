"""Label files that are written: read again they say the same, on real faces and on made ones."""

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facetrain.configs.facenet.schema import DataConfig
from facetrain.configs.facenet.schema import SourceConfig as PictureSource
from facetrain.configs.fpenet.schema import SourceConfig as FaceSource
from facetrain.datasets.detection_sources import read_detection_sets
from facetrain.datasets.formats.coco_keypoints import read_coco_keypoints
from facetrain.datasets.formats.fpenet_json import read_fpenet_json
from facetrain.datasets.formats.write_coco import write_coco, write_coco_keypoints
from facetrain.datasets.formats.write_fpenet_json import write_fpenet_json
from facetrain.datasets.formats.write_kitti import write_kitti_labels
from facetrain.datasets.sample import DetectionSample, FaceSample
from facetrain.datasets.sources import read_source
from facetrain.datasets.whole_file import whole_file
from facetrain.errors import DataError, WriteError

REAL_FACES = {
    "300-W": FaceSource(format="pts", path="300w/helen/train"),
    "ytfaces": FaceSource(format="fpenet_json", path="ytfaces/ytfaces.json"),
}


def real_faces(shared_data: Path, name: str) -> list[FaceSample]:
    return read_source(REAL_FACES[name], shared_data, 68, [])[0]


def same_faces(written: Sequence[FaceSample], found: Sequence[FaceSample]) -> None:
    by_place = {(str(face.image.resolve()), face.points.tobytes()): face for face in found}
    assert len(found) == len(written) == len(by_place)
    for face in written:
        other = by_place[(str(face.image.resolve()), face.points.tobytes())]
        np.testing.assert_array_equal(face.states, other.states)
        assert (face.box is None) == (other.box is None)
        if face.box is not None:
            np.testing.assert_array_equal(face.box, other.box)


@pytest.mark.parametrize("name", REAL_FACES)
def test_real_faces_as_fpenet_json(shared_data: Path, tmp_path: Path, name: str) -> None:
    faces = real_faces(shared_data, name)
    write_fpenet_json(tmp_path / "faces.json", faces, shared_data)
    source = FaceSource(format="fpenet_json", path=str(tmp_path / "faces.json"), image_root=".")
    found, rejections = read_fpenet_json(source, shared_data, 68)
    assert rejections == []
    same_faces(faces, found)


@pytest.mark.parametrize("name", REAL_FACES)
def test_real_faces_as_coco_keypoints(shared_data: Path, tmp_path: Path, name: str) -> None:
    faces = real_faces(shared_data, name)
    write_coco_keypoints(tmp_path / "faces.json", faces, [f"P{n}" for n in range(1, 69)], shared_data)
    source = FaceSource(path=str(tmp_path / "faces.json"), image_root=".")
    found, rejections = read_coco_keypoints(source, shared_data)
    assert rejections == []
    boxed = [
        replace(face, box=other.box) if face.box is None else face for face, other in zip(faces, found, strict=True)
    ]
    same_faces(boxed, found)


def painted(folder: Path, name: str, size: tuple[int, int] = (90, 70)) -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size).save(folder / name)
    return folder / name


def test_states_and_faces_of_one_picture(tmp_path: Path) -> None:
    image = painted(tmp_path, "a/é 1.png")
    nan = np.nan
    first = FaceSample(
        image, np.array([[10.1, 20.2], [nan, nan], [40, 30]], np.float32), np.array([1, 0, 2], np.int8),
        np.array([5.3, 6.7, 50.1, 60.9], np.float32),
    )  # fmt: skip
    second = replace(first, points=first.points + np.float32(3), states=np.array([2, 0, 2], np.int8), box=None)
    write_fpenet_json(tmp_path / "labels" / "faces.json", [first, second], tmp_path)
    source = FaceSource(format="fpenet_json", path="labels/faces.json", image_root=".")
    found, rejections = read_fpenet_json(source, tmp_path, 3)
    assert rejections == []
    assert [face.name for face in found] == ["a/é 1.png"] * 2
    same_faces([first, second], found)
    write_coco_keypoints(tmp_path / "coco.json", [first, second], ["l", "r", "m"], tmp_path)
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert len(coco["images"]) == 1
    assert coco["annotations"][0]["keypoints"] == [10.1, 20.2, 1, 0, 0, 0, 40, 30, 2]
    assert coco["annotations"][0]["num_keypoints"] == 2
    found, _ = read_coco_keypoints(FaceSource(path="coco.json"), tmp_path)
    same_faces([first, replace(second, box=np.array([13.6, 23.7, 43.5, 33.5], np.float32))], found)


def real_pictures(shared_data: Path) -> tuple[list[DetectionSample], tuple[str, ...]]:
    data = DataConfig(root=str(shared_data / "wider"))
    data.train = [PictureSource(format="wider", path="wider_face_train_bbx_gt.txt")]
    data.split.fraction = 0
    sets = read_detection_sets(data)
    return sets.train, sets.classes


def read_back(source: PictureSource, root: Path) -> list[DetectionSample]:
    data = DataConfig(root=str(root), train=[source])
    data.split.fraction = 0
    return read_detection_sets(data).train


def same_pictures(
    written: Sequence[DetectionSample], found: Sequence[DetectionSample], attributes: Sequence[str] = ()
) -> None:
    by_file = {sample.image.resolve(): sample for sample in found}
    assert len(found) == len(written) == len(by_file)
    for sample in written:
        other = by_file[sample.image.resolve()]
        for name in ("boxes", "labels", "ignore"):
            np.testing.assert_array_equal(getattr(sample, name), getattr(other, name))
        for name in attributes:
            if len(sample.boxes):
                np.testing.assert_array_equal(sample.attributes[name], other.attributes[name])


def test_wider_as_coco(shared_data: Path, tmp_path: Path) -> None:
    pictures, classes = real_pictures(shared_data)
    assert sum(len(sample.ignore) for sample in pictures) > 0
    write_coco(tmp_path / "wider.json", pictures, classes, shared_data)
    found = read_back(PictureSource(format="coco", path=str(tmp_path / "wider.json"), images="."), shared_data)
    same_pictures(pictures, found)


def test_wider_as_kitti(shared_data: Path, tmp_path: Path) -> None:
    pictures, classes = real_pictures(shared_data)
    write_kitti_labels(tmp_path / "labels", pictures, classes, shared_data / "wider")
    found = read_back(PictureSource(format="kitti", path=str(tmp_path / "labels"), images="."), shared_data / "wider")
    same_pictures(pictures, found, ["occlusion"])


def test_a_label_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    drawn = FaceSample(np.zeros((9, 9), np.uint8), np.ones((1, 2), np.float32), np.ones(1, np.int8), name="drawn-1")
    good = replace(drawn, image=painted(tmp_path, "0.png"))
    path = tmp_path / "labels.json"
    path.write_text("old")
    with pytest.raises(DataError, match="drawn-1: its picture is no file"):
        write_fpenet_json(path, [good, drawn], tmp_path)
    assert path.read_text() == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0.png", "labels.json"]


def kill_in_the_middle(path: Path) -> None:
    with whole_file(path) as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_kill_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text("old")
    process = get_context("fork").Process(target=kill_in_the_middle, args=(tmp_path / "labels.json",))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / "labels.json").read_text() == "old"


def test_kitti_cannot_name_what_lies_elsewhere_or_twice(tmp_path: Path) -> None:
    none = np.zeros((0, 4), np.float32)
    one, two = (
        DetectionSample(painted(tmp_path, name), none, np.zeros(0, np.int64), none) for name in ("a/1.png", "a/1.jpg")
    )
    with pytest.raises(DataError, match=r"a/1\.png and a/1\.jpg would have one label file, a/1\.txt"):
        write_kitti_labels(tmp_path / "labels", [one, two], ["face"], tmp_path)
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="lies outside"):
        write_kitti_labels(tmp_path / "labels", [one], ["face"], tmp_path / "b")
    assert not (tmp_path / "labels").exists()
    write_kitti_labels(tmp_path / "labels", [one], ["face"], tmp_path)
    assert (tmp_path / "labels" / "a" / "1.txt").read_text() == ""
    with pytest.raises(WriteError, match="is there already"):
        write_kitti_labels(tmp_path / "labels", [one], ["face"], tmp_path)


def test_class_names_and_regions_in_kitti(tmp_path: Path) -> None:
    boxes = np.array([[1.5, 2, 30, 40.25]], np.float32)
    attributes = {"truncation": np.array([0.25], np.float32), "occlusion": np.array([np.nan], np.float32)}
    sample = DetectionSample(painted(tmp_path, "1.png"), boxes, np.array([1]), boxes + 10, attributes)
    write_kitti_labels(tmp_path / "labels", [sample], ["face", "big hat"], tmp_path)
    assert (tmp_path / "labels" / "1.txt").read_text() == (
        "big_hat 0.25 -1 0 1.5 2.0 30.0 40.25 0 0 0 0 0 0 0\nDontCare -1 -1 0 11.5 12.0 40.0 50.25 0 0 0 0 0 0 0\n"
    )
