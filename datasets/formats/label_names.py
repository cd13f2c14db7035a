"""What a label file that is written calls a sample's picture."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import DataError
from ..sample import DetectionSample, FaceSample


def name_from(sample: FaceSample | DetectionSample, image_root: Path) -> str:
    """The path of the sample's picture from `image_root`, with "/"; with ".." where it lies elsewhere.

    Raises DataError where the picture is no file.
    """
    if not isinstance(sample.image, Path):
        raise DataError(f"{sample.source}/{sample.name}: its picture is no file, which a label would name")
    return Path(os.path.relpath(sample.image, image_root)).as_posix()
