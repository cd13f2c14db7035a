"""Average precision against numbers worked out by hand."""

import numpy as np
import pytest

from facetrain.facenet_trainer.average_precision import precision_recall


def curve(hits, faces):
    """Detections that found a face or not, in falling order of confidence."""
    return precision_recall(np.linspace(1, 0.1, len(hits)), np.array(hits, bool), faces)


@pytest.mark.parametrize(
    ("hits", "faces", "voc", "tao_integrate", "tao_sample"),
    [
        ([1, 0, 1, 1, 0, 0, 1], 10, 0.30714, 0.25, 0.35390),
        ([0, 1, 0, 1, 1], 5, 0.36, 0.30, 0.32727),
        ([1], 1, 1.0, 0.0, 1.0),
        ([1, 1, 1, 1], 4, 1.0, 0.75, 1.0),
        ([0, 0], 3, 0.0, 0.0, 0.0),
        ([], 3, 0.0, 0.0, 0.0),
    ],
)
def test_the_three_kinds_give_the_figures_of_the_reference(hits, faces, voc, tao_integrate, tao_sample):
    points = curve(hits, faces)
    assert points.average_precision() == pytest.approx(voc, abs=1e-5)
    assert points.average_precision("tao_integrate") == pytest.approx(tao_integrate, abs=1e-5)
    assert points.average_precision("tao_sample") == pytest.approx(tao_sample, abs=1e-5)


def test_without_faces_there_is_no_average_precision():
    for kind in ("voc", "tao_sample", "tao_integrate"):
        assert np.isnan(curve([0, 0], 0).average_precision(kind))
        assert np.isnan(curve([], 0).average_precision(kind))


def test_a_curve_runs_from_the_most_confident_detection_to_the_least():
    points = precision_recall(np.array([0.2, 0.9, 0.5]), np.array([True, True, False]), 4)
    assert points.scores.tolist() == [0.9, 0.5, 0.2]
    assert points.precision == pytest.approx([1, 1 / 2, 2 / 3])
    assert points.recall == pytest.approx([1 / 4, 1 / 4, 2 / 4])


def test_equal_confidences_keep_their_order():
    hits = np.array([True, False] * 50)
    assert np.array_equal(precision_recall(np.ones(100), hits, 50).recall, np.cumsum(hits) / 50)


def test_the_best_f1_comes_with_the_confidence_that_cuts_there():
    f1, score = precision_recall(np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, True, False, False]), 3).best_f1()
    assert (f1, score) == (pytest.approx(0.8), 0.8)
    # A threshold cannot part equal confidences: with all three precision is 1/3.
    f1, score = precision_recall(np.array([0.5, 0.5, 0.5]), np.array([True, False, False]), 1).best_f1()
    assert (f1, score) == (pytest.approx(0.5), 0.5)
    assert np.isnan(curve([], 3).best_f1()[0])
