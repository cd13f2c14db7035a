"""`facenet prune`: groups at every addition, the same network without its dead filters, files that reload and train."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from facetrain.configs.facenet.schema import FacenetPruneSpec, ModelConfig
from facetrain.configs.schema import PruneConfig, TrackConfig
from facetrain.errors import ConfigError
from facetrain.facenet_trainer.network import GridBoxNet, build_model, prune_graph
from facetrain.facenet_trainer.pretrained import load_network, start_network
from facetrain.facenet_trainer.prune import prune
from facetrain.tests import runs
from facetrain.training.complexity import count_macs, count_parameters
from facetrain.training.model_file import ModelMeta, save_model
from facetrain.training.prune_surgery import cut_weights
from facetrain.training.pruning import Layer, channels, find_groups, plan

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def small(num_layers=18, all_projections=True):
    """A network of 12 to 18 channels a layer with random statistics; what is added has the same number."""
    whole = build_model(ModelConfig(num_layers=num_layers, all_projections=all_projections), ["face"]).architecture
    counts = {name: 10 + 2 * int(name[6]) if name != "conv1" else 12 for name in whole.channels}
    network = GridBoxNet(replace(whole, channels=counts))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0.3, 0.5)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.bias)
    return network.eval()


def kill_filters(network, filters=(1, 4, 9)):
    """Zero kernels, with constants that only the heads see: elsewhere the padded border would show them."""
    for layer in prune_graph(network):
        if not isinstance(layer, Layer) or layer.output:
            continue
        network.get_submodule(layer.module).weight.data[list(filters)] = 0
        bn = network.get_submodule(layer.bn)
        last = layer.name in ("block_4b_conv_2", "block_4b_conv_shortcut")
        bn.weight.data[list(filters)] = 0.01  # so that beta decides
        bn.bias.data[list(filters)] = torch.tensor([0.5, 0.3, 0.1] if last else [-2.0, -1.0, -0.5])
    return network


def cut(network, threshold=0.0, granularity=1, min_filters=1, fold=True):
    graph = prune_graph(network)
    kept = plan(find_groups(graph, network), threshold, granularity, min_filters)
    smaller = GridBoxNet(replace(network.architecture, channels=channels(graph, kept)))
    smaller.load_state_dict(cut_weights(graph, network, kept, fold))
    return smaller.eval()


@pytest.mark.parametrize("all_projections", [True, False])
def test_only_dead_filters_cut_computes_the_same(all_projections):
    network = kill_filters(small(all_projections=all_projections))
    smaller = cut(network)
    before = network.architecture.channels
    assert smaller.architecture.channels == {name: count - 3 for name, count in before.items()}
    pictures = torch.rand(2, 3, 64, 96)
    for found, expected in zip(smaller(pictures), network(pictures), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    if all_projections:  # the constants reach the heads, and matter
        forgetful = cut(network, fold=False)
        assert (forgetful(pictures).coverage_logits - network(pictures).coverage_logits).abs().max() > 1e-3


def test_groups_are_sub_blocks_with_projections_and_stages_without():
    def joined(network):
        return [group.layers for group in find_groups(prune_graph(network), network) if len(group.layers) > 1]

    assert joined(small()) == [
        (f"block_{stage}{letter}_conv_2", f"block_{stage}{letter}_conv_shortcut")
        for stage in range(1, 5)
        for letter in "ab"
    ]
    assert joined(small(all_projections=False)) == [
        (f"block_{stage}a_conv_2", f"block_{stage}a_conv_shortcut", f"block_{stage}b_conv_2") for stage in range(1, 5)
    ]


def test_heads_lose_inputs_and_nothing_else():
    network = small()
    smaller = cut(network, threshold=0.99, min_filters=4)
    assert smaller.output_bbox.weight.shape == (4, smaller.architecture.channels["block_4b_conv_2"], 1, 1)
    assert smaller.output_cov.out_channels == 1
    assert smaller.architecture.channels["block_4b_conv_2"] < 18


def test_cost_of_the_card():
    network = build_model(ModelConfig(), ["face"]).eval()
    assert count_parameters(network) == 11_550_853
    # A quarter of the picture 416x736 costs a quarter of its 19.22 GMAC.
    assert 4 * count_macs(network, torch.zeros(1, 3, 208, 368)) / 1e9 == pytest.approx(19.22, abs=0.01)


def model_file(folder, network):
    size = {"width": 96, "height": 64}
    meta = ModelMeta(network.architecture.to_dict(), {"classes": ["face"]}, size, {"seed": 1}, {"ap": 0.5})
    save_model(folder / "model.safetensors", network.state_dict(), meta)
    return str(folder / "model.safetensors")


def spec(folder, model, **prune_values):
    return FacenetPruneSpec(
        model=model,
        results_dir=str(folder / "pruned"),
        track=TrackConfig(csv=False),
        report=False,
        prune=PruneConfig(**prune_values),
    )


def test_the_verb_writes_a_file_that_reloads_and_trains(tmp_path, capsys):
    network = kill_filters(small())
    wanted = spec(tmp_path, model_file(tmp_path, network), threshold=0.0, granularity=1, min_filters=1)
    result = prune(replace(wanted, report=True))
    assert f"Pruning ratio (pruned model / original model): {result.ratio}" in capsys.readouterr().out
    path = tmp_path / "pruned" / "pruned.safetensors"
    smaller, meta = load_network(str(path))
    assert smaller.architecture.pruned
    assert meta.metrics == {}
    assert meta.preprocessing == {"width": 96, "height": 64}
    assert result.ratio == count_parameters(smaller) / count_parameters(network) < 0.75
    pictures = torch.rand(1, 3, 64, 96)
    torch.testing.assert_close(smaller.eval()(pictures).bbox, network(pictures).bbox, atol=1e-5, rtol=1e-5)
    (status,) = runs.json_lines(tmp_path / "pruned" / "status.json")
    assert status["kpi"]["param_count"] == count_parameters(smaller)
    assert "block_4b_conv_shortcut" in (tmp_path / "pruned" / "report.html").read_text()

    start, lines = start_network(ModelConfig(pretrained=str(path)), ["face"])
    assert "pruned" in lines[0]
    optimizer = torch.optim.Adam(start.parameters(), 1e-3)
    losses = []
    for _ in range(3):
        out = start.train()(pictures)
        loss = out.bbox.square().mean() + nn.functional.softplus(out.coverage_logits).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_a_quarter_of_the_parameters(tmp_path):
    network = build_model(ModelConfig(num_layers=10), ["face"])
    result = prune(spec(tmp_path, model_file(tmp_path, network), target="parameters", target_share=0.25))
    assert 0.2 < result.ratio <= 0.25
    assert all(layer.after % 8 == 0 and layer.after >= 16 for layer in result.layers if layer.note != "output")


def test_an_excluded_shortcut_keeps_its_sub_block_whole(tmp_path):
    model = model_file(tmp_path, small())
    wanted = spec(tmp_path, model, threshold=0.95, granularity=1, min_filters=4)
    result = prune(replace(wanted, prune=replace(wanted.prune, excluded_layers=["block_2a_conv_shortcut"])))
    changes = {layer.name: layer for layer in result.layers}
    assert changes["block_2a_conv_2"].after == changes["block_2a_conv_2"].before
    assert changes["block_2a_conv_2"].note == "excluded"
    assert changes["block_2a_conv_1"].after < changes["block_2a_conv_1"].before


def test_nothing_left_of_a_layer(tmp_path):
    model = model_file(tmp_path, small())
    with pytest.raises(ConfigError, match=r"prune.threshold=1.5 would leave nothing of conv1"):
        prune(spec(tmp_path, model, threshold=1.5, min_filters=0))
