"""Every figure of `metrics` against numbers worked out by hand."""

import json

import numpy as np
import pytest

from facetrain.datasets.sample import PointState
from facetrain.errors import FacetrainError
from facetrain.fpenet_trainer.metrics import auc, average_precision, face_errors, failure_rate
from facetrain.fpenet_trainer.schemes import Scheme, load_scheme

# Two eyes of two points each, a nose and a mouth; the outer corners are 0 and 3.
SCHEME = Scheme(
    num_keypoints=6,
    names=tuple("abcdef"),
    regions={"all": (0, 1, 2, 3, 4, 5), "eyes": (0, 1, 2, 3), "nose": (4,), "mouth": (4, 5)},
    eye_corners=(0, 3),
    eyes=((0, 1), (2, 3)),
)
# Corners 100 apart, eye centres at 10 and 90, the box 100 by 75: its diagonal is 125.
FACE = np.array([[0, 0], [20, 0], [80, 0], [100, 0], [50, 40], [50, 75]], np.float32)
V, O, M = PointState.VISIBLE, PointState.OCCLUDED, PointState.MISSING  # noqa: E741


def errors_of(offsets, states=None, labels=None, **more):
    """Faces that are FACE, predicted with each point off by (3, 4) times its number in `offsets` [N][6]."""
    offsets = np.array(offsets, np.float32)
    labels = np.repeat(FACE[None], len(offsets), 0) if labels is None else labels
    predicted = np.nan_to_num(labels) + offsets[..., None] * np.array([3, 4], np.float32)
    states = np.full(offsets.shape, V) if states is None else np.array(states)
    return face_errors(predicted, labels, states, SCHEME, **more)


def test_a_point_s_error_is_the_mean_distance_in_source_pixels():
    errors = errors_of([[1, 0, 2, 0, 0, 0], [3, 0, 0, 0, 0, 1]])
    assert errors.distances.tolist() == [[5, 0, 10, 0, 0, 0], [15, 0, 0, 0, 0, 5]]
    assert errors.per_point().tolist() == [10, 0, 5, 0, 0, 2.5]
    assert errors.per_region() == {"all": pytest.approx(17.5 / 6), "eyes": 3.75, "nose": 0, "mouth": 1.25}


def test_a_region_is_the_unweighted_mean_over_points_not_over_samples():
    # Point 4 is labelled on one face only; it weighs as much as point 5, which is labelled on all three.
    states = [[V] * 6, [V, V, V, V, M, V], [V, V, V, V, M, V]]
    errors = errors_of([[0, 0, 0, 0, 4, 1], [0] * 6, [0] * 6], states)
    assert errors.per_region()["mouth"] == pytest.approx((20 + 5 / 3) / 2)


def test_occluded_points_count_among_all_but_not_among_visible():
    states = [[V, V, V, V, V, O], [V, V, V, V, V, V]]
    errors = errors_of([[0, 0, 0, 0, 0, 9], [0, 0, 0, 0, 0, 1]], states)
    assert errors.per_point()[5] == 25
    assert errors.per_point(visible_only=True)[5] == 5


def test_a_point_never_seen_is_skipped_in_its_region_and_not_counted_as_zero():
    states = [[V, V, V, V, V, O], [V, V, V, V, V, O]]
    errors = errors_of([[0, 0, 0, 0, 2, 1], [0, 0, 0, 0, 2, 1]], states)
    visible = errors.per_region(visible_only=True)
    assert np.isnan(errors.per_point(visible_only=True)[5])
    assert visible["mouth"] == 10  # TAO's files would say 5
    assert visible["all"] == 2
    assert errors.per_region()["mouth"] == 7.5


def test_a_region_without_any_sample_has_no_figure():
    errors = errors_of([[1] * 6], [[V, V, V, V, M, V]])
    assert np.isnan(errors.per_region()["nose"])
    assert "error_nose" not in errors.summary()
    assert errors.summary()["error_mouth"] == 5


def test_nme_is_the_mean_over_labelled_points_in_percent_of_each_length():
    errors = errors_of([[1, 1, 1, 1, 1, 1], [4, 0, 0, 0, 2, 0]], [[V] * 6, [V, V, V, V, O, M]])
    assert errors.nme("interocular") == pytest.approx([5, 6])
    assert errors.nme("interpupil") == pytest.approx([6.25, 7.5])
    # The second face's lowest point is missing: its box is 100 by 40.
    assert errors.nme("diagonal") == pytest.approx([4, 600 / np.hypot(100, 40)])


@pytest.mark.parametrize("gone", [0, 3])
def test_a_face_without_an_eye_corner_is_left_out_and_counted(gone):
    states = np.full((2, 6), V)
    states[1, gone] = M
    labels = np.repeat(FACE[None], 2, 0)
    labels[1, gone] = np.nan
    figures = errors_of([[1] * 6, [9] * 6], states, labels).summary()
    assert figures["nme_interocular"] == pytest.approx(5)
    assert figures["skipped_interocular"] == 1
    assert figures["skipped_interpupil"] == 1
    assert figures["skipped_diagonal"] == 0
    assert figures["faces"] == 2
    assert figures["failure_8"] == 0
    assert figures["error_eyes"] == pytest.approx((3 * 25 + 5) / 4)  # but its other points count


def test_a_length_of_zero_is_no_normaliser():
    labels = np.repeat(FACE[None], 2, 0)
    labels[1, 3] = labels[1, 0]
    figures = errors_of([[1] * 6, [1] * 6], labels=labels).summary()
    assert figures["skipped_interocular"] == 1
    assert figures["nme_interocular"] == pytest.approx(5)


