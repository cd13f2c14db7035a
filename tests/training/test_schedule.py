"""The learning rate at the points where its shape shows."""

import math

import pytest

from facetrain.configs.schema import TrainConfig
from facetrain.training.schedule import learning_rate


def rates(progress, low, high, soft_start, annealing, schedule="exponential"):
    config = TrainConfig(
        learning_rate=high, min_learning_rate=low, soft_start=soft_start, annealing=annealing, schedule=schedule
    )
    return [learning_rate(config, p) for p in progress]


def test_fpenet_spec():
    # Half way up or down is the geometric mean: sqrt(1e-7 * 5e-4).
    got = rates([0, 0.15, 0.3, 0.4, 0.5, 0.75, 1], 1e-7, 5e-4, 0.3, 0.5)
    assert got == pytest.approx([1e-7, 7.0710678e-6, 5e-4, 5e-4, 5e-4, 7.0710678e-6, 1e-7], rel=1e-6)


def test_gridbox_spec():
    got = rates([0, 0.05, 0.1, 0.4, 0.7, 0.85, 1], 5e-7, 5e-5, 0.1, 0.7)
    assert got == pytest.approx([5e-7, 5e-6, 5e-5, 5e-5, 5e-5, 5e-6, 5e-7], rel=1e-6)


def test_a_quarter_of_the_way_is_a_quarter_of_the_logarithm():
    assert rates([0.05], 1e-6, 1e-2, 0.2, 0.8) == pytest.approx([1e-5])


def test_no_soft_start_and_no_annealing():
    assert rates([0, 0.5], 1e-6, 1e-3, 0.0, 0.5) == pytest.approx([1e-3, 1e-3])
    assert rates([0.5, 1], 1e-6, 1e-3, 0.1, 1.0) == pytest.approx([1e-3, 1e-3])
    assert rates([0, 0.3, 1], 1e-6, 1e-3, 0.0, 1.0) == pytest.approx([1e-3] * 3)


def test_rising_straight_into_falling():
    assert rates([0, 0.5, 1], 1e-6, 1e-3, 0.5, 0.5) == pytest.approx([1e-6, 1e-3, 1e-6])
    assert rates([0, 1], 1e-6, 1e-3, 1.0, 1.0) == pytest.approx([1e-6, 1e-3])


def test_cosine():
    low, high = 1e-6, 3e-3
    got = rates([0, 0.1, 0.2, 0.5, 0.75, 1], low, high, 0.2, 0.5, "cosine")
    middle = (low + high) / 2
    assert got == pytest.approx([low, middle, high, high, middle, low])
    quarter = low + (high - low) * (1 - math.cos(math.pi / 4)) / 2
    assert rates([0.05], low, high, 0.2, 0.5, "cosine") == pytest.approx([quarter])


@pytest.mark.parametrize("schedule", ["exponential", "cosine"])
def test_never_outside_its_limits(schedule):
    got = rates([i / 1000 for i in range(1001)], 1e-6, 3e-3, 0.1, 0.3, schedule)
    assert min(got) >= 1e-6 * (1 - 1e-9)
    assert max(got) <= 3e-3 * (1 + 1e-9)
