"""Rounding in training is what an INT8 graph computes, and training makes up for it."""

import copy

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from facetrain.facenet_trainer.network import GridBoxArchitecture, GridBoxNet
from facetrain.facenet_trainer.network import prune_graph as facenet_graph
from facetrain.facenet_trainer.train import quantized_tensors as facenet_tensors
from facetrain.fpenet_trainer.network import Architecture, RecombinatorNet
from facetrain.fpenet_trainer.prune import prune_graph as fpenet_graph
from facetrain.fpenet_trainer.train import quantized_tensors as fpenet_tensors
from facetrain.training.qat import FakeQuantized, QuantizedTensor, plain, quantization, quantized_layers

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def float_network() -> nn.Sequential:
    """A convolution, a transposed one, and a head."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(8, 6, 2, stride=2), nn.ReLU(), nn.Conv2d(6, 2, 1)
    )


def small() -> FakeQuantized:
    """The same; all but the head is rounded."""
    layers = ["0", "2"]
    return FakeQuantized(float_network(), layers, [QuantizedTensor((name,), (f"{name}.input",)) for name in layers])


def images(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, 8, 10)


def fpenet(variant: str = "release", **architecture) -> FakeQuantized:
    """FPENet with what `train` rounds; grey crops of 16 pixels."""
    upsampling = "nearest" if variant == "release" else "deconv"
    network = RecombinatorNet(
        Architecture(variant=variant, num_keypoints=5, upsampling=upsampling, width=8, **architecture)
    )
    return FakeQuantized(network, quantized_layers(fpenet_graph(network)), fpenet_tensors(network))


def facenet(all_projections: bool) -> FakeQuantized:
    """ResNet-18 of 8 channels whose batch normalisation has seen something, one channel of it upside down."""
    whole = GridBoxArchitecture(all_projections=all_projections)
    network = GridBoxNet(
        GridBoxArchitecture(all_projections=all_projections, channels=dict.fromkeys(whole.channels, 8))
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias, std=0.1)
            module.weight.data[3] *= -1
    return FakeQuantized(network, quantized_layers(facenet_graph(network)), facenet_tensors(network))


def session(model: FakeQuantized) -> ort.InferenceSession:
    """The same as an INT8 graph: kernels stored as int8, quantise-dequantise pairs before the convolutions."""
    network, ranges = model.network, quantization(model)["ranges"]
    nodes, constants = [], []

    def constant(name, values):
        constants.append(numpy_helper.from_array(values, name))
        return name

    value = "images"
    for i, module in enumerate(network):
        if isinstance(module, nn.ReLU):
            nodes.append(helper.make_node("Relu", [value], [f"{i}.relu"]))
            value = f"{i}.relu"
            continue
        transposed = isinstance(module, nn.ConvTranspose2d)
        kernel = module.weight.detach().numpy()
        weight = f"{i}.weight"
        if str(i) in model.layers:
            scale = constant(f"{i}.scale", np.float32(ranges[f"{i}.input"] / 127))
            zero = constant(f"{i}.zero", np.int8(0))
            nodes.append(helper.make_node("QuantizeLinear", [value, scale, zero], [f"{i}.q"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"{i}.q", scale, zero], [f"{i}.dq"]))
            value, axis = f"{i}.dq", 1 if transposed else 0
            scales = np.abs(kernel).max(axis=tuple({0, 1, 2, 3} - {axis})) / np.float32(127)
            shape = [-1 if d == axis else 1 for d in range(4)]
            stored = constant(f"{i}.int8", np.rint(kernel / scales.reshape(shape)).astype(np.int8))
            more = [constant(f"{i}.scales", scales), constant(f"{i}.zeros", np.zeros(len(scales), np.int8))]
            nodes.append(helper.make_node("DequantizeLinear", [stored, *more], [weight], axis=axis))
        else:
            constant(weight, kernel)
        bias = constant(f"{i}.bias", module.bias.detach().numpy())
        op = "ConvTranspose" if transposed else "Conv"
        pads, strides = list(module.padding) * 2, list(module.stride)
        nodes.append(helper.make_node(op, [value, weight, bias], [f"{i}.conv"], pads=pads, strides=strides))
        value = f"{i}.conv"
    graph = helper.make_graph(
        nodes, "int8", [helper.make_tensor_value_info("images", TensorProto.FLOAT, [None, 3, None, None])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, None)], constants,
    )  # fmt: skip
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(built.SerializeToString(), options, providers=["CPUExecutionProvider"])


def test_computes_what_the_int8_graph_computes():
    """In training mode, on inputs twice as large as those calibrated on, so that some are clamped."""
    model = small()
    model.calibrate([images(16)])
    model.train()
    inputs = 2 * images()
    assert (inputs.abs() > model.ranges[0]).any()
    (expected,) = session(model).run(None, {"images": inputs.numpy()})
    actual = model(inputs).detach().numpy()
    np.testing.assert_allclose(actual, expected, atol=2e-6)
    kernels_unrounded = model.network(inputs).detach().numpy()
    assert np.abs(kernels_unrounded - expected).max() > 1e-3


def rounded(x: torch.Tensor, largest: float | torch.Tensor) -> torch.Tensor:
    scale = largest / 127
    return torch.clamp(torch.round(x / scale), -128, 127) * scale


@pytest.mark.parametrize("all_projections", [True, False])
@torch.no_grad()
def test_facenet_equals_the_folded_network_rounded(all_projections):
    """Block by block, with kernels rounded after the batch normalisation is folded into them, as the exporter does."""
    model = facenet(all_projections)
    pictures = torch.rand(3, 3, 64, 96)
    model.calibrate([pictures])
    ranges = quantization(model)["ranges"]
    network = model.network
    seen = {}
    for name in ("bn_conv1", *(block.name for block in network.architecture.sub_blocks())):

        def keep(_, inputs, output, name=name):
            seen[name] = inputs[0], output.clone()

        network.get_submodule(name).register_forward_hook(keep)
    model.train()(pictures)
    assert not network.training

    def conv(x, name, bn_name):
        layer, bn = network.get_submodule(name), network.get_submodule(bn_name)
        factor = bn.weight / (bn.running_var + bn.eps).sqrt()
        kernel = layer.weight * factor[:, None, None, None]
        kernel = rounded(kernel, kernel.abs().amax((1, 2, 3), keepdim=True))
        bias = bn.bias + (layer.bias - bn.running_mean) * factor
        x = rounded(x, ranges[f"{name}.input"])
        return F.conv2d(x, kernel, bias, layer.stride, layer.padding)

    expected = {"bn_conv1": conv(pictures, "conv1", "bn_conv1")}
    for block in network.architecture.sub_blocks():
        name = block.name
        x, _ = seen[name]
        inner = conv(x, f"{name}.conv_1", f"{name}.bn_1").relu()
        own = conv(inner, f"{name}.conv_2", f"{name}.bn_2")
        if block.projection:
            own = rounded(own, ranges[f"{name}.conv_2.output"])
            shortcut = conv(x, f"{name}.conv_shortcut", f"{name}.bn_shortcut")
        else:
            shortcut = rounded(x, ranges[f"{name}.conv_1.input"])
        expected[name] = (own + shortcut).relu()
    assert len(expected) == 9
    for name, output in expected.items():
        # What ends on the other side of a half, for sums in another order, is one in thousands.
        assert (seen[name][1] - output).abs().mean() < 1e-4 * output.abs().max(), name


@pytest.mark.parametrize("variant", ["release", "public"])
def test_fpenet_rounds_all_but_the_head(variant):
    """In training too, where the float network takes a short cut past some convolutions."""
    model = fpenet(variant, visibility_head=True)
    faces = 255 * torch.rand(6, 1, 16, 16)
    model.calibrate([faces])
    convolutions = [name for name, m in model.network.named_modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    assert sorted(model.layers) == sorted(set(convolutions) - {"keypoints"})
    ranges = quantization(model)["ranges"]
    assert sorted(ranges) == sorted(f"{name}.input" for name in model.layers)
    for skip, join in (("encoder.1", "decoder.3.0"), ("encoder.3", "decoder.1.0"), ("trunk.0", "decoder.0.0")):
        assert ranges[f"{skip}.0.input"] == ranges[f"{join}.0.input"]  # the exporter rounds a stage's features once
    assert len(set(ranges.values())) == len(ranges) - 4
    assert ranges["encoder.0.0.input"] == pytest.approx(faces.flatten(1).amax(1).quantile(0.99).item() / 256)
    training = model.train()(faces)
    assert torch.equal(training.points, model.eval()(faces).points)
    assert not torch.equal(training.points, model.network(faces).points)
    training.points.sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "visibility" not in name)


def test_names_of_facenets_tensors():
    ranges = quantization(facenet(False))["ranges"]
    first, second = "block_1a", "block_1b"
    assert [name for name in ranges if name.startswith(first)] == [
        f"{first}.conv_1.input", f"{first}.conv_shortcut.input", f"{first}.conv_2.input", f"{first}.conv_2.output",
        f"{first}.conv_shortcut.output",
    ]  # fmt: skip
    assert [name for name in ranges if name.startswith(second)] == [
        f"{second}.conv_1.input", f"{second}.conv_2.input", f"{second}.conv_2.output",
    ]  # fmt: skip
    assert not any(name.startswith("output_") for name in ranges)


def test_one_odd_sample_does_not_set_the_range_and_batches_do_not_matter():
    inputs = images(256)
    inputs[100] *= 1000
    start, ranges = small(), []
    for size in (256, 50, 1):
        model = copy.deepcopy(start)
        model.calibrate([*inputs.split(size), 1e9 * images()])  # what comes after is not looked at
        ranges.append(model.ranges)
    torch.testing.assert_close(ranges[1:], [ranges[0]] * 2, rtol=1e-6, atol=0)
    largest = inputs.abs().flatten(1).amax(dim=1).sort().values
    assert largest[-4] <= ranges[0][0] <= largest[-2] < 10


def test_what_is_always_zero_does_no_harm():
    model = small()
    model.network[0].weight.data[2:] = 0
    model.network[0].bias.data.fill_(-1e3)
    model.calibrate([images()])
    output = model(images())
    output.sum().backward()
    assert output.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_an_averaged_copy_is_a_model_of_its_own():
    model = small()
    model.calibrate([images(16)])
    average = AveragedModel(model, use_buffers=True)
    inputs = images()
    before = model(inputs)
    for parameter in average.module.parameters():
        parameter.data.zero_()
    average.module.ranges.fill_(1e3)
    assert torch.equal(model(inputs), before)
    assert (average(inputs) == 0).all()
    assert plain(average.module) is average.module.network
    assert quantization(average.module)["ranges"] == {"0.input": 1e3, "2.input": 1e3}


def learnt(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        F.mse_loss(model(inputs), targets).backward()
        optimizer.step()


def test_training_with_rounding_beats_rounding_after_training():
    """As many steps from the same start at the same ranges, so coarse that there is something to mend."""
    inputs = images(64)
    with torch.no_grad():
        targets = float_network()(inputs)
    start, unrounded = small(), float_network()
    start.calibrate([inputs])
    start.ranges *= 64
    unrounded.load_state_dict(start.network.state_dict())
    model, after = copy.deepcopy(start), copy.deepcopy(start)
    learnt(model, inputs, targets)
    learnt(unrounded, inputs, targets)
    after.network.load_state_dict(unrounded.state_dict())
    losses = [F.mse_loss(network(inputs), targets).item() for network in (unrounded, model, after)]
    assert losses[0] < losses[1] < 0.85 * losses[2]
    assert torch.equal(model.ranges, start.ranges)
