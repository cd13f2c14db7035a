"""Of DetectNet_v2's values that are given class by class: which stand under our own keys, which under per_class."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .rules import bracket
from .values import Given

COST = "cost_function_config.target_classes["
FALLBACK = "default"  # the class of inference specs that all others without an entry go by


def other_class(given: Sequence[Given]) -> Callable[[Given], str]:
    """The class that a value is of, or nothing where the class is the one that the section's own keys are of: in each
    block the fallback where there is one, else the first.
    """
    names = {item.key.removesuffix(".name"): str(item.value) for item in given
             if item.key.startswith(COST) and item.key.endswith("].name")}  # fmt: skip

    def owner(item: Given) -> str:
        if item.key.startswith(COST):
            return names.get(item.key[: item.key.index("]") + 1], "")
        return bracket(item.key)

    named: dict[str, list[str]] = {}
    for item in given:
        named.setdefault(item.key.partition("[")[0], []).append(owner(item))
    own = {block: FALLBACK if FALLBACK in classes else classes[0] for block, classes in named.items()}
    return lambda item: "" if owner(item) == own[item.key.partition("[")[0]] else owner(item)
