"""What `fpenet infer` writes: predictions.json, result.txt, and pictures or a video with the points drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..configs.fpenet.schema import FpenetInferSpec
from ..datasets.inputs import Picture
from ..datasets.preprocessing import Square, to_image
from ..datasets.sample import ByteArray, FloatArray
from ..training.inference import DRAWN, PREDICTIONS, DrawnResults, GrowingJson, InferSummary
from .draw import BOX, draw_points
from .infer_boxes import FaceBox
from .predictor import FacePoints, Predictor

FILES = ("result.txt", *DRAWN)  # besides predictions.json
CONVENTIONS = {
    "box": "[x1, y1, x2, y2] in pixel edges: the whole picture is [0, 0, width, height]",
    "score": "the detector's confidence in the box, or what the file of boxes says; a sum of coverage may exceed 1",
    "points": "[x, y] in pixels of the picture, turned upright by its EXIF tag; its first pixel's centre is (0, 0)",
    "confidence": "peak of each point's soft-max map, 0 to 1: how sharp the map is, not a probability",
    "visibility": "probability that the point is visible; only from a model with a visibility head",
    "frame": "number of the frame of a video or camera, from 0",
}


@dataclass
class CutPicture:
    """A picture and the faces that were cut from it: box, square and crop [S, S] of each."""

    picture: Picture
    boxes: list[FaceBox] = field(default_factory=list)
    squares: list[Square] = field(default_factory=list)
    crops: list[ByteArray] = field(default_factory=list)

    @property
    def load(self) -> tuple[int, int]:
        """Crops for the network, and bytes held."""
        return len(self.crops), self.picture.image.nbytes


class InferResults:
    """The files of a run. predictions.json grows under another name and takes its own when it is whole."""

    def __init__(self, spec: FpenetInferSpec, predictor: Predictor, fps: float, summary: InferSummary) -> None:
        folder = Path(spec.results_dir)
        self.size = predictor.preprocessing.size
        self.summary = summary
        self.complete = False  # True once the input has been read to its end
        self.found_boxes = bool(spec.detector)  # and so they are drawn
        head = {
            "model": spec.model,
            **({"detector": spec.detector} if spec.detector else {}),
            "num_keypoints": predictor.scheme.num_keypoints,
            "names": list(predictor.scheme.names),
            "preprocessing": predictor.preprocessing.to_dict(),
            "conventions": CONVENTIONS,
        }
        self.json = GrowingJson(folder / PREDICTIONS, head, "predictions")
        self.text = (folder / "result.txt").open("w", encoding="utf-8") if spec.result_txt else None
        self.drawn = DrawnResults(folder, fps) if spec.draw else None

    def __enter__(self) -> InferResults:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.json.close({"failures": self.summary.failures, "complete": self.complete})
        if self.text:
            self.text.close()
        if self.drawn:
            self.drawn.close()

    def write(self, batch: list[CutPicture], found: FacePoints) -> None:
        """The predictions of a batch; `found` holds the faces of all its pictures in a row."""
        first = 0
        for pending in batch:
            faces = []
            for row, (face, square) in enumerate(zip(pending.boxes, pending.squares, strict=True), first):
                faces.append(self._face(face, square, found, row))
            first += len(faces)
            self._write_picture(pending.picture, faces)

    def _face(self, face: FaceBox, square: Square, found: FacePoints, row: int) -> dict[str, Any]:
        points = to_image(found.points[row], square, self.size)
        record: dict[str, Any] = {"box": _rounded(face.box, 3)}
        if face.score is not None:
            record["score"] = face.score
        record |= {"points": _rounded(points, 3), "confidence": _rounded(found.confidence[row], 5)}
        if found.visibility is not None:
            record["visibility"] = _rounded(found.visibility[row], 4)
        return record

    def _write_picture(self, picture: Picture, faces: list[dict[str, Any]]) -> None:
        height, width = picture.image.shape[:2]
        record: dict[str, Any] = {"file": picture.name} | ({} if picture.frame is None else {"frame": picture.frame})
        self.json.write(record | {"width": width, "height": height, "faces": faces})
        if self.text:
            for face in faces:
                numbers = " ".join(f"{value:.3f}" for point in face["points"] for value in point)
                self.text.write(f"{picture.label} {numbers}\n")
        if self.drawn:
            self.drawn.write(picture, self._canvas(picture, faces))

    def _canvas(self, picture: Picture, faces: list[dict[str, Any]]) -> ByteArray:
        canvas = picture.image
        if self.found_boxes and faces:
            from ..facenet_trainer.draw import draw_boxes

            boxes, scores = (np.array([face[key] for face in faces]) for key in ("box", "score"))
            canvas = draw_boxes(canvas, boxes, scores, colours=[BOX] * len(faces))
        for face in faces:
            visible = np.array(face["visibility"]) if "visibility" in face else None
            canvas = draw_points(canvas, np.array(face["points"]), visible)
        return canvas


def _rounded(values: FloatArray, digits: int) -> list[Any]:
    return np.round(values.astype(np.float64), digits).tolist()
