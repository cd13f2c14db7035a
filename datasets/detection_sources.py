"""The sources of FaceNet's spec as lists of pictures: read, their classes mapped, checked, split."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from ..configs.facenet.schema import DataConfig, SourceConfig
from ..errors import ConfigError, DataError
from .formats.coco import read_coco
from .formats.detectnet_tfrecords import read_detectnet_tfrecords
from .formats.fddb import read_fddb
from .formats.kitti import read_kitti
from .formats.label_studio_boxes import read_label_studio_boxes
from .formats.labelled import LabelledBox, LabelledPicture, Labels
from .formats.open_images import read_open_images
from .formats.voc import read_voc
from .formats.wider import read_wider
from .formats.yolo import read_yolo
from .sample import DetectionSample, FloatArray, Rejection
from .source_files import draw, nearest_path, nothing_usable
from .split import split_samples
from .store.pictures import PictureStore
from .store.sources import FORMAT as STORE
from .store.sources import NO_VALIDATION, open_pictures
from .store.views import joined

DRAWN = 200  # scenes of a source whose count is 0
SHOWN = 10  # names listed in a message
READERS = {
    "kitti": read_kitti,
    "wider": read_wider,
    "coco": read_coco,
    "voc": read_voc,
    "yolo": read_yolo,
    "label_studio": read_label_studio_boxes,
    "open_images": read_open_images,
    "fddb": read_fddb,
    "detectnet_tfrecords": read_detectnet_tfrecords,
}
FOLDERS = ("kitti", "voc", "yolo")
EITHER = ("label_studio", "fddb", "detectnet_tfrecords")  # a file, or a folder of them
PATTERNS = ("detectnet_tfrecords",)  # or a pattern of files' names
EXPECTED = {
    "kitti": "a folder of .txt files with 15 columns, one a picture",
    "wider": "WIDER FACE's text file, such as wider_face_train_bbx_gt.txt",
    "coco": "a JSON file with the lists images, annotations and categories",
    "voc": "a folder of Pascal VOC's .xml files, one a picture",
    "yolo": "a folder of .txt files with 5 columns, one a picture, or a folder that holds it as `labels`",
    "label_studio": "a JSON export of Label Studio, or a folder of them",
    "open_images": "a CSV file with the columns ImageID, LabelName, XMin, XMax, YMin, YMax",
    "fddb": "a file such as FDDB-fold-01-ellipseList.txt, or a folder of them",
    "detectnet_tfrecords": "DetectNet_v2's TFRecord files: a folder, a file, or a pattern such as *fold-000-of-002*",
}


@dataclass(frozen=True)
class DetectionSets:
    """What a spec's `data` comes to.

    Attributes:
        train, val, test: the pictures, in the order of their sources and names.
        classes: the target classes in the order of the network's outputs; labels of samples count in them.
        rejections: labels, pictures and boxes that were left out.
        notes: sentences worth showing before training begins.
    """

    train: Sequence[DetectionSample]
    val: Sequence[DetectionSample]
    test: Sequence[DetectionSample]
    classes: tuple[str, ...]
    rejections: list[Rejection]
    notes: list[str]


def read_detection_sets(data: DataConfig) -> DetectionSets:
    """The pictures of a spec.

    Names in the labels meet `class_mapping` and `ignore.classes` whatever their case. Boxes of other names are left
    out, so that they are background, and reported. A training picture whose file is in val or test too is left out.

    Raises ConfigError and DataError naming the key, the path and the remedy; also when a target class has no training
    box, and when val or test, where they are given, have no box of any.
    """
    mapping = ClassMapping(data)
    root = Path(data.root)
    sets: dict[str, list[DetectionSample]] = {}
    stores: dict[str, list[PictureStore]] = {}
    rejections: list[Rejection] = []
    for part in ("train", "val", "test"):
        sets[part], stores[part] = [], []
        names: Counter[str] = Counter()
        for number, source in enumerate(getattr(data, part)):
            if source.format == STORE:
                stores[part].append(open_pictures(source, root, data, f"data.{part}[{number}]"))
                continue
            pictures, left_out = read_pictures(source, root, f"data.{part}[{number}]")
            rejections += left_out
            names.update(box.name for picture in pictures for box in picture.boxes)
            sets[part] += [mapping.sample(picture, source) for picture in pictures]
        if getattr(data, part) and not stores[part]:
            mapping.require_boxes(part, sets[part], names)
    notes = mapping.notes()
    train, val, test = sets["train"], sets["val"], sets["test"]
    train, repeated = _without(train, [*val, *test])
    if repeated:
        rejections += repeated
        notes.append(f"{len(repeated)} training pictures left out, as they are in data.val or data.test too")
    if train and not data.val and data.split.holds_out:
        fit = [sample for sample in train if sample.validate]
        only_train = [sample for sample in train if not sample.validate]
        train, val = split_samples(fit, data.split, root)
        train, repeated = _without([*train, *only_train], val)  # a file may be in several sources
        rejections += repeated
    elif stores["train"] and not data.val and data.split.holds_out:
        notes.append(NO_VALIDATION)
    return DetectionSets(
        joined([train, *stores["train"]]),
        joined([val, *stores["val"]]),
        joined([test, *stores["test"]]),
        mapping.classes,
        rejections,
        notes,
    )


def read_pictures(source: SourceConfig, root: Path, key: str = "source") -> Labels:
    """The pictures of one source in the order of their names, classes as the labels have them; and what was left out.

    Raises DataError when a path does not exist and when no picture can be used; `key` is the source's place in the
    spec, for messages.
    """
    if source.format == "scenes":
        from .drawn.scenes import draw_scenes

        return draw_scenes(source.count or DRAWN, source.seed), []
    if source.format == STORE:
        raise ConfigError(f"{key}.format=store: a store has no labels to read; name what it was made of")
    path = _existing(source, root, key)
    pictures, rejections = READERS[source.format](source, root)
    if not pictures:
        raise DataError(
            nothing_usable("picture", f"{key}.path={source.path}", path, EXPECTED[source.format], rejections)
        )
    return draw(sorted(pictures, key=lambda picture: picture.name), source.count, source.seed), rejections


class ClassMapping:
    """Names in labels to target classes, many to one, whatever their case; remembers the names it does not know.

    Attributes:
        classes: the target classes in the order of the outputs.

    Raises ConfigError when there are none, or a name is given two meanings.
    """

    def __init__(self, data: DataConfig) -> None:
        self.classes = tuple(dict.fromkeys(data.class_mapping.values()))
        if not self.classes:
            raise ConfigError("data.class_mapping is empty; give names in the labels a target class: {face: face}")
        if len({name.casefold() for name in self.classes}) < len(self.classes):
            raise ConfigError(f"data.class_mapping: target classes {_listed(self.classes)} differ in case only")
        self._marked = data.ignore.marked
        self._ignored = {name.casefold() for name in data.ignore.classes}
        self._labels: dict[str, int] = {}
        for name, target in data.class_mapping.items():
            label = self.classes.index(target)
            if self._labels.setdefault(name.casefold(), label) != label:
                raise ConfigError(f"data.class_mapping: {name!r} has two target classes; case does not matter")
            if name.casefold() in self._ignored:
                raise ConfigError(f"data.class_mapping: {name!r} is in data.ignore.classes too; take it out of one")
        self._unknown: Counter[str] = Counter()

    def sample(self, picture: LabelledPicture, source: SourceConfig) -> DetectionSample:
        """The picture with its boxes sorted into those to learn and those to ignore."""
        learnt: list[LabelledBox] = []
        ignored: list[LabelledBox] = []
        for box in picture.boxes:
            name = box.name.casefold()
            if name in self._ignored or (name in self._labels and box.marked and self._marked):
                ignored.append(box)
            elif name in self._labels:
                learnt.append(box)
            else:
                self._unknown[box.name] += 1
        known = {name: None for box in learnt for name in box.attributes}
        nothing = float("nan")
        return DetectionSample(
            image=picture.image,
            boxes=_boxes(learnt),
            labels=np.array([self._labels[box.name.casefold()] for box in learnt], np.int64),
            ignore=_boxes(ignored),
            attributes={
                name: np.array([box.attributes.get(name, nothing) for box in learnt], np.float32) for name in known
            },
            name=picture.name,
            source=source.name or _source_name(source),
            weight=source.weight,
            validate=source.validate,
            size=picture.size,
        )

    def require_boxes(self, part: str, samples: list[DetectionSample], names: Counter[str]) -> None:
        """Raises DataError when no box of these samples is of a target class; in training, of any of them.

        names: how often each name occurs in their labels.
        """
        found = {int(label) for sample in samples for label in sample.labels}
        lacking = [name for label, name in enumerate(self.classes) if label not in found]
        if not lacking or (found and part != "train"):
            return
        seen = _counted(names) if names else "no boxes at all"
        raise DataError(
            f"data.{part}: no box is of target class {_listed(lacking)}; data.class_mapping takes "
            f"{_listed(self._labels)}, the labels have {seen}; correct data.class_mapping, or take other sources"
        )

    def notes(self) -> list[str]:
        """Which names the samples so far had that nothing is said of."""
        if not self._unknown:
            return []
        words = [
            f"{name!r} {count} times (nearest: {_near(name, [*self._labels, *self._ignored])!r})"
            for name, count in self._unknown.most_common(SHOWN)
        ]
        more = ", ..." if len(self._unknown) > SHOWN else ""
        return [f"names in no target class are background; data.class_mapping lacks {', '.join(words)}{more}"]


def _near(name: str, known: list[str]) -> str:
    return difflib.get_close_matches(name.casefold(), known, n=1, cutoff=0.0)[0]


def _boxes(boxes: list[LabelledBox]) -> FloatArray:
    return np.array([box.box for box in boxes], np.float32).reshape(-1, 4)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _counted(names: Counter[str]) -> str:
    words = [f"{name!r} {count} times" for name, count in names.most_common(SHOWN)]
    return ", ".join(words) + (", ..." if len(names) > SHOWN else "")


def _source_name(source: SourceConfig) -> str:
    path = PurePath(source.path)
    return (path.name if source.format in FOLDERS else path.stem) or source.format


def _without(
    train: list[DetectionSample], held_out: list[DetectionSample]
) -> tuple[list[DetectionSample], list[Rejection]]:
    """The training pictures whose file, whatever its path, is not held out as well, and the others."""
    if not held_out:
        return train, []
    files = {_file(sample): sample for sample in held_out}
    files.pop(None, None)
    kept, repeated = [], []
    for sample in train:
        other = files.get(_file(sample))
        if other is None:
            kept.append(sample)
        else:
            detail = f"of the held-out picture {other.source}/{other.name}"
            repeated.append(Rejection(f"{sample.source}/{sample.name}", None, "duplicate", detail))
    return kept, repeated


def _file(sample: DetectionSample) -> tuple[int, int] | None:
    """What the system knows the picture's file by; None of a picture that is no file."""
    if not isinstance(sample.image, Path):
        return None
    status = sample.image.stat()
    return status.st_dev, status.st_ino


def _existing(source: SourceConfig, root: Path, key: str) -> Path:
    """The source's path. Raises DataError with the nearest that there is."""
    if not source.path:
        raise ConfigError(f"{key}.path is empty; format={source.format} expects {EXPECTED[source.format]}")
    for name, value in (("path", source.path), ("images", source.images)):
        path = root / value
        pattern = name == "path" and source.format in PATTERNS and any(sign in value for sign in "*?[")
        if value and not pattern and not path.exists():
            raise DataError(f"{key}.{name}={value}: {path} does not exist{nearest_path(path)}")
    path = root / source.path
    if source.format not in EITHER and path.is_dir() != (source.format in FOLDERS):
        kind = "folder" if path.is_dir() else "file"
        expected = EXPECTED[source.format]
        raise DataError(f"{key}.path={source.path}: {path} is a {kind}; format={source.format} expects {expected}")
    return path
