"""Drawn faces: the same for everyone, true to their labels, and honest about what is hidden."""

import numpy as np
import pytest

from facetrain.datasets.drawn import face_render
from facetrain.datasets.drawn.face_canvas import HEIGHT, WIDTH, Canvas, ellipse
from facetrain.datasets.drawn.face_hair import Painting
from facetrain.datasets.drawn.face_render import render_face
from facetrain.datasets.drawn.face_template import CELLS_S, CELLS_Y, TEMPLATE
from facetrain.datasets.drawn.synthetic import SIZE, draw_background, draw_face, draw_faces, draw_occluder
from facetrain.datasets.sample import FaceSample, PointState

# fmt: off
FLIP = [  # FPENet's published permutation for 104 keypoints
    16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0,
    26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
    74, 73, 72, 75, 70, 69, 68, 71, 78, 79, 76, 77,
    91, 92, 93, 100, 99, 98, 97, 96, 95, 94, 101, 80, 81, 82, 89, 88, 87, 86, 85, 84, 83, 90, 103, 102,
]
# fmt: on


@pytest.fixture(scope="module")
def faces() -> list[FaceSample]:
    return draw_faces(120, seed=5, num_keypoints=104)


def brightness(face: FaceSample, points: np.ndarray) -> np.ndarray:
    """Mean of the 3x3 pixels around points [N,2]: [N]; NaN outside."""
    padded = np.pad(face.image.astype(float), 2, constant_values=np.nan)
    x, y = np.clip(np.rint(points).astype(int) + 2, 1, SIZE + 2).T
    return np.mean([padded[y + i, x + j] for i in (-1, 0, 1) for j in (-1, 0, 1)], axis=0)


def visible(face: FaceSample, *points: int) -> bool:
    return bool((face.states[list(points)] == PointState.VISIBLE).all())


def test_template_is_its_own_mirror_image_under_the_flip_permutation() -> None:
    assert [FLIP[i] for i in FLIP] == list(range(104))
    np.testing.assert_allclose(TEMPLATE[FLIP] * (-1, 1, 1), TEMPLATE, atol=1e-9)


def test_template_reads_as_ibug_does() -> None:
    x, y, z = TEMPLATE.T
    assert x[0] < x[36] < x[39] < 0 < x[42] < x[45] < x[16]  # image left first
    assert y[19] < y[37] < y[41] < y[30] < y[33] < y[51] < y[62] < y[57] < y[8]
    assert z[30] == z.max() and z[0] < z[36] < z[27]  # the nose's tip is nearest
    assert x[68] < x[70] < x[72] < x[74] and y[69] < y[71] and y[76] < y[77]
    assert np.all(np.diff(x[83:90]) > 0) and np.all(np.diff(x[94:101]) > 0)


def test_a_face_depends_on_its_arguments_alone() -> None:
    first, again = draw_face(3, 7), draw_faces(8, seed=3)[7]
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.points, again.points)
    np.testing.assert_array_equal(first.states, again.states)
    assert not np.array_equal(first.image, draw_face(3, 8).image)
    assert not np.array_equal(first.image, draw_face(4, 7).image)


def test_fewer_keypoints_are_a_prefix_of_more() -> None:
    full = draw_face(1, 2, 104)
    for count in (10, 68, 80):
        face = draw_face(1, 2, count)
        assert face.points.shape == (count, 2) and face.states.shape == (count,)
        np.testing.assert_array_equal(face.image, full.image)
        np.testing.assert_array_equal(face.points, full.points[:count])
        np.testing.assert_array_equal(face.states, full.states[:count])


@pytest.mark.parametrize("count", [0, 105])
def test_an_impossible_number_of_keypoints_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count}.*1 to 104"):
        draw_face(0, 0, count)


def test_samples_are_complete(faces: list[FaceSample]) -> None:
    for face in faces:
        assert face.image.shape == (SIZE, SIZE) and face.image.dtype == np.uint8
        assert face.points.dtype == np.float32 and np.isfinite(face.points).all()
        assert set(np.unique(face.states)) <= {PointState.OCCLUDED, PointState.VISIBLE}
        outside = ((face.points < -0.5) | (face.points >= SIZE - 0.5)).any(axis=1)
        assert (face.states[outside] == PointState.OCCLUDED).all()
        np.testing.assert_allclose(face.box, [*(face.points.min(0) + 0.5), *(face.points.max(0) + 0.5)], rtol=1e-6)
        side = np.ptp(face.points[:68], axis=0).max()
        assert 84.9 < side < 120.1
        assert face.image.std() > 5
    assert len({face.subject for face in faces}) == len(faces)


def test_every_region_is_mostly_visible_and_sometimes_hidden(faces: list[FaceSample]) -> None:
    seen = np.stack([face.states == PointState.VISIBLE for face in faces]).mean(axis=0)
    regions = {"jaw": (0, 17), "brows": (17, 27), "nose": (27, 36), "eyes": (36, 48), "mouth": (48, 68)}
    for first, last in regions.values():
        assert 0.5 < seen[first:last].mean() < 0.99
    assert 0.6 < seen[68:76].mean() < 0.97 and 0.2 < seen[76:80].mean() < 0.9


