"""`fpenet infer`: the keypoints of every face of a picture, a folder, a video or a camera."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from ..configs.fpenet.schema import FpenetInferSpec
from ..datasets.preprocessing import Preprocessing, cut
from ..datasets.sample import FloatArray
from ..errors import ConfigError, DataError
from .infer_boxes import FaceBox, FaceBoxes
from .infer_inputs import Inputs, open_inputs
from .infer_results import CutPicture, InferResults, InferSummary
from .predictor import Predictor

log = logging.getLogger(__name__)

HELD_BYTES = 2**28  # of decoded pictures that may wait for a batch to fill
LARGEST_BOX = 4.0  # as a multiple of the picture; beyond it the units must be wrong


def infer(spec: FpenetInferSpec) -> InferSummary:
    """Runs a model over `spec.input` and writes predictions.json, and as asked result.txt and pictures or a video.

    The square around a face comes from its box by the model's own preprocessing. A model that was trained with
    `crop.source: points` has seen squares around the keypoints' own box, so it expects boxes that hug the points from
    brows to chin; for boxes of a detector, which take in the forehead, train with `crop.source: box`.

    A picture that cannot be read is named in the results and the others go on. Ctrl-C leaves whole files; it is the
    ordinary end of a camera.

    Raises:
        ConfigError: no input, or results_dir is in use.
        DataError: the input or the boxes cannot be read at all.
        ModelFileError: the model cannot be used.
    """
    inputs = open_inputs(spec.input, spec.max_frames)
    boxes = _boxes(spec, inputs)
    predictor = Predictor.load(spec.model, spec.device)
    _prepare(Path(spec.results_dir), Path(spec.input), spec.overwrite)
    summary = InferSummary(Path(spec.results_dir), failures=inputs.failures)  # one list, which reading adds to
    if boxes:
        summary.failures += [f"boxes={spec.boxes}: {name}: no such picture" for name in boxes.unmatched]
    faces = _faces(inputs, boxes, predictor.preprocessing, summary)
    with InferResults(spec, predictor, inputs.fps, summary) as results:
        try:
            for batch in _batches(faces, inputs.kind, spec.batch_size):
                crops = np.array([crop for picture in batch for crop in picture.crops], np.uint8)
                size = predictor.preprocessing.size
                results.write(batch, predictor.predict(crops.reshape(-1, size, size), spec.batch_size))
        except KeyboardInterrupt:
            if inputs.kind != "camera":
                raise
        results.complete = True
    if not summary.pictures:
        first = f": {summary.failures[-1]}" if summary.failures else ""
        raise DataError(f"input={spec.input}: no picture could be read{first}")
    for failure in summary.failures[:10]:
        log.warning("%s", failure)
    print(summary)
    return summary


def _boxes(spec: FpenetInferSpec, inputs: Inputs) -> FaceBoxes | None:
    if not spec.boxes:
        return None
    if inputs.kind == "camera":
        raise ConfigError(
            f"boxes={spec.boxes}: the boxes of a camera's frames are not known beforehand; leave it empty"
        )
    return FaceBoxes(spec.boxes, inputs)


def _prepare(folder: Path, source: Path, overwrite: bool) -> None:
    """Makes an empty place for the results; nothing but an earlier run's own files is ever deleted."""
    if source.exists() and source.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"results_dir={folder} holds the input {source}; name another folder")
    if folder.is_file():
        raise ConfigError(f"results_dir={folder} is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise ConfigError(f"results_dir={folder} is not empty: name another folder, or overwrite=true")
        for name in ("predictions.json", "result.txt", "video.mp4"):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / "pictures", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)


def _faces(
    inputs: Inputs, boxes: FaceBoxes | None, preprocessing: Preprocessing, summary: InferSummary
) -> Iterator[CutPicture]:
    """Reads pictures and cuts their faces."""
    console = Console(stderr=True)
    for picture in track(
        inputs, "infer", inputs.count or None, console=console, transient=True, disable=not console.is_terminal
    ):
        height, width = picture.image.shape[:2]
        faces = [FaceBox(np.array([0, 0, width, height], np.float32))] if boxes is None else boxes.of(picture)
        pending = CutPicture(picture)
        grey = picture.grey() if faces else None
        for face in faces:
            square = preprocessing.square(None, face.box)
            if grey is None or square is None or not _plausible(face.box, width, height):
                summary.failures.append(f"{picture.label}: box {face.box.tolist()} does not lie on the picture")
                continue
            pending.boxes.append(face)
            pending.squares.append(square)
            pending.crops.append(cut(grey, square, preprocessing.size))
        summary.pictures += 1
        summary.faces += len(pending.boxes)
        yield pending


def _plausible(box: FloatArray, width: int, height: int) -> bool:
    x1, y1, x2, y2 = box.tolist()
    overlaps = x1 < width and y1 < height and x2 > 0 and y2 > 0
    return overlaps and max(x2 - x1, y2 - y1) <= LARGEST_BOX * max(width, height)


def _batches(faces: Iterator[CutPicture], kind: str, batch_size: int) -> Iterator[list[CutPicture]]:
    """Groups pictures so that their faces fill a batch, in bounded memory; a camera's frames do not wait."""
    batch: list[CutPicture] = []
    for pending in faces:
        batch.append(pending)
        crops = sum(len(waiting.crops) for waiting in batch)
        held = sum(waiting.picture.image.nbytes for waiting in batch)
        if kind == "camera" or crops >= batch_size or held >= HELD_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch
