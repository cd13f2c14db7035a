"""The square around a face, and the crop of it."""

import numpy as np
import pytest

from facetrain.datasets.preprocessing import Preprocessing, cut, to_crop, to_image
from facetrain.errors import ModelFileError

NAN = float("nan")


def test_square_around_points_ignores_missing_ones() -> None:
    points = np.array([[10, 20], [30, 28], [NAN, NAN]], np.float32)
    # The points' box is 20 x 8 around (20.5, 24.5) in pixel edges.
    x1, y1, side = Preprocessing(enlarge=1.5).square(points, None) or (0, 0, 0)
    assert (x1, y1, side) == pytest.approx((5.5, 9.5, 30))


def test_square_around_box_with_shift() -> None:
    preprocessing = Preprocessing(crop_source="box", enlarge=1.0, shift_x=0.1, shift_y=-0.2)
    square = preprocessing.square(np.zeros((1, 2), np.float32), np.array([0, 0, 50, 100], np.float32))
    assert square == pytest.approx((-25 + 10, -20, 100))


def test_points_and_box_stand_in_for_each_other() -> None:
    missing, box = np.full((3, 2), NAN, np.float32), np.array([2, 2, 12, 12], np.float32)
    points = np.array([[1.5, 1.5], [11.5, 11.5]], np.float32)
    assert Preprocessing(enlarge=1.0).square(missing, box) == pytest.approx((2, 2, 10))
    assert Preprocessing(enlarge=1.0, crop_source="box").square(points, None) == pytest.approx((2, 2, 10))
    assert Preprocessing().square(missing, None) is None
    assert Preprocessing().square(points[:1], None) is None


def test_points_go_to_the_crop_and_back() -> None:
    square, points = (3.25, -7.5, 61.0), np.array([[0, 0], [33.3, 17.1], [NAN, NAN]], np.float32)
    there = to_crop(points, square, 80)
    np.testing.assert_allclose(there[0], [(0.5 - 3.25) * 80 / 61 - 0.5, (0.5 + 7.5) * 80 / 61 - 0.5], rtol=1e-6)
    np.testing.assert_allclose(to_image(there, square, 80), points, atol=1e-5)


def test_crop_of_whole_pixels_is_the_picture() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 60), np.uint8)
    np.testing.assert_array_equal(cut(image, (10, 5, 20), 20), image[5:25, 10:30])


def test_crop_over_the_border_is_padded_with_zeros() -> None:
    image = np.full((40, 40), 200, np.uint8)
    crop = cut(image, (-10, 20, 40), 40)
    np.testing.assert_array_equal(crop[:20, 10:], 200)
    assert crop[:, :10].max() == 0
    assert crop[20:].max() == 0
    assert cut(image, (1000, 1000, 40), 40).max() == 0


def test_margin_lies_on_the_same_grid() -> None:
    image = np.random.default_rng(1).integers(0, 256, (300, 400), np.uint8)
    for square in ((101.3, 77.8, 133.7), (-20.2, 200.1, 150.9), (30.0, 30.0, 41.5)):
        plain, wide = cut(image, square, 80), cut(image, square, 80, margin=24)
        assert wide.shape == (128, 128)
        assert np.abs(wide[24:-24, 24:-24].astype(int) - plain).max() <= 1


@pytest.mark.parametrize("side", [37.3, 80.0, 250.7])
def test_a_dot_is_where_its_point_is(side: float) -> None:
    """The centroid of a blurred dot, in crops at several scales, lies on the transformed point."""
    y, x = np.mgrid[:400, :400]
    centre = np.array([[201.3, 187.8]], np.float32)
    image = np.round(255 * np.exp(-((x - centre[0, 0]) ** 2 + (y - centre[0, 1]) ** 2) / (2 * 4.0**2))).astype(np.uint8)
    square = (190.1 - side / 3, 180.7 - side / 2, side)
    crop = cut(image, square, 80, margin=24).astype(float)
    v, u = np.mgrid[-24:104, -24:104]
    found = np.array([(u * crop).sum(), (v * crop).sum()]) / crop.sum()
    np.testing.assert_allclose(found, to_crop(centre, square, 80)[0], atol=0.05)


def test_antialiasing_keeps_the_mean() -> None:
    image = np.zeros((320, 320), np.uint8)
    image[::2] = 255  # lines that plain bilinear sampling would turn to all black or all white
    crop = cut(image, (0, 0, 320), 80)[2:-2, 2:-2]
    assert abs(crop.mean() - 127.5) < 3
    assert crop.std() < 4


def test_stored_form_round_trips_and_unknown_things_are_refused() -> None:
    preprocessing = Preprocessing(size=64, crop_source="box", enlarge=1.1, shift_y=0.05)
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing
    for change in ({"resize": "cubic"}, {"scale": 1 / 255}, {"colour_weights": [0.114, 0.587, 0.299]}, {"padding": 1},
                   {"size": 0}, {"enlarge": "wide"}, {"channels": 3}):  # fmt: skip
        with pytest.raises(ModelFileError, match=next(iter(change))):
            Preprocessing.from_dict(preprocessing.to_dict() | change)
    with pytest.raises(ModelFileError, match="enlarge"):
        Preprocessing.from_dict({k: v for k, v in preprocessing.to_dict().items() if k != "enlarge"})
