"""Points drawn on pictures."""

import numpy as np

from facetrain.datasets.sample import PointState
from facetrain.fpenet_trainer.draw import OCCLUDED, TRUTH, VISIBLE, draw_points

GREY = np.full((60, 80, 3), 128, np.uint8)
CORNERS = np.array([[10, 10], [70, 10], [10, 50], [70, 50]], np.float32)


def at(image, x, y):
    return tuple(image[y, x].tolist())


def test_each_dot_stands_on_its_point_in_the_colour_of_its_state():
    states = np.array([PointState.VISIBLE, PointState.OCCLUDED, PointState.MISSING, PointState.VISIBLE])
    drawn = draw_points(GREY, CORNERS, states)
    assert at(drawn, 10, 10) == VISIBLE
    assert at(drawn, 70, 10) == OCCLUDED
    assert at(drawn, 10, 50) == (128, 128, 128)
    assert at(drawn, 70, 50) == VISIBLE
    assert at(drawn, 40, 30) == (128, 128, 128)


def test_probabilities_of_being_visible_colour_too():
    drawn = draw_points(GREY, CORNERS, np.array([0.9, 0.4, 0.5, 0.1], np.float32))
    assert [at(drawn, x, y) for x, y in CORNERS.astype(int)] == [VISIBLE, OCCLUDED, VISIBLE, OCCLUDED]


def test_a_true_point_is_joined_to_its_prediction():
    truth = np.full((4, 2), np.nan, np.float32)
    truth[0] = (30, 10)
    drawn = draw_points(GREY, CORNERS, None, truth)
    assert at(drawn, 30, 10) == TRUTH
    assert np.abs(np.subtract(at(drawn, 20, 10), TRUTH)).max() < 60  # antialiased
    assert at(drawn, 10, 10) == VISIBLE


def test_the_picture_itself_is_left_alone():
    image = GREY.copy()
    drawn = draw_points(image, CORNERS)
    assert (image == 128).all()
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8


def test_points_far_outside_or_unknown_do_no_harm():
    points = np.array([[-1e9, 5], [np.nan, np.nan], [40, 1e12], [np.inf, 0]], np.float64)
    assert (draw_points(GREY, points) == 128).all()
    assert (draw_points(GREY, np.zeros((0, 2))) == 128).all()


def test_half_a_pixel_counts():
    for x in (40.0, 40.25, 40.5):
        painted = np.abs(draw_points(GREY, np.array([[x, 30.0]])).astype(float) - 128).sum(axis=(0, 2))
        assert abs(np.average(np.arange(80), weights=painted) - x) < 0.1
