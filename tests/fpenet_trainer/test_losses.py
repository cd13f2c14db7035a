"""Losses: the reference's own vectors, and that the mean depends on nothing but the errors."""

import math

import pytest
import torch

from facetrain.configs.fpenet.schema import LossConfig, ModelConfig
from facetrain.errors import ConfigError
from facetrain.fpenet_trainer.losses import (
    KeypointLoss,
    heatmap_loss,
    point_weights,
    visibility_loss,
    wing,
)
from facetrain.fpenet_trainer.network import build_model
from facetrain.fpenet_trainer.schemes import Scheme, load_scheme
from facetrain.training.regularizer import regularization

AREAS = {"face": 0.2, "eyes": 0.5, "mouth": 0.3}


def tao(n: int, k: int, target: torch.Tensor | None = None, **config) -> float:
    """The reference's loss of n faces of k points, all zeros, against ones."""
    loss = KeypointLoss(LossConfig(reduction="tao", **config), load_scheme("", k))
    target = torch.ones(n, k, 2) if target is None else target
    return loss(torch.zeros(n, k, 2), target, torch.ones(n, k)).item()


def test_reference_vectors():
    assert tao(4, 80, type="l1") == pytest.approx(4.0)
    assert tao(4, 80, type="l1", kpts_coeff=0.01) == pytest.approx(4.0)  # ignored there
    assert tao(4, 80, type="square_euclidean", kpts_coeff=1.0) == pytest.approx(4.0)
    assert tao(4, 80, type="wing_loss", kpts_coeff=0.01) == pytest.approx(6.48744, abs=1e-5)
    assert tao(3, 68, type="l1") == pytest.approx(3.0)


def test_reference_region_weights():
    target = torch.zeros(4, 80, 2)
    target[:, :30] = target[:, 60:] = 1
    weights = {"face": 0.3, "mouth": 0.3, "eyes": 0.4}
    assert tao(4, 80, target, type="l1", region_weights=weights) == pytest.approx(4.28, abs=1e-5)
    only = {"face": 0.0, "mouth": 0.0, "eyes": 0.0}
    assert tao(4, 80, target, type="l1", region_weights=only | {"eyes": 1.0}) == pytest.approx(4.0)
    assert tao(4, 80, target, type="l1", region_weights=only | {"mouth": 1.0}) == pytest.approx(1.6)


def test_reference_masking_keeps_the_denominator():
    loss = KeypointLoss(LossConfig(reduction="tao", type="l1"), load_scheme("", 68))
    mask = torch.ones(3, 68)
    mask[:, :34] = 0
    assert loss(torch.zeros(3, 68, 2), torch.ones(3, 68, 2), mask).item() == pytest.approx(1.5)


@pytest.mark.parametrize("weights", [{"eyes": 1.0}, {"face": 0.3, "eyes": 0.3, "mouth": 0.3}])
def test_reference_weights_are_three_and_add_up(weights):
    with pytest.raises(ConfigError, match=r"add up to 1|leaves out"):
        KeypointLoss(LossConfig(reduction="tao", region_weights=weights), load_scheme("", 80))


def test_wing_is_the_papers_formula_and_continuous():
    d = torch.tensor([0.0, 1.0, -3.0, 10.0, -25.0], dtype=torch.float64)
    c = 10 - 10 * math.log(6)
    assert c == pytest.approx(-7.9176, abs=1e-4)
    expected = [0, 10 * math.log(1.5), 10 * math.log(2.5), 10 - c, 25 - c]
    assert wing(d).tolist() == pytest.approx(expected)
    for w, epsilon in ((10.0, 2.0), (5.0, 0.5)):
        below, above = wing(torch.tensor([w - 1e-9, w + 1e-9], dtype=torch.float64), w, epsilon)
        assert below.item() == pytest.approx(above.item(), abs=1e-7)


@pytest.mark.parametrize(("kind", "expected"), [("l1", 2.0), ("square_euclidean", 4.0), ("wing_loss", 6.931472)])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 10), (5, 68), (3, 104)])
def test_mean_depends_neither_on_batch_size_nor_on_k(kind, expected, n, k):
    loss = KeypointLoss(LossConfig(type=kind), load_scheme("", k))
    value = loss(torch.full((n, k, 2), 2.0), torch.zeros(n, k, 2), torch.ones(n, k))
    assert value.item() == pytest.approx(expected, abs=1e-5)


def test_kpts_coeff_scales_the_mean():
    arguments = (torch.ones(2, 10, 2), torch.zeros(2, 10, 2), torch.ones(2, 10))
    one, half = (KeypointLoss(LossConfig(kpts_coeff=c), load_scheme("", 10))(*arguments) for c in (1.0, 0.5))
    assert half.item() == pytest.approx(0.5 * one.item())


