"""Which filters go, and that what is left computes what it should: rules, golden counts, groups, slices, constants."""

import pytest
import torch
from torch import nn

from facetrain.configs.schema import PruneConfig
from facetrain.errors import ConfigError
from facetrain.training.complexity import count_macs, count_parameters, latencies_ms
from facetrain.training.prune_network import prune_network
from facetrain.training.prune_surgery import cut_weights
from facetrain.training.pruning import (
    Add,
    Layer,
    channels,
    find_groups,
    held_up,
    keep_filters,
    kernel_norms,
    merge,
    normalise,
    plan,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


GOLDEN = torch.tensor([1, 0.5, 0.2] + [0.05] * 61)  # gridbox §12.3


@pytest.mark.parametrize(
    ("threshold", "granularity", "min_filters", "count"),
    [
        (0.1, 8, 16, 16),  # 3 are above; the minimum counts
        (0.1, 8, 17, 24),  # and is rounded up
        (0.1, 8, 1, 8),
        (0.1, 1, 1, 3),
        (0.2, 1, 1, 2),  # strictly above
        (0.01, 8, 16, 64),
        (2.0, 8, 16, 16),
        (2.0, 8, 100, 64),  # no more than there are
    ],
)
def test_golden_counts(threshold, granularity, min_filters, count):
    assert keep_filters(GOLDEN, threshold, granularity, min_filters) == list(range(count))


def test_the_strongest_stay_in_the_order_of_their_indices():
    norms = torch.tensor([0.3, 0.9, 0.1, 1.0, 0.2, 0.8])
    assert keep_filters(norms, 0.5, 1, 1) == [1, 3, 5]
    assert keep_filters(norms, 0.5, 4, 1) == [0, 1, 3, 5]
    assert keep_filters(norms, 0.5, 8, 1) == [0, 1, 2, 3, 4, 5]


def test_norms_are_of_whole_kernels_without_the_bias():
    conv = nn.Conv2d(2, 2, 3)
    nn.init.constant_(conv.weight, 2.0)
    conv.weight.data[1] = 0
    nn.init.constant_(conv.bias, 100.0)
    assert kernel_norms(conv).tolist() == pytest.approx([2 * 18**0.5, 0])
    up = nn.ConvTranspose2d(3, 2, 2, bias=False)
    nn.init.constant_(up.weight, 1.0)
    up.weight.data[:, 1] = 3
    assert kernel_norms(up).tolist() == pytest.approx([12**0.5, 3 * 12**0.5])


def test_normalizers():
    norms = torch.tensor([3.0, 4.0, 0.0])
    assert normalise(norms, "max").tolist() == [0.75, 1, 0]
    assert normalise(norms, "L2").tolist() == pytest.approx([9 / 5, 12 / 5, 0])
    assert normalise(torch.zeros(3), "max").tolist() == normalise(torch.zeros(3), "L2").tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("union", [0.8, 0.9]),
        ("intersection", [0.2, 0.0]),
        ("arithmetic_mean", [0.5, 0.45]),
        ("geometric_mean", [0.4, 0.0]),
    ],
)
def test_equalization(rule, expected):
    assert merge(torch.tensor([[0.2, 0.9], [0.8, 0.0]]), rule).tolist() == pytest.approx(expected)


class Residual(nn.Module):
    """stem -> (two shortcuts, the second without a convolution) -> head; and a linear map of the pooled sum."""

    def __init__(self, stem=16, middle=16, total=16):
        super().__init__()
        self.stem, self.bn_stem = nn.Conv2d(3, stem, 3, padding=1), nn.BatchNorm2d(stem, eps=1e-3)
        self.a, self.bn_a = nn.Conv2d(stem, total, 3, padding=1), nn.BatchNorm2d(total, eps=1e-3)
        self.side, self.bn_side = nn.Conv2d(stem, total, 1), nn.BatchNorm2d(total, eps=1e-3)
        self.b, self.bn_b = nn.Conv2d(total, middle, 3, padding=1, bias=False), nn.BatchNorm2d(middle, eps=1e-3)
        self.c, self.bn_c = nn.Conv2d(middle, total, 3, padding=1), nn.BatchNorm2d(total, eps=1e-3)
        self.head = nn.Conv2d(total + stem, 5, 1)
        self.linear = nn.Linear(total, 2)

    def forward(self, x):
        stem = self.bn_stem(self.stem(x)).relu()
        first = (self.bn_a(self.a(stem)) + self.bn_side(self.side(stem))).relu()
        second = (self.bn_c(self.c(self.bn_b(self.b(first)).relu())) + first).relu()
        # Away from the border, where zeros are padded, a folded constant is exact.
        inside = second[..., 4:-4, 4:-4]
        maps = self.head(torch.cat([second, stem], dim=1))[..., 4:-4, 4:-4]
        return torch.cat([maps.flatten(1), self.linear(inside.mean(dim=(2, 3)))], dim=1)


