"""The crops of many faces at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..errors import DataError
from .image import luma, read_image
from .preprocessing import Square, cut
from .sample import ByteArray, FaceSample, Rejection

READERS = 4  # threads; decoding a picture lets go of the interpreter's lock

Placed = tuple[FaceSample, Square]


def crop_face(face: Placed, size: int, margin: int = 0) -> ByteArray:
    """Grey crop [size + 2 margin, size + 2 margin] of one face. Raises DataError when its picture cannot be read, or a
    store keeps less of it."""
    sample, square = face
    image = read_image(sample.image, grey=True) if isinstance(sample.image, Path) else luma(sample.image)
    if sample.cut is not None:
        return _middle(sample, image, sample.cut.margin, size, margin)
    return cut(image, square, size, margin)


def _middle(sample: FaceSample, kept: ByteArray, kept_margin: int, size: int, margin: int) -> ByteArray:
    """A crop with `margin` of one that is kept with more."""
    beyond, side = kept_margin - margin, size + 2 * margin
    if beyond < 0 or len(kept) != side + 2 * beyond:
        raise DataError(
            f"{sample.source}/{sample.name}: {size} pixels with {margin} around them are asked for, and its store "
            f"keeps {len(kept) - 2 * kept_margin} with {kept_margin}; only what convert made of data.train can be "
            "augmented"
        )
    return kept[beyond : beyond + side, beyond : beyond + side]


def crop_faces(faces: list[Placed], size: int, margin: int = 0) -> tuple[ByteArray, dict[int, Rejection]]:
    """Crops [N, size + 2 margin, size + 2 margin], black where the picture cannot be read, and those by position."""
    side = size + 2 * margin
    crops = np.zeros((len(faces), side, side), np.uint8)

    def fill(position: int) -> Rejection | None:
        try:
            crops[position] = crop_face(faces[position], size, margin)
        except DataError as error:
            return Rejection(str(faces[position][0].image), None, "picture unreadable", str(error))
        return None

    with ThreadPoolExecutor(READERS) as pool:
        results = pool.map(fill, range(len(faces)))
        return crops, {position: failure for position, failure in enumerate(results) if failure is not None}
