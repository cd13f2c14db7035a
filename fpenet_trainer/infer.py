"""`fpenet infer`: the keypoints of every face of a picture, a folder, a video or a camera."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..configs.fpenet.schema import FpenetInferSpec
from ..datasets.inputs import Inputs, Picture, open_inputs
from ..datasets.preprocessing import Preprocessing, Square, cut, to_image
from ..datasets.sample import FloatArray
from ..errors import ConfigError
from ..training.inference import InferSummary, batches, prepare_results, to_the_end, watched
from .infer_boxes import FaceBox, FaceBoxes
from .infer_detector import PICTURES, FaceDetector, points_box
from .infer_results import FILES, CutPicture, InferResults
from .predictor import FacePoints, Predictor

LARGEST_BOX = 4.0  # as a multiple of the picture; beyond it the units must be wrong
LARGEST_RESIZE = 2.0  # of the square between the two looks, either way; beyond it there is hardly a face

FacesOf = tuple[Picture, list[FaceBox]]


def infer(spec: FpenetInferSpec) -> InferSummary:
    """Runs a model over `spec.input` and writes predictions.json, and as asked result.txt and pictures or a video.

    The square around a face comes from its box by the model's own preprocessing. A model that was trained with
    `crop.source: points` has seen squares around the keypoints' own box, so it expects boxes that hug the points from
    brows to chin. Boxes of `spec.boxes` are taken to be what the model expects. Those of `spec.detector` take in the
    forehead: for such a model they are first made into boxes of points (`points_box`), and then every face is looked
    at twice, the second time in the square around the points of the first look.

    A picture that cannot be read is named in the results and the others go on. Ctrl-C leaves whole files; it is the
    ordinary end of a camera.

    Raises:
        ConfigError: no input, results_dir is in use, or boxes and a detector at once.
        DataError: the input or the boxes cannot be read at all.
        ModelFileError: the model or the detector cannot be used.
    """
    inputs = open_inputs(spec.input, spec.max_frames)
    boxes, detector = _boxes(spec, inputs), FaceDetector(spec) if spec.detector else None
    predictor = Predictor.load(spec.model, spec.device)
    prepare_results(Path(spec.results_dir), spec.input, spec.overwrite, FILES)
    summary = InferSummary(Path(spec.results_dir), failures=inputs.failures)  # one list, which reading adds to
    if boxes:
        summary.failures += [f"boxes={spec.boxes}: {name}: no such picture" for name in boxes.unmatched]
    if detector and inputs.kind != "pictures":
        print("every frame is searched by itself: faces are not tracked from one to the next")
    by_points = detector is not None and predictor.preprocessing.crop_source == "points"
    faces = _cut(_faces(inputs, boxes, detector), predictor.preprocessing, by_points, summary)
    with to_the_end(InferResults(spec, predictor, inputs.fps, summary), inputs.kind, spec.input) as results:
        for batch in batches(faces, inputs.kind, spec.batch_size, lambda pending: pending.load):
            found = _look(batch, predictor, spec.batch_size)
            if by_points:
                _recut(batch, found, predictor.preprocessing)
                found = _look(batch, predictor, spec.batch_size)
            results.write(batch, found)
    return summary


def _boxes(spec: FpenetInferSpec, inputs: Inputs) -> FaceBoxes | None:
    if not spec.boxes:
        return None
    if spec.detector:
        raise ConfigError(f"boxes={spec.boxes} and detector={spec.detector} both say where the faces are; give one")
    if inputs.kind == "camera":
        raise ConfigError(
            f"boxes={spec.boxes}: the boxes of a camera's frames are not known beforehand; leave it empty, or give a "
            "detector"
        )
    return FaceBoxes(spec.boxes, inputs)


def _faces(inputs: Inputs, boxes: FaceBoxes | None, detector: FaceDetector | None) -> Iterator[FacesOf]:
    """Reads pictures and says where their faces are."""
    pictures = watched(inputs)
    if detector is not None:
        for batch in batches(pictures, inputs.kind, PICTURES, lambda picture: (1, picture.image.nbytes)):
            yield from zip(batch, detector.find(batch), strict=True)
        return
    for picture in pictures:
        height, width = picture.image.shape[:2]
        whole = FaceBox(np.array([0, 0, width, height], np.float32))
        yield picture, [whole] if boxes is None else boxes.of(picture)


def _cut(
    faces: Iterator[FacesOf], preprocessing: Preprocessing, by_points: bool, summary: InferSummary
) -> Iterator[CutPicture]:
    """Cuts the faces out; `by_points`: their boxes are a detector's, and the squares belong around points."""
    for picture, boxes in faces:
        height, width = picture.image.shape[:2]
        pending = CutPicture(picture)
        grey = picture.grey() if boxes else None
        for face in boxes:
            square = preprocessing.square(None, points_box(face.box) if by_points else face.box)
            if grey is None or square is None or not _plausible(face.box, width, height):
                summary.failures.append(f"{picture.label}: box {face.box.tolist()} does not lie on the picture")
                continue
            pending.boxes.append(face)
            pending.squares.append(square)
            pending.crops.append(cut(grey, square, preprocessing.size))
        summary.pictures += 1
        summary.found += len(pending.boxes)
        yield pending


def _plausible(box: FloatArray, width: int, height: int) -> bool:
    x1, y1, x2, y2 = box.tolist()
    overlaps = x1 < width and y1 < height and x2 > 0 and y2 > 0
    return overlaps and max(x2 - x1, y2 - y1) <= LARGEST_BOX * max(width, height)


def _look(batch: list[CutPicture], predictor: Predictor, batch_size: int) -> FacePoints:
    """The points of all faces of the pictures in a row, in pixels of their crops."""
    size = predictor.preprocessing.size
    crops = np.array([crop for pending in batch for crop in pending.crops], np.uint8)
    return predictor.predict(crops.reshape(-1, size, size), batch_size)


def _recut(batch: list[CutPicture], found: FacePoints, preprocessing: Preprocessing) -> None:
    """Cuts the faces out again, around the points that were found on them."""
    row = 0
    for pending in batch:
        grey = pending.picture.grey() if pending.squares else None
        for i, before in enumerate(pending.squares):
            square = preprocessing.square(to_image(found.points[row], before, preprocessing.size), None)
            row += 1
            if grey is not None and square is not None and _same_face(before, square):
                pending.squares[i], pending.crops[i] = square, cut(grey, square, preprocessing.size)


def _same_face(before: Square, after: Square) -> bool:
    """Whether the second square is of about the size of the first, and its centre inside it."""
    (x, y, side), (new_x, new_y, new_side) = before, after
    centre_x, centre_y = new_x + new_side / 2 - x, new_y + new_side / 2 - y
    near = 0 < centre_x < side and 0 < centre_y < side
    return near and 1 / LARGEST_RESIZE < new_side / side < LARGEST_RESIZE
