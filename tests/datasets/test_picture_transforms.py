import numpy as np
import pytest

from facetrain.configs.facenet.schema import AugmentConfig
from facetrain.datasets.picture_transforms import PictureAugment, colour_matrix
from facetrain.datasets.resizing import PicturePreprocessing

STILL = {
    "hflip_probability": 0.0, "zoom_min": 1.0, "zoom_max": 1.0, "translate_max_x": 0.0, "translate_max_y": 0.0,
    "hue_rotation_max": 0.0, "saturation_shift_max": 0.0, "contrast_scale_max": 0.0,
}  # fmt: skip
BOX = np.array([[130, 90, 180, 150]], np.float32)
NONE = np.zeros((0, 4), np.float32)


def picture():
    image = np.zeros((240, 320, 3), np.uint8)
    image[90:150, 130:180] = 255
    return image


def run(seed=0, image=None, boxes=BOX, size=(160, 128), **changes):
    augment = PictureAugment(AugmentConfig(**STILL | changes), PicturePreprocessing(*size))
    labels = np.zeros(len(boxes), np.int64)
    return augment(picture() if image is None else image, boxes, labels, NONE, seed)


def extent(image):
    rows, columns = np.nonzero(image.max(axis=2) > 127)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@pytest.mark.parametrize(
    "changes",
    [
        {"hflip_probability": 1.0},
        {"vflip_probability": 1.0},
        {"zoom_min": 1.5, "zoom_max": 1.5},
        {"zoom_min": 0.5, "zoom_max": 0.5},
        {"translate_max_x": 20.0, "translate_max_y": 20.0},
        {"rotate_rad_max": 0.6},
        {"rotate_rad_max": 0.6, "hflip_probability": 1.0, "zoom_min": 0.7, "zoom_max": 1.3},
        {"random_crop_probability": 1.0, "random_crop_background": 0.0, "random_crop_face_max": 60.0},
        {"crop_width": 96, "crop_height": 96, "random_crop_probability": 0.5, "random_crop_face_max": 60.0},
    ],
)
def test_the_box_follows_the_picture(changes):
    compared = 0
    for seed in range(8):
        view = run(seed, **changes)
        if len(view.boxes):
            assert np.abs(extent(view.image) - view.boxes[0]).max() <= 1.5
            compared += 1
    assert compared >= 3


def test_without_changes_it_is_the_networks_input():
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    expected, place = PicturePreprocessing(160, 128).apply(image)
    view = run(image=image)
    assert np.abs(view.image.astype(int) - expected).max() <= 1
    np.testing.assert_allclose(view.boxes, place.to_input(BOX), atol=1e-3)


def test_zoom_above_one_magnifies():
    view = run(zoom_min=1.5, zoom_max=1.5)
    assert view.boxes[0, 2] - view.boxes[0, 0] == pytest.approx(50 * 160 / 320 * 1.5, rel=0.01)


def test_what_is_mostly_cut_off_is_ignored():
    boxes = np.array([[-80, 90, 20, 150], [-10, 0, 100, 50]], np.float32)
    view = run(boxes=boxes)
    assert len(view.boxes) == len(view.ignore) == 1 and view.boxes[0, 0] == 0
    small = run(min_bbox_width=40.0)
    assert len(small.boxes) == 0 and len(small.ignore) == 1


@pytest.mark.parametrize("turn", [0.0, 0.4])
def test_the_border_is_the_grey_that_was_asked_for(turn):
    image = np.full((240, 320, 3), 200, np.uint8)
    small = {"zoom_min": 0.4, "zoom_max": 0.4, "rotate_rad_max": turn}
    for border, grey in ((0.0, 0), (0.5, 128)):
        seen = run(3, image=image, border=border, **small).image
        assert (seen == grey).all(axis=2).mean() > 0.5
        assert set(np.unique(seen)) <= set(range(min(grey, 200), 201))


def test_boxes_that_are_not_clipped_keep_their_extent():
    boxes = np.array([[-80, 90, 20, 150], [400, 0, 450, 50]], np.float32)  # cut off, and out of the picture
    view = run(boxes=boxes, clip_boxes=False, min_visibility=0.9)
    _, place = PicturePreprocessing(160, 128).apply(picture())
    np.testing.assert_allclose(view.boxes, place.to_input(boxes), atol=1e-3)
    assert len(view.labels) == 2 and len(view.ignore) == 0


def test_a_function_of_the_seed():
    changes = {"rotate_rad_max": 0.3, "hue_rotation_max": 25.0, "random_crop_probability": 0.5}
    first, again, other = (run(seed, **changes) for seed in (3, 3, 4))
    assert (first.image == again.image).all() and (first.boxes == again.boxes).all()
    assert first.image.shape == other.image.shape and (first.image != other.image).any()


def test_no_boxes():
    view = run(boxes=NONE, random_crop_probability=1.0)
    assert view.boxes.shape == view.ignore.shape == (0, 4)


def test_hue_leaves_grey_and_luma():
    turned = colour_matrix(0.7, 1.3)
    np.testing.assert_allclose(turned @ np.ones(3), np.ones(3), atol=1e-9)
    luma = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(luma @ turned, luma, atol=5e-3)
    np.testing.assert_allclose(colour_matrix(0.0, 1.0), np.eye(3), atol=1e-12)
