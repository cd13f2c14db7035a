"""DetectNet_v2's specs, in protobuf's text format, as specs of `facenet`."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ConfigError
from .account import FIXED, INVERTED, NONE, RENAMED, SAME, Conversion
from .detectnet_classes import COST, other_class
from .detectnet_data import convert_classes, convert_export, convert_sources
from .detectnet_inference import convert_inference
from .detectnet_messages import CONVERSION, INFERENCE
from .detectnet_rules import UNSET, imply_clustering, training_rules
from .rules import apply, general, number, whole
from .text_format import read_text_spec
from .values import Given

EARLY = "training_config.learning_rate.early_stopping_annealing_schedule."
UNSET_IS_0 = ("hflip_probability", "vflip_probability", "translate_max_x", "translate_max_y", "rotate_rad_max",
              "color_shift_stddev", "hue_rotation_max", "saturation_shift_max", "contrast_scale_max")  # fmt: skip


def convert_detectnet(text: str, file: str, compat: str) -> Conversion:
    """The spec in `text`, whichever of DetectNet_v2's it is, or a part of one.

    Raises ConfigError with file, line and key: what is no text of theirs, and values outside TAO's ranges.
    """
    kind, given, replaced = read_text_spec(text, file)
    verb = "infer" if kind == INFERENCE else "train"
    conversion = Conversion(file, "facenet", verb, compat)
    if kind == INFERENCE:
        left = convert_inference(given, conversion)
    elif kind == CONVERSION:
        left = convert_export(convert_classes(given, conversion), conversion)
    else:
        left = _convert_training(given, conversion)
    for item, line in replaced:
        conversion.add(NONE, item, note=f"given again in line {line}; that one counts, in TAO too")
    if left:  # a field that the messages have and no rule knows would be lost in silence
        item = left[0]
        raise ConfigError(f"{file}:{item.line}: {item.key} is not known here; take it out")
    return conversion


def _convert_training(given: Sequence[Given], conversion: Conversion) -> list[Given]:
    tao = conversion.compat == "tao"
    values = {item.key: item.value for item in given}
    zooms_in = values.get("dataset_config.dataloader_mode") == "DEFAULT"
    left = list(given)
    for convert in (convert_sources, convert_classes, _objectives, _lists, _sizes_masked, _early_stopping):
        left = convert(left, conversion)
    left = apply(training_rules(tao=tao, zooms_in=zooms_in), left, conversion, other_class(given))
    if any(item.key.startswith("dataset_export_config[") for item in left):
        left = convert_export(left, conversion)
    _check_together(given, conversion)
    _imply(given, conversion)
    return left


def _objectives(given: Sequence[Given], conversion: Conversion) -> list[Given]:
    """The weights of classes and of their objectives, by the names that they have there."""
    names = {item.key.rpartition(".")[0]: item for item in given if item.key.endswith("].name")}
    other = other_class(given)
    left = []
    for item in given:
        block, _, name = item.key.rpartition(".")
        where = f"{conversion.file}:{item.line}: {item.key}"
        if not item.key.startswith(COST) or name not in ("name", "class_weight", "initial_weight", "weight_target"):
            left.append(item)
            continue
        if block not in names:
            raise ConfigError(f"{where}: this block has no name; say which class or objective it is of")
        target = names[block].value
        if name == "name":
            kind = "objective" if ".objectives[" in item.key else "class"
            if kind == "objective" and target not in ("cov", "bbox"):
                raise ConfigError(f"{where}={target} is not accepted [cov | bbox]")
            conversion.add(NONE, item, note=f"the {kind} that the weights beside it are of")
        elif accepted := number(0)(item.value):
            raise ConfigError(f"{where}={item.value} is not accepted [{accepted}]")
        elif name == "class_weight":
            conversion.put(RENAMED, item, "loss.class_weights", (target,), item.value)
        else:
            key = {"cov": "loss.coverage_weight", "bbox": "loss.bbox_weight"}[target]
            initial = next((i.value for i in given if i.key == f"{block}.initial_weight"), None)
            if name == "initial_weight":
                conversion.add_of_class(other(item), RENAMED, item, key, item.value)
            elif item.value == initial:
                conversion.add_of_class(
                    other(item), RENAMED, item, key, item.value, "under autoweighting the initial weight is the target"
                )
            else:
                conversion.add(NONE, item, note="under autoweighting the initial weight is the target")
    return left


def _lists(given: Sequence[Given], conversion: Conversion) -> list[Given]:
    """Repeated values, which are lists here."""
    classes = "loss_mask_label_filter.objective_label_filter_configs[].label_filter.source_class_label_filter."
    targets = {
        "model_config.freeze_blocks[]": "model.freeze_blocks",
        f"{classes}source_class_names[]": "data.ignore.classes",
    }
    left = []
    for item in given:
        if key := targets.get(general(item.key)):
            values = [other.value for other in given if general(other.key) == general(item.key)]
            if key == "model.freeze_blocks":
                if item.value not in range(5):
                    raise ConfigError(
                        f"{conversion.file}:{item.line}: {item.key}={item.value} is not accepted [0 to 4]"
                    )
                conversion.add(SAME, item, key, [int(value) for value in values])
            else:
                conversion.add(FIXED, item, key, values, "TAO's default loader dropped these boxes before the mask")
        else:
            left.append(item)
    return left


def _sizes_masked(given: Sequence[Given], conversion: Conversion) -> list[Given]:
    """Filters of the loss mask with one limit of a box's size: what is up to a largest width is narrower than ours."""
    marker = "].label_filter.bbox_dimensions_label_filter."
    opposite = {"max_width": "min_width", "max_height": "min_height", "min_width": "max_width",
                "min_height": "max_height"}  # fmt: skip
    left = []
    for item in given:
        block, found, name = item.key.partition(marker)
        limits = [other for other in given if other.key.startswith(block + marker)]
        if not found or len(limits) > 1:
            left.append(item)
        elif accepted := number(0, above=True)(item.value):
            raise ConfigError(f"{conversion.file}:{item.line}: {item.key}={item.value} is not accepted [{accepted}]")
        else:
            note = "boxes beyond a limit are ignored here, those within one were there"
            conversion.add(INVERTED, item, f"data.ignore.{opposite[name]}", item.value, note)
    return left


