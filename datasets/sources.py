"""The sources of a spec as lists of faces: read, checked, split, freed of duplicates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np

from ..configs.fpenet.schema import DataConfig, SourceConfig
from ..errors import ConfigError, DataError
from .duplicates import drop_duplicates
from .formats.coco_keypoints import read_coco_keypoints
from .formats.cofw import read_cofw
from .formats.face_csv import read_face_csv
from .formats.fpenet_json import read_fpenet_json
from .formats.fpenet_tfrecords import read_fpenet_tfrecords
from .formats.label_studio_faces import read_label_studio
from .formats.point_maps import PointMap, load_point_map
from .formats.pts import read_pts_folder
from .formats.wflw import read_wflw
from .preprocessing import Preprocessing
from .sample import FaceSample, PointState, Rejection
from .source_files import draw, nearest_path, nothing_usable
from .split import split_samples
from .store.faces import FaceStore
from .store.sources import FORMAT as STORE
from .store.sources import NO_VALIDATION, open_faces
from .store.views import joined

DRAWN = 1000  # faces of a synthetic source whose count is 0
PREFIXES = (68, 80, 104)  # each of these layouts begins with the one before
EXPECTED = {
    "pts": "a folder of pictures, each with a .pts file of the same name beside it",
    "fpenet_json": "an FPENet label file, or a folder of them",
    "fpenet_tfrecords": "a TFRecord file of TAO's FPENet, or a folder of .tfrecords files",
    "wflw": "a list of WFLW, such as list_98pt_rect_attr_train.txt",
    "cofw": "COFW_train_color.mat or COFW_test_color.mat",
    "coco_keypoints": "a COCO JSON whose annotations have keypoints",
    "label_studio": "a JSON or JSON-MIN export of Label Studio, or a folder of them",
    "csv": "a table whose header names the columns",
    "synthetic": "nothing: its faces are drawn",
}
READERS = {
    "pts": read_pts_folder,
    "fpenet_tfrecords": read_fpenet_tfrecords,
    "wflw": read_wflw,
    "cofw": read_cofw,
    "coco_keypoints": read_coco_keypoints,
    "csv": read_face_csv,
}
FOLDERS, FILES = ("pts",), ("wflw", "cofw", "coco_keypoints", "csv")  # the others take either


@dataclass(frozen=True)
class FaceSets:
    """What a spec's `data` comes to. `notes` are sentences worth showing before training begins."""

    train: Sequence[FaceSample]
    val: Sequence[FaceSample]
    test: Sequence[FaceSample]
    rejections: list[Rejection]
    notes: list[str]


def read_sets(
    data: DataConfig,
    num_keypoints: int,
    source_points: list[int],
    preprocessing: Preprocessing,
    names: Sequence[str] = (),
) -> FaceSets:
    """The faces of a spec; the other arguments are those of `read_source`.

    Training faces that occur again in training, validation or test are left out before a validation part is taken, so
    that this part repeats nothing either. Faces of stores stay as they are, behind the others: duplicates are left out
    and parts taken when a store is made.

    Raises ConfigError and DataError naming the key, the path and the remedy.
    """
    root = Path(data.root)
    sets: dict[str, list[FaceSample]] = {}
    stores: dict[str, list[FaceStore]] = {}
    rejections: list[Rejection] = []
    notes: list[str] = []
    for part in ("train", "val", "test"):
        sets[part], stores[part] = [], []
        for number, source in enumerate(getattr(data, part)):
            key = f"data.{part}[{number}]"
            if source.format == STORE:
                stores[part].append(open_faces(source, root, num_keypoints, preprocessing, key))
                continue
            samples, left_out = read_source(source, root, num_keypoints, source_points, key, names)
            samples = [_as_tao_writes(sample) for sample in samples] if data.whole_points else samples
            sets[part] += samples
            rejections += left_out
            notes += _unlabelled_points(samples, key)
    train, val, test = sets["train"], sets["val"], sets["test"]
    if train and data.drop_duplicates:
        train, duplicates = drop_duplicates(train, [*test, *val], preprocessing)
        rejections += duplicates
        if duplicates:
            notes.append(f"{len(duplicates)} training faces left out as duplicates (data.drop_duplicates)")
    if train and not data.val and data.split.holds_out:
        fit = [sample for sample in train if sample.labelled and sample.validate]
        only_train = [sample for sample in train if not (sample.labelled and sample.validate)]
        train, val = split_samples(fit, data.split, root)
        train += only_train
    elif stores["train"] and not data.val and data.split.holds_out:
        notes.append(NO_VALIDATION)
    return FaceSets(
        joined([train, *stores["train"]]),
        joined([val, *stores["val"]]),
        joined([test, *stores["test"]]),
        rejections,
        notes,
    )


