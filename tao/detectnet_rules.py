"""DetectNet_v2's keys and ours, as a table; values outside TAO's own ranges are refused.

Names in brackets are left out: `a[].b` stands for `a[face].b`. The few keys that act together are in `detectnet_spec`.
"""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Any

from .account import WEIGHTS_NOTE, Conversion
from .rules import Rule, fixed, inverted, multiple_of_16, near, nothing, number, share, text, to, whole, word
from .tracking_rules import visualizer_rules

NO_EFFECT = "it has no effect in TAO either"
UNSET = "TAO's, where it is not set"
WEIGHTS = (".tlt", ".etlt", ".hdf5", ".h5", ".onnx", ".uff")
IMPORTED = "imported.safetensors"  # what import-weights writes to its results_dir


def model_file(value: str) -> str:
    """The model file that is made of one of TAO's by import-weights."""
    path = PurePath(value)
    return str(path.with_suffix("") / IMPORTED) if path.suffix in WEIGHTS else value


def training_rules(*, tao: bool, zooms_in: bool) -> dict[str, Rule]:
    """The rules of a training spec.

    Args:
        tao: keep the quirks that change numbers.
        zooms_in: a zoom above 1 enlarges, as in TAO's DEFAULT loader; in its others it shrinks (gridbox.md §4.5).
    """
    return {
        "random_seed": to("seed", check=whole(0)),
        **_dataset(),
        **_augmentation(tao=tao, zooms_in=zooms_in),
        **clustering_rules("postprocessing_config.target_class_config[].", swapped=tao),
        **_model(),
        **_evaluation(tao=tao),
        **_cost(),
        **_training(),
        **_rasterizer(),
        **_label_filter(),
    }


def _dataset() -> dict[str, Rule]:
    return {
        "dataset_config.image_extension": nothing("pictures are found with any suffix", check=text),
        "dataset_config.dataloader_mode": nothing("there is one loader; zooms are converted by this one's sense"),
        "dataset_config.sampling_mode": to(
            "data.sampling", make=lambda mode: "uniform" if mode == "UNIFORM" else "proportional"
        ),
    }  # fmt: skip


def _augmentation(*, tao: bool, zooms_in: bool) -> dict[str, Rule]:
    before, space, colour = (
        f"augmentation_config.{block}." for block in ("preprocessing", "spatial_augmentation", "color_augmentation")
    )
    detection = nothing("DetectNet_v2 does not use it, other detectors of TAO do", check=whole(0))
    cropping = nothing("nothing is cut off before resizing; cut the pictures beforehand", check=whole(0))
    scaling = nothing("pictures are resized to the input's size only; resize them beforehand", check=number(0))
    turned = "a zoom above 1 shrank the faces there, and enlarges them here"
    zoom = "a zoom above 1 enlarges in TAO's DEFAULT loader and here"
    positive, ignored = number(0, above=True), "TAO's default loader ignored it"
    degrees = "TAO read this number as degrees, and so it is kept: in radians"
    return {
        f"{before}output_image_width": to("input.width", check=multiple_of_16),
        f"{before}output_image_height": to("input.height", check=multiple_of_16),
        f"{before}output_image_channel": to(
            "input.grayscale", check=word(1, 3), make=lambda count: count == 1,
            note="the network always has three channels; one channel is luma in all three",
        ),
        f"{before}output_image_min": detection,
        f"{before}output_image_max": detection,
        f"{before}enable_auto_resize": to("input.resize", make=lambda on: "stretch" if on else None,
                                          note="without it nothing was resized"),
        **{f"{before}crop_{side}": cropping for side in ("left", "top", "right", "bottom")},
        f"{before}min_bbox_width": fixed("augment.min_bbox_width", ignored, check=number(0)),
        f"{before}min_bbox_height": fixed("augment.min_bbox_height", ignored, check=number(0)),
        f"{before}scale_width": scaling,
        f"{before}scale_height": scaling,
        f"{space}hflip_probability": to("augment.hflip_probability", check=share),
        f"{space}vflip_probability": fixed("augment.vflip_probability", ignored, check=share),
        f"{space}zoom_min": (
            to("augment.zoom_min", check=positive, note=zoom) if zooms_in
            else inverted("augment.zoom_max", turned, check=positive, make=reciprocal)
        ),
        f"{space}zoom_max": (
            to("augment.zoom_max", check=positive, note=zoom) if zooms_in
            else inverted("augment.zoom_min", turned, check=positive, make=reciprocal)
        ),
        f"{space}translate_max_x": to("augment.translate_max_x", check=number(0)),
        f"{space}translate_max_y": to("augment.translate_max_y", check=number(0)),
        f"{space}rotate_rad_max": fixed(
            "augment.rotate_rad_max",
            degrees if tao and not zooms_in else "radians, as its name says; TAO's default loader read degrees",
            check=number(0), make=math.radians if tao and not zooms_in else _itself,
        ),
        f"{space}rotate_probability": to("augment.rotate_probability", check=share, make=lambda p: p or 1.0,
                                         note="0 stood for 1"),
        f"{colour}color_shift_stddev": to("augment.color_shift_stddev", check=number(0)),
        f"{colour}hue_rotation_max": to("augment.hue_rotation_max", check=number(0, 360)),
        f"{colour}saturation_shift_max": to("augment.saturation_shift_max", check=share),
        f"{colour}contrast_scale_max": to("augment.contrast_scale_max", check=share),
        f"{colour}contrast_center": to("augment.contrast_center", check=share),
    }  # fmt: skip