def test_a_missing_point_s_coordinates_do_not_matter():
    states = [[V, V, V, V, V, M]]
    for filler in (np.nan, 0.0, 1e6):
        labels = FACE[None].copy()
        labels[0, 5] = filler
        figures = errors_of([[1, 1, 1, 1, 1, 7]], states, labels).summary()
        assert figures["error_all"] == 5
        assert figures["nme_diagonal"] == pytest.approx(500 / np.hypot(100, 40))


def test_auc_and_failure_rate_in_closed_form():
    nme = np.array([0.0, 2.0, 8.0, 10.0, np.nan])
    assert failure_rate(nme, 8) == 0.25  # 8 % is not beyond 8 %
    assert auc(nme, 8) == pytest.approx((1 + 0.75 + 0 + 0) / 4)
    assert failure_rate(nme, 10) == 0
    assert auc(nme, 10) == pytest.approx((1 + 0.8 + 0.2 + 0) / 4)


def test_auc_is_the_area_under_the_staircase():
    nme = np.random.default_rng(0).gamma(2.0, 2.0, 500)
    grid = (np.arange(200_000) + 0.5) * 8 / 200_000
    area = np.searchsorted(np.sort(nme), grid, side="right").mean() / len(nme)
    assert auc(nme, 8) == pytest.approx(area, abs=1e-5)


def test_visibility_figures():
    states = [[V, V, V, V, O, O], [V, V, V, V, O, M]]
    visibility = np.array([[0.9, 0.8, 0.7, 0.4, 0.1, 0.6], [0.9, 0.9, 0.9, 0.9, 0.3, 0.0]], np.float32)
    figures = errors_of([[0] * 6] * 2, states, visibility=visibility).summary()
    assert figures["visibility_accuracy"] == pytest.approx(9 / 11)
    assert figures["visibility_balanced_accuracy"] == pytest.approx((7 / 8 + 2 / 3) / 2)
    # Least visible first: occluded, occluded, visible (0.4), occluded.
    assert figures["occlusion_ap"] == pytest.approx((1 + 1 + 3 / 4) / 3)


def test_equal_scores_are_taken_together():
    assert average_precision(np.array([0.5, 0.5, 0.5, 0.5]), np.array([True, False, False, False])) == 0.25
    assert average_precision(np.array([0.9, 0.5, 0.5]), np.array([True, True, False])) == pytest.approx(
        0.5 + 0.5 * 2 / 3
    )


def test_one_class_has_no_balanced_accuracy():
    figures = errors_of([[0] * 6], visibility=np.full((1, 6), 0.9)).summary()
    assert figures["visibility_accuracy"] == 1
    assert "visibility_balanced_accuracy" not in figures
    assert "occlusion_ap" not in figures


def test_any_number_of_points_gives_finite_figures_only():
    scheme = load_scheme("", 10)
    labels = np.random.default_rng(1).uniform(0, 80, (3, 10, 2)).astype(np.float32)
    states = np.full((3, 10), V)
    states[:, 7] = M
    states[:, 8] = O
    figures = face_errors(labels + np.float32([3, 4]), labels, states, scheme).summary()
    assert all(np.isfinite(value) for value in figures.values())
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures["error_all"] == pytest.approx(5, abs=1e-4)
    assert figures["error_visible_all"] == pytest.approx(5, abs=1e-4)
    assert not [name for name in figures if "interocular" in name or "failure" in name]


def test_no_faces_give_no_figures():
    empty = np.zeros((0, 6, 2), np.float32)
    assert face_errors(empty, empty, np.zeros((0, 6), np.int8), SCHEME).summary()["faces"] == 0


def test_a_prediction_that_is_not_finite_is_an_error_and_not_a_missing_label():
    predicted = np.repeat(FACE[None], 3, 0)
    predicted[1, 2, 0] = np.nan
    with pytest.raises(FacetrainError, match="not finite for 1 of 3 faces"):
        face_errors(predicted, np.repeat(FACE[None], 3, 0), np.full((3, 6), V), SCHEME)


def test_a_selection_of_faces_keeps_everything_aligned():
    states = [[V] * 6, [V, V, V, V, O, V]]
    errors = errors_of([[1] * 6, [2] * 6], states, visibility=np.array([[0.9] * 6, [0.2] * 6]))
    part = errors.select(np.array([1]))
    assert len(part) == 1
    assert part.nme() == pytest.approx([10])
    assert part.summary()["visibility_accuracy"] == pytest.approx(1 / 6)


def test_the_layout_of_68_points_has_the_original_regions_and_eyes():
    labels = np.random.default_rng(2).uniform(0, 200, (4, 68, 2)).astype(np.float32)
    predicted = labels.copy()
    predicted[:, 36:48] += np.float32([3, 4])
    errors = face_errors(predicted, labels, np.full((4, 68), V), load_scheme("", 68))
    corners = np.linalg.norm(labels[:, 36] - labels[:, 45], axis=1)
    pupils = np.linalg.norm(labels[:, 36:42].mean(1) - labels[:, 42:48].mean(1), axis=1)
    mean = 5 * 12 / 68
    assert errors.nme("interocular") == pytest.approx(100 * mean / corners, rel=1e-4)
    assert errors.nme("interpupil") == pytest.approx(100 * mean / pupils, rel=1e-4)
    regions = errors.per_region()
    assert list(regions)[:7] == ["all", "eyes", "nose", "mouth", "eyebrows", "chin", "hp"]
    assert regions["eyes"] == pytest.approx(5, abs=1e-4)
    assert regions["mouth"] == 0
    assert regions["hp"] == pytest.approx(5 * 4 / 14, abs=1e-4)  # points 36, 39, 42 and 45 of its 14
