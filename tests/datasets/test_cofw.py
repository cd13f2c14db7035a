"""COFW's MATLAB files: axes the other way round, coordinates from 1, and files that are none."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from facetrain.configs.fpenet.schema import SourceConfig
from facetrain.datasets.formats.cofw import read_cofw
from facetrain.errors import ConfigError, DataError

SOURCE = SourceConfig(format="cofw", path="COFW_test_color.mat")


def write(folder: Path, pictures: list[np.ndarray], rows: np.ndarray, boxes: np.ndarray) -> None:
    """As MATLAB writes cells and matrices: pictures [H, W] or [H, W, 3], rows [N, 87], boxes [N, 4]."""
    with h5py.File(folder / SOURCE.path, "w", userblock_size=512) as file:
        references = [file.create_dataset(f"#refs#/{n}", data=p.T).ref for n, p in enumerate(pictures)]
        file.create_dataset("IsT", data=np.array([references], h5py.ref_dtype), dtype=h5py.ref_dtype)
        file.create_dataset("phisT", data=rows.T)
        file.create_dataset("bboxesT", data=boxes.T)


def row(first: float = 11, occluded: int = 4) -> np.ndarray:
    x, y = np.linspace(first, first + 50, 29), np.linspace(21, 60, 29)
    flags = np.zeros(29)
    flags[occluded] = 1
    return np.concatenate([x, y, flags])


def test_pictures_points_flags_and_box(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (90, 120), np.uint8)
    red = np.zeros((80, 100, 3), np.uint8)
    red[10, 20] = 255, 0, 0
    write(tmp_path, [grey, red], np.stack([row(), row(11, 7)]), np.array([[11, 21, 50, 40], [1, 1, 100, 80.0]]))
    (a, b), rejections = read_cofw(SOURCE, tmp_path)
    assert rejections == []
    np.testing.assert_array_equal(a.image, grey)
    assert (b.image.shape, b.image[10, 20], b.image.sum()) == ((80, 100), 76, 76)
    np.testing.assert_allclose(a.points[[0, 28]], [[10, 20], [60, 59]])  # MATLAB's first pixel is 1
    assert np.flatnonzero(a.states == 1).tolist() == [4]
    assert a.box is not None and a.box.tolist() == [10, 20, 60, 60]
    assert b.box is not None and b.box.tolist() == [0, 0, 100, 80]  # the whole picture
    assert (a.name, b.name) == ("COFW_test_color_0001", "COFW_test_color_0002")


def test_broken_faces_go_alone(tmp_path: Path) -> None:
    picture = np.zeros((90, 120), np.uint8)
    rows = np.stack([row(), row(), row(5000), row()])
    rows[0, 3], rows[1, 60] = np.nan, 0.5
    write(tmp_path, [picture, picture, picture, picture.astype(np.float64)], rows, np.array([[11, 21, 50, 40.0]] * 4))
    samples, rejections = read_cofw(SOURCE, tmp_path)
    assert samples == []
    assert [(r.reason, r.detail.split(":")[0]) for r in rejections] == [
        ("broken label", "COFW_test_color_0001"),
        ("broken label", "COFW_test_color_0002"),
        ("point outside the picture", "COFW_test_color_0003"),
        ("broken label", "COFW_test_color_0004"),
    ]


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / SOURCE.path
    path.write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(600))
    with pytest.raises(DataError, match=r"COFW_test_color\.mat: not COFW's MATLAB file of version 7\.3"):
        read_cofw(SOURCE, tmp_path)
    with h5py.File(path, "w") as file:
        file.create_dataset("IsT", data=np.zeros(3))
    with pytest.raises(DataError, match="it has IsT; expected IsTr, phisTr, bboxesTr"):
        read_cofw(SOURCE, tmp_path)
    write(tmp_path, [np.zeros((9, 9), np.uint8)], row()[None, :58], np.array([[1, 1, 5, 5.0]]))
    with pytest.raises(DataError, match=r"1 pictures, points \(1, 58\)"):
        read_cofw(SOURCE, tmp_path)


def test_without_h5py_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConfigError, match=r"pip install 'facetrain\[cofw\]'"):
        read_cofw(SOURCE, tmp_path)
