"""Where DetectNet_v2's specs find their pictures, as our sources: TFRecords, KITTI folders, COCO files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from ..errors import ConfigError
from .account import FIXED, NONE, RENAMED, Conversion
from .detectnet_classes import COST
from .rules import general, number, whole, word
from .values import Given

DATASET = "dataset_config."
RECORDS = "detectnet_tfrecords"
NAMES = {"tfrecords_path": "path", "image_directory_path": "images", "source_weight": "weight"}


def convert_sources(given: Sequence[Given], conversion: Conversion) -> list[Given]:
    """Adds the sources of a training spec, and returns what it leaves."""
    blocks: dict[str, list[Given]] = {}
    left = []
    fold: Given | None = None
    for item in given:
        block, _, name = item.key.removeprefix(DATASET).rpartition(".")
        if item.key == f"{DATASET}validation_fold":
            fold = item
        elif item.key.startswith(DATASET) and name in NAMES and block:
            blocks.setdefault(block, []).append(item)
        else:
            left.append(item)
    sources = {block: _source(items) for block, items in blocks.items()}
    validation = sources.pop("validation_data_source", None)
    train = list(sources.values())
    for block, items in blocks.items():
        key, value = ("data.val", [validation]) if block == "validation_data_source" else ("data.train", train)
        for item in items:
            conversion.add(RENAMED, item, key, value)
    if fold is not None:
        _hold_out(fold, train, validation, conversion)
    return left


def _source(items: Sequence[Given]) -> dict[str, Any]:
    found = {NAMES[item.key.rpartition(".")[2]]: item.value for item in items}
    if found.get("weight", 0) in (0, 1):  # TAO takes 0 for 1
        found.pop("weight", None)
    return {"format": RECORDS, **found}


def _hold_out(fold: Given, train: list[dict[str, Any]], validation: Any, conversion: Conversion) -> None:
    """TAO validates on the record files of one fold and trains on the others of the same pattern."""
    where = f"{conversion.file}:{fold.line}: {fold.key}"
    if validation is not None:
        raise ConfigError(f"{where}: there is a validation_data_source as well; TAO takes one of the two")
    held_out = []
    for source in train:
        path = source.get("path", "")
        folder, _, name = path.rpartition("/")
        before, found, _ = name.rpartition("fold-")  # a pattern that goes on so names folds itself
        pattern = f"{folder}/{before}" if found else path if path.endswith("*") else f"{path.rstrip('/')}/*"
        held_out.append({**source, "path": f"{pattern}fold-{fold.value:03d}-of-*"})
    if held_out:
        conversion.add(RENAMED, fold, "data.val", held_out, "pictures of this fold are not trained on")
    else:
        conversion.add(NONE, fold, note="there are no data_sources")


def convert_classes(given: Sequence[Given], conversion: Conversion) -> list[Given]:
    """Adds which names in the labels are which class, in the order of the network's outputs; returns the rest."""
    places = {f"{place}target_class_mapping[]" for place in ("", DATASET, "dataset_export_config[].")}
    mapping = [item for item in given if general(item.key) in places]
    named = [item for item in given if general(item.key) == f"{COST}].name"]
    order = [item.value for item in named]
    for item in mapping:
        if order and item.value not in order:
            raise ConfigError(
                f"{conversion.file}:{item.line}: {item.key}={item.value} is no class of cost_function_config "
                f"[{' | '.join(order)}]"
            )
    for item in named if mapping else []:
        if item.value not in [other.value for other in mapping]:
            raise ConfigError(
                f"{conversion.file}:{item.line}: {item.key}={item.value}: no name in the labels is mapped to this "
                "class; add it to target_class_mapping"
            )
    names = {_label(item): item.value for item in mapping}
    ranked = dict(sorted(names.items(), key=lambda pair: order.index(pair[1]) if order else 0))
    for item in mapping:
        upper = _label(item) != _label(item).lower()
        note = "TAO matched names in lower case only" if upper else ""
        conversion.add(FIXED if upper else RENAMED, item, "data.class_mapping", ranked, note)
    return [item for item in given if item not in mapping]


def _label(item: Given) -> str:
    """The key of a map's entry."""
    return item.key[item.key.rindex("[") + 1 : -1]


