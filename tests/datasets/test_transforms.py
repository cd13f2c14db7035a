"""Every change does what its name says, to the picture and to the points alike."""

from typing import Any

import numpy as np
import pytest

from facetrain.configs.fpenet.schema import AugmentConfig
from facetrain.datasets.sample import PointState
from facetrain.datasets.transforms import FaceAugment
from facetrain.errors import ConfigError

SIZE, MARGIN = 80, 24
FULL = SIZE + 2 * MARGIN
NOTHING: dict[str, Any] = {
    "hflip_prob": 0.0,
    "rotate_rad_max": 0.0,
    "zoom_min": 1.0,
    "zoom_max": 1.0,
    "translate_max_x": 0.0,
    "translate_max_y": 0.0,
    "contrast_scale_max": 0.0,
    "brightness_scale_max": 0.0,
    "gamma_prob": 0.0,
    "blur_prob": 0.0,
    "resize_prob": 0.0,
    "patch_prob": 0.0,
}
RAMP = np.tile(np.arange(FULL, dtype=np.uint8) * 2, (FULL, 1))  # grey value 2 (u + MARGIN)
NOISE = np.random.default_rng(0).integers(0, 256, (FULL, FULL), np.uint8)
POINTS = np.array([[20.25, 30.5], [55.0, 25.75], [40.6, 60.2]], np.float32)
STATES = np.full(3, PointState.VISIBLE, np.int8)


def augment(flip: list[int] | None = None, margin: int = MARGIN, **changes: Any) -> FaceAugment:
    return FaceAugment(AugmentConfig(**NOTHING | changes), SIZE, margin, flip)


def dots(points: np.ndarray) -> np.ndarray:
    """Blurred dots on a margin crop, spread wide enough for bilinear interpolation to keep their centroids."""
    v, u = np.mgrid[-MARGIN : SIZE + MARGIN, -MARGIN : SIZE + MARGIN]
    each = [255 * np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * 2.0**2)) for x, y in points]
    return np.round(np.sum(each, axis=0)).clip(0, 255).astype(np.uint8)


def centroid(image: np.ndarray, near: np.ndarray, reach: int = 8) -> np.ndarray:
    v, u = np.mgrid[: image.shape[0], : image.shape[1]]
    weight = image * ((abs(u - near[0]) <= reach) & (abs(v - near[1]) <= reach))
    return np.array([(u * weight).sum(), (v * weight).sum()]) / weight.sum()


def test_nothing_is_the_middle_of_the_margin_crop() -> None:
    image, points, states = augment()(NOISE, POINTS, STATES, seed=1)
    np.testing.assert_array_equal(image, NOISE[MARGIN:-MARGIN, MARGIN:-MARGIN])
    np.testing.assert_allclose(points, POINTS, atol=1e-5)
    np.testing.assert_array_equal(states, STATES)
    assert (image.dtype, points.dtype, states.dtype) == (np.uint8, np.float32, np.int8)


def test_mirroring_is_exact_and_permutes_points_and_states() -> None:
    states = np.array([2, 1, 2], np.int8)
    image, points, mirrored_states = augment([1, 0, 2], hflip_prob=1.0)(NOISE, POINTS, states, seed=0)
    np.testing.assert_array_equal(image, NOISE[MARGIN:-MARGIN, MARGIN:-MARGIN][:, ::-1])
    expected = POINTS[[1, 0, 2]] * [-1, 1] + [SIZE - 1, 0]
    np.testing.assert_allclose(points, expected, atol=1e-5)
    assert mirrored_states.tolist() == [1, 2, 2]


def test_without_a_flip_table_nothing_is_mirrored() -> None:
    image, *_ = augment(None, hflip_prob=1.0)(NOISE, POINTS, STATES, seed=0)
    np.testing.assert_array_equal(image, NOISE[MARGIN:-MARGIN, MARGIN:-MARGIN])


