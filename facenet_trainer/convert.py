"""`facenet convert`: a set of pictures as a fast store, or as label files of another format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..configs.facenet.schema import FacenetConvertSpec, SourceConfig
from ..datasets.detection_sources import read_detection_sets
from ..datasets.formats.write_coco import write_coco
from ..datasets.formats.write_kitti import IGNORED, remove_labels, write_kitti_labels
from ..datasets.sample import DetectionSample
from ..datasets.store.pictures import KIND, about, picture_records
from ..errors import ConfigError
from ..training.command import left_out
from ..training.conversion import (
    DATA,
    PARTS,
    PICTURES,
    Encoder,
    Source,
    by_settings,
    file_name,
    verify_stores,
    with_files,
    write_rejections,
    write_spec,
    write_stores,
)
from ..training.run_folder import make_folder, refuse_results

SETTINGS = ("weight", "validate")  # of a source, that label files do not keep


def convert(spec: FacenetConvertSpec) -> None:
    """Writes the pictures of `spec.data` as training would have them: read, classes mapped, split.

    `results_dir` gets a store or label files for each of train, val and test, data.yaml, a spec that trains on them,
    and rejected.txt. With `convert.verify` nothing is written and the stores there are read.

    Raises ConfigError, DataError and WriteError, naming what is wrong and what to do.
    """
    folder = Path(spec.results_dir)
    if spec.convert.verify:
        verify_stores(folder)
        return
    if not (spec.data.train or spec.data.val or spec.data.test):
        raise ConfigError("data names no source; give data.train, or a group such as data=wider data.root=FOLDER")
    stores = spec.convert.to == "store"
    refuse_results(folder, DATA, spec.overwrite or stores)
    sets = read_detection_sets(spec.data)
    parts: dict[str, Sequence[DetectionSample]] = {part: getattr(sets, part) for part in PARTS}
    make_folder(folder)
    rejections = list(sets.rejections)
    if stores:
        side = spec.convert.longest_side
        how = Encoder(KIND, about(spec.data, side), lambda sample: picture_records(sample, side))
        sources, unreadable = write_stores(
            folder, parts, lambda _: how, append=spec.convert.append, overwrite=spec.overwrite
        )
        rejections += unreadable
        ignored = spec.data.ignore.classes
    else:
        sources = _label_files(spec, folder, parts, sets.classes)
        ignored = [IGNORED.lower()]
    meaning: dict[str, Any] = {
        "class_mapping": {name: name for name in sets.classes},
        "ignore": {"classes": list(ignored), "marked": spec.data.ignore.marked if stores else True},
    }
    write_spec(folder, "facenet train", sources, data=meaning)
    write_rejections(folder, rejections)
    counts = ", ".join(f"{len(samples)} {part}" for part, samples in parts.items() if samples)
    print(f"pictures: {counts}", *sets.notes, *left_out(rejections), sep="\n")
    print(f"results: {folder}, {DATA} trains on them")


def _label_files(
    spec: FacenetConvertSpec, folder: Path, parts: dict[str, Sequence[DetectionSample]], classes: tuple[str, ...]
) -> dict[str, list[Source]]:
    """Writes a label file or folder for each part, or for each of its sources where they have settings of their own."""
    root = Path(spec.convert.image_root or spec.data.root or folder / PICTURES).absolute()
    plain = SourceConfig()
    sources: dict[str, list[Source]] = {}
    for part, samples in with_files(parts, folder).items():
        groups = by_settings(samples, SETTINGS)
        for number, (settings, group) in enumerate(groups):
            name = file_name(part, settings, number, len(groups) > 1)
            if spec.convert.to == "coco":
                name += ".json"
                write_coco(folder / name, group, classes, root)
            else:
                if spec.overwrite:
                    remove_labels(folder / name)
                write_kitti_labels(folder / name, group, classes, root)
            own = {key: settings[key] for key in ("name", *SETTINGS)}
            own = {key: value for key, value in own.items() if value != getattr(plain, key)}
            source = {"format": spec.convert.to, "path": name, "images": str(root), **own}
            sources.setdefault(part, []).append(source)
    return sources
