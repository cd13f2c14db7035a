import numpy as np
import pytest

from facetrain.datasets.resizing import PicturePreprocessing
from facetrain.errors import ModelFileError


def drawn(width, height, box):
    image = np.zeros((height, width, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image


def extent(image):
    rows, columns = np.nonzero(image.max(axis=2) > 127)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@pytest.mark.parametrize("resize", ["letterbox", "fit", "stretch", "pad_crop"])
@pytest.mark.parametrize("size", [(300, 200), (90, 70), (101, 333)])
def test_the_box_follows_the_picture(resize, size):
    box = np.array([20, 30, 60, 65])
    image, place = PicturePreprocessing(160, 128, resize=resize).apply(drawn(*size, box))
    assert image.shape == (128, 160, 3)
    assert np.abs(extent(image) - place.to_input(box[None])[0]).max() <= 1
    np.testing.assert_allclose(place.to_picture(place.to_input(box[None]))[0], box, atol=1e-3)


def test_fit_shrinks_and_never_enlarges():
    small = np.full((20, 40, 3), 200, np.uint8)
    image, place = PicturePreprocessing(96, 64, resize="fit").apply(small)
    assert (place.scale_x, place.scale_y, place.shift_x, place.shift_y) == (1, 1, 28, 22)
    assert (image[22:42, 28:68] == 200).all() and image.sum() == small.sum()
    for width, height in ((96, 64), (200, 100), (50, 300)):
        assert PicturePreprocessing(96, 64, resize="fit").place(width, height) == PicturePreprocessing(96, 64).place(
            width, height
        )


def test_letterbox_is_centred_on_black():
    image, place = PicturePreprocessing(160, 128).apply(np.full((100, 200, 3), 200, np.uint8))
    assert (place.scale_x, place.scale_y, place.shift_x, place.shift_y) == (0.8, 0.8, 0.0, 24.0)
    assert not image[:24].any() and not image[104:].any() and (image[24:104] == 200).all()


def test_pad_crop_cuts_and_says_so():
    preprocessing = PicturePreprocessing(160, 128, resize="pad_crop")
    image, _ = preprocessing.apply(np.full((200, 100, 3), 9, np.uint8))
    assert (image[:, :100] == 9).all() and not image[:, 100:].any()
    assert preprocessing.cuts_off(100, 200) and not preprocessing.cuts_off(160, 128)


def test_grey_is_luma_in_three_channels():
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    image, _ = PicturePreprocessing(32, 32, grayscale=True).apply(red)
    assert (image == 76).all()


def test_model_file():
    preprocessing = PicturePreprocessing(736, 416, True, "stretch")
    assert PicturePreprocessing.from_dict(preprocessing.to_dict()) == preprocessing
    for change in ({"width": 100}, {"resize": "crop"}, {"grayscale": 1}, {"more": 1}):
        with pytest.raises(ModelFileError, match=next(iter(change))):
            PicturePreprocessing.from_dict(preprocessing.to_dict() | change)
