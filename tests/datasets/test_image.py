"""Pictures of every kind that people have come out as the same bytes, and broken ones are named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facetrain.datasets.image import image_size, luma, read_image
from facetrain.errors import DataError

RGB = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255, 255, 255], [0, 0, 0], [10, 20, 30]]], np.uint8)
LUMA = np.array([[76, 150, 29], [255, 0, 18]], np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA"])
def test_modes_become_luma(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RGB)
    converted = image.convert("P", palette=Image.Palette.ADAPTIVE) if mode == "P" else image.convert(mode)
    converted.save(tmp_path / "a.png")
    np.testing.assert_allclose(read_image(tmp_path / "a.png", grey=True), LUMA, atol=1)
    assert read_image(tmp_path / "a.png", grey=False).shape == (2, 3, 3)


def test_luma_of_an_array_is_that_of_the_file(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.bmp")
    np.testing.assert_array_equal(luma(RGB), read_image(tmp_path / "a.bmp", grey=True))


def test_cmyk_jpeg(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (200, 60, 20)).convert("CMYK").save(tmp_path / "a.jpg")
    assert np.abs(read_image(tmp_path / "a.jpg", grey=False).astype(int) - (200, 60, 20)).max() <= 6


def test_sixteen_bits_keep_their_range(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", grey=True), [[0, 100, 255]])


def test_transparent_is_black(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (255, 255, 255, 0)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", grey=True).max() == 0


def test_exif_orientation_turns_the_picture_and_its_size(tmp_path: Path) -> None:
    image = Image.new("L", (40, 20))
    image.paste(255, (0, 0, 20, 20))  # left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned a quarter clockwise: left becomes top
    image.save(tmp_path / "a.jpg", exif=exif)
    upright = read_image(tmp_path / "a.jpg", grey=True)
    assert upright.shape == (40, 20)
    assert upright[:16].min() > 250
    assert upright[24:].max() < 5
    assert image_size(tmp_path / "a.jpg") == (20, 40)


def test_truncated_picture_is_an_error_with_its_name(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(whole)
    (tmp_path / "half.jpg").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(DataError, match=r"half\.jpg.*truncated"):
        read_image(tmp_path / "half.jpg", grey=True)


def test_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(DataError, match=r"text\.png"):
        read_image(tmp_path / "text.png", grey=True)
    with pytest.raises(DataError, match=r"text\.png"):
        image_size(tmp_path / "text.png")
    with pytest.raises(DataError, match=r"absent\.png: no such picture"):
        read_image(tmp_path / "absent.png", grey=True)