def read_source(
    source: SourceConfig,
    root: Path,
    num_keypoints: int,
    source_points: list[int],
    key: str = "source",
    names: Sequence[str] = (),
) -> tuple[list[FaceSample], list[Rejection]]:
    """The faces of one source, in the order of their names, and the labels that were left out.

    Args:
        source: what to read; `key` is its place in the spec, for messages.
        root: folder that its paths start from.
        num_keypoints: K of every face.
        source_points: rows to take where the labels have more points than K.
        names: of the points, where a format has names in the place of numbers.

    Raises ConfigError when `source.points` is no map of points, DataError when the path does not exist, when nothing
    can be used, and when the layouts do not fit.
    """
    points = load_point_map(source.points, root, f"{key}.points") if source.points else None
    width = points.old_points if points else num_keypoints
    rejections: list[Rejection]
    if source.format == STORE:
        raise ConfigError(f"{key}.format=store: a store has no labels to read; name what it was made of")
    if source.format == "synthetic":
        from .drawn.synthetic import NUM_POINTS, draw_faces

        samples = draw_faces(source.count or DRAWN, source.seed, NUM_POINTS if source_points and not points else width)
        rejections = []
    else:
        path = _existing(source, root, key)
        if source.format == "fpenet_json":
            samples, rejections = read_fpenet_json(source, root, width)
        elif source.format == "label_studio":
            samples, rejections = read_label_studio(source, root, width, () if points else names)
        else:
            samples, rejections = READERS[source.format](source, root)
        if not samples:
            raise DataError(
                nothing_usable("face", f"{key}.path={source.path}", path, EXPECTED[source.format], rejections)
            )
        samples = draw(sorted(samples, key=lambda sample: sample.name), source.count, source.seed)
    if points:
        samples = [_mapped(sample, points, key) for sample in samples]
    samples = [_take_points(sample, num_keypoints, source_points, key) for sample in samples]
    return _with_settings(samples, source, root, key), rejections


def _existing(source: SourceConfig, root: Path, key: str) -> Path:
    """The source's path. Raises DataError with the nearest that there is."""
    if not source.path:
        raise ConfigError(f"{key}.path is empty; format={source.format} expects {EXPECTED[source.format]}")
    for name, value in (("path", source.path), ("image_root", source.image_root)):
        path = root / value
        if value and not path.exists():
            raise DataError(f"{key}.{name}={value}: {path} does not exist{nearest_path(path)}")
    path = root / source.path
    if source.format in (FILES if path.is_dir() else FOLDERS):
        kind, expected = "folder" if path.is_dir() else "file", EXPECTED[source.format]
        raise DataError(f"{key}.path={source.path}: {path} is a {kind}; format={source.format} expects {expected}")
    return path


def _mapped(sample: FaceSample, points: PointMap, key: str) -> FaceSample:
    if sample.num_keypoints != points.old_points:
        found = f"{sample.name} has {sample.num_keypoints} points"
        raise DataError(f"{key}: {found}, {key}.points={points.name} takes {points.old_points}")
    return points(sample)


def _take_points(sample: FaceSample, num_keypoints: int, source_points: list[int], key: str) -> FaceSample:
    """The sample with K points. Of 68, 80 and 104 points the larger layouts begin with the smaller ones, so that
    there the first K are taken without being asked for, as TAO does."""
    found = sample.num_keypoints
    if found == num_keypoints:
        return sample
    if source_points and max(source_points) < found:
        rows = list(source_points)
    elif num_keypoints in PREFIXES and found in PREFIXES and found > num_keypoints:
        rows = list(range(num_keypoints))
    else:
        remedy = f"set model.num_keypoints={found}"
        if found > num_keypoints:
            remedy += f", or model.source_points to the {num_keypoints} of 0..{found - 1} to keep"
        raise DataError(f"{key}: {sample.name} has {found} points, model.num_keypoints={num_keypoints}; {remedy}")
    return replace(sample, points=sample.points[rows], states=sample.states[rows])


def _as_tao_writes(sample: FaceSample) -> FaceSample:
    """The face as it comes out of TAO's dataset_convert (fpenet §3.1)."""
    missing = sample.states == PointState.MISSING
    points = np.where(missing[:, None], 0.0, np.trunc(sample.points)).astype(sample.points.dtype)
    return replace(sample, points=points, states=np.where(missing, PointState.VISIBLE, sample.states).astype(np.int8))


def _with_settings(samples: list[FaceSample], source: SourceConfig, root: Path, key: str) -> list[FaceSample]:
    """The faces with what the spec says of their source."""
    path = PurePath(source.path)
    name = source.name or (path.stem if (root / path).is_file() else path.name) or source.format
    pattern = _subject_pattern(source, key)
    result = []
    for sample in samples:
        found = pattern and (pattern.search(PurePath(sample.name).name) or pattern.search(sample.name))
        result.append(
            replace(
                sample,
                source=name,
                subject=found[1] if found else sample.subject,
                labelled=source.labelled,
                weight=source.weight,
                validate=source.validate,
                mask_occluded=source.mask_occluded,
            )
        )
    if pattern and not any(sample.subject for sample in result):
        example = result[0].name
        raise ConfigError(f"{key}.subject_pattern={source.subject_pattern!r} fits no file name, such as {example!r}")
    return result


def _subject_pattern(source: SourceConfig, key: str) -> re.Pattern[str] | None:
    if not source.subject_pattern:
        return None
    try:
        pattern = re.compile(source.subject_pattern)
    except re.error as error:
        raise ConfigError(
            f"{key}.subject_pattern={source.subject_pattern!r} is no regular expression: {error}"
        ) from error
    if pattern.groups < 1:
        raise ConfigError(f"{key}.subject_pattern={source.subject_pattern!r} has no group (...) for the subject")
    return pattern


def _unlabelled_points(samples: list[FaceSample], key: str) -> list[str]:
    """A note where some keypoint has no label in any face: it would not be learnt from this source."""
    labelled = [sample.states > 0 for sample in samples if sample.labelled]
    if not labelled or (absent := np.flatnonzero(~np.any(labelled, axis=0))).size == 0:
        return []
    numbers = ", ".join(f"P{index + 1}" for index in absent[:8]) + (", ..." if absent.size > 8 else "")
    return [f"{key}: {absent.size} keypoints have no label in any face ({numbers})"]