def batch(n: int, k: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    predicted = torch.rand(n, k, 2, generator=generator) * 79
    target = torch.rand(n, k, 2, generator=generator) * 79
    return predicted, target, (torch.rand(n, k, generator=generator) < 0.6).float()


@pytest.mark.parametrize("kind", ["l1", "square_euclidean", "wing_loss"])
def test_mean_is_the_same_however_a_batch_is_dealt(kind):
    loss = KeypointLoss(LossConfig(type=kind, region_weights=AREAS), load_scheme("", 80))
    predicted, target, mask = batch(8, 80)
    mask[2] = 0  # a face without usable points
    weights = torch.linspace(0.5, 2, 8)
    whole = loss(predicted, target, mask, weights)
    halves = [loss(predicted[part], target[part], mask[part], weights[part]) for part in (slice(4), slice(4, 8))]
    torch.testing.assert_close(sum(halves) / 2, whole)


def test_face_weights():
    loss = KeypointLoss(LossConfig(type="l1"), load_scheme("", 10))
    predicted = torch.tensor([1.0, 3.0])[:, None, None].expand(2, 10, 2)
    value = loss(predicted, torch.zeros(2, 10, 2), torch.ones(2, 10), torch.tensor([1.0, 2.0]))
    assert value.item() == pytest.approx((1 * 1 + 2 * 3) / 2)


@pytest.mark.parametrize("reduction", ["mean", "tao"])
@pytest.mark.parametrize("kind", ["l1", "square_euclidean", "wing_loss"])
def test_masked_points_give_no_gradient_and_their_targets_do_not_matter(reduction, kind):
    loss = KeypointLoss(LossConfig(type=kind, reduction=reduction), load_scheme("", 68))
    predicted, target, mask = batch(4, 68)
    predicted.requires_grad_()
    value = loss(predicted, target, mask)
    value.backward()
    hidden = mask == 0
    assert torch.count_nonzero(predicted.grad[hidden]) == 0
    assert (predicted.grad[~hidden] != 0).all()
    garbage = torch.where(hidden[..., None], torch.tensor(1e30), target)
    assert loss(predicted, garbage, mask).item() == value.item()


@pytest.mark.parametrize("k", [1, 10, 68])
def test_faces_without_points_give_zero_not_nan(k):
    loss = KeypointLoss(LossConfig(), load_scheme("", k))
    predicted, target, _ = batch(3, k)
    predicted.requires_grad_()
    value = loss(predicted, target, torch.zeros(3, k))
    value.backward()
    assert value.item() == 0
    assert torch.count_nonzero(predicted.grad) == 0


def shares(scheme: Scheme, weights: dict[str, float], groups: dict[str, list[int]]) -> dict[str, float]:
    """The share of the whole gradient that falls on each group of points."""
    k = scheme.num_keypoints
    predicted = torch.ones(1, k, 2, requires_grad=True)
    loss = KeypointLoss(LossConfig(type="l1", region_weights=weights), scheme)
    loss(predicted, torch.zeros(1, k, 2), torch.ones(1, k)).backward()
    assert predicted.grad is not None
    total = predicted.grad.sum()
    gradient = predicted.grad[0]
    return {name: (gradient[points].sum() / total).item() for name, points in groups.items()}


def test_region_shares_are_honoured_and_parts_follow():
    face = [*range(36), *range(76, 80)]
    eyes = [*range(36, 48), *range(68, 76)]  # the pupils are part of the eyes
    got = shares(load_scheme("", 80), AREAS, {"face": face, "eyes": eyes, "mouth": list(range(48, 68))})
    assert got == pytest.approx(AREAS)


def test_a_part_that_is_named_has_its_own_share():
    weights = {"face": 0.1, "eyes": 0.4, "mouth": 0.3, "pupil": 0.2}
    groups = {"eyes": list(range(36, 48)), "pupil": list(range(68, 76)), "ears": list(range(76, 80))}
    got = shares(load_scheme("", 80), weights, groups)
    assert got == pytest.approx({"eyes": 0.4, "pupil": 0.2, "ears": 0.1 * 4 / 40})


def test_weights_need_not_add_up_to_one():
    scheme = load_scheme("", 68)
    torch.testing.assert_close(
        point_weights(scheme, {"face": 2, "eyes": 5, "mouth": 3}), point_weights(scheme, AREAS), atol=1e-6, rtol=0
    )
    assert point_weights(scheme, AREAS).mean().item() == pytest.approx(1.0)


def test_every_point_of_104_learns_under_region_weights():
    assert (point_weights(load_scheme("", 104), AREAS) > 0).all()


@pytest.mark.parametrize(
    ("k", "weights", "message"),
    [
        (68, {"eyes": 1.0}, r"leaves out point 0 \(56 in all\); name a region that has it: .*chin"),
        (68, {"face": 1.0, "pupil": 1.0}, "loss.region_weights.pupil: the scheme's regions are all, eyes"),
        (10, AREAS, "loss.region_weights.face: the scheme's regions are all"),
        (10, {"all": -1.0}, "at least 0"),
        (10, {"all": math.nan}, "at least 0"),
        (10, {"all": 0.0}, "at least one weight must be above 0"),
    ],
)
def test_wrong_region_weights(k, weights, message):
    with pytest.raises(ConfigError, match=message):
        KeypointLoss(LossConfig(region_weights=weights), load_scheme("", k))


@pytest.mark.parametrize("k", [1, 10, 68, 80])
def test_logged_regions_skip_those_without_points(k):
    scheme = load_scheme("", k)
    predicted, target, mask = batch(3, k)
    parts = KeypointLoss(LossConfig(), scheme).regions(predicted, target, mask, scheme)
    assert set(parts) == {"face", "eyes", "mouth", "pupil"} & set(scheme.regions)
    assert all(math.isfinite(value) for value in parts.values())


def gaussian_map(x: float, y: float, sigma: float, size: int = 32) -> torch.Tensor:
    grid = torch.arange(float(size))
    return -0.5 * ((grid[None, :] - x) ** 2 + (grid[:, None] - y) ** 2) / sigma**2


def test_heatmap_loss_is_zero_for_the_gaussian_itself_and_positive_else():
    target, mask = torch.tensor([[[20.3, 9.6]]]), torch.ones(1, 1)

    def value(logits: torch.Tensor, beta: float = 1.0) -> float:
        return heatmap_loss(logits[None, None], beta, target, mask, 1.5).item()

    assert value(gaussian_map(20.3, 9.6, 1.5)) == pytest.approx(0, abs=1e-4)
    assert value(gaussian_map(20.3, 9.6, 1.5) * 10, beta=0.1) == pytest.approx(0, abs=1e-4)
    # Two Gaussians a distance apart differ by distance^2 / (2 sigma^2).
    assert value(gaussian_map(18.3, 9.6, 1.5)) == pytest.approx(4 / 4.5, abs=1e-3)
    assert value(gaussian_map(9.6, 20.3, 1.5)) > 20  # x and y are told apart
    assert value(torch.zeros(32, 32)) > 1


def test_heatmap_loss_pulls_towards_the_label():
    logits = torch.zeros(1, 2, 32, 32, requires_grad=True)
    target = torch.tensor([[[20.0, 9.0], [5.0, 5.0]]])
    heatmap_loss(logits, 1.0, target, torch.tensor([[1.0, 0.0]]), 1.5).backward()
    step = -logits.grad[0, 0]
    assert divmod(int(step.argmax()), 32) == (9, 20)  # row, column
    assert step[25, 5] < 0
    assert torch.count_nonzero(logits.grad[0, 1]) == 0  # masked


def test_heatmap_loss_of_a_label_outside_the_crop_pulls_to_the_border():
    logits = torch.zeros(1, 1, 32, 32, requires_grad=True)
    heatmap_loss(logits, 1.0, torch.tensor([[[40.0, 9.0]]]), torch.ones(1, 1), 1.5).backward()
    assert divmod(int((-logits.grad[0, 0]).argmax()), 32) == (9, 31)


def test_visibility_loss_ignores_missing_points():
    states = torch.tensor([[2, 1, 0], [0, 0, 0]], dtype=torch.int8)
    logits = torch.tensor([[math.log(3), math.log(3), 50.0], [1.0, 2.0, 3.0]], requires_grad=True)
    value = visibility_loss(logits, states)  # probabilities of 3/4, of one visible and one occluded point
    assert value.item() == pytest.approx((-math.log(0.75) - math.log(0.25)) / 2 / 2)
    value.backward()
    assert (logits.grad[0, 0] < 0) and (logits.grad[0, 1] > 0)
    assert torch.count_nonzero(logits.grad[states == 0]) == 0


def test_regularization_counts_kernels_and_biases_of_all_convolutions():
    model = build_model(ModelConfig(num_keypoints=5, width=8, visibility_head=True))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(-0.5)
    head = sum(p.numel() for p in model.visibility.parameters())  # no convolution
    numbers = sum(p.numel() for p in model.parameters()) - head
    assert numbers == 8 * 9 + 8 + 3 * (8 * 8 * 9 + 8) + 2 * (8 * 8 * 9 + 8) + 72 + 4 * (16 * 8 * 9 + 8 + 72 + 256) + 45
    assert regularization(model, "l1").item() == pytest.approx(0.5 * numbers)
    assert regularization(model, "l2").item() == pytest.approx(0.25 * numbers)
    regularization(model, "l2").backward()
    assert model.up[0].weight.grad is not None
    assert model.keypoints.bias.grad is not None
