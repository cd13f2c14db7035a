"""FPENet's specs, in YAML with `__class_name__` keys, as specs of `fpenet`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from ..errors import ConfigError
from .account import FIXED, NONE, RENAMED, Conversion
from .fpenet_rules import AUGMENT, CLASSES, DATA, conversion_rules, training_rules
from .rules import apply, number, optional, text, truth
from .values import Given
from .yaml_format import CLASS_NAME, read_yaml_spec

WEIGHTS, KPI = "loss.weights_dict.", "dataloader.kpiset_info.tfrecords_set_id_kpi"
SETS = {f"{DATA}tfrecords_set_id_train": "train", f"{DATA}tfrecords_set_id_val": "val", KPI: "test"}
PLACE = ("root_path", "tfrecords_directory_path", "tfrecord_folder_name", "tfrecord_file_name",
         "no_occlusion_masking_sets")  # fmt: skip
SWITCHES = {"enable_online_augmentation": "", "enable_resize_augmentation": "augment.resize_prob",
            "enable_occlusion_augmentation": "augment.patch_prob"}  # fmt: skip
FLIPS = (68, 80, 104)  # the numbers of points that TAO can mirror
# What TAO does where a change is not in the spec, and for those changes of ours that it has not.
UNCHANGED = {"augment.hflip_prob": 0.0, "augment.rotate_rad_max": 0.0, "augment.zoom_min": 1.0, "augment.zoom_max": 1.0,
             "augment.translate_max_x": 0.0, "augment.translate_max_y": 0.0, "augment.gamma_prob": 0.0,
             "augment.contrast_scale_max": 0.0, "augment.brightness_scale_max": 0.0, "augment.blur_prob": 0.0,
             "augment.shift_prob": 0.0, "augment.noise_prob": 0.0, "augment.resize_prob": 0.0,
             "augment.patch_prob": 0.0}  # fmt: skip


def convert_fpenet(text_: str, file: str, compat: str) -> Conversion:
    """The spec in `text_`: one to train with, or one of `dataset_convert`; a part of one, too.

    Raises ConfigError with file, line and key: an unknown key, and values outside TAO's ranges.
    """
    given = read_yaml_spec(text_, file)
    conversion = Conversion(file, "fpenet", "train", compat)
    if any(item.key == "sets" for item in given):
        left = apply(conversion_rules(), _label_sets(given, conversion), conversion)
        known = ["sets", "gt_root_path", "gt_path", "image_root_path", *conversion_rules()]
    else:
        rules = training_rules(tao=compat == "tao")
        left = _without_classes(given, conversion)
        left = _switches(left, conversion)
        for convert in (_record_sets, _region_weights):
            left = convert(left, conversion)
        left = apply(rules, left, conversion)
        known = [*rules, *SETS, *(DATA + name for name in PLACE), *(AUGMENT + name for name in SWITCHES)]
        _check_together(given, conversion)
        _imply(given, conversion)
    _refuse_unknown(left, known, conversion)
    return conversion


def _refuse_unknown(left: Sequence[Given], known: Sequence[str], conversion: Conversion) -> None:
    for item in left:
        if item.value in ({}, None, "") and any(key.startswith(item.key + ".") for key in known):
            conversion.add(NONE, item, note="nothing is in it")
            continue
        near = difflib.get_close_matches(item.key, known, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else "take it out, if TAO took it"
        raise ConfigError(f"{conversion.file}:{item.line}: unknown key {item.key}; {hint}")


def _without_classes(given: Sequence[Given], conversion: Conversion) -> list[Given]:
    left = []
    for item in given:
        section, _, name = item.key.rpartition(".")
        if name != CLASS_NAME:
            left.append(item)
            continue
        expected = CLASSES.get(section)
        if item.value != expected:
            raise ConfigError(
                f"{conversion.file}:{item.line}: {item.key}: {item.value} is not accepted [{expected or 'none here'}]"
            )
        conversion.add(NONE, item, note="names a class of TAO's; the section is what counts")
    return left


def _switches(given: Sequence[Given], conversion: Conversion) -> list[Given]:
    """What is switched off counts with the probability 0, whatever else the spec says of it."""
    off = [item for item in given if item.key.removeprefix(AUGMENT) in SWITCHES and item.value is False]
    everything = any(SWITCHES[item.key.removeprefix(AUGMENT)] == "" for item in off)
    probabilities = {"augment.resize_prob": f"{AUGMENT}augmentation_resize_probability",
                     "augment.patch_prob": f"{AUGMENT}patch_probability"}  # fmt: skip
    silenced = {probabilities[SWITCHES[item.key.removeprefix(AUGMENT)]] for item in off
                if SWITCHES[item.key.removeprefix(AUGMENT)]}  # fmt: skip
    left = []
    for item in given:
        key = SWITCHES.get(item.key.removeprefix(AUGMENT))
        if key is not None:
            if accepted := truth(item.value):
                raise ConfigError(
                    f"{conversion.file}:{item.line}: {item.key}={item.value} is not accepted [{accepted}]"
                )
            if item.value or not key:
                conversion.add(NONE, item, note="each change has a probability of its own")
            else:
                conversion.add(RENAMED, item, key, 0.0)
        elif item.key in silenced or (everything and item.key.startswith(AUGMENT)):
            conversion.add(NONE, item, note="the spec switches this change off")
        else:
            left.append(item)
    return left


def _record_sets(given: Sequence[Given], conversion: Conversion) -> list[Given]:
    """The sets of TFRecords as sources.

    A set that is trained on can neither validate nor test: where the spec has it there as well, as the notebook's has,
    a part of the training faces is held out. With TAO's quirks it is measured all the same.
    """
    found = {item.key.removeprefix(DATA): item for item in given}
    for name in (*PLACE, *(key.removeprefix(DATA) for key in SETS)):
        if name in found and (accepted := optional(text)(found[name].value)):
            wrong = found[name]
            raise ConfigError(f"{conversion.file}:{wrong.line}: {wrong.key}={wrong.value} is not accepted [{accepted}]")
    words = {part: _words(found.get(key.removeprefix(DATA))) for key, part in SETS.items()}
    if not any(words.values()):
        return list(given)
    tao = conversion.compat == "tao"
    place = [str(_value(found, name, default)) for name, default in
             (("tfrecords_directory_path", ""), ("tfrecord_folder_name", "FpeTfRecords"),
              ("tfrecord_file_name", "data.tfrecords"))]  # fmt: skip
    exempt = _words(found.get("no_occlusion_masking_sets"))
    if tao and "no_occlusion_masking_sets" in found and not exempt:
        exempt = [""]  # which is in every name
    for key, part in SETS.items():
        item = found.get(key.removeprefix(DATA))
        if item is None:
            continue
        repeated = [name for name in words[part] if part != "train" and name in words["train"]]
        kept = [name for name in words[part] if tao or name not in repeated]
        if repeated and not kept:
            trained = "these faces are trained on"
            if part == "val":
                conversion.add(
                    FIXED, item, "data.split.fraction", 0.1, f"{trained}, so that a tenth of them is held out"
                )
            else:
                conversion.add(NONE, item, note=f"{trained}; `fpenet evaluate split=train` measures them")
            continue
        counted = dict.fromkeys(kept) if not tao else kept
        sources = [_source(name, place, str(_value(found, "root_path", "")), exempt) for name in counted]
        note = f"without {', '.join(repeated)}, which is trained on" if repeated and not tao else ""
        if len(sources) < len(kept) and part == "train":
            for source in sources:
                source |= {"weight": times} if (times := float(kept.count(source["name"]))) > 1 else {}
            note = "a set that is named several times weighs as much more"
        conversion.add(FIXED if note else RENAMED, item, f"data.{part}", sources, note)
        if part == "train":
            _account_of_places(found, sources, conversion)
    if tao and any(name in words["train"] for name in [*words["val"], *words["test"]]):
        conversion.imply("data.drop_duplicates", False, "TAO measures the faces that it trains on")
    taken = {*SETS, *(DATA + name for name in PLACE)}
    return [item for item in given if item.key not in taken]


def _account_of_places(found: dict[str, Given], sources: list[dict[str, Any]], conversion: Conversion) -> None:
    for name in PLACE:
        if item := found.get(name):
            if name == "no_occlusion_masking_sets":
                hit = [source["name"] for source in sources if "mask_occluded" in source]
                empty = not _words(item) and conversion.compat != "tao"
                note = "empty exempts nothing; TAO's exempted all" if empty else (
                    f"mask_occluded: false of {', '.join(hit)}" if hit else "names none of the sets")  # fmt: skip
                conversion.add(FIXED if empty else RENAMED, item, "data.train", sources, note)
            else:
                conversion.add(RENAMED, item, "data.train", sources)


def _source(name: str, place: list[str], root: str, exempt: list[str]) -> dict[str, Any]:
    directory, folder, file = place
    source: dict[str, Any] = {"format": "fpenet_tfrecords", "path": str(PurePath(directory, name, folder, file))}
    if root:
        source["image_root"] = root
    source["name"] = name
    if any(token in name for token in exempt):
        source["mask_occluded"] = False
    return source


def _words(item: Given | None) -> list[str]:
    return str(item.value).split() if item is not None and item.value is not None else []


def _value(found: dict[str, Given], name: str, default: str) -> Any:
    return found[name].value if name in found and found[name].value is not None else default


def _label_sets(given: Sequence[Given], conversion: Conversion) -> list[Given]:
    """The sets of labels that `dataset_convert` reads, as sources: TAO joins root, path and set."""
    found = {item.key: item for item in given}
    paths = ("gt_root_path", "gt_path", "image_root_path")
    for name in paths:
        if name in found and (accepted := optional(text)(found[name].value)):
            item = found[name]
            raise ConfigError(f"{conversion.file}:{item.line}: {name}={item.value} is not accepted [{accepted}]")
    sets = found["sets"].value
    if not isinstance(sets, list) or not sets or not all(isinstance(name, str) for name in sets):
        raise ConfigError(f"{conversion.file}:{found['sets'].line}: sets={sets} is not accepted [a list of names]")
    root, path, images = (str(_value(found, name, "")) for name in paths)
    sources = []
    for name in sets:
        source = {
            "format": "fpenet_json",
            "path": str(PurePath(root, path.lstrip("/") if root else path, name)),
            "name": name,
        }
        sources.append({**source, "image_root": images} if images else source)
    for item in given:
        if item.key in ("sets", *paths):
            conversion.add(RENAMED, item, "data.train", sources)
    return [item for item in given if item.key not in ("sets", *paths)]


def _region_weights(given: Sequence[Given], conversion: Conversion) -> list[Given]:
    """`weights_dict`, whose values add up to 1."""
    weights = [item for item in given if item.key.startswith(WEIGHTS)]
    for item in weights:
        name = item.key.removeprefix(WEIGHTS)
        where = f"{conversion.file}:{item.line}: {item.key}"
        if name not in ("face", "eyes", "mouth"):
            raise ConfigError(f"{where}: there is no such region [face | eyes | mouth]")
        if accepted := number(0, 1)(item.value):
            raise ConfigError(f"{where}={item.value} is not accepted [{accepted}]")
        conversion.put(RENAMED, item, "loss.region_weights", (name,), item.value)
    if weights:
        total = sum(item.value for item in weights)
        if len(weights) != 3 or abs(total - 1) > 1e-6:
            raise ConfigError(
                f"{conversion.file}:{weights[0].line}: loss.weights_dict: give face, eyes and mouth, which add up "
                f"to 1, not {total:g}"
            )
    return [item for item in given if not item.key.startswith(WEIGHTS)]


def _check_together(given: Sequence[Given], conversion: Conversion) -> None:
    """TAO's rules over two values."""
    found = {item.key: item for item in given}
    image = "dataloader.image_info.image."
    for one, other in (("num_keypoints", "dataloader.num_keypoints"), (f"{image}height", f"{image}width")):
        if one in found and other in found and found[one].value != found[other].value:
            a, b = found[one], found[other]
            raise ConfigError(
                f"{conversion.file}:{b.line}: {b.key}={b.value}, but {a.key}={a.value} (line {a.line}); give both one "
                "value"
            )
    values = conversion.values
    points = values.get("model.num_keypoints", 80)
    flip = found.get(f"{AUGMENT}modulus_spatial_augmentation.hflip_probability")
    if flip is not None and values.get("augment.hflip_prob", 0) > 0 and points not in FLIPS:
        raise ConfigError(
            f"{conversion.file}:{flip.line}: {flip.key}={flip.value}: {points} points cannot be mirrored in TAO [0]"
        )
    pairs = (("train.soft_start", "train.annealing"), ("train.min_learning_rate", "train.learning_rate"),
             ("augment.zoom_min", "augment.zoom_max"), ("augment.gamma_min", "augment.gamma_max"),
             ("loss.elt.zoom_min", "loss.elt.zoom_max"))  # fmt: skip
    origin = {entry.key: entry.given for entry in conversion.entries if entry.key and entry.given}
    for low, high in pairs:
        if low in values and high in values and values[low] > values[high]:
            a, b = origin[low], origin[high]
            raise ConfigError(
                f"{conversion.file}:{a.line}: {a.key}={a.value} is above {b.key}={b.value} (line {b.line}); exchange "
                "them"
            )


def _imply(given: Sequence[Given], conversion: Conversion) -> None:
    """What TAO does where a section is there and a key is not, and what no key says."""
    sections = {item.key.split(".")[0] for item in given}
    if any(item.key.startswith(AUGMENT) for item in given):
        for key, value in UNCHANGED.items():
            conversion.imply(key, value, "not in the spec, or switched off")
    if "optimizer" in sections:
        for name, fixed in (("optimizer", "adam"), ("schedule", "exponential"), ("clip_norm", 0.0), ("ema", 0.0)):
            conversion.imply(f"train.{name}", fixed, "TAO has no other")
    if "loss" in sections:
        conversion.imply("loss.heatmap_weight", 0.0, "TAO has no such term")
