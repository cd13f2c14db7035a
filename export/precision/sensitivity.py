"""What INT8 costs layer by layer, and which layers go back to float for its sake."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerError:
    """How far the outputs are off when this layer alone is quantised."""

    layer: str
    error: float


@dataclass(frozen=True)
class Exclusion:
    """Layers that stay in float, and what the KPI has then lost.

    Attributes:
        within: the loss is within the budget.
    """

    layers: list[str]
    loss: float
    within: bool


def layer_errors(layers: Sequence[str], error: Callable[[Collection[str]], float]) -> list[LayerError]:
    """The error of each layer, the worst first.

    Args:
        error: of the outputs when these layers are left in float.
    """
    errors = [LayerError(layer, error([other for other in layers if other != layer])) for layer in layers]
    return sorted(errors, key=lambda found: -found.error)


def exclude_until(
    budget: float,
    loss: Callable[[Collection[str]], float],
    kept: Sequence[str],
    errors: Callable[[], Sequence[LayerError]],
) -> Exclusion:
    """Leaves ever more of the worst layers in float, 1, 2, 4, ..., until the loss is within the budget.

    Args:
        loss: of the KPI when these layers are left in float.
        kept: layers that are in any case.
        errors: the worst layer first; asked for only if something must go.

    Returns:
        The first that is within the budget; the best of all that were tried where none is.
    """
    best = Exclusion(list(kept), first := loss(kept), first <= budget)
    if best.within:
        return best
    ranked = [found.layer for found in errors()]
    count = 1
    while count < len(ranked):
        layers = [*kept, *ranked[:count]]
        tried = Exclusion(layers, found := loss(layers), found <= budget)
        if tried.within:
            return tried
        if tried.loss < best.loss:
            best = tried
        count *= 2
    return best