def _early_stopping(given: Sequence[Given], conversion: Conversion) -> list[Given]:
    """The schedule that waits for the validation, as ours with its epochs as shares of the run."""
    found = {item.key.removeprefix(EARLY): item for item in given if item.key.startswith(EARLY)}
    if not found:
        return list(given)
    epochs = next((item.value for item in given if item.key == "training_config.num_epochs"), 0)
    targets = {"min_learning_rate": "train.min_learning_rate", "max_learning_rate": "train.learning_rate",
               "soft_start_epochs": "train.soft_start", "annealing_epochs": "train.annealing",
               "patience_steps": "train.early_stopping"}  # fmt: skip
    for name, item in found.items():
        check = number(0, above=True) if name.endswith("rate") else whole(0)
        if accepted := check(item.value):
            raise ConfigError(f"{conversion.file}:{item.line}: {item.key}={item.value} is not accepted [{accepted}]")
        value, note, kind = item.value, "", RENAMED
        if name.endswith("_epochs"):
            if not epochs:
                conversion.add(NONE, item, note="training_config.num_epochs is needed to make a share of the run of it")
                continue
            portion = min(item.value / epochs, 1.0)
            value = round(portion if name == "soft_start_epochs" else 1 - portion, 6)
            kind, note = FIXED, "a share of the run; the rate falls at its end, not once validation stalls"
        conversion.add(kind, item, targets[name], value, note)
    return [item for item in given if not item.key.startswith(EARLY)]


def _check_together(given: Sequence[Given], conversion: Conversion) -> None:
    """TAO's rules over two values."""
    pairs = (
        ("train.soft_start", "train.annealing"),
        ("train.min_learning_rate", "train.learning_rate"),
        ("augment.zoom_min", "augment.zoom_max"),
        ("loss.min_objective_weight", "loss.max_objective_weight"),
        ("metrics.minimum_height", "metrics.maximum_height"),
        ("metrics.minimum_width", "metrics.maximum_width"),
    )
    values = conversion.values
    origin = {entry.key: entry.given for entry in conversion.entries if entry.key and entry.given}
    for low, high in pairs:
        if low in values and high in values and values[low] > values[high]:
            a, b = origin[low], origin[high]
            raise ConfigError(
                f"{conversion.file}:{a.line}: {a.key}={a.value} and {b.key}={b.value} (line {b.line}) are the wrong "
                "way round; exchange them"
            )


def _imply(given: Sequence[Given], conversion: Conversion) -> None:
    """What TAO does where a block is there and a key is not: proto3's zeros, and what no key says."""
    blocks = {item.key.split(".")[0] for item in given}
    tao = conversion.compat == "tao"
    unset = UNSET
    if "augmentation_config" in blocks:
        for name in UNSET_IS_0:
            conversion.imply(f"augment.{name}", 0.0, unset)
        for name in ("zoom_min", "zoom_max"):
            conversion.imply(f"augment.{name}", 1.0, unset)
        resize = "pad_crop" if tao else "letterbox"
        conversion.imply("input.resize", resize, "TAO padded and cut off" if tao else "TAO cut off what was larger")
    values = {item.key: item.value for item in given}
    if "model_config" in blocks and not values.get("model_config.load_graph"):
        conversion.imply("model.all_projections", False, unset)
    if "postprocessing_config" in blocks:
        imply_clustering(conversion)
    if "training_config" in blocks:
        no_key = "TAO has no other"
        for key, value in (("optimizer", "adam"), ("schedule", "exponential"), ("clip_norm", 0.0), ("ema", 0.0)):
            conversion.imply(f"train.{key}", value, no_key)
        conversion.imply("loss.regularizer", "none", unset)
    if "cost_function_config" in blocks:
        conversion.imply("loss.coverage", "bce", "TAO has no other")
        conversion.imply("loss.bbox", "l1", "TAO has no other")
    if "evaluation_config" in blocks:
        conversion.imply("metrics.average_precision", "tao_sample", unset)
        if tao:
            conversion.imply("metrics.outside", "drop", "TAO's")
    if any(item.key.startswith("evaluation_config.evaluation_box_config[") for item in given):
        conversion.imply("metrics.pixels", "network", "TAO's limits are pixels of the network's input")
    if "loss_mask_label_filter" in blocks:
        conversion.imply("data.ignore.preserve_ground_truth", False, unset)