GRAPH = (
    Layer("stem", (), "stem", "bn_stem"),
    Layer("a", ("stem",), "a", "bn_a"),
    Layer("side", ("stem",), "side", "bn_side"),
    Add("first", ("a", "side")),
    Layer("b", ("first",), "b", "bn_b"),
    Layer("c", ("b",), "c", "bn_c"),
    Add("second", ("c", "first")),
    Layer("head", ("second", "stem"), "head", output=True),
    Layer("linear", ("second",), "linear", output=True),
)


def rebuild(counts):
    return Residual(counts["stem"], counts["b"], counts["a"])


def network_with_dead_filters():
    """Random statistics everywhere, and some filters whose kernels are zeros but whose constants are not."""
    network = Residual()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0.5, 0.5)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    with torch.no_grad():
        for module in (network.stem, network.b):
            module.weight[3:10] = 0
        for module in (network.a, network.side, network.c):  # what is added dies together
            module.weight[[0, 5, 15]] = 0
        network.c.weight[7] = 0  # the sum still has a channel 7
    return network.eval()


def cut(network, fold=True, **options):
    groups = find_groups(GRAPH, network, **options)
    kept = plan(groups, 0.0, 1, 1)
    smaller = rebuild(channels(GRAPH, kept))
    smaller.load_state_dict(cut_weights(GRAPH, network, kept, fold))
    return smaller.eval(), kept


def test_only_dead_filters_cut_computes_the_same():
    network = network_with_dead_filters()
    smaller, kept = cut(network)
    assert kept["stem"] == kept["b"] == [0, 1, 2, *range(10, 16)]
    assert kept["a"] == kept["side"] == kept["c"] == kept["second"] == [i for i in range(16) if i not in (0, 5, 15)]
    assert smaller.head.in_channels == 13 + 9 and smaller.linear.in_features == 13
    pictures = torch.randn(2, 3, 14, 14)
    torch.testing.assert_close(smaller(pictures), network(pictures), atol=1e-5, rtol=1e-5)
    forgetful, _ = cut(network, fold=False)
    assert (forgetful(pictures) - network(pictures)).abs().max() > 0.1


def test_a_living_filters_bias_is_not_taken_for_its_mean():
    network = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Conv2d(3, 1, 1))
    graph = (Layer("first", (), "0"), Layer("last", ("first",), "2", output=True))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, 0.5, 0.001]).view(3, 1, 1, 1))
        network[0].bias.fill_(2.0)
        network[2].weight.fill_(1.0)
        network[2].bias.fill_(0.0)
    weights = cut_weights(graph, network, {"first": [0], "last": [0]}, fold_constants=True)
    assert weights["2.bias"].tolist() == [2]  # the dead filter's, not the weak one's


def test_the_network_that_is_cut_stays_as_it_is():
    network = network_with_dead_filters()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    cut(network)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_group_takes_the_largest_norm_of_each_filter():
    network = network_with_dead_filters()
    (group,) = (group for group in find_groups(GRAPH, network) if "a" in group.layers)
    assert group.layers == ("a", "side", "c")
    expected = torch.stack([normalise(kernel_norms(m), "max") for m in (network.a, network.side, network.c)])
    assert torch.equal(group.norms, expected.amax(dim=0))
    assert 7 in plan(find_groups(GRAPH, network), 0.0, 1, 1)["c"]
    assert 7 not in plan(find_groups(GRAPH, network, equalization="intersection"), 0.0, 1, 1)["a"]


def test_an_excluded_layer_leaves_its_group_whole():
    network = network_with_dead_filters()
    smaller, kept = cut(network, excluded=["side"])
    assert kept["a"] == kept["side"] == kept["c"] == list(range(16))
    assert len(kept["stem"]) == 9
    pictures = torch.randn(1, 3, 14, 14)
    torch.testing.assert_close(smaller(pictures), network(pictures), atol=1e-5, rtol=1e-5)
    with pytest.raises(ConfigError, match=r"excluded_layers: there is no layer 'sid'; did you mean side\?"):
        find_groups(GRAPH, network, excluded=["sid"])


