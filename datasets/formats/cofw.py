"""COFW's MATLAB files: pictures, 29 points with occlusion flags, and face boxes.

`COFW_train_color.mat` holds `IsTr`, `phisTr`, `bboxesTr`, `COFW_test_color.mat` the same with `T` for `Tr`
(https://data.caltech.edu/records/20099; Burgos-Artizzu et al. 2013): pictures as a cell array, points as [N, 87], 29 x,
29 y and 29 flags that are 1 where a point is occluded, boxes as [N, 4], left, top, width, height. They are of MATLAB's
version 7.3, which is HDF5 with all axes the other way round. Coordinates are MATLAB's, where the first pixel is 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.fpenet.schema import SourceConfig
from ...errors import ConfigError, DataError
from ..image import luma
from ..sample import ByteArray, Rejection
from .labelled import BrokenLabel
from .labelled_faces import FaceEntry, Faces, check_faces, face_box, face_points, pixels

POINTS = 29


def read_cofw(source: SourceConfig, root: Path) -> Faces:
    """Every face of the file `root / source.path`; their names are `<file>_0001` and so on.

    The pictures lie in the file and are kept in memory, grey, one byte a pixel. Raises ConfigError where h5py is not
    installed, DataError where the file is another.
    """
    try:
        import h5py
    except ImportError:
        raise ConfigError(
            "format=cofw needs h5py, which is not installed: pip install 'facetrain[cofw]', or pip install h5py"
        ) from None
    path = root / source.path
    try:
        with h5py.File(path, "r") as file:
            return check_faces(_faces(path, file), source)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not COFW's MATLAB file of version 7.3 ({error})") from error


def _faces(path: Path, file: Any) -> Iterator[FaceEntry | Rejection]:
    part = next((part for part in ("Tr", "T") if f"phis{part}" in file), None)
    if part is None:
        raise ValueError(f"it has {', '.join(sorted(file))}; expected IsTr, phisTr, bboxesTr, or IsT, phisT, bboxesT")
    references, rows = np.ravel(file[f"Is{part}"]), np.asarray(file[f"phis{part}"], np.float64).T
    boxes = np.asarray(file[f"bboxes{part}"], np.float64).T
    if rows.shape != (len(references), 3 * POINTS) or boxes.shape != (len(references), 4):
        raise ValueError(f"{len(references)} pictures, points {rows.shape}, boxes {boxes.shape}")
    for number, (reference, row, box) in enumerate(zip(references, rows, boxes, strict=True), start=1):
        name = f"{path.stem}_{number:04d}"
        try:
            yield _face(path, name, _picture(file[reference]), row, box)
        except BrokenLabel as fault:
            yield Rejection(str(path), None, "broken label", f"{name}: {fault.detail}")


def _face(path: Path, name: str, image: ByteArray, row: np.ndarray, box: np.ndarray) -> FaceEntry:
    flags = row[2 * POINTS :]
    if not np.isin(flags, (0, 1)).all():
        raise BrokenLabel("an occlusion flag is neither 0 nor 1")
    xy = np.array([pixels(float(value), "a coordinate") for value in row[: 2 * POINTS]]).reshape(2, POINTS).T
    points, states = face_points(xy - 1, flags == 1)
    left, top, width, height = (pixels(float(value), "the box") for value in box)
    corners = face_box([left - 1, top - 1, left - 1 + width, top - 1 + height])
    return FaceEntry(path, None, image, name, points, states, corners)


def _picture(values: Any) -> ByteArray:
    """Grey [H, W] from MATLAB's [H, W] or [H, W, 3], which h5py gives as [W, H] or [3, W, H]."""
    picture = np.asarray(values).T
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (3,)):
        raise BrokenLabel(f"the picture is {picture.shape} of {picture.dtype}, expected bytes, grey or RGB")
    return luma(np.ascontiguousarray(picture))
