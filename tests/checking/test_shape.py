"""Mean shapes, misplaced points and poses, against faces whose truth is known."""

import numpy as np
import pytest

from facetrain.checking.pose import head_pose
from facetrain.checking.shape import as_complex, fit_shape, learn_shape
from facetrain.datasets.drawn.face_template import TEMPLATE

HEAD = np.asarray(TEMPLATE[:68], float)


def turned(roll: float, yaw: float, pitch: float) -> np.ndarray:
    """[68, 2] the head, turned by degrees about its own axes: pitch first, then yaw, then roll."""
    r, y, p = np.radians([roll, yaw, pitch])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return (HEAD @ (about_z @ about_y @ about_x).T)[:, :2] * 50 + 100


def faces(count: int) -> np.ndarray:
    rng = np.random.default_rng(2)
    angles = rng.uniform(-1, 1, (count, 3)) * (20, 25, 12)
    return np.stack([turned(*angle) for angle in angles]) + rng.normal(0, 0.4, (count, 68, 2))


@pytest.mark.parametrize("angles", [(0, 0, 0), (30, 0, 0), (0, 40, 0), (0, -40, 0), (0, 0, 20)])
def test_pose_of_the_head_itself(angles):
    (found,) = head_pose(turned(*angles)[None], HEAD)
    assert found == pytest.approx(angles, abs=0.01)


def test_pose_of_few_points_is_unknown():
    points = turned(0, 0, 0)
    points[5:] = np.nan
    assert np.isnan(head_pose(points[None], HEAD)).all()


def test_pose_does_without_missing_points():
    points = turned(10, 20, -5)
    points[:17] = np.nan
    assert head_pose(points[None], HEAD)[0] == pytest.approx((10, 20, -5), abs=0.01)


@pytest.mark.parametrize("start", [None, as_complex(HEAD[:, :2])])
def test_a_fifth_of_wrong_labels_stands_out(start):
    points = as_complex(faces(100))
    points[:20] = points[:20, ::-1]
    error = fit_shape(learn_shape(points, start), points).error.mean(axis=1)
    assert error[:20].min() > 0.2
    assert error[20:].max() < 0.03


def test_a_point_out_of_place_has_the_largest_error():
    points = faces(100)
    points[7, 30] += 40
    fit = fit_shape(learn_shape(as_complex(points)), as_complex(points))
    assert np.unravel_index(fit.error.argmax(), fit.error.shape) == (7, 30)
    assert fit.error[7, 30] == pytest.approx(40 * 2**0.5 / fit.size[7], rel=0.2)
    assert fit.error[8:].max() < 0.05


def test_missing_points_have_no_error():
    points = faces(50)
    points[3, 40:44] = np.nan
    fit = fit_shape(learn_shape(as_complex(points)), as_complex(points))
    assert np.isnan(fit.error[3, 40:44]).all()
    assert np.isfinite(np.delete(fit.error[3], range(40, 44))).all()


def test_too_few_faces_have_no_mean():
    assert learn_shape(as_complex(faces(5))) is None