def convert_export(given: Sequence[Given], conversion: Conversion) -> list[Given]:
    """Adds what a `dataset_convert` spec says of its data, and returns what nothing is known of."""
    sources: list[dict[str, Any]] = []
    used: list[Given] = []
    left: list[Given] = []
    blocks: dict[str, dict[str, list[Given]]] = {}
    for item in given:
        inside = item.key.split("].", 1)[-1] if item.key.startswith("dataset_export_config[") else item.key
        block = item.key[: len(item.key) - len(inside)]
        if inside.startswith(("kitti_config.", "coco_config.")):
            blocks.setdefault(block + inside.split(".")[0], {}).setdefault(general(inside.split(".", 1)[1]), []).append(
                item
            )
        elif inside.startswith("sample_modifier_config"):
            conversion.add(NONE, item, note="pictures are neither filtered nor doubled; `weight` of a source and "
                                            "data.sampling say how much each counts")  # fmt: skip
        elif inside == "image_directory_path":
            conversion.add(NONE, item, note="the pictures lie where kitti_config or coco_config says")
        else:
            left.append(item)
    for name, fields in blocks.items():
        made, taken = (_kitti if name.endswith("kitti_config") else _coco)(fields, conversion)
        sources += made
        used += taken
    for item in used:
        conversion.add(RENAMED, item, "data.train", sources)
    return left


Fields = dict[str, list[Given]]


def _kitti(fields: Fields, conversion: Conversion) -> tuple[list[dict[str, Any]], list[Given]]:
    def value(name: str, default: str) -> str:
        return str(fields[name][0].value) if name in fields else default

    root = PurePath(value("root_directory_path", "."))
    source = {"format": "kitti", "path": str(root / value("label_dir_name", "")),
              "images": str(root / value("image_dir_name", ""))}  # fmt: skip
    others = {
        "point_clouds_dir": "point clouds are not read",
        "calibrations_dir": "camera calibrations are not read",
        "image_extension": "pictures are found with any suffix",
        "num_shards": "labels are read as they are; `facenet convert` chooses its own shards",
    }
    for name, note in others.items():
        for item in fields.get(name, []):
            conversion.add(NONE, item, note=note)
    _partition(fields, conversion)
    return [source], [
        fields[name][0] for name in ("root_directory_path", "image_dir_name", "label_dir_name") if name in fields
    ]


def _partition(fields: Fields, conversion: Conversion) -> None:
    """TAO's partitions as data.split."""
    checks = {"partition_mode": word("random", "sequence"), "val_split": number(0, 100), "num_partitions": whole(1)}
    found = {}
    for name, check in checks.items():
        for item in fields.get(name, []):
            if accepted := check(item.value):
                raise ConfigError(
                    f"{conversion.file}:{item.line}: {item.key}={item.value} is not accepted [{accepted}]"
                )
            found[name] = item
    by_sequence = "partition_mode" in found and found["partition_mode"].value == "sequence"
    by = "sequence" if by_sequence else "head" if conversion.compat == "tao" else "fraction"
    note = "" if by != "fraction" else "TAO's random partition is the first pictures by name; here they are drawn"
    if mode := found.get("partition_mode"):
        conversion.add(RENAMED if not note else FIXED, mode, "data.split.by", by, note)
    if share := found.get("val_split"):
        if by_sequence:
            conversion.add(NONE, share, note="num_partitions says how many sequences are held out")
        else:
            note = "a share, not percent; 0 holds nothing out, where TAO held out all"
            conversion.add(RENAMED, share, "data.split.fraction", round(share.value / 100, 6), note)
    if parts := found.get("num_partitions"):
        if by_sequence:
            conversion.add(RENAMED, parts, "data.split.folds", parts.value, "data.split.fold says which is held out")
        else:
            conversion.add(NONE, parts, note="data.split holds out one part")
    for item in fields.get("kitti_sequence_to_frames_file", []):
        if by_sequence:
            conversion.add(RENAMED, item, "data.split.list", item.value)
        else:
            conversion.add(NONE, item, note="only sequences use it")


def _coco(fields: Fields, conversion: Conversion) -> tuple[list[dict[str, Any]], list[Given]]:
    root = PurePath(str(fields["root_directory_path"][0].value) if "root_directory_path" in fields else ".")
    files, folders = fields.get("annotation_files[]", []), fields.get("img_dir_names[]", [])
    if len(folders) not in (1, len(files)):
        line = (folders or files or [Given("", None, 0)])[0].line
        raise ConfigError(
            f"{conversion.file}:{line}: coco_config has {len(files)} annotation_files and {len(folders)} "
            "img_dir_names; give one folder a file"
        )
    sources = [
        {
            "format": "coco",
            "path": str(root / file.value),
            "images": str(root / folders[min(i, len(folders) - 1)].value),
        }
        for i, file in enumerate(files)
    ]
    for item in [*fields.get("num_partitions", []), *fields.get("num_shards[]", [])]:
        conversion.add(NONE, item, note="labels are read as they are")
    return sources, [*fields.get("root_directory_path", []), *files, *folders]
