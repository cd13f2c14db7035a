"""TAO FPENet's TFRecords, as its `dataset_convert` writes them: one face a record, no pixels.

The features, from TAO's published converter (NVIDIA/tao_tensorflow1_backend, cv/fpenet): `train/image_frame_name`,
`train/image_frame_width`, `_height`, `train/facebbx_x`, `_y`, `_w`, `_h` (the square that TAO cuts out),
`train/landmarks` [2K] as x1 y1 x2 y2 ... in pixel indices of the picture, `train/landmarks_occ` [K], 1 where occluded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.fpenet.schema import SourceConfig
from ..sample import Rejection
from ..source_files import picture_name
from .labelled import BrokenLabel
from .labelled_faces import FaceEntry, Faces, check_faces, face_box, face_points, pixels
from .orientation import to_upright
from .tfrecord import Feature, read_records

SUFFIXES = (".tfrecord", ".tfrecords")
NAME, WIDTH, HEIGHT = (f"train/image_frame_{word}" for word in ("name", "width", "height"))
BOX = tuple(f"train/facebbx_{word}" for word in "xywh")
POINTS, OCCLUDED = "train/landmarks", "train/landmarks_occ"


def read_fpenet_tfrecords(source: SourceConfig, root: Path) -> Faces:
    """Every face of the record file `root / source.path`, or of all `.tfrecord` and `.tfrecords` files below it.

    Pictures are below `source.image_root`, else beside the file. A point at exactly (0, 0) is missing: so TAO writes
    those that its label lacked, and then draws its square around (0, 0) too, so that the square is not kept. TAO
    truncates coordinates to whole pixels before it writes them. A rejection names the byte that its record starts at.
    Raises DataError where a file is damaged.
    """
    path = root / source.path
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    else:
        files = [path]
    return check_faces((face for file in files for face in _faces(file, source, root)), source)


def _faces(file: Path, source: SourceConfig, root: Path) -> Iterator[FaceEntry | Rejection]:
    folder = root / source.image_root if source.image_root else file.parent
    for start, features in read_records(file):
        try:
            yield _face(file, folder, features)
        except BrokenLabel as fault:
            yield Rejection(str(file), None, "broken label", f"record at byte {start}: {fault.detail}")


def _face(file: Path, folder: Path, features: dict[str, Feature]) -> FaceEntry:
    try:
        name = picture_name(_one(features, NAME).decode(), NAME)
    except (AttributeError, UnicodeDecodeError):
        raise BrokenLabel(f"{NAME} is no text") from None
    flat = features.get(POINTS, [])
    occluded = features.get(OCCLUDED, [])
    if not isinstance(flat, np.ndarray) or not isinstance(occluded, np.ndarray) or len(flat) != 2 * len(occluded):
        raise BrokenLabel(f"{POINTS} has {len(flat)} numbers, {OCCLUDED} {len(occluded)}; expected 2 K and K")
    xy = np.array([pixels(value, POINTS) for value in flat.tolist()]).reshape(-1, 2)
    if not np.isin(occluded, (0, 1)).all():
        raise BrokenLabel(f"{OCCLUDED} has other values than 0 and 1")
    x, y, width, height = (pixels(_one(features, key), key) for key in BOX)
    corners = np.array([[x, y], [x + width, y + height]])
    said = (int(pixels(_one(features, WIDTH), WIDTH)), int(pixels(_one(features, HEIGHT), HEIGHT)))
    edges = to_upright(np.concatenate([xy + 0.5, corners]), folder / name, said)
    edges, corners = edges[:-2], edges[-2:]
    missing = (xy == 0).all(axis=1)
    edges[missing] = np.nan
    points, states = face_points(edges - 0.5, occluded)
    box = face_box([*corners.min(axis=0), *corners.max(axis=0)])
    return FaceEntry(file, None, folder / name, name, points, states, None if missing.any() else box)


def _one(features: dict[str, Feature], key: str) -> Any:
    values = features.get(key, [])
    if len(values) != 1:
        raise BrokenLabel(f"{key} has {len(values)} values, expected 1")
    return values[0]
