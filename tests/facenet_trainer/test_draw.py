"""Boxes drawn on pictures."""

import numpy as np

from facetrain.facenet_trainer.draw import FOUND, draw_boxes

GREY = np.full((200, 300, 3), 128, np.uint8)


def drawn(colour, picture):
    return (picture == colour).all(axis=2)


def test_lines_lie_inside_the_pixel_edges_of_the_box():
    picture = draw_boxes(GREY, np.array([[40.0, 50.0, 100.0, 120.0]]), width=1)
    rows, columns = np.nonzero(drawn(FOUND, picture))
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (40, 50, 100, 120)


def test_a_box_around_the_whole_picture_is_seen():
    picture = draw_boxes(GREY, np.array([[0.0, 0.0, 300.0, 200.0]]), width=1)
    for side in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (side == FOUND).all()


def test_lines_around_small_boxes_are_thin():
    large = np.full((1600, 2400, 3), 128, np.uint8)
    boxes = np.array([[100.0, 100.0, 130.0, 140.0], [500.0, 500.0, 1500.0, 1500.0]])
    line = drawn(FOUND, draw_boxes(large, boxes))
    assert line[120, 90:115].sum() == 1
    assert line[1000, 480:520].sum() in (6, 7)


def test_a_score_is_written_where_it_fits_its_box():
    tiny, wide = np.array([[20.0, 100.0, 30.0, 112.0]]), np.array([[100.0, 100.0, 180.0, 180.0]])
    score = np.array([0.5])
    assert np.array_equal(draw_boxes(GREY, tiny, score), draw_boxes(GREY, tiny))
    added = (draw_boxes(GREY, wide, score) != draw_boxes(GREY, wide)).any(axis=2)
    rows, columns = np.nonzero(added)
    assert len(rows) > 100
    assert rows.max() <= 100 and columns.min() >= 98 and columns.max() < 180


def test_a_label_at_the_top_stays_in_the_picture():
    box = np.array([[240.0, 0.0, 300.0, 90.0]])
    added = (draw_boxes(GREY, box, np.array([0.5])) != draw_boxes(GREY, box)).any(axis=2)
    assert added.sum() > 100


def test_boxes_that_are_not_finite_are_left_out_with_their_scores_and_colours():
    boxes = np.array([[np.nan, 0, 1, 1], [50, 50, 90, 90], [1e12, 0, 1e13, 5]])
    picture = draw_boxes(GREY, boxes, colours=[(1, 2, 3), (250, 0, 250), (4, 5, 6)], width=1)
    assert drawn((250, 0, 250), picture).any()
    assert not drawn((1, 2, 3), picture).any()
    assert (draw_boxes(GREY, np.zeros((0, 4)), np.zeros(0)) == 128).all()
