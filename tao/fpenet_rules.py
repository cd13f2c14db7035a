"""FPENet's keys and ours, as a table; values outside TAO's own ranges are refused (fpenet.md §4, §5).

The few keys that act together are in `fpenet_spec`.
"""

from __future__ import annotations

from typing import Any

from .account import WEIGHTS_NOTE
from .detectnet_rules import model_file
from .rules import (
    Check,
    Rule,
    fixed,
    inverted,
    multiple_of_16,
    near,
    nothing,
    number,
    optional,
    share,
    text,
    to,
    truth,
    whole,
    word,
)

VARIANTS = {"FpeNet_public": "public", "FpeNet_release": "release", "FpeNet_base": "base",
            "FpeNet_base_5x5_conv": "base_5x5_conv"}  # fmt: skip
CLASSES = {
    "": "FpeNetTrainer",
    "dataloader": "FpeNetDataloader",
    "loss": "FpeLoss",
    "model": "FpeNetBaseModel",
    "optimizer": "AdamOptimizer",
    "optimizer.learning_rate_schedule": "SoftstartAnnealingLearningRateSchedule",
}
UNUSED = "TAO does not use it either"
DATA, AUGMENT = "dataloader.dataset_info.", "dataloader.augmentation_info."
ELT = "loss.elt_loss_info."


def training_rules(*, tao: bool) -> dict[str, Rule]:
    """The rules of a training spec; `tao` keeps the quirks that change numbers."""
    return {**_run(), **_data(), **_augmentation(tao=tao), **_loss(tao=tao), **_model(tao=tao), **_optimizer()}


def conversion_rules() -> dict[str, Rule]:
    """The rules of a `dataset_convert` spec, but for those of its paths."""
    written = nothing("labels are read as they are, and no TFRecords are written", check=optional(text))
    return {
        "num_keypoints": to("model.num_keypoints", check=whole(1)),
        "bbox_enlarge_ratio": to("crop.enlarge", check=number(0.5, 4)),
        **dict.fromkeys(("save_root_path", "save_path", "tfrecord_folder", "tfrecord_name"), written),
    }


def _run() -> dict[str, Rule]:
    steps = "train.log_every counts steps"
    return {
        "checkpoint_dir": to("results_dir", check=optional(text)),
        "checkpoint_n_epoch": to("train.checkpoint_every", "train.val_every", check=whole(1)),
        "num_epoch": to("train.epochs", check=whole(1)),
        "num_keypoints": to("model.num_keypoints", check=whole(1)),
        "random_seed": to("seed", check=whole(0)),
        "log_every_n_secs": nothing(steps, check=number(0)),
        "infrequent_summary_every_n_steps": nothing(steps, check=whole(0)),
        "enable_visualization": to("track.tensorboard", check=truth),
        "visualize_num_images": to("track.pictures", check=whole(0)),
        "hooks": nothing("none are offered", check=word(None)),
    }


def _data() -> dict[str, Rule]:
    return {
        "dataloader.batch_size": to("train.batch_size", check=whole(1)),
        "dataloader.num_keypoints": to("model.num_keypoints", check=whole(1)),
        "dataloader.image_info.image.channel": nothing("crops are grey", check=word(1)),
        "dataloader.image_info.image.height": to("model.input_size", check=multiple_of_16),
        "dataloader.image_info.image.width": to("model.input_size", check=multiple_of_16),
        f"{DATA}image_extension": nothing(UNUSED),
        f"{DATA}use_extra_dataset": nothing(UNUSED),
        f"{DATA}test_file_name": nothing(UNUSED),
    }


def _augmentation(*, tao: bool) -> dict[str, Rule]:
    space, gamma = f"{AUGMENT}modulus_spatial_augmentation.", f"{AUGMENT}gamma_augmentation."
    light, blur = f"{AUGMENT}modulus_color_augmentation.", f"{AUGMENT}blur_augmentation."
    shift = f"{AUGMENT}random_shift_bbx_augmentation."
    positive = number(0, above=True)
    grey = nothing("crops are grey", check=number(0))

    def applied(key: str, check: Check) -> Rule:
        """A change that TAO accepts and never makes."""
        if tao:
            return nothing("accepted and never applied by TAO", check=check)
        return fixed(key, "applied; TAO accepted it and never did", check=check)

    def not_made(key: str) -> Rule:
        return inverted(key, "the probability of making the change; TAO's is that of leaving it out", check=share,
                        make=lambda p: round(1 - p, 9))  # fmt: skip

    return {
        f"{AUGMENT}augmentation_resize_scale": to("augment.resize_scale", check=positive),
        f"{AUGMENT}augmentation_resize_probability": not_made("augment.resize_prob"),
        f"{AUGMENT}patch_probability": not_made("augment.patch_prob"),
        f"{AUGMENT}size_to_image_ratio": to("augment.size_to_image_ratio", check=number(0.125, 1)),
        f"{AUGMENT}mask_augmentation_patch": to("augment.mask_augmentation_patch", check=truth),
        f"{space}hflip_probability": to("augment.hflip_prob", check=share),
        f"{space}rotate_rad_max": to("augment.rotate_rad_max", check=number(0, 3.1416)),
        f"{space}zoom_min": to("augment.zoom_min", check=positive),
        f"{space}zoom_max": to("augment.zoom_max", check=positive),
        f"{space}translate_max_x": to("augment.translate_max_x", check=number(0)),
        f"{space}translate_max_y": to("augment.translate_max_y", check=number(0)),
        f"{gamma}gamma_type": to("augment.gamma_type", check=word("uniform", "normal")),
        f"{gamma}gamma_min": to("augment.gamma_min", check=positive),
        f"{gamma}gamma_max": to("augment.gamma_max", check=positive),
        f"{gamma}gamma_mu": to("augment.gamma_mu", check=positive),
        f"{gamma}gamma_std": to("augment.gamma_std", check=number(0)),
        f"{gamma}gamma_probability": to("augment.gamma_prob", check=share),
        f"{light}hue_rotation_max": grey,
        f"{light}saturation_shift_max": grey,
        f"{light}contrast_scale_max": applied("augment.contrast_scale_max", share),
        f"{light}contrast_center": to("augment.contrast_center", check=number(0, 255)),
        f"{light}brightness_scale_max": applied("augment.brightness_scale_max", share),
        f"{light}brightness_uniform_across_channels": nothing("crops have one channel", check=truth),
        f"{blur}kernel_sizes": applied("augment.blur_kernel_sizes", _odd_sizes),
        f"{blur}blur_probability": applied("augment.blur_prob", share),
        f"{blur}channels": nothing("crops have one channel"),
        f"{shift}shift_percent_max": applied("augment.shift_percent_max", share),
        f"{shift}shift_probability": applied("augment.shift_prob", share),
    }


