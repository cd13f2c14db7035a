"""The network is the reference's: sizes, graph, initial weights, decoding; and it rebuilds itself from a file."""

import json
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from facetrain.configs.facenet.schema import ModelConfig
from facetrain.errors import ModelFileError
from facetrain.facenet_trainer.network import GridBoxArchitecture, GridBoxNet, build_model, decode_boxes, prune_graph
from facetrain.training.complexity import count_macs
from facetrain.training.pruning import Layer, channels, find_groups, plan

pytestmark = pytest.mark.usefixtures("one_thread")


def build(classes: tuple[str, ...] = ("face",), **config) -> GridBoxNet:
    torch.manual_seed(0)
    return build_model(ModelConfig(**config), classes)


def narrow(width: int = 8, **config) -> GridBoxNet:
    """A network of a few channels, so that tests are fast, with biases and batch statistics that matter."""
    architecture = build(**config).architecture
    torch.manual_seed(1)
    network = GridBoxNet(replace(architecture, channels=dict.fromkeys(architecture.channels, width)))
    for name, value in network.state_dict().items():
        if "bn" in name and value.is_floating_point():
            torch.nn.init.uniform_(value, 0.5, 1.5)
        elif name.endswith("bias"):
            torch.nn.init.normal_(value)
    return network.eval()


def keras_count(network: GridBoxNet) -> int:
    """Parameters with the running statistics, as Keras counts them."""
    state = network.state_dict()
    return sum(value.numel() for name, value in state.items() if not name.endswith("num_batches_tracked"))


@pytest.mark.parametrize(
    ("classes", "config", "expected"),
    [
        (("face",), {}, 11_550_853),
        (("face",), {"all_projections": False}, 11_197_893),
        (("a", "b", "c"), {}, 11_555_983),
    ],
)
def test_counts_of_the_reference(classes, config, expected):
    assert keras_count(build(classes, **config)) == expected


def test_parts_of_the_count():
    network = build()
    assert sum(p.numel() for p in network.parameters()) == 11_539_205
    assert sum(p.numel() for m in network.modules() if isinstance(m, torch.nn.Conv2d) for p in m.parameters()) == (
        11_527_557
    )


@pytest.mark.parametrize(
    ("layers", "projections", "convs"), [(10, True, 15), (18, True, 27), (34, True, 51), (34, False, 39)]
)
def test_depths(layers, projections, convs):
    network = build(num_layers=layers, all_projections=projections)
    assert sum(isinstance(m, torch.nn.Conv2d) for m in network.modules()) == convs
    assert network(torch.rand(1, 3, 48, 64)).bbox.shape == (1, 4, 3, 4)


def test_outputs_and_cost_at_the_cards_size():
    picture = torch.rand(1, 3, 416, 736, device="meta")  # shapes without the sums
    network = build().to("meta")
    out = network(picture)
    assert out.bbox.shape == (1, 4, 26, 46)
    assert out.coverage_logits.shape == (1, 1, 26, 46)
    assert count_macs(network, picture) / 1e9 == pytest.approx(19.22, abs=0.005)
    assert count_macs(build(all_projections=False).to("meta"), picture) / 1e9 == pytest.approx(18.67, abs=0.005)


def test_pooling_variant_has_the_stride_of_its_pools():
    network = build(("a", "b"), use_pooling=True).eval()
    assert network.stride == 224
    assert network(torch.rand(1, 3, 224, 448)).bbox.shape == (1, 8, 1, 2)
    assert keras_count(network) == keras_count(build(("a", "b")))


def test_initial_weights_and_batch_norm_constants():
    network = build()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            area = module.kernel_size[0] * module.kernel_size[1]
            limit = math.sqrt(6 / (area * (module.in_channels + module.out_channels)))
            assert 0.9 * limit < module.weight.abs().max() <= limit
            if module not in (network.output_bbox, network.output_cov):
                assert not module.bias.any()
        elif isinstance(module, torch.nn.BatchNorm2d):
            assert (module.eps, module.momentum) == (1e-3, 0.01)
    assert torch.allclose(network.output_cov.bias.sigmoid(), torch.tensor(0.01))
    boxes = network.decode(network.output_bbox.bias.view(1, 4, 1, 1))
    assert boxes.flatten().tolist() == [-17, -17, 18, 18]  # open, around the first cell's first pixel


