"""TAO FPENet's records: what TAO writes for points that it lacks, and records that are none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facetrain.configs.fpenet.schema import SourceConfig
from facetrain.datasets.formats.fpenet_tfrecords import read_fpenet_tfrecords
from facetrain.errors import DataError
from facetrain.tests.datasets.records import example, write_records


def record(**changes: Any) -> bytes:
    features = {
        "image_frame_name": [b"set/a.png"],
        "image_frame_width": [100],
        "image_frame_height": [90],
        "facebbx_x": [20],
        "facebbx_y": [20],
        "facebbx_w": [40],
        "facebbx_h": [40],
        "landmarks": [20.0, 20.0, 60.0, 20.0, 40.0, 60.0],
        "landmarks_occ": [0, 1, 0],
    }
    return example({f"train/{key}": value for key, value in (features | changes).items() if value is not None})


def read(folder: Path, *records: bytes, path: str = "FpeTfRecords", **settings):
    (folder / "images" / "set").mkdir(parents=True, exist_ok=True)
    Image.new("L", (100, 90)).save(folder / "images" / "set" / "a.png")
    (folder / "FpeTfRecords").mkdir(exist_ok=True)
    write_records(folder / "FpeTfRecords" / "data.tfrecords", *records)
    source = SourceConfig(format="fpenet_tfrecords", path=path, image_root="images", **settings)
    return read_fpenet_tfrecords(source, folder)


def test_a_folder_or_a_file_of_records(tmp_path: Path) -> None:
    samples, rejections = read(tmp_path, record(), record())
    assert (len(samples), rejections) == (2, [])
    face = read(tmp_path, record(), path="FpeTfRecords/data.tfrecords")[0][0]
    np.testing.assert_array_equal(face.points, [[20, 20], [60, 20], [40, 60]])
    assert face.states.tolist() == [2, 1, 2]
    assert face.box is not None and face.box.tolist() == [20, 20, 60, 60]
    assert (face.name, face.image) == ("set/a.png", tmp_path / "images" / "set" / "a.png")


def test_a_point_that_tao_lacked_is_missing(tmp_path: Path) -> None:
    """TAO writes (0, 0), visible, and draws its square from there."""
    changes = {"landmarks": [0.0, 0.0, 60.0, 20.0, 40.0, 60.0], "facebbx_x": [0], "facebbx_y": [0]}
    (face,), _ = read(tmp_path, record(**changes))
    assert (face.states.tolist(), face.box) == ([0, 1, 2], None)
    assert np.isnan(face.points[0]).all()


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"image_frame_name": None}, "train/image_frame_name has 0 values, expected 1"),
        ({"image_frame_name": [b"\xff"]}, "train/image_frame_name is no text"),
        ({"image_frame_name": [3]}, "train/image_frame_name is no text"),
        ({"landmarks": [1.0, 2.0]}, "train/landmarks has 2 numbers, train/landmarks_occ 3"),
        ({"landmarks": [b"1"]}, "train/landmarks has 1 numbers"),
        ({"landmarks": [float("nan"), 20.0, 60.0, 20.0, 40.0, 60.0]}, "train/landmarks is nan"),
        ({"landmarks_occ": [0, 2, 0]}, "other values than 0 and 1"),
        ({"facebbx_w": [0]}, "the box is 0 x 40 pixels"),
        ({"image_frame_width": [101]}, "the label says 101 x 90"),
    ],
)
def test_a_broken_record_goes_alone_and_is_named_by_its_byte(
    tmp_path: Path, changes: dict[str, Any], detail: str
) -> None:
    samples, (rejection,) = read(tmp_path, record(), record(**changes))
    assert (len(samples), rejection.reason) == (1, "broken label")
    assert rejection.detail.startswith(f"record at byte {len(record()) + 16}: ")
    assert detail in rejection.detail


def test_a_damaged_file_stops_the_reading(tmp_path: Path) -> None:
    read(tmp_path, record())
    path = tmp_path / "FpeTfRecords" / "data.tfrecords"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"data\.tfrecords: byte 0: .*not a whole TFRecord file"):
        read_fpenet_tfrecords(SourceConfig(format="fpenet_tfrecords", path="FpeTfRecords"), tmp_path)
