"""What `fpenet infer` writes: predictions.json, result.txt, and pictures or a video with the points drawn."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ..configs.fpenet.schema import FpenetInferSpec
from ..datasets.preprocessing import Square, to_image
from ..datasets.sample import ByteArray, FloatArray
from ..errors import ConfigError
from .draw import draw_points
from .infer_boxes import FaceBox
from .infer_inputs import Picture
from .predictor import FacePoints, Predictor

CONVENTIONS = {
    "box": "[x1, y1, x2, y2] in pixel edges: the whole picture is [0, 0, width, height]",
    "points": "[x, y] in pixels of the picture, turned upright by its EXIF tag; its first pixel's centre is (0, 0)",
    "confidence": "peak of each point's soft-max map, 0 to 1: how sharp the map is, not a probability",
    "visibility": "probability that the point is visible; only from a model with a visibility head",
    "frame": "number of the frame of a video or camera, from 0",
}


@dataclass
class InferSummary:
    """What was done: pictures (or frames) read, faces found on them, and what went wrong, one message each."""

    results_dir: Path
    pictures: int = 0
    faces: int = 0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"{self.faces} faces on {self.pictures} pictures: {self.results_dir / 'predictions.json'}"
        return text + (f" ({len(self.failures)} failures, listed there)" if self.failures else "")


@dataclass
class CutPicture:
    """A picture and the faces that were cut from it: box, square and crop [S, S] of each."""

    picture: Picture
    boxes: list[FaceBox] = field(default_factory=list)
    squares: list[Square] = field(default_factory=list)
    crops: list[ByteArray] = field(default_factory=list)


class InferResults:
    """The files of a run. predictions.json grows under another name and takes its own when it is whole."""

    def __init__(self, spec: FpenetInferSpec, predictor: Predictor, fps: float, summary: InferSummary) -> None:
        self.folder = Path(spec.results_dir)
        self.draw = spec.draw
        self.fps = fps
        self.size = predictor.preprocessing.size
        self.summary = summary
        self.complete = False  # True once the input has been read to its end
        self.video: cv2.VideoWriter | None = None
        self.part = self.folder / ".predictions.json.part"
        self.json = self.part.open("w", encoding="utf-8")
        self.text = (self.folder / "result.txt").open("w", encoding="utf-8") if spec.result_txt else None
        self.separator = "\n"
        head = {
            "model": spec.model,
            "num_keypoints": predictor.scheme.num_keypoints,
            "names": list(predictor.scheme.names),
            "preprocessing": predictor.preprocessing.to_dict(),
            "conventions": CONVENTIONS,
        }
        self.json.write(json.dumps(head, indent=1)[:-2] + ',\n "predictions": [')

    def __enter__(self) -> InferResults:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failures = json.dumps(self.summary.failures, indent=1)
        self.json.write(f'\n ],\n "failures": {failures},\n "complete": {json.dumps(self.complete)}\n}}\n')
        self.json.close()
        os.replace(self.part, self.folder / "predictions.json")
        if self.text:
            self.text.close()
        if self.video:
            self.video.release()

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
        record |= {"width": width, "height": height, "faces": faces}
        self.json.write(f"{self.separator}  {json.dumps(record)}")
        self.separator = ",\n"
        if self.text:
            for face in faces:
                numbers = " ".join(f"{value:.3f}" for point in face["points"] for value in point)
                self.text.write(f"{picture.label} {numbers}\n")
        if self.draw:
            self._draw(picture, faces)

    def _draw(self, picture: Picture, faces: list[dict[str, Any]]) -> None:
        canvas = picture.image
        for face in faces:
            visible = np.array(face["visibility"]) if "visibility" in face else None
            canvas = draw_points(canvas, np.array(face["points"]), visible)
        if picture.frame is None:
            path = self.folder / "pictures" / picture.name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(canvas).save(path, quality=92)
            return
        if self.video is None:
            height, width = canvas.shape[:2]
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self.video = cv2.VideoWriter(str(self.folder / "video.mp4"), code, self.fps, (width, height))
            if not self.video.isOpened():
                raise ConfigError("this OpenCV cannot write mp4 videos: take draw=false")
        self.video.write(cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))


def _rounded(values: FloatArray, digits: int) -> list[Any]:
    return np.round(values.astype(np.float64), digits).tolist()