@pytest.mark.parametrize("seed", range(12))
def test_picture_and_points_move_together(seed: int) -> None:
    step = augment(
        [0, 1, 2],
        hflip_prob=0.5,
        rotate_rad_max=0.5,
        zoom_min=0.8,
        zoom_max=1.25,
        translate_max_x=6.0,
        translate_max_y=6.0,
        shift_prob=0.5,
        shift_percent_max=0.08,
    )
    image, points, _ = step(dots(POINTS), POINTS, STATES, seed)
    assert np.abs(points - POINTS).max() > 0.5
    inside = [point for point in points if (point > 9).all() and (point < SIZE - 10).all()]
    assert inside
    for point in inside:
        np.testing.assert_allclose(centroid(image, point), point, atol=0.1)


def one(seed: int, **changes: Any) -> np.ndarray:
    return augment(**changes)(NOISE, POINTS, STATES, seed)[1]


def test_ranges_of_the_warp() -> None:
    centre = np.array([[39.5, 39.5], [59.5, 39.5]], np.float32)  # the middle, and a point 20 pixels to the right
    moves = np.stack(
        [augment(translate_max_x=6.0, translate_max_y=3.0)(NOISE, centre, STATES[:2], s)[1][0] for s in range(300)]
    )
    offsets = moves - centre[0]
    assert 5.5 < np.abs(offsets[:, 0]).max() <= 6 and 2.7 < np.abs(offsets[:, 1]).max() <= 3
    assert np.abs(offsets - np.round(offsets)).max() > 0.4  # not whole pixels only
    turned = np.stack([augment(rotate_rad_max=0.5)(NOISE, centre, STATES[:2], s)[1] for s in range(300)])
    np.testing.assert_allclose(turned[:, 0], np.tile(centre[0], (300, 1)), atol=1e-4)
    angles = np.arctan2(turned[:, 1, 1] - 39.5, turned[:, 1, 0] - 39.5)
    assert 0.47 < angles.max() <= 0.5 and -0.5 <= angles.min() < -0.47
    zoomed = np.stack([augment(zoom_min=0.8, zoom_max=1.2)(NOISE, centre, STATES[:2], s)[1] for s in range(300)])
    factors = (zoomed[:, 1, 0] - zoomed[:, 0, 0]) / 20
    assert 0.8 <= factors.min() < 0.82 and 1.18 < factors.max() <= 1.2


def test_box_shift_moves_and_resizes_the_square() -> None:
    corners = np.array([[-0.5, -0.5], [79.5, 79.5]], np.float32)
    boxes = [augment(shift_prob=1.0, shift_percent_max=0.1)(NOISE, corners, STATES[:2], s)[1] for s in range(300)]
    scale = np.array([box[1, 0] - box[0, 0] for box in boxes]) / 80
    shift = -np.array([box[0] + 0.5 for box in boxes]) / scale[:, None]  # of the square's corner, in old pixels
    assert 0.9 < (1 / scale).min() < 0.93 and 1.07 < (1 / scale).max() < 1.1
    assert 7.4 < np.abs(shift).max() <= 8.001
    still = [augment(shift_prob=0.3, shift_percent_max=0.1)(NOISE, corners, STATES[:2], s)[1] for s in range(300)]
    assert 0.6 < np.mean([np.allclose(points, corners, atol=1e-4) for points in still]) < 0.8


def test_what_lies_beyond_the_margin_is_black() -> None:
    white = np.full((FULL, FULL), 255, np.uint8)
    image, *_ = augment(zoom_min=0.5, zoom_max=0.5)(white, POINTS, STATES, 0)
    assert image[:7].max() == 0 and image[10:70, 10:70].min() == 255


def test_points_that_leave_the_crop_stay_as_they_are() -> None:
    points = np.array([[1, 1], [-30, 40], [79, 79]], np.float32)
    _, moved, states = augment(zoom_min=2.0, zoom_max=2.0)(NOISE, points, STATES, 0)
    np.testing.assert_allclose(moved, (points - 39.5) * 2 + 39.5, atol=1e-4)
    assert states.tolist() == [2, 2, 2]


