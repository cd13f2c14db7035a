"""DetectNet_v2's clustering by class, as one section of ours and what differs from it by class."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ConfigError
from .account import RENAMED, Conversion
from .rules import bracket, number
from .values import Given

THRESHOLDS = ("coverage_threshold", "dbscan_eps", "dbscan_confidence_threshold", "nms_iou_threshold",
              "nms_confidence_threshold", "minimum_bounding_box_height")  # fmt: skip
FALLBACK = "default"  # the class of inference specs that all others without an entry go by


def convert_other_classes(given: Sequence[Given], conversion: Conversion, prefix: str) -> list[Given]:
    """Adds the thresholds of all classes but one as clustering.per_class, and returns the rest: those of that one,
    which is the fallback where there is one, else the first class.

    Args:
        prefix: of the keys, up to the bracket that a class is named in.
    """
    names = dict.fromkeys(bracket(item.key) for item in given if item.key.startswith(prefix))
    base = FALLBACK if FALLBACK in names else next(iter(names), "")
    left = []
    for item in given:
        name = item.key.rpartition(".")[2]
        if not item.key.startswith(prefix) or bracket(item.key) == base or name not in THRESHOLDS:
            left.append(item)
            continue
        limit = number(0) if "confidence" in name or "height" in name else number(0, 1)
        if accepted := limit(item.value):
            raise ConfigError(f"{conversion.file}:{item.line}: {item.key}={item.value} is not accepted [{accepted}]")
        if conversion.compat == "tao" and conversion.verb == "train" and name.endswith("_confidence_threshold"):
            name = ("nms" if name.startswith("dbscan") else "dbscan") + "_confidence_threshold"  # as TAO swaps them
        conversion.put(RENAMED, item, "clustering.per_class", (bracket(item.key), name), float(item.value))
    return left