def reference(network: GridBoxNet, x: torch.Tensor, repeats: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """The reference's table (gridbox §1.1), layer by layer under its own names, on our weights."""
    weights = {name.replace(".", "_"): value for name, value in network.state_dict().items()}

    def conv(x, name, kernel, stride=1):
        return F.conv2d(x, weights[f"{name}_weight"], weights[f"{name}_bias"], stride, padding=kernel // 2)

    def bn(x, name):
        mean, variance, scale, shift = (
            weights[f"{name}_{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-3).sqrt() * scale + shift

    x = F.relu(bn(conv(x, "conv1", 7, 2), "bn_conv1"))
    for stage, (count, first) in enumerate(zip(repeats, (2, 2, 2, 1), strict=True), start=1):
        for index in range(count):
            name, stride = f"block_{stage}{'abcdef'[index]}", first if index == 0 else 1
            y = F.relu(bn(conv(x, f"{name}_conv_1", 3, stride), f"{name}_bn_1"))
            y = bn(conv(y, f"{name}_conv_2", 3), f"{name}_bn_2")
            if f"{name}_conv_shortcut_weight" in weights:
                x = bn(conv(x, f"{name}_conv_shortcut", 1, stride), f"{name}_bn_shortcut")
            x = F.relu(x + y)
    return conv(x, "output_bbox", 1), conv(x, "output_cov", 1)


@pytest.mark.parametrize(
    ("layers", "projections", "repeats"),
    [(18, True, (2, 2, 2, 2)), (10, False, (1, 1, 1, 1)), (34, False, (3, 4, 6, 3))],
)
def test_graph(layers, projections, repeats):
    network = narrow(num_layers=layers, all_projections=projections)
    image = torch.rand(2, 3, 64, 96)
    out = network(image)
    bbox, coverage = reference(network, image, repeats)
    assert out.bbox.std(dim=(0, 2, 3)).min() > 0.1  # the picture comes through
    torch.testing.assert_close(out.bbox, bbox, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(out.coverage_logits, coverage, atol=1e-4, rtol=1e-4)


def test_decode_by_hand():
    bbox = torch.zeros(1, 8, 2, 3)
    bbox[0, :4, 1, 2] = torch.tensor([1.0, 0.5, 2.0, 0.1])
    bbox[0, 4:, 0, 1] = torch.tensor([-0.1, 3.0, 40.0, 40.0])
    boxes = decode_boxes(bbox, 16, 35.0, 0.5)
    assert boxes.shape == (1, 2, 6, 4)
    torch.testing.assert_close(boxes[0, 0, 5], torch.tensor([-2.5, -1.0, 102.5, 20.0]))
    torch.testing.assert_close(boxes[0, 1, 1], torch.tensor([20.0, -104.5, 1416.5, 1400.5]))
    clipped = decode_boxes(bbox, 16, 35.0, 0.5, size=(48, 32))
    torch.testing.assert_close(clipped[0, 0, 5], torch.tensor([0.0, 0.0, 48.0, 20.0]))
    torch.testing.assert_close(clipped[0, 1, 1], torch.tensor([20.0, 0.0, 48.0, 32.0]))


def test_clipping_keeps_left_of_right():
    bbox = torch.tensor([-2.0, -2.0, -3.0, -3.0])[None, :, None, None]  # inside out, and beyond the picture
    assert decode_boxes(bbox, 16, 35.0, 0.5, size=(32, 48)).flatten().tolist() == [32.0, 48.0, 32.0, 48.0]


def test_scale_and_offset_are_the_networks_own():
    network = build(bbox_scale=10.0, bbox_offset=8.0)
    assert network.decode(torch.ones(1, 4, 1, 1)).flatten().tolist() == [-2.0, -2.0, 18.0, 18.0]


def test_a_pruned_network_rebuilds_itself():
    network = narrow()
    kept = plan(find_groups(prune_graph(network), network), 0.9, granularity=1, min_filters=2)
    smaller = channels(prune_graph(network), kept)
    assert smaller.keys() == network.architecture.channels.keys()
    architecture = replace(network.architecture, channels=smaller, bbox_offset=8.0)
    assert architecture.pruned
    rebuilt = GridBoxArchitecture.from_dict(json.loads(json.dumps(architecture.to_dict())))
    assert rebuilt == architecture
    out = GridBoxNet(rebuilt)(torch.rand(2, 3, 32, 32))
    assert out.bbox.shape == (2, 4, 2, 2)


@pytest.mark.parametrize("projections", [True, False])
def test_graph_for_pruning_names_every_layer(projections):
    network = build(all_projections=projections)
    layers = [node for node in prune_graph(network) if isinstance(node, Layer)]
    convs = {name for name, module in network.named_modules() if isinstance(module, torch.nn.Conv2d)}
    norms = {name for name, module in network.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    assert {layer.module for layer in layers} == convs
    assert {layer.bn for layer in layers if layer.bn} == norms
    assert all(layer.name == layer.module.replace(".", "_") for layer in layers)
    joined = {group.layers for group in find_groups(prune_graph(network), network) if len(group.layers) > 1}
    if projections:  # a group at every addition
        assert ("block_4b_conv_2", "block_4b_conv_shortcut") in joined
        assert len(joined) == 8
    else:  # the identities join a whole stage
        assert ("block_4a_conv_2", "block_4a_conv_shortcut", "block_4b_conv_2") in joined
        assert len(joined) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block_2a_conv_2": 5}, "block_2a_conv_2 has 5 channels and block_2a_conv_shortcut, which it is added to"),
        ({"block_1a_conv_1": 0}, "block_1a_conv_1 has 0 channels"),
        ({"conv_9": 8}, "its channels and its layers differ in conv_9"),
    ],
)
def test_channels_that_do_not_fit(change, message):
    channels = build().architecture.channels | change
    with pytest.raises(ModelFileError, match=message):
        GridBoxArchitecture(channels=channels)


def test_identity_shortcuts_need_equal_channels():
    channels = build(all_projections=False).architecture.channels | {"block_3b_conv_2": 100}
    with pytest.raises(ModelFileError, match="block_3b_conv_2 has 100 channels and block_3a_conv_2"):
        GridBoxArchitecture(all_projections=False, channels=channels)


def test_frozen_batch_norm_stays_so_in_training():
    network = narrow()
    network.bn_frozen = True
    before = {name: value.clone() for name, value in network.state_dict().items() if "running" in name}
    network.train()
    network(torch.rand(2, 3, 32, 32)).bbox.sum().backward()
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert network.bn_conv1.weight.grad.abs().sum() > 0
    assert network.conv1.training