def tone(values: np.ndarray, seed: int, **changes: Any) -> np.ndarray:
    return augment(**changes)(values, POINTS, STATES, seed)[0]


@pytest.mark.parametrize("gamma", [0.6, 1.6])
def test_gamma_is_of_normalised_grey(gamma: float) -> None:
    image = tone(RAMP, 0, gamma_prob=1.0, gamma_min=gamma, gamma_max=gamma)
    expected = 255 * (RAMP[MARGIN:-MARGIN, MARGIN:-MARGIN] / 255) ** gamma
    assert np.abs(image - expected).max() <= 0.51


def test_gamma_types() -> None:
    grey = np.full((FULL, FULL), 100, np.uint8)

    def exponents(**changes: Any) -> np.ndarray:
        values = np.array([tone(grey, seed, gamma_prob=1.0, **changes)[0, 0] for seed in range(200)])
        return np.log(values / 255) / np.log(100 / 255)

    uniform = exponents(gamma_min=0.5, gamma_max=1.5)
    assert uniform.min() > 0.48 and uniform.max() < 1.52 and uniform.std() > 0.25
    normal = exponents(gamma_type="normal", gamma_mu=1.0, gamma_std=0.1)
    assert abs(normal.mean() - 1) < 0.03 and abs(normal.std() - 0.1) < 0.03


def test_contrast_and_brightness() -> None:
    middle = np.full((FULL, FULL), 100, np.uint8)
    scaled = [int(tone(RAMP, seed, contrast_scale_max=0.5, contrast_center=100.0).max()) for seed in range(100)]
    still = [int(tone(middle, seed, contrast_scale_max=0.5, contrast_center=100.0).max()) for seed in range(100)]
    assert set(still) == {100}
    top = int(RAMP[:, : FULL - MARGIN].max())
    assert min(scaled) < 100 + (top - 100) * 0.6 and max(scaled) > 100 + (top - 100) * 1.4
    lit = np.array([int(tone(middle, seed, brightness_scale_max=0.2)[0, 0]) for seed in range(200)])
    assert 49 <= lit.min() < 55 and 145 < lit.max() <= 151


def test_blur_and_resizing_lose_detail_and_noise_adds_it() -> None:
    plain = NOISE[MARGIN:-MARGIN, MARGIN:-MARGIN].astype(float)
    blurred = tone(NOISE, 3, blur_prob=1.0, blur_kernel_sizes=[3]).astype(float)
    window = np.lib.stride_tricks.sliding_window_view(plain, (3, 3)).mean(axis=(2, 3))
    assert np.abs(blurred[1:-1, 1:-1] - window).max() <= 1
    halved = tone(NOISE, 3, resize_prob=1.0, resize_scale=0.5).astype(float)
    assert halved.std() < 0.6 * plain.std() and abs(halved.mean() - plain.mean()) < 1
    enlarged = tone(NOISE, 3, resize_prob=1.0, resize_scale=1.6).astype(float)
    assert halved.std() < enlarged.std() < plain.std()  # TAO's 1.6 is a slight blur
    grey = np.full((FULL, FULL), 128, np.uint8)
    spread = np.array([tone(grey, seed, noise_prob=1.0, noise_std_max=0.1).std() for seed in range(40)])
    assert 20 < spread.max() < 27 and spread.min() < 8


def test_resizing_does_not_move_the_picture() -> None:
    image = tone(dots(POINTS), 0, resize_prob=1.0, resize_scale=0.4)
    for point in POINTS:
        np.testing.assert_allclose(centroid(image, point), point, atol=0.1)


