"""The layer that INT8 kills is found and left in float, and few KPIs are measured for it."""

import numpy as np
import pytest

from facetrain.export.precision.calibration import calibrate
from facetrain.export.precision.quantize import quantizable_layers, quantize, tensors_to_calibrate
from facetrain.export.precision.sensitivity import Exclusion, LayerError, exclude_until, layer_errors
from facetrain.tests.export_graphs import chain, run

RNG = np.random.default_rng(8)


class Network:
    """Five layers. Of what the middle one gets, a channel that its kernel ignores is ten thousand times the others, so
    that no step of 127 is left for them."""

    def __init__(self):
        kernels = {name: RNG.normal(0, 0.5, (8, 8, 1, 1)) for name in ("a", "b", "killed", "c", "head")}
        kernels["b"][3] = 10_000 * np.abs(kernels["b"][3])
        kernels["killed"][:, 3] = 0
        self.model = chain(kernels, channels=8)
        self.images = RNG.random((4, 8, 8, 8), np.float32)
        self.expected = run(self.model, self.images)[0]
        tensors = tensors_to_calibrate(self.model, ["head"])
        self.ranges = calibrate(self.model, lambda: iter([self.images]), tensors, "minmax")
        self.layers = quantizable_layers(self.model, ["head"])
        self.measured = []

    def error(self, excluded):
        """Of the outputs, % of their magnitude."""
        self.measured.append(list(excluded))
        found = run(quantize(self.model, self.ranges, ["head"], excluded), self.images)[0]
        return float(100 * np.abs(found - self.expected).mean() / np.abs(self.expected).mean())


@pytest.fixture
def network():
    return Network()


def test_the_layer_that_int8_kills(network):
    assert network.layers == ["a", "b", "killed", "c"]
    errors = layer_errors(network.layers, network.error)
    assert errors[0].layer == "killed"
    assert errors[0].error > 10 * errors[1].error > 0
    assert {found.layer for found in errors} == set(network.layers)
    assert len(network.measured) == 4


def test_it_is_left_in_float(network):
    whole = network.error([])
    exclusion = exclude_until(5.0, network.error, [], lambda: layer_errors(network.layers, network.error))
    assert whole > 50
    assert exclusion.layers == ["killed"]
    assert exclusion.within and exclusion.loss < 5
    assert exclusion.loss == network.error(["killed"])


# Losses by how many of the worst, w0 to w8, are in float.
RANKED = [LayerError(f"w{i}", 9.0 - i) for i in range(9)]


def excluded(budget, *losses, kept=(), ranked=RANKED):
    """What is excluded, and how many layers were in float in each measurement."""
    counts = []

    def loss(layers):
        assert list(layers) == [*kept, *(found.layer for found in ranked[: len(layers) - len(kept)])]
        counts.append(len(layers) - len(kept))
        return losses[len(counts) - 1]

    return exclude_until(budget, loss, list(kept), lambda: ranked), counts


def test_nothing_goes_where_all_is_well():
    def never():
        raise AssertionError("layers are looked at one by one for nothing")

    assert exclude_until(0.1, lambda layers: 0.1, ["k"], never) == Exclusion(["k"], 0.1, True)


def test_ever_more_go_until_it_is_within_the_budget():
    found, counts = excluded(0.1, 5.0, 4.0, 3.0, 0.05)
    assert counts == [0, 1, 2, 4]
    assert found == Exclusion(["w0", "w1", "w2", "w3"], 0.05, True)


def test_what_the_spec_leaves_in_float_stays():
    found, _ = excluded(0.1, 5.0, 0.0, kept=["stem"])
    assert found.layers == ["stem", "w0"]


def test_where_nothing_helps_the_best_is_kept():
    found, counts = excluded(0.1, 5.0, 4.0, 2.0, 3.0, 2.5)
    assert counts == [0, 1, 2, 4, 8]  # a graph without a single layer in INT8 is none
    assert found == Exclusion(["w0", "w1"], 2.0, False)


def test_a_gain_is_a_loss_within_the_budget():
    assert excluded(0.0, -0.3)[0].within


def test_a_single_layer_is_never_taken_away():
    found, counts = excluded(0.1, 5.0, ranked=RANKED[:1])
    assert counts == [0] and found == Exclusion([], 5.0, False)