def reciprocal(value: float) -> float:
    return round(1 / value, 6)


def _itself(value: Any) -> Any:
    return value


def clustering_rules(prefix: str, *, swapped: bool) -> dict[str, Rule]:
    """The rules of one class's clustering. TAO's `train` and `evaluate` swap two thresholds (gridbox.md §7.5)."""
    block = f"{prefix}clustering_config."
    names = ["dbscan_confidence_threshold", "nms_confidence_threshold"]
    note = "TAO's train and evaluate swap the two confidence thresholds" if swapped else ""
    mlp = nothing("confidence models beside the detector are not offered; TAO does not support them either")
    return {
        f"{block}coverage_threshold": to("clustering.coverage_threshold", check=share),
        f"{block}minimum_bounding_box_height": to("clustering.minimum_bounding_box_height", check=whole(0)),
        f"{block}clustering_algorithm": to("clustering.algorithm", make=str.lower),
        f"{block}dbscan_eps": to("clustering.dbscan_eps", check=share),
        f"{block}dbscan_min_samples": nothing(
            f"{NO_EFFECT}; the coverage that a core needs is clustering.dbscan_min_weight", check=share
        ),
        f"{block}neighborhood_size": nothing(NO_EFFECT),
        f"{block}{names[0]}": to(f"clustering.{names[swapped]}", check=number(0), note=note),
        f"{block}{names[1]}": to(f"clustering.{names[not swapped]}", check=number(0), note=note),
        f"{block}nms_iou_threshold": to("clustering.nms_iou_threshold", check=share, make=lambda iou: iou or 0.3,
                                        note="0 stood for 0.3"),
        f"{prefix}confidence_config.confidence_threshold": mlp,
        f"{prefix}confidence_config.confidence_model_filename": mlp,
        f"{prefix}confidence_config.normalization_mode": mlp,
    }  # fmt: skip


def imply_clustering(conversion: Conversion) -> None:
    """The zeros that stand where a spec has a clustering and does not set these."""
    for name in ("coverage_threshold", "minimum_bounding_box_height"):
        conversion.imply(f"clustering.{name}", 0.0, UNSET)


def _model() -> dict[str, Rule]:
    architecture = "a model file says itself what its network is"
    relu = nothing("always ReLU, in TAO too")
    elsewhere = nothing("the heads are on the last features, as FaceNet's are", check=word(""))
    return {
        "model_config.pretrained_model_file": to(
            "model.pretrained", check=text, make=lambda name: model_file(name) or None, note=WEIGHTS_NOTE
        ),
        "model_config.freeze_pretrained_layers": nothing(NO_EFFECT),
        "model_config.allow_loaded_model_modification": nothing("heads are added where classes need them"),
        "model_config.num_layers": to("model.num_layers", check=word(0, 10, 18, 34), make=lambda depth: depth or 18),
        "model_config.use_pooling": to("model.use_pooling"),
        "model_config.use_batch_norm": nothing("always on", check=word(True)),
        "model_config.dropout_rate": nothing("a ResNet has no dropout, in TAO neither", check=share),
        "model_config.activation.activation_type": relu,
        "model_config.activation.activation_parameters[]": relu,
        "model_config.activation": relu,
        "model_config.objective_set": nothing("boxes and coverage are always learnt"),
        "model_config.objective_set.bbox": nothing("boxes are always learnt"),
        "model_config.objective_set.cov": nothing("coverage is always learnt"),
        "model_config.objective_set.bbox.input": elsewhere,
        "model_config.objective_set.cov.input": elsewhere,
        "model_config.objective_set.bbox.scale": to("model.bbox_scale", check=number(0, above=True)),
        "model_config.objective_set.bbox.offset": to("model.bbox_offset", check=number(0)),
        "model_config.training_precision.backend_floatx": to(
            "train.precision", check=word("FLOAT32", "FLOAT16"), make={"FLOAT32": "fp32", "FLOAT16": "fp16"}.get
        ),
        "model_config.freeze_bn": to("model.freeze_bn"),
        "model_config.arch": nothing("the network is a ResNet", check=word("", "resnet")),
        "model_config.load_graph": nothing(f"{architecture}, pruned or not, and its heads are taken along"),
        "model_config.all_projections": to("model.all_projections"),
    }  # fmt: skip


