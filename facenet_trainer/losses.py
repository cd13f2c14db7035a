"""The coverage and box losses (gridbox §3), one cost for each class and objective, and their sum.

A cost is a mean over the batch, so it depends neither on the batch's size nor, up to rounding, on how it is dealt to
processes. Pictures count by their weight, cells by the loss mask.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..configs.facenet.per_class import each_class
from ..configs.facenet.schema import LossConfig
from ..errors import ConfigError
from .network import GridOutput
from .objective_weights import mean_over_ranks, ranks
from .targets import GridTargets

MIN_SIDE = 0.5  # pixels; the least side of a predicted box in the overlap loss
# Share of the L1 term beside the overlap loss. Without it boxes that begin inside out stay so: on free outputs that
# began around 0 the mean IoU came to 0.19 in 400 steps, to 0.99 with any share from 0.1 to 1.
LITTLE_L1 = 0.5


class GridLoss:
    """`loss.coverage` and `loss.bbox` of each class, and what they add up to.

    Args:
        scale: pixels that a box output of 1 stands for.
    """

    def __init__(self, config: LossConfig, classes: Sequence[str], scale: float) -> None:
        self.config = config
        self.scale = scale
        self.class_weights = class_weights(config.class_weights, classes)
        own = [one.coverage_foreground_weight for one in each_class(config, classes)]
        self.foreground_weights = torch.tensor(own)[:, None, None]

    def costs(self, output: GridOutput, targets: GridTargets, mask: Tensor, weight: Tensor) -> Tensor:
        """Costs [C, 2] of each class's coverage and boxes.

        Args:
            mask: [B, C, h, w] weight of each cell.
            weight: [B] weight of each picture.
        """
        counted = mask * weight[:, None, None, None]
        # Half precision has too few digits for logarithms of small probabilities and for differences of edges.
        logits, bbox = output.coverage_logits.float(), output.bbox.float().unflatten(1, (-1, 4))
        if self.config.coverage == "bce":
            cost = weighted_bce(logits, targets.coverage, self.foreground_weights.to(logits))
            coverage = (cost * counted).mean(dim=(0, 2, 3))
        else:
            cost = focal(logits, targets.coverage, self.config.focal_gamma, self.config.focal_alpha)
            coverage = (cost * counted).sum(dim=(0, 2, 3)) / _covered(targets, mask)
        truth = targets.bbox.unflatten(1, (-1, 4))
        if self.config.bbox == "l1":
            distance = (bbox - truth).abs().mean(dim=2)
            boxes = (distance * targets.coverage_norm * counted).mean(dim=(0, 2, 3))
        else:
            cost = overlap_loss(bbox, truth, MIN_SIDE / self.scale)
            boxes = (cost * targets.coverage * counted).sum(dim=(0, 2, 3)) / _covered(targets, mask)
        return torch.stack([coverage, boxes], dim=1)

    def total(self, costs: Tensor, objective_weights: Tensor) -> Tensor:
        """The loss: costs [C, 2] under the classes' and the objectives' weights [C, 2] (§3.2)."""
        weights = self.class_weights[:, None] * objective_weights.to(self.class_weights)
        return (costs * weights.to(costs)).sum()


def class_weights(weights: Mapping[str, float], classes: Sequence[str]) -> Tensor:
    """Weights [C] float64 that add up to 1.

    Raises:
        ConfigError: an unknown class, one left out, or weights that are not numbers of at least 0 and some above.
    """
    if not weights:
        return torch.full((len(classes),), 1 / len(classes), dtype=torch.float64)
    if unknown := [name for name in weights if name not in classes]:
        raise ConfigError(f"loss.class_weights.{unknown[0]}: the target classes are {', '.join(classes)}")
    if missing := [name for name in classes if name not in weights]:
        raise ConfigError(f"loss.class_weights leaves out {missing[0]}: weigh every target class, or none")
    values = [weights[name] for name in classes]
    if not all(math.isfinite(value) and value >= 0 for value in values) or sum(values) == 0:
        raise ConfigError(f"loss.class_weights={dict(weights)}: weights are numbers of at least 0, one above 0")
    tensor = torch.tensor(values, dtype=torch.float64)
    return tensor / tensor.sum()


def weighted_bce(logits: Tensor, coverage: Tensor, foreground_weight: Tensor | float) -> Tensor:
    """TAO's cross-entropy of each cell (§3.1), shaped like the first two arguments.

    Cells covered by more than half weigh `foreground_weight`, all others 1 minus that, even those covered a little.
    The reference adds 1e-5 in the logarithms, so the loss of a cell is at most 11.5.
    """
    p = torch.sigmoid(logits)
    entropy = -(coverage * torch.log(p + 1e-5) + (1 - coverage) * torch.log(1 - p + 1e-5))
    return torch.where(coverage > 0.5, foreground_weight, 1 - foreground_weight) * entropy


def focal(logits: Tensor, coverage: Tensor, gamma: float, alpha: float) -> Tensor:
    """Focal loss of each cell for coverage anywhere in 0..1, shaped like its arguments.

    |t - p|^gamma times the cross-entropy: least where p = t, and the focal loss of Lin et al. (ICCV 2017) where t is
    0 or 1 (Li et al., "Generalized Focal Loss", NeurIPS 2020, eq. 5). Its weight goes from 1 - alpha at t = 0 to alpha
    at t = 1.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, coverage, reduction="none")
    # Below 1 the power has no finite slope at 0, which a cell with p = t exactly would meet.
    error = (torch.sigmoid(logits) - coverage).abs().clamp(min=1e-6)
    return (alpha * coverage + (1 - alpha) * (1 - coverage)) * error**gamma * entropy


