"""Keypoint losses: per point, then region weights, then masking, then a mean.

Distances are pixels of the crop. The default mean is taken over each face's usable points and then over the faces, so
that it depends neither on the batch size nor on K nor on how a batch is dealt to processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from ..configs.fpenet.schema import LossConfig
from ..errors import ConfigError
from .schemes import Scheme


def pointwise_loss(config: LossConfig) -> Callable[[Tensor], Tensor]:
    """The function from differences [..., 2] to losses [..., 2] that `loss.type` names."""
    if config.type == "l1":
        return torch.abs
    if config.type == "square_euclidean":
        return torch.square
    return lambda difference: wing(difference, config.wing_w, config.wing_epsilon)


def wing(difference: Tensor, w: float = 10.0, epsilon: float = 2.0) -> Tensor:
    """w ln(1 + |d| / epsilon) below w, |d| - C above, C making it continuous (Feng et al., CVPR 2018, eq. 5)."""
    distance = difference.abs()
    offset = w - w * math.log(1 + w / epsilon)
    return torch.where(distance < w, w * torch.log1p(distance / epsilon), distance - offset)


def point_weights(scheme: Scheme, region_weights: Mapping[str, float]) -> Tensor:
    """Weights [K] of mean 1 under which each named region counts by its weight, however many points it has.

    Points outside the named regions go with the region that theirs is part of (pupils with eyes, say).

    Raises:
        ConfigError: an unknown region, weights that are not positive, or points that no named region covers.
    """
    if not region_weights:
        return torch.ones(scheme.num_keypoints)
    for name, weight in region_weights.items():
        if name not in scheme.regions:
            raise ConfigError(f"loss.region_weights.{name}: the scheme's regions are {', '.join(scheme.regions)}")
        if not (weight >= 0 and math.isfinite(weight)):
            raise ConfigError(f"loss.region_weights.{name}={weight}: a weight is a number of at least 0")
    if sum(region_weights.values()) <= 0:
        raise ConfigError("loss.region_weights: at least one weight must be above 0")
    members = {name: set(scheme.regions[name]) for name in region_weights}
    for part, whole in scheme.part_of.items():
        if part not in members and whole in members:
            members[whole] |= set(scheme.regions[part])
    uncovered = set(range(scheme.num_keypoints)).difference(*members.values())
    if uncovered:
        homes = [name for name, points in scheme.regions.items() if uncovered & set(points) and name != "all"]
        raise ConfigError(
            f"loss.region_weights leaves out point {min(uncovered)} ({len(uncovered)} in all); "
            f"name a region that has it: {', '.join(homes) or 'all'}"
        )
    weights = torch.zeros(scheme.num_keypoints)
    for name, points in members.items():
        weights[sorted(points)] += region_weights[name] / len(points)
    return weights * (scheme.num_keypoints / weights.sum())


class KeypointLoss:
    """`loss.type` with region weights and masking, reduced to a scalar."""

    def __init__(self, config: LossConfig, scheme: Scheme) -> None:
        self.config = config
        self.pointwise = pointwise_loss(config)
        self.weights = point_weights(scheme, config.region_weights)
        if config.reduction == "tao" and config.region_weights:
            self._check_tao_weights()

    def __call__(self, predicted: Tensor, target: Tensor, mask: Tensor, face_weights: Tensor | None = None) -> Tensor:
        """The loss of predicted [N, K, 2] against target [N, K, 2].

        Args:
            mask: [N, K], 1 where a point counts. Targets where it is 0 may hold anything finite.
            face_weights: [N], 1 by default.
        """
        if self.config.reduction == "tao":
            return self._tao(torch.where(mask[..., None] > 0, target - predicted, 0.0))
        loss = self.pointwise(torch.where(mask[..., None] > 0, predicted - target, 0.0)).mean(dim=2)
        return self.config.kpts_coeff * face_mean(loss, mask * self.weights.to(loss), face_weights)

    def regions(self, predicted: Tensor, target: Tensor, mask: Tensor, scheme: Scheme) -> dict[str, Tensor]:
        """The unweighted loss of each loss region that has usable points, for the log."""
        loss = self.pointwise(torch.where(mask[..., None] > 0, predicted - target, 0.0)).mean(dim=2)
        names = self.config.region_weights or ("face", "eyes", "mouth", "pupil")
        parts = {}
        for name in names:
            points = scheme.regions.get(name, ())
            if points:
                parts[name] = face_mean(loss[:, list(points)], mask[:, list(points)], None)
        return parts

    def _tao(self, difference: Tensor) -> Tensor:
        """The reference's own reductions: sums over the batch (l1, square) or over points (Wing), its 68/80 regions."""
        weights = self.config.region_weights
        if not weights:
            return self._tao_reduce(difference)
        k = difference.shape[1]
        slices = {"face": [slice(0, 36)], "eyes": [slice(36, 48)], "mouth": [slice(48, 68)]}
        if k == 80:
            slices["face"].append(slice(76, 80))
            slices["eyes"].append(slice(68, 76))
        total = difference.new_zeros(())
        for name, weight in weights.items():
            for part in slices[name]:
                if difference[:, part].numel():  # the reference gives NaN for a region without points
                    total = total + weight * self._tao_reduce(difference[:, part])
        return total

    def _tao_reduce(self, difference: Tensor) -> Tensor:
        loss = self.pointwise(difference)
        if self.config.type == "l1":
            return loss.sum(dim=0).mean()
        if self.config.type == "square_euclidean":
            return self.config.kpts_coeff * loss.sum(dim=0).mean()
        return self.config.kpts_coeff * loss.sum(dim=(1, 2)).mean()

    def _check_tao_weights(self) -> None:
        weights = self.config.region_weights
        if set(weights) != {"face", "eyes", "mouth"} or not math.isclose(sum(weights.values()), 1.0, abs_tol=1e-6):
            raise ConfigError(
                f"loss.region_weights={dict(weights)}: under loss.reduction=tao the weights are those of face, eyes "
                "and mouth and add up to 1"
            )