def _evaluation(*, tao: bool) -> dict[str, Rule]:
    block = "evaluation_config."
    modes = {"SAMPLE": "tao_sample", "INTEGRATE": "tao_integrate" if tao else "voc"}
    area = "INTEGRATE is the whole area under the curve, of which TAO left parts out"
    limits = {f"{block}evaluation_box_config[].{name}": to(f"metrics.{name}", check=whole(0))
              for name in ("minimum_height", "maximum_height", "minimum_width", "maximum_width")}  # fmt: skip
    return {
        f"{block}validation_period_during_training": to("train.val_every", check=whole(1)),
        f"{block}first_validation_epoch": nothing("the first validation is after the first period", check=whole(1)),
        f"{block}early_stopping_patience_steps": to("train.early_stopping", check=whole(0)),
        f"{block}minimum_detection_ground_truth_overlap[]": to("metrics.iou_threshold", check=number(0, 1, above=True)),
        **limits,
        f"{block}average_precision_mode": (
            to("metrics.average_precision", make=modes.get)
            if tao
            else fixed("metrics.average_precision", area, make=modes.get)
        ),
    }


def _cost() -> dict[str, Rule]:
    unit = number(0, 1)
    return {
        "cost_function_config.target_classes[].coverage_foreground_weight": to(
            "loss.coverage_foreground_weight", check=number(0, 1, above=True, below=True)
        ),
        "cost_function_config.enable_autoweighting": to("loss.autoweighting"),
        "cost_function_config.max_objective_weight": to("loss.max_objective_weight", check=unit),
        "cost_function_config.min_objective_weight": to("loss.min_objective_weight", check=unit),
    }


def _training() -> dict[str, Rule]:
    rate = "training_config.learning_rate.soft_start_annealing_schedule."
    adam, scaling = "training_config.optimizer.adam.", "training_config.cost_scaling."
    precision = "gradients are scaled where train.precision=fp16 needs it, by its own rule"
    positive, part = number(0, above=True), number(0, 1, below=True)
    built_in = "built in, this value alone"
    return {
        "training_config.batch_size_per_gpu": to("train.batch_size", check=whole(1)),
        "training_config.num_epochs": to("train.epochs", check=whole(1)),
        f"{rate}min_learning_rate": to("train.min_learning_rate", check=positive),
        f"{rate}max_learning_rate": to("train.learning_rate", check=positive),
        f"{rate}soft_start": to("train.soft_start", check=part),
        f"{rate}annealing": to("train.annealing", check=part),
        "training_config.regularizer.type": to("loss.regularizer", make={"NO_REG": "none", "L1": "l1", "L2": "l2"}.get),
        "training_config.regularizer.weight": to("loss.regularizer_weight", check=number(0)),
        "training_config.optimizer": nothing("Adam, as in TAO"),
        "training_config.optimizer.adam": nothing("Adam, as in TAO"),
        f"{adam}epsilon": nothing(built_in, check=near(1e-8)),
        f"{adam}beta1": nothing(built_in, check=near(0.9)),
        f"{adam}beta2": nothing(built_in, check=near(0.999)),
        f"{scaling}enabled": nothing(precision),
        f"{scaling}initial_exponent": nothing(precision, check=positive),
        f"{scaling}increment": nothing(precision, check=positive),
        f"{scaling}decrement": nothing(precision, check=positive),
        "training_config.cost_scaling": nothing(precision),
        "training_config.checkpoint_interval": to("train.checkpoint_every", check=whole(1)),
        "training_config.enable_qat": to("train.qat"),
        **visualizer_rules("training_config.visualizer."),
    }


def _rasterizer() -> dict[str, Rule]:
    block = "bbox_rasterizer_config.target_class_config[]."
    radius = number(0, 1, above=True)
    return {
        f"{block}cov_center_x": to("rasterizer.cov_center_x", check=share),
        f"{block}cov_center_y": to("rasterizer.cov_center_y", check=share),
        f"{block}cov_radius_x": to("rasterizer.cov_radius_x", check=radius),
        f"{block}cov_radius_y": to("rasterizer.cov_radius_y", check=radius),
        f"{block}bbox_min_radius": to("rasterizer.bbox_min_radius", check=radius),
        "bbox_rasterizer_config.deadzone_radius": to("rasterizer.deadzone_radius", check=share),
    }


def _label_filter() -> dict[str, Rule]:
    block = "loss_mask_label_filter."
    each = f"{block}objective_label_filter_configs[]."
    every = nothing("ignore regions count for all classes and both objectives")
    inside = nothing("data.ignore masks boxes beyond any of its limits, not those within all of several")
    crossing = nothing("data.ignore.crop masks boxes that are not inside it, TAO's those that touch it")
    return {
        f"{block}mask_multiplier": to("data.ignore.mask_multiplier", check=share),
        f"{block}preserve_ground_truth": to("data.ignore.preserve_ground_truth"),
        f"{each}target_class_names[]": every,
        f"{each}objective_names[]": every,
        **{f"{each}label_filter.bbox_dimensions_label_filter.{name}": inside
           for name in ("min_width", "min_height", "max_width", "max_height")},
        **{f"{each}label_filter.bbox_crop_label_filter.crop_{side}": crossing
           for side in ("left", "right", "top", "bottom")},
    }  # fmt: skip
