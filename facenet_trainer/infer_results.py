"""What `facenet infer` writes: KITTI text, predictions.json, COCO results, and pictures or a video with boxes drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

import numpy as np

from ..configs.compose import to_plain
from ..configs.facenet.schema import FacenetInferSpec
from ..datasets.inputs import Inputs, Picture
from ..errors import ConfigError
from ..training.inference import DRAWN, PREDICTIONS, DrawnResults, GrowingJson, InferSummary
from .draw import FOUND, draw_boxes
from .matching import PictureDetections
from .predictor import Predictor

FILES = ("labels", "coco.json", "coco_images.json", *DRAWN)  # besides predictions.json
CONVENTIONS = {
    "box": "[x1, y1, x2, y2] in pixel edges of the picture, turned upright by its EXIF tag: the whole picture is "
           "[0, 0, width, height]",
    "score": "the clustering's confidence; aggregate_cov, a sum of coverage, may exceed 1",
    "image_id": "of the picture in coco.json and coco_images.json",
    "frame": "number of the frame of a video or camera, from 0",
}  # fmt: skip


@dataclass(frozen=True)
class ClassStyle:
    """What a class is called in the results, and its colour, RGB."""

    name: str
    colour: tuple[int, int, int]


def class_styles(classes: Sequence[str], names: Mapping[str, str], colours: Mapping[str, Any]) -> list[ClassStyle]:
    """One for each class. Raises ConfigError on a class that the model has not, and on a colour that is none."""
    for key, given in (("names", names), ("colours", colours)):
        for name in given:
            if name not in classes:
                raise ConfigError(f"{key}.{name}: the model has no such class; accepted: {', '.join(classes)}")
    for name, colour in colours.items():
        parts = colour if isinstance(colour, list) else []
        if len(parts) != 3 or not all(type(part) is int and 0 <= part <= 255 for part in parts):
            raise ConfigError(
                f"colours.{name}={colour}: no colour; give three whole numbers from 0 to 255, such as [255, 240, 60]"
            )
    return [ClassStyle(names.get(name, name), tuple(colours.get(name, FOUND))) for name in classes]


class InferResults:
    """The files of a run. The JSON files grow under other names and take their own when they are whole."""

    def __init__(
        self,
        spec: FacenetInferSpec,
        predictor: Predictor,
        styles: Sequence[ClassStyle],
        inputs: Inputs,
        summary: InferSummary,
    ) -> None:
        self.folder = Path(spec.results_dir)
        self.styles, self.summary, self.line_width = styles, summary, spec.line_width
        self.complete = False  # True once the input has been read to its end
        self.label_names, self.image_ids = label_names(inputs.names), image_ids(inputs.names)
        self.categories = {name: i for i, name in enumerate(dict.fromkeys(style.name for style in styles), 1)}
        head = {
            "model": spec.model,
            "classes": list(self.categories),
            "preprocessing": predictor.preprocessing.to_dict(),
            "clustering": to_plain(predictor.clustering),
            "conventions": CONVENTIONS,
        }
        self.json = GrowingJson(self.folder / PREDICTIONS, head, "predictions")
        self.coco = GrowingJson(self.folder / "coco.json")
        table = {"categories": [{"id": number, "name": name} for name, number in self.categories.items()]}
        self.images = GrowingJson(self.folder / "coco_images.json", table, "images")
        self.drawn = DrawnResults(self.folder, inputs.fps) if spec.draw else None
        (self.folder / "labels").mkdir(exist_ok=True)

    def __enter__(self) -> InferResults:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.coco.close()
        self.images.close({"annotations": []})
        self.json.close({"failures": self.summary.failures, "complete": self.complete})
        if self.drawn:
            self.drawn.close()

    def write(self, picture: Picture, found: PictureDetections) -> None:
        """What was found in a picture, into every file."""
        self.summary.pictures += 1
        self.summary.found += len(found.boxes)
        boxes, scores = np.round(found.boxes.astype(np.float64), 3), np.round(found.scores.astype(np.float64), 5)
        classes = [self.styles[label].name for label in found.labels]
        self._write_json(picture, boxes.tolist(), scores.tolist(), classes)
        self._write_kitti(picture, boxes.tolist(), scores.tolist(), classes)
        if self.drawn:
            several = len(self.categories) > 1
            colours = [self.styles[label].colour for label in found.labels]
            canvas = draw_boxes(
                picture.image, boxes, scores, names=classes if several else None, colours=colours, width=self.line_width
            )
            self.drawn.write(picture, canvas)

    def _write_json(self, picture: Picture, boxes: list[list[float]], scores: list[float], classes: list[str]) -> None:
        height, width = picture.image.shape[:2]
        number = self.image_ids[picture.name] + (picture.frame or 0)
        record: dict[str, Any] = {"file": picture.name} | ({} if picture.frame is None else {"frame": picture.frame})
        found = [{"box": b, "score": s, "class": c} for b, s, c in zip(boxes, scores, classes, strict=True)]
        self.json.write(record | {"image_id": number, "width": width, "height": height, "detections": found})
        name = picture.name if picture.frame is None else self._stem(picture)
        self.images.write({"id": number, "file_name": name, "width": width, "height": height})
        for (x1, y1, x2, y2), score, kind in zip(boxes, scores, classes, strict=True):
            box = [x1, y1, round(x2 - x1, 3), round(y2 - y1, 3)]
            row = {"image_id": number, "category_id": self.categories[kind], "bbox": box, "score": score}
            self.coco.write(row | {"file_name": name})

    def _write_kitti(self, picture: Picture, boxes: list[list[float]], scores: list[float], classes: list[str]) -> None:
        """16 fields a line (gridbox §9.2); the class is one word."""
        path = self.folder / "labels" / f"{self._stem(picture)}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for box, score, kind in zip(boxes, scores, classes, strict=True):
            edges = " ".join(f"{edge:.3f}" for edge in box)
            lines.append(f"{'_'.join(kind.split())} 0.00 0 0.00 {edges}{' 0.00' * 7} {score:.3f}\n")
        path.write_text("".join(lines), encoding="utf-8")

    def _stem(self, picture: Picture) -> str:
        stem = self.label_names[picture.name]
        return stem if picture.frame is None else f"{stem}_{picture.frame:06}"


def label_names(names: Sequence[str]) -> dict[str, str]:
    """The label file of each picture, without .txt: the picture's name without its ending, or with it where two
    pictures would share a file, as a.jpg and a.png do.
    """
    stems = {name: PurePosixPath(name).with_suffix("").as_posix() for name in names}
    sharing = Counter([*stems.values(), *names])
    return {name: stem if sharing[stem] == 1 else name for name, stem in stems.items()}


def image_ids(names: Sequence[str]) -> dict[str, int]:
    """The COCO id of each picture: the number that is its file's name, as COCO's own pictures have it
    (000000000139.jpg is 139); where not all pictures have such a name of their own, they are counted from 1.
    """
    stems = [PurePosixPath(name).stem for name in names]
    numbers = [int(stem) for stem in stems if stem.isascii() and stem.isdecimal()]
    if len(set(numbers)) == len(names):
        return dict(zip(names, numbers, strict=True))
    return {name: number for number, name in enumerate(names, 1)}
