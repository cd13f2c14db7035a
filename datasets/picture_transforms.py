"""Random changes of the detector's training pictures: TAO's augmentation (§4.5), each doing what its name says, and
crops around faces. The whole geometry is one matrix, so that a picture is interpolated once, from its own resolution.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it asks a server for its newest version on import otherwise
import albumentations as A

from ..configs.facenet.schema import AugmentConfig
from .image import luma
from .resizing import PicturePreprocessing, three_channels
from .sample import ByteArray, FloatArray

cv2.setNumThreads(0)  # loader processes fork: OpenCV's pool would not survive that

MOST_MAGNIFIED = 2.0  # a face crop enlarges a picture no further: there is nothing more to see
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """A changed picture: image [H, W, 3] uint8; boxes [N, 4] and ignore [M, 4] float32 in its pixels, clipped unless
    `AugmentConfig` says otherwise; labels [N] int64."""

    image: ByteArray
    boxes: FloatArray
    labels: NDArray[np.int64]
    ignore: FloatArray


class PictureAugment:
    """The changes of `AugmentConfig`; pictures come out at its crop size, or at the input's.

    Zoom r > 1 magnifies, about a random place. A face crop draws size and place itself: zoom and translation are left
    out of it. Without a face crop, a picture smaller than the input is a window at random on the input.
    """

    def __init__(self, augment: AugmentConfig, preprocessing: PicturePreprocessing) -> None:
        self.augment = augment
        self.width = augment.crop_width or preprocessing.width
        self.height = augment.crop_height or preprocessing.height
        self._grayscale = preprocessing.grayscale
        self._warp = _Warp(augment, preprocessing, self.width, self.height)
        self._pipeline = A.Compose([self._warp, _Colour(augment)], is_check_shapes=False)

    def __call__(
        self, image: ByteArray, boxes: FloatArray, labels: NDArray[np.int64], ignore: FloatArray, seed: int
    ) -> View:
        """A changed copy of a picture, RGB [H, W, 3] or grey [H, W], with boxes [N, 4], labels [N] and ignore [M, 4];
        a pure function of its arguments. Boxes of which too little is left become ignore regions."""
        self._pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        self._warp.faces = boxes
        picture = self._pipeline(image=np.ascontiguousarray(three_channels(image)))["image"]
        if self._grayscale:
            picture = np.ascontiguousarray(three_channels(luma(picture)))
        matrix = self._warp.params["matrix"]
        moved = move_boxes(boxes, matrix)
        clipped, left = clip_boxes(moved, self.width, self.height)
        sides = clipped[:, 2:] - clipped[:, :2]
        least = (self.augment.min_bbox_width, self.augment.min_bbox_height)
        keep = (left >= self.augment.min_visibility) & (sides >= least).all(axis=1) & (left > 0)
        others, seen = clip_boxes(move_boxes(ignore, matrix), self.width, self.height)
        if not self.augment.clip_boxes:
            return View(picture, moved, labels, others[seen > 0])
        regions = np.concatenate([others[seen > 0], clipped[~keep & (left > 0)]])
        return View(picture, clipped[keep], labels[keep], regions)


class _Warp(A.ImageOnlyTransform):
    """Resizing, crop, flips, zoom, rotation and translation."""

    def __init__(self, augment: AugmentConfig, preprocessing: PicturePreprocessing, width: int, height: int) -> None:
        super().__init__(p=1.0)
        self.augment, self.preprocessing, self.width, self.height = augment, preprocessing, width, height
        self.faces: FloatArray = np.zeros((0, 4), np.float32)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        draw, augment = self.py_random, self.augment
        height, width = params["shape"][:2]
        if draw.random() < augment.random_crop_probability:
            matrix = self._face_crop(width, height)
        else:
            matrix = self._zoom_and_shift() @ self._whole(width, height)
        if draw.random() < augment.rotate_probability:
            matrix = _rotation(_spread(draw, augment.rotate_rad_max), self.width, self.height) @ matrix
        if draw.random() < augment.hflip_probability:
            matrix = scaling(-1, 1, self.width, 0) @ matrix
        if draw.random() < augment.vflip_probability:
            matrix = scaling(1, -1, 0, self.height) @ matrix
        return {"matrix": matrix}

    def _whole(self, width: int, height: int) -> Matrix:
        """The picture as the network will see it, through a window at random where that is smaller."""
        place, size = self.preprocessing.place(width, height), self.preprocessing
        x, y = (self._laid(free) for free in (size.width - self.width, size.height - self.height))
        return scaling(place.scale_x, place.scale_y, place.shift_x - x, place.shift_y - y)

    def _laid(self, free: float) -> float:
        return float(self.py_random.randint(0, int(free))) if free >= 0 else free / 2

    def _zoom_and_shift(self) -> Matrix:
        draw, augment = self.py_random, self.augment
        zoom = draw.uniform(augment.zoom_min, augment.zoom_max)
        x = draw.uniform(0, self.width * (1 - zoom)) + _spread(draw, augment.translate_max_x)
        y = draw.uniform(0, self.height * (1 - zoom)) + _spread(draw, augment.translate_max_y)
        return scaling(zoom, zoom, x, y)

    def _face_crop(self, width: int, height: int) -> Matrix:
        """A window laid so that a random face is wholly in it at a log-uniform size, or anywhere.

        No smaller than the whole picture in the window: what is left of that window would be black.
        """
        draw, augment = self.py_random, self.augment
        target = np.exp(draw.uniform(np.log(augment.random_crop_face_min), np.log(augment.random_crop_face_max)))
        anywhere = draw.random() < augment.random_crop_background
        smallest = min(self.width / width, self.height / height, 1.0)
        if len(self.faces):
            face = self.faces[draw.randrange(len(self.faces))].astype(np.float64)
            scale = min(max(target / max(face[2] - face[0], face[3] - face[1], 1.0), smallest), MOST_MAGNIFIED)
        else:
            scale, anywhere = np.exp(draw.uniform(np.log(smallest), 0.0)), True
        corner = []
        for axis, (side, length) in enumerate(((self.width, width), (self.height, height))):
            window = side / scale
            edges = sorted((0.0, length - window))  # of a window within the picture, or around it
            low, high = (edges[0], edges[1]) if anywhere else (face[axis + 2] - window, face[axis])
            corner.append(float(np.clip(draw.uniform(low, high), *edges)))
        return scaling(scale, scale, -corner[0] * scale, -corner[1] * scale)

    def apply(self, img: ByteArray, matrix: Matrix, **_: Any) -> ByteArray:
        return warp(img, matrix, self.width, self.height, round(255 * self.augment.border))


class _Colour(A.ImageOnlyTransform):
    """Added light, hue and saturation about the luma, contrast: one 3x3 matrix and an offset."""

    def __init__(self, augment: AugmentConfig) -> None:
        super().__init__(p=1.0)
        self.augment = augment

    def get_params(self) -> dict[str, Any]:
        draw, augment = self.py_random, self.augment
        light = 255 * draw.gauss(0.0, 1.0) * augment.color_shift_stddev
        turn = np.radians(_normal(draw, augment.hue_rotation_max))
        saturation = 1 + _spread(draw, augment.saturation_shift_max)
        contrast = 1 + _normal(draw, augment.contrast_scale_max)
        colour = contrast * colour_matrix(turn, saturation)
        centre = 255 * augment.contrast_center
        offset = contrast * light + (1 - contrast) * centre  # grey, that the colour matrix leaves alone
        return {"colour": np.column_stack([colour, np.full(3, offset)]).astype(np.float32)}

    def apply(self, img: ByteArray, colour: FloatArray, **_: Any) -> ByteArray:
        changed = cv2.transform(img.astype(np.float32), colour)
        return np.clip(changed + 0.5, 0, 255).astype(np.uint8)


def colour_matrix(turn: float, saturation: float) -> Matrix:
    """[3, 3] on RGB columns: the hue turned by `turn` radians, the distance from grey scaled. Luma and grey stay."""
    grey = np.tile([0.299, 0.587, 0.114], (3, 1))
    quadrature = np.array([[0.168, 0.330, -0.497], [-0.328, 0.035, 0.292], [1.25, -1.05, -0.203]])
    quadrature -= quadrature.mean(axis=1, keepdims=True)  # the published digits leave a little grey
    return grey + saturation * (np.cos(turn) * (np.eye(3) - grey) + np.sin(turn) * quadrature)


def scaling(x: float, y: float, shift_x: float, shift_y: float) -> Matrix:
    """[3, 3] on pixel edges: scaled, then shifted."""
    return np.array([[x, 0, shift_x], [0, y, shift_y], [0, 0, 1.0]])


def move_boxes(boxes: FloatArray, matrix: Matrix) -> FloatArray:
    """The boxes [N, 4] around the four moved corners of each box."""
    corners = boxes.astype(np.float64)[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    moved = corners @ matrix[:2, :2].T + matrix[:2, 2]
    return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1).astype(np.float32)


def clip_boxes(boxes: FloatArray, width: int, height: int) -> tuple[FloatArray, FloatArray]:
    """Boxes [N, 4] cut at the picture's edges, and the share of each box's area that is left [N]."""
    clipped = np.clip(boxes, 0, np.array([width, height] * 2, np.float32))
    area, left = (np.prod(np.maximum(each[:, 2:] - each[:, :2], 0), axis=1) for each in (boxes, clipped))
    return clipped, (left / np.maximum(area, 1e-9)).astype(np.float32)


def warp(image: ByteArray, matrix: Matrix, width: int, height: int, border: int = 0) -> ByteArray:
    """The picture [H, W, 3] under a matrix on pixel edges, as [height, width, 3]; the grey `border`, 0..255, around it.

    Antialiased: by Pillow alone, as the network's input is, where nothing is turned; else it is shrunk first.
    """
    if matrix[0, 1] == matrix[1, 0] == 0:
        return _resample(image, matrix, width, height, border)
    x, y = np.minimum(np.linalg.norm(matrix[:2, :2], axis=0), 1.0)
    if min(x, y) < 0.9:
        size = (max(round(image.shape[1] * x), 1), max(round(image.shape[0] * y), 1))
        matrix = matrix @ scaling(image.shape[1] / size[0], image.shape[0] / size[1], 0, 0)
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    centres = scaling(1, 1, -0.5, -0.5) @ matrix @ scaling(1, 1, 0.5, 0.5)
    colour = (border, border, border)
    return cv2.warpAffine(image, centres[:2], (width, height), flags=cv2.INTER_LINEAR, borderValue=colour)


def _resample(image: ByteArray, matrix: Matrix, width: int, height: int, border: int) -> ByteArray:
    """`warp` where the matrix scales, mirrors and shifts. Pixels that the picture covers in part are the border's."""
    result = np.full((height, width, 3), border, np.uint8)
    target, source = [], []
    for axis, side in enumerate((width, height)):
        scale, shift = abs(matrix[axis, axis]), matrix[axis, 2]
        if matrix[axis, axis] < 0:
            shift = side - shift
        length = image.shape[1 - axis]
        first = int(np.ceil(max(shift, 0) - 1e-6))
        last = int(np.floor(min(shift + scale * length, side) + 1e-6))
        if last <= first:
            return result
        target.append((first, last))
        source.append(tuple(np.clip([(first - shift) / scale, (last - shift) / scale], 0, length)))
    (left, right), (top, bottom) = target
    box = (source[0][0], source[1][0], source[0][1], source[1][1])
    part = Image.fromarray(image).resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=box)
    result[top:bottom, left:right] = np.asarray(part)
    result = result[:, ::-1] if matrix[0, 0] < 0 else result
    return np.ascontiguousarray(result[::-1] if matrix[1, 1] < 0 else result)


def _rotation(angle: float, width: int, height: int) -> Matrix:
    if angle == 0:
        return np.eye(3)
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    return scaling(1, 1, width / 2, height / 2) @ turn @ scaling(1, 1, -width / 2, -height / 2)


def _spread(draw: random.Random, largest: float) -> float:
    return draw.uniform(-largest, largest)


def _normal(draw: random.Random, largest: float) -> float:
    """Normal with a deviation of half of `largest`, cut off there (§4.5)."""
    while abs(value := draw.gauss(0.0, 0.5)) > 1:
        pass
    return value * largest
