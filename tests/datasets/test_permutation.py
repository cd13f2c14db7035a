"""The order of an epoch: every number once, any part of it by itself, and as random as it should be."""

import time
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from facetrain.datasets.batches import DeterministicBatchSampler
from facetrain.datasets.permutation import Permutation


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000, 4096, 4097, 100_003])
def test_every_number_comes_once(n: int) -> None:
    assert sorted(Permutation(n, (1, 2))(range(n)).tolist()) == list(range(n))


def test_any_part_is_the_same_by_itself() -> None:
    order = Permutation(1_250_000, (7,))
    np.testing.assert_array_equal(order(range(1000, 1032)), order(range(2000))[1000:1032])


def test_another_key_is_another_order() -> None:
    orders = [Permutation(1000, key)(range(1000)) for key in ((0, 0), (0, 1), (1, 0), (1, 1))]
    for i, order in enumerate(orders):
        for other in orders[i + 1 :]:
            assert (order == other).sum() < 8  # of two random orders 1 in the mean


@pytest.mark.parametrize("n", [3, 4, 5])
def test_all_orders_of_few_come_alike(n: int) -> None:
    """Even of 3, 4 or 5 numbers, whose Feistel network has halves of one and two bits."""
    keys, kinds = 6000, int(np.prod(range(1, n + 1)))
    found = Counter(tuple(Permutation(n, (key,))(range(n)).tolist()) for key in range(keys))
    assert len(found) == kinds
    expected = keys / kinds
    spread = sum((count - expected) ** 2 / expected for count in found.values())  # chi-squared, kinds - 1 degrees
    assert spread < kinds - 1 + 6 * np.sqrt(2 * (kinds - 1))


def test_where_a_number_goes_is_uniform_and_tells_nothing_of_its_neighbour() -> None:
    n = 100_000
    order = Permutation(n, (3, 5))(range(n))
    counts = np.bincount(order[: n // 10] * 100 // n, minlength=100)  # of the first tenth, in 100 bins
    spread = ((counts - 100) ** 2 / 100).sum()
    assert 50 < spread < 160  # chi-squared, 99 degrees, and a little less as nothing comes twice
    steps = np.diff(order)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.02
    assert np.bincount(np.abs(steps)).max() < 12  # no step is common


def test_a_sampler_of_a_thousand_million_begins_in_mid_epoch_at_once() -> None:
    n = 10**9
    sampler = DeterministicBatchSampler(n, 64, rank=1, world=2, seed=0, shuffle=True, drop_last=True)
    tracemalloc.start()
    started = time.perf_counter()
    sampler.set_epoch(3, first_batch=5_000_000)
    batch = next(iter(sampler))
    assert time.perf_counter() - started < 0.5
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert len(set(batch)) == 64 and all(epoch == 3 and 0 <= index < n for epoch, index in batch)


def test_a_mid_epoch_start_is_the_rest_of_the_epoch() -> None:
    def batches(first: int) -> list[list[tuple[int, int]]]:
        sampler = DeterministicBatchSampler(1003, 10, rank=0, world=1, seed=9, shuffle=True, drop_last=False)
        sampler.set_epoch(2, first)
        return list(sampler)

    whole = batches(0)
    assert len(whole[-1]) == 3
    assert sorted(index for batch in whole for _, index in batch) == list(range(1003))
    assert batches(37) == whole[37:]
