"""`compat=tao`: what TAO does where we do otherwise, as values of the keys that switch it.

They are defaults: a group, a spec file and the command line go over them, so that each can be had without the others.
"""

from __future__ import annotations

from typing import Any

_TRAINING = {
    "train.optimizer": "adam",
    "train.schedule": "exponential",
    "train.clip_norm": 0.0,
    "train.ema": 0.0,
}
_DETECTION_METRICS = {
    "data.ignore.classes": [],
    "data.ignore.marked": False,
    "metrics.average_precision": "tao_integrate",
    "metrics.outside": "drop",
    "metrics.pixels": "network",
    "metrics.whole_pixels": True,
}
TAO: dict[str, dict[str, Any]] = {
    "FpenetTrainSpec": {
        **_TRAINING,
        "data.drop_duplicates": False,
        "data.whole_points": True,
        "crop.enlarge": 1.0,
        "augment.contrast_scale_max": 0.0,
        "augment.brightness_scale_max": 0.0,
        "augment.blur_prob": 0.0,
        "augment.noise_prob": 0.0,
        "augment.shift_prob": 0.0,
        "augment.patch": "centre",
        "loss.reduction": "tao",
        "loss.kpts_coeff": 0.01,
        "loss.heatmap_weight": 0.0,
        "loss.regularizer": "none",
        "loss.elt.mode": "off",
    },
    "FpenetEvaluateSpec": {"data.whole_points": True, "unseen_points": "zero"},
    "FpenetPruneSpec": {"prune.fold_constants": False},
    "FacenetTrainSpec": {
        **_TRAINING,
        "data.split.by": "head",
        "input.resize": "pad_crop",
        "augment.border": 0.5,
        "augment.clip_boxes": False,
        "loss.coverage": "bce",
        "loss.bbox": "l1",
        **_DETECTION_METRICS,
    },
    "FacenetEvaluateSpec": {
        **_DETECTION_METRICS,
        "clustering": {"dbscan_confidence_threshold": 0.0},
    },
    "FacenetInferSpec": {"input_size": {"resize": "stretch"}, "min_score": 0.0},
    "FacenetPruneSpec": {"prune.fold_constants": False},
}


def tao_defaults(schema: type) -> dict[str, Any]:
    """The dotted keys that `compat=tao` sets for a verb; none for a verb that has nothing to switch."""
    return TAO.get(schema.__name__, {})
