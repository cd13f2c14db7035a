"""`fpenet prune`: the same network without its dead filters, files that reload and train, and the zoo model."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import nn

from facetrain.configs.fpenet.schema import FpenetPruneSpec, ModelConfig
from facetrain.configs.schema import PruneConfig, TrackConfig
from facetrain.errors import ConfigError, ModelFileError
from facetrain.fpenet_trainer.network import Architecture, RecombinatorNet, build_model
from facetrain.fpenet_trainer.predictor import load_network
from facetrain.fpenet_trainer.prune import prune, prune_graph
from facetrain.tests import runs
from facetrain.training.complexity import count_macs, count_parameters
from facetrain.training.prune_surgery import cut_weights
from facetrain.training.pruning import Layer, channels, find_groups, plan

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


FACES = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 255
VARIANTS = [("public", "deconv"), ("release", "nearest"), ("base", "deconv"), ("base_5x5_conv", "nearest")]


def with_dead_filters(variant, upsampling, constants):
    """A network in which every second to eighth filter of each layer has a kernel of zeros and a random bias.

    `constants`: the dead filters of layers that only 1x1 convolutions read have positive biases; the others never, for
    at the padded border a folded constant is not exact.
    """
    config = ModelConfig(variant=variant, upsampling=upsampling, num_keypoints=5, width=12, visibility_head=True)
    network = build_model(config).eval()
    readers = {}
    graph = prune_graph(network)
    for layer in graph:
        for source in layer.inputs:
            readers.setdefault(source, []).append(network.get_submodule(layer.module))
    for layer in graph:
        module = network.get_submodule(layer.module)
        if module.bias is not None:
            nn.init.normal_(module.bias, std=0.2)
        if layer.output:
            continue
        filters = module.weight.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) else module.weight
        filters.data[2:8] = 0
        if module.bias is not None:
            folded = constants and all(getattr(r, "kernel_size", (1, 1)) == (1, 1) for r in readers[layer.name])
            module.bias.data[2:8] = module.bias[2:8].abs() * (1 if folded else -1)
    return network


def cut(network, threshold=0.0, granularity=1, min_filters=1):
    graph = prune_graph(network)
    kept = plan(find_groups(graph, network), threshold, granularity, min_filters)
    smaller = RecombinatorNet(replace(network.architecture, channels=channels(graph, kept)))
    smaller.load_state_dict(cut_weights(graph, network, kept, fold_constants=True))
    return smaller.eval()


@pytest.mark.parametrize(("variant", "constants"), list(product(VARIANTS, [False, True])))
def test_only_dead_filters_cut_computes_the_same(variant, constants):
    network = with_dead_filters(*variant, constants)
    smaller = cut(network)
    assert set(smaller.architecture.channels.values()) == {6}
    for found, expected in zip(smaller(FACES), network(FACES), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_training_short_cut_is_right_with_unequal_channels():
    names = [layer.name for layer in prune_graph(build_model(ModelConfig(variant="release"))) if not layer.output]
    counts = {name: 3 + 2 * i for i, name in enumerate(names)}
    network = RecombinatorNet(Architecture(variant="release", num_keypoints=4, channels=counts))
    torch.testing.assert_close(network.train()(FACES).heatmaps, network.eval()(FACES).heatmaps, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("variant", "upsampling"), VARIANTS)
def test_the_graph_names_every_weight_once(variant, upsampling):
    network = build_model(ModelConfig(variant=variant, upsampling=upsampling, num_keypoints=5, visibility_head=True))
    graph = prune_graph(network)
    modules = [layer.module for layer in graph]
    assert sorted(modules) == sorted({name.rsplit(".", 1)[0] for name in network.state_dict()})
    assert [layer.name for layer in graph if layer.output] == ["keypoints", "visibility"]
    widths = {layer.name: layer for layer in graph}
    assert all(isinstance(layer, Layer) and all(source in widths for source in layer.inputs) for layer in graph)
    # The channel map at full width is the network itself.
    full = RecombinatorNet(replace(network.architecture, channels=dict.fromkeys(widths, 64)))
    assert {n: w.shape for n, w in full.state_dict().items()} == {n: w.shape for n, w in network.state_dict().items()}


def test_cost_of_the_original():
    network = build_model(ModelConfig(variant="release", num_keypoints=80))
    assert count_parameters(network) == 510_608
    assert 2 * count_macs(network, torch.zeros(1, 1, 80, 80)) / 1e9 == pytest.approx(1.61, abs=0.01)


def spec(folder, **values):
    track = TrackConfig(csv=False)
    return FpenetPruneSpec(**{"results_dir": str(folder), "track": track, "report": False, **values})


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """The zoo model at 0.5 and at least 40 filters, through the console command, and what it printed."""
    folder = tmp_path_factory.mktemp("prune") / "results"
    command = [
        sys.executable,
        "-m",
        "facetrain",
        "fpenet",
        "prune",
        "model=zoo",
        "prune.threshold=0.5",
        "prune.min_filters=40",
    ]
    done = subprocess.run([*command, "-r", str(folder)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_zoo_model_on_the_command_line(pruned):
    folder, out = pruned
    network, meta = load_network(str(folder / "pruned.safetensors"))
    source, source_meta = load_network("zoo")
    ratio = count_parameters(network) / count_parameters(source)
    assert 0.3 < ratio < 0.95
    assert f"Pruning ratio (pruned model / original model): {ratio}" in out
    assert "prune.min_filters kept more than the threshold alone would have of encoder.0" in out
    assert min(network.architecture.channels.values()) == 40
    assert network.architecture == replace(source.architecture, channels=network.architecture.channels)
    assert network.keypoints.out_channels == 68
    assert (meta.scheme, meta.preprocessing) == (source_meta.scheme, source_meta.preprocessing)
    assert meta.metrics == {}
    assert meta.config["data"] == source_meta.config["data"]
    assert meta.config["prune"]["threshold"] == 0.5

    with open(folder / "layers.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["layer", "before", "after", "note"]
    assert ["encoder.0", "64", "40", "min_filters"] in rows
    assert ["keypoints", "68", "68", "output"] in rows
    assert {name: int(after) for name, _, after, _ in rows[1:-1]} == network.architecture.channels
    content = json.loads((folder / "prune.json").read_text())
    assert content["pruning_ratio"] == ratio
    assert content["parameters_before"] == count_parameters(source)
    assert 0 < content["gmac_after"] < content["gmac_before"]
    assert content["latency_ms_after"] > 0

    (status,) = runs.json_lines(folder / "status.json")
    assert status["status"] == "SUCCESS"
    assert status["kpi"]["pruning_ratio"] == ratio
    assert status["kpi"]["param_count"] == count_parameters(network)
    assert status["kpi"]["size"] == (folder / "pruned.safetensors").stat().st_size
    page = (folder / "report.html").read_text()
    for text in ("decoder.2.0", "min_filters", "latency, ms", "<svg"):
        assert text in page
    assert (folder / "channels.png").stat().st_size > 1000


def test_it_trains_on_from_the_pruned_file(pruned, faces, tmp_path, no_report, capsys):
    folder, _ = pruned
    start, _ = load_network(str(folder / "pruned.safetensors"))
    run = runs.train(
        faces, tmp_path / "run", f"train.pretrained={folder / 'pruned.safetensors'}", "train.epochs=1",
        "data.train=[{format: pts, path: ., count: 8}]",
    )  # fmt: skip
    assert f"from {folder / 'pruned.safetensors'}" in capsys.readouterr().out
    network, _ = load_network(str(run / "last.safetensors"))
    assert network.architecture == start.architecture
    assert not torch.equal(network.encoder[1][0].weight, start.encoder[1][0].weight)


def test_a_pruned_network_is_pruned_again(pruned, tmp_path):
    folder, _ = pruned
    again = prune(spec(tmp_path, model=str(folder / "pruned.safetensors"), prune=PruneConfig(threshold=0.8)))
    assert again.ratio < 0.9
    assert load_network(str(tmp_path / "pruned.safetensors"))[0].architecture.channels == again.channels
    assert all(layer.after <= layer.before for layer in again.layers)


def test_a_budget_of_parameters(tmp_path):
    wanted = PruneConfig(target="parameters", target_share=0.3, excluded_layers=["encoder.0"])
    result = prune(spec(tmp_path, prune=wanted))
    assert 0.25 < result.ratio <= 0.3
    assert result.layers[0].note == "excluded" and result.layers[0].after == 64
    _, meta = load_network(str(tmp_path / "pruned.safetensors"))
    assert meta.config["prune"]["threshold"] == result.threshold


def test_results_are_not_written_over(tmp_path):
    prune(spec(tmp_path, prune=PruneConfig(threshold=0.5)))
    with pytest.raises(ConfigError, match=r"holds results: choose another folder, or .* overwrite=true"):
        prune(spec(tmp_path))
    prune(spec(tmp_path, overwrite=True, prune=PruneConfig(threshold=0.6)))
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(ConfigError, match="folder of a training run"):
        prune(spec(tmp_path, overwrite=True))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PruneConfig(threshold=1.0, min_filters=0), r"prune.threshold=1 would leave nothing of encoder\.0"),
        (PruneConfig(excluded_layers=["encoder.4"]), r"no layer 'encoder\.4'; did you mean encoder"),
        (PruneConfig(target="gmac", target_share=0.01), r"target_share=0.01: with min_filters=16 and granularity=8"),
    ],
)
def test_what_cannot_be_done_leaves_nothing_behind(tmp_path, config, message):
    with pytest.raises(ConfigError, match=message):
        prune(spec(tmp_path / "results", prune=config))
    assert not (tmp_path / "results").exists()


def test_a_file_whose_weights_are_not_those_of_its_channels(pruned, tmp_path):
    from facetrain.training.model_file import load_model, save_model

    weights, meta = load_model(pruned[0] / "pruned.safetensors")
    unpruned = {name: value for name, value in meta.architecture.items() if name != "channels"}
    save_model(tmp_path / "wrong.safetensors", weights, replace(meta, architecture=unpruned))
    with pytest.raises(ModelFileError, match="do not fit the architecture"):
        load_network(str(tmp_path / "wrong.safetensors"))
