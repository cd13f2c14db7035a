"""Objective weights: fixed as the spec says, or balanced after every epoch (gridbox §3.3)."""

import io

import pytest
import torch

from facetrain.configs.facenet.schema import LossConfig
from facetrain.errors import ConfigError
from facetrain.facenet_trainer.objective_weights import ObjectiveWeights

CLASSES = ["face", "mask", "hand"]
TWO = CLASSES[:2]


def automatic(classes: int = 1, **config) -> ObjectiveWeights:
    return ObjectiveWeights(LossConfig(autoweighting=True, **config), CLASSES[:classes])


def test_initial_weights_are_shares():
    weights = ObjectiveWeights(LossConfig(), TWO).weights
    torch.testing.assert_close(weights, torch.tensor([[1 / 11, 10 / 11]] * 2, dtype=torch.float64))


def test_a_class_can_have_its_own():
    config = LossConfig(per_class={"mask": {"bbox_weight": 3.0}})
    weights = ObjectiveWeights(config, TWO).weights
    torch.testing.assert_close(weights, torch.tensor([[1 / 11, 10 / 11], [1 / 4, 3 / 4]], dtype=torch.float64))
    with pytest.raises(ConfigError, match=r"loss\.per_class\.mask\.focal_gamma: a class has no such key"):
        ObjectiveWeights(LossConfig(per_class={"mask": {"focal_gamma": 1.0}}), TWO)
    with pytest.raises(ConfigError, match="both 0 for mask"):
        ObjectiveWeights(LossConfig(coverage_weight=0, per_class={"mask": {"bbox_weight": 0}}), TWO)


def test_fixed_weights_stay():
    weights = ObjectiveWeights(LossConfig(), ["face"])
    before = weights.weights.clone()
    weights.add(torch.tensor([[5.0, 1.0]]))
    weights.end_epoch()
    assert torch.equal(weights.weights, before)


def test_weights_balance_what_an_epoch_cost():
    weights = automatic(2)
    for cost in ([[0.5, 0.1], [0.2, 0.0]], [[0.3, 0.3], [0.2, 0.0]]):
        weights.add(torch.tensor(cost))
    weights.end_epoch()
    u = [1 / 11 / 0.8, 10 / 11 / 0.4]
    expected = [[u[0] / sum(u), u[1] / sum(u)], [0.9999, 1e-4]]  # an objective without a cost: clamped, as the other
    torch.testing.assert_close(weights.weights, torch.tensor(expected, dtype=torch.float64), atol=1e-7, rtol=0)
    cost = weights.weights[0] * torch.tensor([0.8, 0.4], dtype=torch.float64)
    assert float(cost[1] / cost[0]) == pytest.approx(10)  # each now costs as its initial weight says


def test_only_the_last_epoch_counts():
    weights, other = automatic(), automatic()
    weights.add(torch.tensor([[9.0, 9.0]]))
    weights.end_epoch()
    for each in (weights, other):
        each.add(torch.tensor([[0.3, 0.1]]))
        each.end_epoch()
    assert torch.equal(weights.weights, other.weights)


def test_an_epoch_without_costs_changes_nothing():
    weights = automatic()
    weights.add(torch.tensor([[0.5, 0.1]]))
    weights.end_epoch()
    before = weights.weights.clone()
    weights.end_epoch()
    weights.add(torch.zeros(1, 2))
    weights.end_epoch()
    assert torch.equal(weights.weights, before)


def test_limits_are_the_specs():
    weights = automatic(min_objective_weight=0.2, max_objective_weight=0.7)
    weights.add(torch.tensor([[1.0, 1e-6]]))
    weights.end_epoch()
    assert weights.weights.tolist() == [[0.2, 0.7]]


def test_going_on_from_a_saved_state_in_the_midst_of_an_epoch_is_exact():
    costs = torch.rand(7, 3, 2, generator=torch.Generator().manual_seed(0))
    whole, first, second = automatic(3), automatic(3), automatic(3)
    for cost in costs[:4]:
        whole.add(cost)
        first.add(cost)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    first.add(torch.ones(3, 2))  # the saved state is a copy
    for cost in costs[4:]:
        whole.add(cost)
        second.add(cost)
    whole.end_epoch()
    second.end_epoch()
    assert torch.equal(whole.weights, second.weights)
    assert torch.equal(whole.sums, second.sums)


def test_costs_keep_no_graph():
    weights = automatic()
    cost = torch.ones(1, 2, requires_grad=True)
    weights.add(cost * 2)
    assert not weights.sums.requires_grad


def test_nothing_to_learn():
    with pytest.raises(ConfigError, match=r"loss\.coverage_weight and loss\.bbox_weight are both 0"):
        ObjectiveWeights(LossConfig(coverage_weight=0, bbox_weight=0), ["face"])