def face_mean(loss: Tensor, weights: Tensor, face_weights: Tensor | None) -> Tensor:
    """Mean over each face's points by weight [N, K], then over all N faces; a face without usable points adds 0."""
    total = weights.sum(dim=1)
    per_face = (loss * weights).sum(dim=1) / torch.where(total > 0, total, 1.0)
    return (per_face if face_weights is None else per_face * face_weights).mean()


def heatmap_loss(
    heatmaps: Tensor, beta: float, target: Tensor, mask: Tensor, sigma: float, face_weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy between each soft-max map and a Gaussian at the label, less the Gaussian's own entropy.

    The soft-argmax only fixes a map's mean; this asks that the map itself be a single small peak (the regulariser of
    Nibali et al. 2018 with the Kullback-Leibler divergence).

    Args:
        heatmaps: [N, K, H, W] before the soft-max.
        target: [N, K, 2] pixels of the crop.
        mask: [N, K], 1 where a point counts.
        sigma: standard deviation of the Gaussian, pixels.
    """
    n, k, height, width = heatmaps.shape
    gx = _gaussian(target[..., 0], width, sigma)
    gy = _gaussian(target[..., 1], height, sigma)
    log_map = torch.log_softmax(beta * heatmaps.float().flatten(2), dim=2).view(n, k, height, width)
    # The Gaussian is separable, so its product with the map needs no [N, K, H, W] target.
    cross_entropy = -torch.einsum("nkh,nkhw,nkw->nk", gy, log_map, gx)
    entropy = -(torch.special.xlogy(gx, gx).sum(dim=2) + torch.special.xlogy(gy, gy).sum(dim=2))
    return face_mean(cross_entropy - entropy, mask, face_weights)


def _gaussian(centre: Tensor, size: int, sigma: float) -> Tensor:
    """[N, K, size], a Gaussian around centre [N, K] normalised over the pixels; centres outside go to the border."""
    pixels = torch.arange(size, dtype=torch.float32, device=centre.device)
    distance = pixels - centre.float().clamp(0, size - 1)[..., None]
    return torch.softmax(-0.5 * (distance / sigma) ** 2, dim=2)


def visibility_loss(logits: Tensor, states: Tensor) -> Tensor:
    """Cross-entropy of logits [N, K] against states [N, K] of `PointState`; missing points take no part."""
    known = states > 0
    loss = F.binary_cross_entropy_with_logits(logits, (states == 2).to(logits), reduction="none")
    return face_mean(loss, known.to(logits), None)