def _odd_sizes(value: Any) -> str:
    good = isinstance(value, list) and all(isinstance(size, int) and size >= 3 and size % 2 for size in value)
    return "" if good else "a list of odd numbers of at least 3"


def _loss(*, tao: bool) -> dict[str, Rule]:
    space = f"{ELT}modulus_spatial_augmentation."
    positive = number(0, above=True)
    elt = (
        fixed("loss.elt.mode", "off: TAO's transform was always the identity, which multiplies the loss by 1.5",
              check=truth, make=lambda on: "off")
        if tao
        else fixed("loss.elt.mode", "a real transform for each face; TAO's was always the identity", check=truth,
                   make=lambda on: "labels" if on else "off")
    )  # fmt: skip
    return {
        "loss.loss_type": to("loss.type", check=word("wing_loss", "l1", "square_euclidean")),
        "loss.kpts_coeff": to("loss.kpts_coeff", check=number(0)),
        "loss.mask_occ": to("loss.mask_occluded", check=truth),
        "loss.weights_dict": nothing("all points alike", check=word(None)),
        f"{ELT}enable_elt_loss": elt,
        f"{ELT}elt_alpha": to("loss.elt.weight", check=number(0)),
        f"{space}hflip_probability": nothing("a mirrored face would need its points exchanged", check=word(0)),
        f"{space}rotate_rad_max": to("loss.elt.rotate_rad_max", check=number(0, 3.1416)),
        f"{space}translate_max_x": to("loss.elt.translate_max", check=number(0)),
        f"{space}translate_max_y": to("loss.elt.translate_max", check=number(0)),
        f"{space}zoom_min": to("loss.elt.zoom_min", check=positive),
        f"{space}zoom_max": to("loss.elt.zoom_max", check=positive),
    }


def _model(*, tao: bool) -> dict[str, Rule]:
    block = "model.model_parameters."
    unused, never = nothing(UNUSED), "TAO made it and never added it to the loss"
    return {
        f"{block}type": to("model.variant", check=word(*VARIANTS), make=VARIANTS.get),
        f"{block}beta": to("model.beta", check=number(0, above=True)),
        f"{block}use_upsampling_layer": to(
            "model.upsampling", check=word(True, False, None), make=lambda on: "nearest" if on else "deconv"
        ),
        f"{block}pretrained_model_path": to(
            "train.pretrained", check=optional(text), make=lambda name: model_file(name) if name else None,
            note=WEIGHTS_NOTE,
        ),
        f"{block}regularizer_type": (
            nothing(never, check=word("l1", "l2")) if tao
            else fixed("loss.regularizer", f"added; {never}", check=word("l1", "l2"))
        ),
        f"{block}regularizer_weight": (
            nothing(never, check=number(0)) if tao
            else fixed("loss.regularizer_weight", f"added; {never}", check=number(0))
        ),
        **{f"{block}{name}": unused
           for name in ("dropout_rate", "freeze_Convlayer", "train_fpe_model", "use_less_face_layers")},
        "model.visualization_parameters": unused,
    }  # fmt: skip


def _optimizer() -> dict[str, Rule]:
    rate = "optimizer.learning_rate_schedule."
    built_in = "built in, this value alone"
    positive, part = number(0, above=True), number(0, 1)
    return {
        "optimizer.beta1": nothing(built_in, check=near(0.9)),
        "optimizer.beta2": nothing(built_in, check=near(0.999)),
        "optimizer.epsilon": nothing(built_in, check=near(1e-8)),
        f"{rate}base_learning_rate": to("train.learning_rate", check=positive),
        f"{rate}min_learning_rate": to("train.min_learning_rate", check=positive),
        f"{rate}soft_start": to("train.soft_start", check=part),
        f"{rate}annealing": to("train.annealing", check=part),
        f"{rate}last_step": nothing("the number of steps follows from the epochs, in TAO too", check=number(0)),
    }
