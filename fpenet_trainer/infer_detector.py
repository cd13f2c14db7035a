"""The faces that FPENet looks at, found by a FaceNet model: the cascade of `fpenet infer detector=...`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..configs.fpenet.schema import FpenetInferSpec
from ..datasets.inputs import Picture
from ..datasets.sample import FloatArray
from ..errors import ConfigError, ModelFileError
from .infer_boxes import FaceBox

PICTURES = 8  # a forward pass of the detector
FACE = "face"

# How far WIDER's boxes, which take in the forehead, reach beyond the box of the 68 points, which begins at the brows:
# x1, y1, x2, y2, in shares of the points' box, down and to the right. Measured on 401 clear upright faces of WIDER.
WIDER_BEYOND_POINTS = (0.027, -0.362, -0.007, -0.010)


def points_box(box: NDArray[np.floating]) -> FloatArray:
    """The box of a face's points [x1, y1, x2, y2], from brows to chin, where a detector has found this box [4].

    Of an upright face; of one that is turned it is a first guess.
    """
    left, top, right, bottom = WIDER_BEYOND_POINTS
    x1, y1, x2, y2 = np.asarray(box, np.float64)
    width, height = (x2 - x1) / (1 - left + right), (y2 - y1) / (1 - top + bottom)
    found = [x1 - left * width, y1 - top * height, x2 - right * width, y2 - bottom * height]
    return np.array(found, np.float32)


class FaceDetector:
    """Finds faces with a FaceNet model. Of one with several classes, those called `face` count."""

    def __init__(self, spec: FpenetInferSpec) -> None:
        """Raises ConfigError and ModelFileError when the spec's detector cannot be used; the message names it."""
        from ..facenet_trainer.predictor import Predictor

        try:
            self._predictor = Predictor.load(
                spec.detector, spec.device, spec.detector_clustering, spec.detector_input_size
            )
        except (ConfigError, ModelFileError) as error:
            raise type(error)(f"detector={spec.detector}: {error}") from None
        classes = self._predictor.classes
        if len(classes) > 1 and FACE not in classes:
            raise ModelFileError(
                f"detector={spec.detector} finds {', '.join(classes)}; a detector of faces has one class, or one that "
                f"is called {FACE}"
            )
        self._min_score = spec.detector_min_score
        self._face = classes.index(FACE) if FACE in classes else 0

    def find(self, pictures: Sequence[Picture]) -> list[list[FaceBox]]:
        """The faces of each picture, the most confident first; one forward pass for all."""
        predicted = self._predictor.predict([picture.image for picture in pictures])
        found = [self._predictor.confident(each, self._min_score) for each in predicted]
        return [
            [
                FaceBox(box, round(score, 5))
                for box, score, label in zip(of.boxes, of.scores.tolist(), of.labels, strict=True)
                if label == self._face
            ]
            for of in found
        ]
