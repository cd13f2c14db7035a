"""`fpenet convert`: a set of faces as a fast store, or as label files of another format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..configs.fpenet.schema import FpenetConvertSpec, SourceConfig
from ..datasets.faces import margin_for, no_square
from ..datasets.formats.write_coco import write_coco_keypoints
from ..datasets.formats.write_fpenet_json import write_fpenet_json
from ..datasets.preprocessing import Preprocessing, square_of
from ..datasets.sample import FaceSample, Rejection
from ..datasets.sources import read_sets
from ..datasets.store.faces import KIND, FaceCodec
from ..datasets.store.writer import Record
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
from .schemes import load_scheme

READ_BY = {"fpenet_json": "fpenet_json", "coco": "coco_keypoints"}
SETTINGS = ("labelled", "weight", "validate", "mask_occluded")  # of a source, that label files do not keep


def convert(spec: FpenetConvertSpec) -> None:
    """Writes the faces of `spec.data` as training would have them: read, freed of duplicates, split.

    `results_dir` gets a store or label files for each of train, val and test, data.yaml, a spec that trains on them,
    and rejected.txt. With `convert.verify` nothing is written and the stores there are read.

    Raises ConfigError, DataError and WriteError, naming what is wrong and what to do.
    """
    folder = Path(spec.results_dir)
    if spec.convert.verify:
        verify_stores(folder)
        return
    if not (spec.data.train or spec.data.val or spec.data.test):
        raise ConfigError("data names no source; give data.train, or a group such as data=pts data.root=FOLDER")
    preprocessing = Preprocessing(
        spec.model.input_size, spec.crop.source, spec.crop.enlarge, spec.crop.shift_x, spec.crop.shift_y
    )
    points, source_points = spec.model.num_keypoints, list(spec.model.source_points)
    names = load_scheme(spec.model.scheme, points, source_points).names
    stores = spec.convert.to == "store"
    refuse_results(folder, DATA, spec.overwrite or stores)
    sets = read_sets(spec.data, points, source_points, preprocessing, names)
    parts: dict[str, Sequence[FaceSample]] = {part: getattr(sets, part) for part in PARTS}
    make_folder(folder)
    rejections = list(sets.rejections)
    if stores:

        def encoder(part: str) -> Encoder:
            margin = margin_for(preprocessing.size) if part == "train" else 0
            codec = FaceCodec(preprocessing, margin, points)

            def encode(sample: FaceSample) -> Sequence[Record] | Rejection:
                return [codec.encode(sample)] if square_of(sample, preprocessing) else no_square(sample)

            return Encoder(KIND, codec.about(), encode)

        sources, unreadable = write_stores(folder, parts, encoder, append=spec.convert.append, overwrite=spec.overwrite)
        rejections += unreadable
    else:
        sources = _label_files(spec, folder, parts, names)
    crop = {item.name: getattr(spec.crop, item.name) for item in fields(spec.crop)}
    model = {"num_keypoints": points, "input_size": spec.model.input_size, "scheme": spec.model.scheme}
    write_spec(folder, "fpenet train", sources, crop=crop, model=model)
    write_rejections(folder, rejections)
    counts = ", ".join(f"{len(samples)} {part}" for part, samples in parts.items() if samples)
    print(f"faces: {counts}", *sets.notes, *left_out(rejections), sep="\n")
    print(f"results: {folder}, {DATA} trains on them")


def _label_files(
    spec: FpenetConvertSpec, folder: Path, parts: dict[str, Sequence[FaceSample]], names: Sequence[str]
) -> dict[str, list[Source]]:
    """Writes a label file for each part, or for each of its sources where they have settings of their own."""
    root = Path(spec.convert.image_root or spec.data.root or folder / PICTURES).absolute()
    plain = SourceConfig()
    sources: dict[str, list[Source]] = {}
    for part, samples in with_files(parts, folder).items():
        groups = by_settings(samples, SETTINGS)
        for number, (settings, group) in enumerate(groups):
            path = folder / f"{file_name(part, settings, number, len(groups) > 1)}.json"
            if spec.convert.to == "coco":
                write_coco_keypoints(path, group, names, root)
            else:
                write_fpenet_json(path, group, root)
            own: dict[str, Any] = {name: settings[name] for name in ("name", *SETTINGS)}
            own = {name: value for name, value in own.items() if value != getattr(plain, name)}
            source = {"format": READ_BY[spec.convert.to], "path": path.name, "image_root": str(root), **own}
            sources.setdefault(part, []).append(source)
    return sources
