"""A folder of KITTI labels from samples: what `kitti` reads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

import numpy as np

from ...errors import DataError, WriteError
from ..sample import DetectionSample, FloatArray
from ..whole_file import sync_folder
from .label_names import name_from
from .write_fpenet_json import decimal

IGNORED = "DontCare"  # KITTI's own word; `data.ignore.classes` has it by default


def write_kitti_labels(
    folder: Path, samples: Sequence[DetectionSample], classes: Sequence[str], image_root: Path
) -> None:
    """Writes a label file a picture, of its name below `image_root` and `.txt`; the folder whole or not at all.

    Truncation and occlusion are kept, -1 where the samples do not say; ignore regions are `DontCare`. White space in a
    class becomes "_", as fields are parted by it.

    Raises:
        DataError: a picture is no file, lies outside `image_root`, or two would have one label file.
        WriteError: the folder stands there already, or the disk refuses.
    """
    if folder.exists():
        raise WriteError(f"{folder} is there already; remove it, or write to another folder")
    names = _names(samples, image_root)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        for name, sample in zip(names, samples, strict=True):
            label = temporary / name
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("".join(line + "\n" for line in _lines(sample, classes)), encoding="utf-8")
        os.sync()
        os.rename(temporary, folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise WriteError(f"cannot write {folder}: {error.strerror or error}; make room and run it again") from error
    finally:
        with suppress(OSError):
            shutil.rmtree(temporary)


def remove_labels(folder: Path) -> None:
    """Deletes a folder of labels; one that holds anything else is left alone (WriteError)."""
    strange = [file for file in folder.rglob("*") if file.is_file() and file.suffix != ".txt"]
    if strange:
        raise WriteError(f"{folder} holds more than labels, such as {strange[0]}: remove it yourself")
    if folder.is_dir():
        shutil.rmtree(folder)


def _names(samples: Sequence[DetectionSample], image_root: Path) -> list[str]:
    """The name of each picture's label file."""
    names: dict[str, str] = {}
    for sample in samples:
        picture = name_from(sample, image_root)
        label = PurePosixPath(picture).with_suffix(".txt").as_posix()
        if label.startswith("../"):
            raise DataError(f"{sample.image} lies outside {image_root}, its label would too; name a folder above it")
        if label in names:
            raise DataError(f"{names[label]} and {picture} would have one label file, {label}: rename one of them")
        names[label] = picture
    return list(names)


def _lines(sample: DetectionSample, classes: Sequence[str]) -> Iterator[str]:
    truncation, occlusion = (_known(sample, name) for name in ("truncation", "occlusion"))
    for i, (box, label) in enumerate(zip(sample.boxes, sample.labels, strict=True)):
        yield _line(classes[int(label)], box, truncation[i], occlusion[i])
    for box in sample.ignore:
        yield _line(IGNORED, box, -1.0, -1.0)


def _known(sample: DetectionSample, name: str) -> FloatArray:
    """[N] the attribute of each box, -1 where it is not known."""
    values = sample.attributes.get(name, np.full(len(sample.boxes), np.nan, np.float32))
    return np.where(np.isfinite(values), values, -1.0)


def _line(name: str, box: FloatArray, truncation: float, occlusion: float) -> str:
    corners = " ".join(f"{decimal(value):f}" for value in box)
    return f"{'_'.join(name.split())} {truncation:g} {occlusion:g} 0 {corners} 0 0 0 0 0 0 0"