def test_patch_lies_anywhere_and_hides_points() -> None:
    grid = np.stack(np.meshgrid(np.arange(80.0), np.arange(80.0)), axis=-1).reshape(-1, 2).astype(np.float32)
    states = np.full(len(grid), PointState.VISIBLE, np.int8)
    states[5] = PointState.MISSING
    grid[5] = np.nan
    plain = np.full((FULL, FULL), 255, np.uint8)
    step, hidden = augment(patch_prob=1.0, size_to_image_ratio=0.5), np.zeros((80, 80))
    flat = 0
    for seed in range(150):
        image, points, new = step(plain, grid, states, seed)
        covered = (new == PointState.OCCLUDED).reshape(80, 80)
        rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        assert 10 <= len(rows) <= 40 and 10 <= len(columns) <= 40
        assert not ((image != 255) & ~covered).ravel()[6:].any()  # point 5, which is missing, tells nothing
        flat += len(np.unique(image[covered])) == 1
        assert new[5] == PointState.MISSING and np.isnan(points[5]).all()
        hidden += covered
    assert (hidden[20:60, 20:60] > 0).all()  # over the whole face, and up to each border
    assert all(border.any() for border in (hidden[0], hidden[-1], hidden[:, 0], hidden[:, -1]))
    assert 45 < flat < 105  # half of them grey, half noise
    _, _, unmasked = augment(patch_prob=1.0, mask_augmentation_patch=False)(plain, grid, states, 0)
    np.testing.assert_array_equal(unmasked, states)


def test_patch_in_the_centre_is_one_grey() -> None:
    plain = np.full((FULL, FULL), 255, np.uint8)
    greys = set()
    for seed in range(30):
        image, *_ = augment(patch_prob=1.0, patch="centre")(plain, POINTS, STATES, seed)
        rows, columns = np.nonzero(image != 255)
        if len(rows):
            assert abs(rows.min() + rows.max() - 79) <= 1 and abs(columns.min() + columns.max() - 79) <= 1
            (grey,) = np.unique(image[rows, columns])
            greys.add(int(grey))
    assert len(greys) > 20


EVERYTHING = AugmentConfig(shift_prob=0.5, shift_percent_max=0.1, noise_prob=0.5, blur_prob=0.5, resize_prob=0.5)


def test_same_seed_same_bytes_whatever_came_before() -> None:
    step = FaceAugment(EVERYTHING, SIZE, MARGIN, [1, 0, 2])
    first = [step(NOISE, POINTS, STATES, seed) for seed in range(30)]
    np.random.seed(7)  # noqa: NPY002 - the global state must not matter
    other = FaceAugment(EVERYTHING, SIZE, MARGIN, [1, 0, 2])
    for seed in reversed(range(30)):
        for a, b in zip(other(NOISE, POINTS, STATES, seed), first[seed], strict=True):
            assert a.tobytes() == b.tobytes()
    assert len({image.tobytes() for image, *_ in first}) == 30


def test_the_steps_are_drawn_independently() -> None:
    """Mirroring and gamma, each with probability one half, meet in a quarter of the crops."""
    step = augment([0, 1, 2], hflip_prob=0.5, gamma_prob=0.5, gamma_min=3.0, gamma_max=3.0)
    seen = [step(RAMP, POINTS, STATES, seed) for seed in range(400)]
    mirrored = np.array([points[0, 0] > 30 for _, points, _ in seen])
    dark = np.array([image[:, [0, -1]].mean() < 100 for image, *_ in seen])
    assert 0.4 < mirrored.mean() < 0.6
    assert 0.15 < (mirrored & dark).mean() < 0.35


def test_inputs_are_left_alone() -> None:
    crop, points, states = NOISE.copy(), POINTS.copy(), STATES.copy()
    for seed in range(20):
        FaceAugment(EVERYTHING, SIZE, MARGIN, [1, 0, 2])(crop, points, states, seed)
    np.testing.assert_array_equal(crop, NOISE)
    np.testing.assert_array_equal(points, POINTS)
    np.testing.assert_array_equal(states, STATES)


@pytest.mark.parametrize("sizes", [[], [3, 81]])
def test_blur_kernels_that_make_no_sense(sizes: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"augment\.blur_kernel_sizes=.*odd numbers from 3 to 80"):
        augment(blur_prob=0.1, blur_kernel_sizes=sizes)