def overlap_loss(bbox: Tensor, truth: Tensor, min_side: float) -> Tensor:
    """1 - generalised IoU (Rezatofighi et al., CVPR 2019) of each cell's boxes, and a little of their L1.

    The cell's own place cancels out, so distances need no decoding. A predicted box that is narrower than `min_side`,
    or inside out, is widened to it about its middle: its area is never 0. The L1 term, the mean of the four errors over
    the mean side of the true box, still sees what was predicted and pulls such boxes open.

    Args:
        bbox, truth: [B, C, 4, h, w] distances to left, top, right, bottom.
        min_side: in their unit.

    Returns:
        [B, C, h, w].
    """
    left, top, right, bottom = bbox.unbind(dim=2)
    true_left, true_top, true_right, true_bottom = truth.unbind(dim=2)
    left, right = _widened(left, right, min_side)
    top, bottom = _widened(top, bottom, min_side)
    width, height = true_left + true_right, true_top + true_bottom
    shared = (torch.minimum(left, true_left) + torch.minimum(right, true_right)).clamp(min=0) * (
        torch.minimum(top, true_top) + torch.minimum(bottom, true_bottom)
    ).clamp(min=0)
    union = (left + right) * (top + bottom) + width * height - shared
    hull = (torch.maximum(left, true_left) + torch.maximum(right, true_right)) * (
        torch.maximum(top, true_top) + torch.maximum(bottom, true_bottom)
    )
    overlap = shared / union - (hull - union) / hull
    side = ((width + height) / 2).clamp(min=min_side)
    return 1 - overlap + LITTLE_L1 * (bbox - truth).abs().mean(dim=2) / side


def _widened(before: Tensor, after: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Distances to two opposite edges, at least `least` apart around the same middle."""
    middle, half = (after - before) / 2, ((after + before) / 2).clamp(min=least / 2)
    return half - middle, half + middle


def _covered(targets: GridTargets, mask: Tensor) -> Tensor:
    """[C]: covered cells that count in the loss, partly covered ones in part, of all ranks: a rank's share; never 0."""
    return mean_over_ranks((targets.coverage * mask).sum(dim=(0, 2, 3))).clamp(min=1 / ranks())
