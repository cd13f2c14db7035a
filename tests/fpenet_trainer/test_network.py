"""The network is the reference's: sizes, order of joining, initial weights, soft-argmax."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from facetrain.configs.fpenet.schema import ModelConfig
from facetrain.errors import ConfigError
from facetrain.fpenet_trainer.network import (
    Architecture,
    RecombinatorNet,
    _recombine,
    build_model,
    folded_weights,
    soft_argmax,
)


@pytest.fixture(autouse=True)
def _seeded(one_thread):
    torch.manual_seed(0)


def count(**config) -> int:
    return sum(p.numel() for p in build_model(ModelConfig(**config)).parameters())


@pytest.mark.parametrize(
    ("variant", "upsampling", "expected"),
    [
        ("public", "deconv", (571_204, 571_984, 573_544, 567_434)),
        ("public", "nearest", (571_204, 571_984, 573_544, 567_434)),  # public is always deconv
        ("release", "deconv", (509_828, 510_608, 512_168, 506_058)),  # release is always nearest
        ("base", "deconv", (575_364, 576_144, 577_704, 571_594)),
        ("base", "nearest", (509_828, 510_608, 512_168, 506_058)),
        ("base_5x5_conv", "deconv", (1_095_492, 1_096_272, 1_097_832, 1_091_722)),
        ("base_5x5_conv", "nearest", (1_029_956, 1_030_736, 1_032_296, 1_026_186)),
    ],
)
def test_parameter_counts(variant, upsampling, expected):
    counts = [count(variant=variant, upsampling=upsampling, num_keypoints=k) for k in (68, 80, 104, 10)]
    assert tuple(counts) == expected


@pytest.mark.parametrize(
    ("keras_total", "config"),
    [
        (588_944, {"variant": "base", "num_keypoints": 80}),
        (588_164, {"variant": "base", "num_keypoints": 68}),
        (523_408, {"variant": "base", "upsampling": "nearest", "num_keypoints": 80}),
        (1_109_072, {"variant": "base_5x5_conv", "num_keypoints": 80}),
    ],
)
def test_counts_are_keras_totals_less_the_soft_argmax_constants(keras_total, config):
    assert count(**config) == keras_total - 2 * 80 * 80


def test_base_has_38_tensors_in_17_convolutions():
    model = build_model(ModelConfig(variant="base"))
    assert len(list(model.parameters())) == 38
    assert sum(isinstance(m, torch.nn.Conv2d) for m in model.modules()) == 17


@pytest.mark.parametrize("size", [80, 64, 112])
def test_shapes(size):
    model = build_model(ModelConfig(num_keypoints=7, width=8, input_size=size, visibility_head=True))
    out = model(torch.rand(2, 1, size, size) * 255)
    assert out.points.shape == (2, 7, 2)
    assert out.confidence.shape == (2, 7)
    assert out.heatmaps.shape == (2, 7, size, size)
    assert out.visibility.shape == (2, 7)
    assert {t.dtype for t in out} == {torch.float32}
    assert build_model(ModelConfig(num_keypoints=7, width=8))(torch.rand(1, 1, size, size)).visibility is None


def test_size_that_four_poolings_cannot_halve():
    with pytest.raises(ConfigError, match=r"model.input_size=100: .*multiple of 16"):
        build_model(ModelConfig(input_size=100))


def test_flat_map_points_at_the_middle():
    points, confidence, _ = soft_argmax(torch.full((1, 2, 80, 80), 3.0), 1.0)
    torch.testing.assert_close(points, torch.full((1, 2, 2), 39.5), atol=1e-4, rtol=0)
    torch.testing.assert_close(confidence, torch.full((1, 2), 1 / 6400))


def test_one_hot_map_points_at_column_then_row():
    heatmaps = torch.zeros(1, 2, 80, 96)
    heatmaps[0, 0, 7, 91] = 1000
    heatmaps[0, 1, 79, 0] = 1000
    points, confidence, maps = soft_argmax(heatmaps, 1.0)
    assert points.tolist() == [[[91, 7], [0, 79]]]  # x is the column
    torch.testing.assert_close(confidence, torch.ones(1, 2))
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(1, 2))


def test_soft_argmax_is_the_expected_position_under_beta():
    heatmaps = torch.zeros(1, 1, 16, 16)
    heatmaps[0, 0, 4, 2], heatmaps[0, 0, 4, 10] = 400, 400 + 10 * math.log(3)  # 10 = 1 / beta
    points, confidence, _ = soft_argmax(heatmaps, 0.1)  # shares 1/4 and 3/4
    torch.testing.assert_close(points, torch.tensor([[[8.0, 4.0]]]))
    torch.testing.assert_close(confidence, torch.tensor([[0.75]]))


def test_soft_argmax_stays_float32_under_autocast():
    model = build_model(ModelConfig(num_keypoints=5, width=8, visibility_head=True))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(torch.rand(1, 1, 80, 80) * 255)
    assert out.heatmaps.dtype == torch.bfloat16  # the convolutions did run in bf16
    assert out.points.dtype == out.confidence.dtype == out.visibility.dtype == torch.float32
    points, _, _ = soft_argmax(out.heatmaps.double(), model.architecture.beta)
    torch.testing.assert_close(out.points.double(), points, atol=1e-4, rtol=0)


def test_initial_weights():
    model = build_model(ModelConfig(variant="base_5x5_conv", num_keypoints=80))
    convs = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    for conv in convs:
        area = conv.kernel_size[0] * conv.kernel_size[1]
        limit = math.sqrt(6 / (area * (conv.in_channels + conv.out_channels)))
        assert 0.98 * limit < conv.weight.abs().max() <= limit
        assert not conv.bias.any()
    for deconv in model.up:
        assert deconv.bias is None
        assert 0.152 < deconv.weight.abs().max() <= 0.1531


def test_visibility_head_leaves_the_other_outputs_alone():
    images = torch.rand(2, 1, 80, 80) * 255
    plain = build_model(ModelConfig(num_keypoints=68, width=16))
    headed = build_model(ModelConfig(num_keypoints=68, width=16, visibility_head=True))
    result = headed.load_state_dict(plain.state_dict(), strict=False)
    assert result.missing_keys == ["visibility.weight", "visibility.bias"]
    for a, b in zip(plain(images)[:3], headed(images)[:3], strict=True):
        assert torch.equal(a, b)


def test_visibility_is_not_learnt_by_moving_the_points():
    model = build_model(ModelConfig(num_keypoints=3, width=8, visibility_head=True))
    model(torch.rand(1, 1, 80, 80) * 255).visibility.sum().backward()
    assert model.keypoints.weight.grad is None
    assert model.visibility.weight.grad.abs().sum() > 0
    assert model.encoder[0][0].weight.grad.abs().sum() > 0


def test_input_scale_folds_into_the_first_convolution_without_changing_a_bit():
    architecture = Architecture(num_keypoints=9, width=16)
    model = RecombinatorNet(architecture)
    torch.nn.init.normal_(model.encoder[0][0].bias)
    folded = RecombinatorNet(Architecture(num_keypoints=9, width=16, input_scale=1.0))
    state = dict(model.state_dict())
    state["encoder.0.0.weight"] = state["encoder.0.0.weight"] * architecture.input_scale
    folded.load_state_dict(state)
    images = torch.randint(0, 256, (2, 1, 80, 80)).float()
    for a, b in zip(model(images)[:3], folded(images)[:3], strict=True):
        assert torch.equal(a, b)


def test_architecture_survives_the_model_file():
    architecture = Architecture(variant="base", beta=0.1, visibility_head=True, upsampling="nearest")
    assert Architecture.from_dict(architecture.to_dict()) == architecture


def reference(weights: dict[str, torch.Tensor], image: torch.Tensor, neck: bool, deconv: bool, kernel: int):
    """The graph of the reference's table, layer by layer, on our weights."""

    def conv(x, name, k=3):
        return F.relu(F.conv2d(x, weights[f"{name}.0.weight"], weights[f"{name}.0.bias"], padding=k // 2))

    s1 = conv(image / 256, "encoder.0")
    s2 = conv(F.max_pool2d(s1, 2), "encoder.1")
    s3 = conv(F.max_pool2d(s2, 2), "encoder.2")
    s4 = conv(F.max_pool2d(s3, 2), "encoder.3")
    x = F.max_pool2d(s4, 2)
    x = conv(conv(conv(x, "trunk.0"), "trunk.1"), "trunk.2", 1)
    for i, skip in enumerate((s4, s3, s2, s1)):
        if deconv:
            up = F.conv_transpose2d(x, weights[f"up.{i}.weight"], stride=2)
        else:
            up = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        x = torch.cat([up, skip], dim=1)  # up-sampled first, skip second
        x = conv(conv(x, f"decoder.{i}.0", kernel), f"decoder.{i}.1", 1)
    if neck:
        x = conv(x, "neck", 1)
    maps = F.conv2d(x, weights["keypoints.weight"], weights["keypoints.bias"])
    p = torch.softmax(maps.flatten(2), dim=2).view_as(maps)
    grid = torch.arange(80.0)
    return torch.stack([(p * grid).sum(dim=(2, 3)), (p * grid[:, None]).sum(dim=(2, 3))], dim=2), maps


@pytest.mark.parametrize(
    ("variant", "upsampling", "kernel"),
    [("public", "deconv", 3), ("release", "nearest", 3), ("base", "deconv", 3), ("base_5x5_conv", "nearest", 5)],
)
def test_graph(variant, upsampling, kernel):
    model = build_model(ModelConfig(variant=variant, upsampling=upsampling, num_keypoints=6, width=12))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    image = torch.rand(1, 1, 80, 80) * 255
    out = model(image)
    points, maps = reference(
        dict(model.state_dict()), image, variant in ("base", "release"), upsampling == "deconv", kernel
    )
    torch.testing.assert_close(out.heatmaps, maps, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out.points, points, atol=1e-3, rtol=0)


@pytest.mark.parametrize("variant", ["public", "release"])
def test_batch_norm_folds_into_the_plain_network(variant):
    config = ModelConfig(variant=variant, num_keypoints=68, batch_norm=True, visibility_head=True)
    network = build_model(config)
    images = torch.rand(4, 1, 80, 80) * 255
    for _ in range(3):  # running statistics that are not those of a fresh layer
        network(images)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 1, 0.3)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    network.eval()
    plain = build_model(ModelConfig(variant=variant, num_keypoints=68, visibility_head=True)).eval()
    plain.load_state_dict(folded_weights(network))
    with torch.no_grad():
        expected, found = network(images), plain(images)
    assert expected.heatmaps.std() > 0.05
    assert_close(found.heatmaps, expected.heatmaps, atol=1e-4, rtol=1e-4)
    assert_close(found.visibility, expected.visibility, atol=1e-4, rtol=1e-4)


def test_without_batch_norm_folding_changes_nothing():
    network = build_model(ModelConfig(variant="release"))
    folded = folded_weights(network)
    assert list(folded) == list(network.state_dict())
    assert all(torch.equal(folded[name], value) for name, value in network.state_dict().items())


def test_training_short_cut_is_exact_with_batch_norm():
    network = build_model(ModelConfig(variant="release", num_keypoints=68, width=16, batch_norm=True)).double()
    join, up = network.decoder[0], network.up[0]
    x, skip = (torch.rand(2, 16, side, side, dtype=torch.float64) for side in (3, 6))
    assert_close(_recombine(up, join, x, skip), join(torch.cat([up(x), skip], dim=1)))