def test_outputs_are_never_cut():
    network = network_with_dead_filters()
    network.head.weight.data[2] = 0
    smaller, kept = cut(network)
    assert kept["head"] == [0, 1, 2, 3, 4]
    assert "head" not in channels(GRAPH, kept)
    assert torch.equal(smaller.head.weight[2], torch.zeros(22, 1, 1))


def test_nothing_left_of_a_layer():
    network = network_with_dead_filters()
    groups = find_groups(GRAPH, network)
    with pytest.raises(ConfigError, match=r"prune.threshold=1 would leave nothing of stem, .* norm is 1: take a lower"):
        plan(groups, 1.0, 8, 0)
    kept = plan(groups, 1.0, 1, 4)
    assert {len(kept[name]) for name in ("stem", "a", "side", "b", "c")} == {4}
    assert held_up(groups, 1.0, 4) == ["stem", "a", "side", "c", "b"]


def config(**values):
    return PruneConfig(**{"granularity": 1, "min_filters": 1, **values})


PICTURE = torch.zeros(1, 3, 14, 14)


@pytest.mark.parametrize(("target", "cost"), [("parameters", "parameters"), ("gmac", "gmac")])
def test_a_budget_is_met_with_as_little_loss_as_can_be(target, cost):
    network = Residual()
    pruned = prune_network(GRAPH, network, rebuild, PICTURE, config(target=target, target_share=0.4))
    share = getattr(pruned.after, cost) / getattr(pruned.before, cost)
    assert 0.3 < share <= 0.4
    # One filter more would be too much.
    groups = find_groups(GRAPH, network)
    levels = sorted({0.0, *(float(norm) for group in groups if not group.whole for norm in group.norms)})
    below = levels[levels.index(pruned.threshold) - 1]
    more = prune_network(GRAPH, network, rebuild, PICTURE, config(threshold=below))
    assert getattr(more.after, cost) / getattr(more.before, cost) > 0.4
    same = prune_network(GRAPH, network, rebuild, PICTURE, config(threshold=pruned.threshold))
    assert same.channels == pruned.channels and same.ratio == pruned.ratio


def test_the_whole_budget_cuts_only_dead_filters():
    pruned = prune_network(GRAPH, network_with_dead_filters(), rebuild, PICTURE, config(target="gmac", target_share=1))
    assert (pruned.threshold, pruned.channels["stem"]) == (0, 9)


@pytest.mark.parametrize("target", ["parameters", "gmac", "latency"])
def test_a_budget_that_cannot_be_met(target):
    wanted = config(target=target, target_share=0.05, min_filters=14)
    with pytest.raises(ConfigError, match=rf"target_share=0.05: with min_filters=14 .* of the {target} is left"):
        prune_network(GRAPH, Residual(), rebuild, PICTURE, wanted)


def test_a_budget_without_a_least_number_of_filters_leaves_some():
    pruned = prune_network(
        GRAPH, Residual(), rebuild, PICTURE, config(target="parameters", target_share=0.2, min_filters=0)
    )
    assert min(pruned.channels.values()) >= 1
    assert pruned.ratio <= 0.2


def test_a_latency_budget():
    wide = Residual(128, 128, 128)
    wanted = config(target="latency", target_share=0.6)
    pruned = prune_network(GRAPH, wide, rebuild, torch.zeros(1, 3, 24, 24), wanted)
    # How much goes is the clock's to say, and other work on the machine moves it.
    assert pruned.after.gmac < 0.95 * pruned.before.gmac
    assert min(pruned.before.latency_ms, pruned.after.latency_ms) > 0


def test_costs():
    conv = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8))
    assert count_parameters(conv) == 3 * 8 * 9 + 8 + 4 * 8  # with running mean and variance, without the batch counter
    assert count_macs(conv, torch.zeros(1, 3, 16, 16)) == 3 * 8 * 9 * 64
    up = nn.ConvTranspose2d(4, 6, 2, stride=2)
    assert count_macs(up, torch.zeros(1, 4, 5, 5)) == 4 * 6 * 4 * 25
    assert count_macs(nn.Linear(7, 3), torch.zeros(1, 7)) == 21
    assert conv.training
    small, large = latencies_ms([nn.Conv2d(8, 8, 3), nn.Conv2d(8, 512, 5)], torch.zeros(1, 8, 40, 40))
    assert 0 < small < large
