"""DetectNet_v2's inference specs: the keys of `facenet infer` that they come to."""

from __future__ import annotations

from collections.abc import Sequence

from .account import NONE, RENAMED, WEIGHTS_NOTE, Conversion
from .detectnet_classes import FALLBACK, other_class
from .detectnet_rules import UNSET, clustering_rules, imply_clustering, model_file
from .rules import Rule, apply, bracket, inverted, multiple_of_16, nothing, text, to, whole, word
from .tracking_rules import wandb_rules
from .values import Given

MODEL, HANDLER = "inferencer_config.", "bbox_handler_config."
CLASS = f"{HANDLER}classwise_bbox_handler_config["


def convert_inference(given: Sequence[Given], conversion: Conversion) -> list[Given]:
    """Adds the whole spec, and returns what nothing is known of."""
    left = []
    colours = _colours(given)
    other = other_class(given)
    first = sorted(given, key=lambda item: bool(other(item)))  # the values that all classes share
    for item in apply(_rules(), first, conversion, other):
        name = bracket(item.key)
        if not item.key.startswith(CLASS):
            left.append(item)
        elif item.key.endswith("].output_map"):
            conversion.put(RENAMED, item, "names", (name,), item.value)
        elif name == FALLBACK and ".bbox_color" in item.key:
            conversion.add(NONE, item, note="classes without a colour of their own are blue")
        elif ".bbox_color." in item.key:
            conversion.put(RENAMED, item, "colours", (name,), colours[name])
        else:
            left.append(item)
    if any(".clustering_config" in item.key for item in given):
        imply_clustering(conversion)
        if conversion.values.get("clustering.algorithm") in ("nms", "hybrid"):
            conversion.imply("clustering.nms_confidence_threshold", 0.1, UNSET)
    if conversion.compat == "tao":
        conversion.imply("input_size.resize", "stretch", "TAO's inference stretches, whatever its training did")
    conversion.imply("min_score", 0.0, "only the thresholds of the clustering cut off")
    return left


def _colours(given: Sequence[Given]) -> dict[str, list[int]]:
    """[R, G, B] of each class; an absent part is 0."""
    parts: dict[str, dict[str, int]] = {}
    for item in given:
        if ".bbox_color." in item.key:
            parts.setdefault(bracket(item.key), {})[item.key[-1]] = item.value
    return {name: [found.get(part, 0) for part in "RGB"] for name, found in parts.items()}


def _rules() -> dict[str, Rule]:
    engine = nothing("engines are built by `facenet export`, and run by DeepStream or `facenet benchmark`")
    in_file = nothing("the model file says it")
    wandb = nothing("`facenet infer` writes files only")
    return {
        f"{MODEL}tlt_config.model": to("model", check=text, make=model_file, note=WEIGHTS_NOTE),
        **{f"{MODEL}tensorrt_config{name}": engine
           for name in ("", ".parser", ".caffemodel", ".prototxt", ".uff_model", ".etlt_model", ".backend_data_type",
                        ".save_engine", ".trt_engine", ".calibrator_config", ".calibrator_config.calibration_cache",
                        ".calibrator_config.calibration_tensorfile", ".calibrator_config.n_batches")},
        **{f"{MODEL}{name}": in_file for name in ("input_nodes[]", "output_nodes[]", "target_classes[]", "stride")},
        f"{MODEL}batch_size": to("batch_size", check=whole(1)),
        f"{MODEL}image_height": to("input_size.height", check=multiple_of_16),
        f"{MODEL}image_width": to("input_size.width", check=multiple_of_16),
        f"{MODEL}image_channels": to("input_size.grayscale", check=word(1, 3), make=lambda count: count == 1,
                                     note="the network always has three channels; one channel is luma in all three"),
        f"{MODEL}gpu_index": nothing("set CUDA_VISIBLE_DEVICES", check=whole(0)),
        f"{HANDLER}kitti_dump": nothing("labels/ is always written"),
        f"{HANDLER}disable_overlay": inverted("draw", "true is to draw", make=lambda off: not off),
        f"{HANDLER}overlay_linewidth": to("line_width", check=whole(0)),
        f"{HANDLER}postproc_classes[]": nothing("all classes of the model are found"),
        f"{CLASS}].confidence_model": to(
            "clustering.confidence", check=word("", "aggregate_cov", "mean_cov"), make=lambda name: name or None,
            note="TAO's mean_cov was NaN for a single cell; here it is the mean coverage",
        ),
        **clustering_rules(f"{CLASS}].", swapped=False),
        **wandb_rules(f"{HANDLER}wandb_config.", wandb, offered=False),
    }  # fmt: skip
