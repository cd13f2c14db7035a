"""DetectNet_v2's TFRecords: what TAO's converter writes, and what is broken in them."""

from pathlib import Path

import pytest
from PIL import Image

from facetrain.configs.facenet.schema import SourceConfig
from facetrain.datasets.formats.detectnet_tfrecords import read_detectnet_tfrecords
from facetrain.errors import DataError
from facetrain.tests.datasets.records import example, write_records

SHARD = "tfrecords/mine-fold-{:03d}-of-002-shard-00000-of-00001"


def record(frame: str = "images/a", boxes: tuple = ((10.0, 20.0, 40.5, 60.0),), **changes: list | None) -> bytes:
    """A picture as TAO writes it; `changes` replace features of that last word, or leave them out."""
    count = len(boxes)
    zeros = {f"target/world_bbox_{name}": [0.0] * count for name in ("h", "w", "l", "x", "y", "z", "rot_y")}
    sides = {f"target/coordinates_{name}": [box[i] for box in boxes] for i, name in enumerate(("x1", "y1", "x2", "y2"))}
    features = {
        "frame/id": [frame.encode()],
        "frame/width": [100],
        "frame/height": [80],
        "target/object_class": [b"face"] * count,
        "target/truncation": [0.25] * count,
        "target/occlusion": [1] * count,
        "target/observation_angle": [0.0] * count,
        **sides,
        **zeros,
    }
    for word, values in changes.items():
        name = next(name for name in features if name.endswith(f"/{word}"))
        features[name] = values
    return example({name: values for name, values in features.items() if values is not None})


def read(root: Path, *records: bytes, path: str = "tfrecords", folder: str = "images", images: str = ""):
    for name in "ab":
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 80)).save(root / folder / f"{name}.png")
    (root / "tfrecords").mkdir(exist_ok=True)
    write_records(root / SHARD.format(0), *records)
    return read_detectnet_tfrecords(SourceConfig(format="detectnet_tfrecords", path=path, images=images), root)


def test_boxes_and_attributes(tmp_path: Path) -> None:
    first = record(boxes=((-5.0, 0.5, 40.25, 60.0), (1.0, 2.0, 30.0, 40.0)), object_class=[b"Face", b"DontCare"])
    unknown = record("images/b", truncation=[-1.0], occlusion=[-1])
    (a, b), rejections = read(tmp_path, first, unknown)
    assert rejections == []
    assert (a.name, a.image, a.size) == ("images/a.png", tmp_path / "images" / "a.png", (100, 80))
    assert [(box.name, box.box) for box in a.boxes] == [
        ("Face", (-5, 0.5, 40.25, 60)), ("DontCare", (1, 2, 30, 40))
    ]  # fmt: skip
    assert a.boxes[0].attributes == {"truncation": 0.25, "occlusion": 1} and b.boxes[0].attributes == {}


def test_a_picture_without_boxes(tmp_path: Path) -> None:
    (full,), _ = read(tmp_path, record(boxes=()))
    bare = example({"frame/id": [b"images/b"]})
    (empty,), rejections = read(tmp_path, bare)
    assert (full.boxes, empty.boxes, rejections) == ((), (), [])


def test_which_files_are_read(tmp_path: Path) -> None:
    read(tmp_path, record())
    write_records(tmp_path / SHARD.format(1), record("images/b"))
    (tmp_path / "tfrecords" / "mine_warning.json").write_text("{}")
    (tmp_path / "tfrecords" / "README.md").write_text("mine")

    def names(path: str) -> list[str]:
        return [picture.name for picture in read(tmp_path, record(), path=path)[0]]

    assert names("tfrecords") == names("tfrecords/mine*") == ["images/a.png", "images/b.png"]
    assert names("tfrecords/*fold-001*") == names(SHARD.format(1)) == ["images/b.png"]
    for path in ("images", "tfrecords/*fold-007*"):
        with pytest.raises(DataError, match="no record file, such as"):
            names(path)


@pytest.mark.parametrize(
    ("folder", "images"),
    [("tfrecords/images", ""), ("images", ""), ("far/images", "far"), ("../images", "")],
)
def test_pictures_are_found_from_the_record_files(tmp_path: Path, folder: str, images: str) -> None:
    root = tmp_path / "root"
    (picture,), rejections = read(root, record(), folder=folder, images=images)
    assert picture.image.resolve() == (root / folder / "a.png").resolve() and rejections == []


def test_pictures_that_are_not_there(tmp_path: Path) -> None:
    pictures, (rejection,) = read(tmp_path, record(), folder="far/images")
    assert pictures == [] and "image missing (record at byte 0: no picture images/a.* below" in str(rejection)


@pytest.mark.parametrize(
    ("broken", "reason", "words"),
    [
        (record("images/c"), "image missing", "no picture images/c.*"),
        (record("/etc/passwd\0"), "broken label", "frame/id is"),
        (record(id=[]), "broken label", "frame/id has 0 values"),
        (record(id=[7]), "broken label", "frame/id is np.int64(7)"),
        (record(coordinates_y2=[]), "broken label", "coordinates_y2 has 0 values, target/object_class 1"),
        (record(coordinates_x1=[b"1"]), "broken label", "coordinates_x1 has 1 values"),
        (record(truncation=[0.0, 0.0]), "broken label", "truncation has 2 values"),
        (record(object_class=[b"\xff"]), "broken label", r"object_class is b'\xff', expected a name"),
        (record(object_class=[1.0]), "broken label", "expected a name"),
        (record(object_class=None), "broken label", "target/object_class 0"),
        (record(width=[80], height=[100]), "size mismatch", "the label says 80 x 100"),
        (record(width=[1.5]), "broken label", "no whole numbers"),
        (record(width=[]), "broken label", "frame/width has 0 values"),
    ],
)
def test_a_broken_record_goes_and_the_next_is_read(tmp_path: Path, broken: bytes, reason: str, words: str) -> None:
    (picture,), (rejection,) = read(tmp_path, broken, record("images/b"))
    assert (picture.name, rejection.reason) == ("images/b.png", reason)
    assert words in str(rejection) and SHARD.format(0) in rejection.file
    if reason != "size mismatch":
        assert "record at byte 0" in rejection.detail


def test_boxes_that_cannot_be_used_go_alone(tmp_path: Path) -> None:
    odd = ((40.0, 20.0, 10.0, 60.0), (5.0, 5.0, 5.0, 9.0), (100.0, 1.0, 120.0, 20.0), (float("nan"), 1.0, 9.0, 9.0))
    (picture,), rejections = read(tmp_path, record(boxes=(*odd, (1.0, 1.0, 9.0, 9.0))))
    assert len(picture.boxes) == 1
    reasons = ["box inverted", "box without area", "box outside the picture", "box not finite"]
    assert [rejection.reason for rejection in rejections] == reasons


def test_a_damaged_file_stops_the_run(tmp_path: Path) -> None:
    read(tmp_path, record())
    path = tmp_path / SHARD.format(0)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"fold-000.*: byte 0: "):
        read_detectnet_tfrecords(SourceConfig(format="detectnet_tfrecords", path="tfrecords"), tmp_path)