def test_marks_painted_at_the_keypoints_appear_at_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [5, 6, 7, 8, 17, 26, 30, 36, 45, 48, 54, 57]  # far enough apart for a mark each

    def paint_marks(rng: np.random.Generator, shape: object) -> Painting:
        canvas = Canvas(np.full((4, 4), 0.9, np.float32))
        for point in shape.chart[kept]:  # type: ignore[attr-defined]
            canvas.fill(ellipse(point, 0.04, 0.04), 0.0)
        flat = np.zeros((CELLS_Y + 1, CELLS_S + 1))
        return Painting(canvas.texture, np.zeros((HEIGHT, WIDTH), np.uint8), flat, 0.5)

    monkeypatch.setattr(face_render, "paint_face", paint_marks)
    errors = []
    for index in range(12):
        patch = render_face(np.random.default_rng(index), 200, 120, (100.0, 100.0))
        for k in kept:
            if patch.states[k] != PointState.VISIBLE:
                continue
            x, y = np.rint(patch.points[k]).astype(int)
            around = patch.grey[y - 4 : y + 5, x - 4 : x + 5]
            if patch.alpha[y - 5 : y + 6, x - 5 : x + 6].min() < 1:
                continue  # at the outline of the head half the mark may be round the corner
            dark = np.clip(0.6 * np.median(around) - around, 0, None)
            rows, columns = np.mgrid[y - 4 : y + 5, x - 4 : x + 5]
            centre = np.array([(dark * columns).sum(), (dark * rows).sum()]) / max(dark.sum(), 1e-6)
            errors.append(np.hypot(*(centre - patch.points[k])))
    assert len(errors) > 80
    assert np.median(errors) < 0.25 and np.percentile(errors, 80) < 0.5  # a frame of glasses may cross a mark


def test_irises_are_darker_than_the_white_beside_them(faces: list[FaceSample]) -> None:
    darker = []
    for face in faces:
        for iris, corner, lids in ((68, 36, (36, 37, 38, 39, 40, 41)), (72, 45, (42, 43, 44, 45, 46, 47))):
            rim = face.points[iris : iris + 4]
            if not visible(face, *lids, *range(iris, iris + 4)) or np.ptp(rim[:, 1]) < 5:
                continue
            outer = rim[0] if corner == 36 else rim[2]
            white = (outer + face.points[corner]) / 2
            middle = (rim[0] + rim[2]) / 2
            if np.hypot(*(outer - face.points[corner])) > 4:
                darker.append(np.diff(brightness(face, np.stack([middle, white])))[0] > 0)
    assert len(darker) > 40 and np.mean(darker) > 0.9


def test_brows_lie_on_the_upper_edge_of_something_dark(faces: list[FaceSample]) -> None:
    steps = []
    for face in faces:
        for k in (18, 19, 20, 23, 24, 25):
            if visible(face, *range(17, 27)) and abs(face.points[36, 1] - face.points[45, 1]) < 5:
                above, below = brightness(face, face.points[k] + np.array([[0, -2.5], [0, 2.0]]))
                steps.append(above - below)
    assert len(steps) > 60 and np.mean(np.array(steps) > 0) > 0.85


def test_a_turned_head_hides_its_far_side(faces: list[FaceSample]) -> None:
    profiles = 0
    for face in faces:
        nose = face.points[30, 0]
        if nose > face.points[45, 0]:
            far = [13, 14, 15, 16, 78, 79]
        elif nose < face.points[36, 0]:
            far = [0, 1, 2, 3, 76, 77]
        else:
            continue
        profiles += 1
        assert (face.states[far] == PointState.OCCLUDED).all(), face.name
    assert profiles >= 4


def test_closed_eyes_hide_their_irises(faces: list[FaceSample]) -> None:
    closed = 0
    for face in faces:
        p = face.points
        for lids, iris in (((36, 37, 39, 41), 68), ((45, 44, 42, 46), 72)):
            outer, upper, inner, lower = p[list(lids)]
            if np.hypot(*(upper - lower)) < 0.04 * np.hypot(*(outer - inner)):
                closed += 1
                assert (face.states[iris : iris + 4] == PointState.OCCLUDED).all()
    assert closed >= 4


def test_an_occluder_hides_the_points_under_it_and_no_others() -> None:
    hidden = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        patch = render_face(rng, SIZE, 100, (80.0, 80.0))
        picture = draw_background(rng, SIZE)
        before = picture.copy()
        covered = draw_occluder(rng, picture, patch)
        x, y = np.clip(np.rint(patch.points), 0, SIZE - 1).astype(int).T
        changed = picture[y, x] != before[y, x]
        assert changed[covered].all()
        edge = np.abs(picture - before)[y, x] < 0.02  # a covered point can meet its own brightness
        assert (covered | edge | ~changed).mean() > 0.95
        hidden += int(covered.sum())
    assert hidden > 60


def test_a_patch_has_the_face_where_it_was_asked_for_and_nothing_outside_the_head() -> None:
    patch = render_face(np.random.default_rng(1), 220, 90, (110.0, 100.0))
    low, high = patch.points[:68].min(axis=0), patch.points[:68].max(axis=0)
    assert (high - low).max() == pytest.approx(90, abs=1e-3)
    np.testing.assert_allclose((low + high) / 2, (110, 100), atol=1e-3)
    assert patch.alpha.min() == 0 and patch.alpha.max() == 1 and patch.alpha[0, 0] == patch.alpha[0, -1] == 0
    x, y = np.rint(patch.points[27:36]).astype(int).T
    assert (patch.alpha[y, x] == 1).all()
