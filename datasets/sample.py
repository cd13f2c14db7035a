"""Labelled faces and pictures, and the one place that says how coordinates are meant.

**Coordinates.** Points are pixel indices: (0, 0) is the centre of the top-left pixel, x to the right, y down, as iBUG
`.pts` files and the soft-argmax have them. Boxes are pixel edges: pixel i covers [i, i + 1), so a whole picture is
(0, 0, width, height). A point p therefore lies at p + 0.5 in the coordinates of boxes. Everything is float and never
truncated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]


class PointState(IntEnum):
    """What is known of a keypoint. A missing point has NaN coordinates and takes no part in anything."""

    MISSING = 0
    OCCLUDED = 1
    VISIBLE = 2


@dataclass(frozen=True)
class Cut:
    """Which part of a picture is kept of a face, as a crop of [S + 2 margin, S + 2 margin].

    Attributes:
        square: (x1, y1, side) of the inner S x S in pixel edges of the full picture.
        margin: pixels of the crop around it.
    """

    square: tuple[float, float, float]
    margin: int


@dataclass(frozen=True)
class FaceSample:
    """One face of one picture.

    Attributes:
        image: the picture's file, or the picture itself as grey [H, W] or RGB [H, W, 3] bytes.
        points: [K, 2] float32 (x, y) in pixels of the full picture; NaN where the state is MISSING.
        states: [K] int8 of `PointState`.
        box: the face's box [x1, y1, x2, y2] in pixels of the full picture, where the label has one.
        subject: who it is, where the data say so; faces of one subject never part in a split by subject.
        name: the picture's name as the label gives it, for lists and reports.
        source: the name of the data source it came from.
        labelled: False for a face that is only looked at (ELT on unlabelled faces).
        weight: weight of this face in the loss, 1 by default.
        validate: False for a face that is not to be held out to validate on.
        mask_occluded: False where occluded points are to be learnt like visible ones.
        label, line: the file that its label stands in, and where in it; "" and None where the picture's name tells.
        cut: where `image` is no whole picture, but what a store, or a cache, keeps of one: which part it is.
    """

    image: Path | ByteArray
    points: FloatArray
    states: NDArray[np.int8]
    box: FloatArray | None = None
    subject: str | None = None
    name: str = ""
    source: str = ""
    labelled: bool = True
    weight: float = 1.0
    validate: bool = True
    mask_occluded: bool = True
    label: str = ""
    line: int | None = None
    cut: Cut | None = None

    @property
    def num_keypoints(self) -> int:
        return len(self.points)


class KeptPicture(Protocol):
    """A picture that a store keeps."""

    def read(self) -> ByteArray:
        """RGB [H, W, 3] or grey [H, W]. Raises DataError when it is not as it was written."""


@dataclass(frozen=True)
class DetectionSample:
    """One picture and the faces, or other things, to find in it.

    Attributes:
        image: the picture's file, or the picture itself as grey [H, W] or RGB [H, W, 3] bytes, or where it is kept.
        boxes: [N, 4] float32 (x1, y1, x2, y2), pixel edges of the full picture; N is 0 where there is nothing to find.
            A box may reach out of the picture.
        labels: [N] int64, the index of each box's target class.
        ignore: [M, 4] float32, regions that are neither learnt nor counted for or against a detection.
        attributes: [N] float32 each, by name ("occlusion", "truncation", "blur", ...), as the label counts them; NaN
            where it says nothing of this box. A name that no box has is left out.
        name: the picture's name as the label gives it, for lists and reports.
        source: the name of the data source it came from.
        weight: weight of this picture in the loss.
        validate: False for a picture that is not to be held out to validate on.
        size: (width, height) of the upright picture, where known without decoding it.
    """

    image: Path | ByteArray | KeptPicture
    boxes: FloatArray
    labels: NDArray[np.int64]
    ignore: FloatArray
    attributes: dict[str, FloatArray] = field(default_factory=dict)
    name: str = ""
    source: str = ""
    weight: float = 1.0
    validate: bool = True
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Rejection:
    """A label or picture that was left out, and why."""

    file: str
    line: int | None
    reason: str  # a short class of reason, such as "image missing": rejections are counted by it
    detail: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.reason}" + (f" ({self.detail})" if self.detail else "")
