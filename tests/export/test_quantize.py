"""INT8 graphs: what is rounded and where, to which numbers, and that ONNX Runtime and TensorRT-RTX take it so."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto
from torch.nn import functional as F

from facetrain.errors import ExportError
from facetrain.export.precision.calibration import calibrate
from facetrain.export.precision.dataflow import Dataflow
from facetrain.export.precision.quantize import layer_ranges, quantizable_layers, quantize, tensors_to_calibrate
from facetrain.tests.engine_graphs import build
from facetrain.tests.export_graphs import KINDS, chain, constants, narrow_graph, run

RNG = np.random.default_rng(4)
PAIR = ["QuantizeLinear", "DequantizeLinear"]


class Case:
    """A float32 graph with ranges, and what is read off its INT8 form."""

    def __init__(self, folder, kind):
        self.kind, self.whole = kind, narrow_graph(folder, kind)
        self.model, self.heads, self.images = self.whole.model, self.whole.heads, self.whole.images
        tensors = tensors_to_calibrate(self.model, self.heads)
        self.ranges = calibrate(self.model, lambda: iter([self.images]), tensors, "minmax")
        self.int8 = self.quantized()
        self.flow, self.constants = Dataflow(self.int8), constants(self.int8)
        self.convolutions = [name for name in quantizable_layers(self.model, self.heads) if name in self.flow.layers]

    def quantized(self, *excluded, half=False):
        return quantize(self.model, self.ranges, self.heads, excluded, half)


@pytest.fixture(scope="module", params=KINDS)
def case(request, tmp_path_factory):
    return Case(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("detector"), "facenet")


def pair_before(flow, tensor):
    """The QuantizeLinear of the pair that gives a tensor; None where there is none."""
    node = flow.producers.get(tensor)
    if node is None or node.op_type != "DequantizeLinear":
        return None
    before = flow.producers.get(node.input[0])
    if before is not None:
        assert list(before.input[1:]) == list(node.input[1:])
    return before


def nodes(model, *kinds):
    return [node for node in model.graph.node if node.op_type in kinds]


class TestPlaces:
    """Where the pairs stand."""

    def test_everything_is_symmetric_and_int8(self, case):
        for node in nodes(case.int8, *PAIR):
            scale, zero = (case.constants[name] for name in node.input[1:])
            assert zero.dtype == np.int8 and not zero.any()
            assert scale.dtype == np.float32 and np.all(scale > 0)
        integers = {tensor.data_type for tensor in case.int8.graph.initializer} - {TensorProto.FLOAT}
        assert TensorProto.INT32 not in integers  # biases that TensorRT would refuse

    def test_convolutions_take_pairs_and_give_float(self, case):
        assert set(case.convolutions) == set(case.flow.layers) - set(case.heads)
        for name in case.convolutions:
            layer = case.flow.layers[name]
            assert case.constants[pair_before(case.flow, layer.input[0]).input[1]].shape == ()
            kernel = case.flow.producers[layer.input[1]]
            assert kernel.op_type == "DequantizeLinear" and kernel.input[0] == f"{name}.weight"
            whole = case.constants[f"{name}.weight"]
            axis = 1 if layer.op_type == "ConvTranspose" else 0
            assert whole.dtype == np.int8
            assert [a.i for a in kernel.attribute if a.name == "axis"] == [axis]
            assert case.constants[kernel.input[1]].shape == (whole.shape[axis],)
            if len(layer.input) > 2:
                assert case.constants[layer.input[2]].dtype == np.float32

    def test_heads_and_what_follows_stay_float(self, case):
        for name in case.heads:
            layer = case.flow.layers[name]
            assert pair_before(case.flow, layer.input[0]) is None
            assert case.constants[layer.input[1]].dtype == np.float32
        tail = case.flow.behind(case.heads)
        assert not [node for node in nodes(case.int8, *PAIR) if node.output[0] in tail]

    def test_one_term_of_an_addition_comes_right_from_its_convolution(self, detector):
        """The shortcut's, where there are two; the other term is rounded."""
        additions = detector.flow.additions()
        assert len(additions) == 8
        for node in additions:
            direct = [detector.flow.source(name) for name in node.input]
            rounded = [pair_before(detector.flow, name) for name in node.input]
            assert sum(layer is not None for layer in direct) == 1
            assert sum(pair is not None for pair in rounded) == 1
            shortcut = node.name.replace(".add", ".conv_shortcut")
            if shortcut in detector.flow.layers:
                assert shortcut in [layer.name for layer in direct if layer is not None]

    def test_what_moves_values_keeps_their_scale(self, case):
        """Pooling, up-sampling and concatenation take rounded values and give values of the same scale."""
        tail = case.flow.behind(case.heads)
        moving = [node for node in nodes(case.int8, "MaxPool", "Resize", "Concat") if node.output[0] not in tail]
        assert len(moving) == {"release": 12, "public": 8, "facenet": 0}[case.kind]
        for node in moving:
            taken = node.input if node.op_type == "Concat" else node.input[:1]
            pairs = [pair_before(case.flow, name) for name in taken]
            behind = case.flow.consumers[node.output[0]]
            assert {taker.op_type for taker in behind} == {"QuantizeLinear"}
            assert len({pair.input[1] for pair in [*pairs, *behind]}) == 1

    def test_tensors_that_share_a_scale_have_room_for_the_largest(self, case):
        scales = {pair.input[1] for pair in nodes(case.int8, "QuantizeLinear")}
        largest = max(case.ranges.values()) / 127
        assert max(case.constants[name] for name in scales) == pytest.approx(largest, rel=1e-6)
        for node in nodes(case.int8, "QuantizeLinear"):
            if node.input[0] in case.ranges:
                assert case.constants[node.input[1]] >= np.float32(case.ranges[node.input[0]] / 127)

    def test_excluded_layers_stay_float(self, case):
        left = [case.convolutions[0], case.convolutions[-1]]
        model = case.quantized(*left)
        flow, found = Dataflow(model), constants(model)
        whole = constants(case.model)
        for name in case.convolutions:
            if name in left:
                assert flow.layers[name].input[1] == f"{name}.weight"
                np.testing.assert_array_equal(found[f"{name}.weight"], whole[f"{name}.weight"])
            else:
                assert found[f"{name}.weight"].dtype == np.int8
        assert pair_before(flow, flow.layers[left[0]].input[0]) is None

    def test_an_excluded_addition_takes_what_layers_give(self, detector):
        model = detector.quantized("block_2a.add")
        flow = Dataflow(model)
        node = next(node for node in model.graph.node if node.name == "block_2a.add")
        assert [pair_before(flow, name) for name in node.input] == [None, None]

    def test_with_everything_excluded_nothing_is_left_to_round(self, case):
        model = case.quantized(*quantizable_layers(case.model, case.heads))
        assert nodes(model, *PAIR) == []
        for a, b in zip(run(model, case.images), run(case.model, case.images), strict=True):
            np.testing.assert_array_equal(a, b)


class TestNumbers:
    """To which numbers."""

    def test_kernels(self, case):
        whole = constants(case.model)
        for name in case.convolutions:
            kernel = whole[f"{name}.weight"]
            if case.flow.layers[name].op_type == "ConvTranspose":
                kernel = kernel.transpose(1, 0, 2, 3)
            for channel, values in enumerate(kernel):
                step = np.abs(values).max() / np.float32(127)
                stored = case.constants[f"{name}.weight"]
                stored = stored[:, channel] if "up." in name else stored[channel]
                np.testing.assert_array_equal(stored, np.round(values / step).astype(np.int8))
                assert case.constants[f"{name}.weight.scale"][channel] == step

    def test_a_network_computed_by_hand(self):
        """Two layers and a head; half to even, and what lies beyond the range is cut off."""
        sizes = {"first": (6, 2), "second": (5, 6), "head": (3, 5)}
        model = chain({name: RNG.normal(size=(*size, 1, 1)) for name, size in sizes.items()}, channels=2)
        images = RNG.normal(size=(2, 2, 8, 8)).astype(np.float32)
        ranges = {"images": 2.0, "first.relu": 2.5}
        values, x = constants(model), images

        def rounded(array, top, low=-128):
            step = np.float32(np.float32(top) / np.float32(127))
            return np.clip(np.rint(array / step), low, 127) * np.float64(step)

        for name in sizes:
            kernel = values[f"{name}.weight"]
            if name != "head":
                x = rounded(x.astype(np.float32), ranges["images" if name == "first" else "first.relu"])
                kernel = np.stack([rounded(channel, np.abs(channel).max(), -127) for channel in kernel])
            weight, bias = torch.tensor(kernel, dtype=torch.float64), torch.tensor(values[f"{name}.bias"])
            x = F.conv2d(torch.tensor(x, dtype=torch.float64), weight, bias.double()).numpy()
            x = x if name == "head" else np.maximum(x, 0)
        int8 = quantize(model, ranges, ["head"])
        assert np.abs(images).max() > 2 and np.abs(run(model, images, "first.relu")[0]).max() > 2.5
        # A sum that lies on a half may go either way in float32.
        assert np.mean(np.abs(run(int8, images)[0] - x) > 1e-5) < 0.01

    def test_as_near_as_128_steps_are(self, case):
        for one, other in zip(run(case.model, case.images), run(case.int8, case.images), strict=True):
            far = np.abs(one - other).mean()
            assert 0 < far < 0.1 * np.abs(one - one.mean()).mean() + 0.02 * np.abs(one).max()

    def test_channels_and_tensors_of_zeros(self):
        kernels = {"first": RNG.normal(size=(4, 1, 1, 1)), "second": RNG.normal(size=(4, 4, 1, 1))}
        kernels["first"][1] = 0
        model = chain(kernels | {"head": np.ones((1, 4, 1, 1))})
        images = RNG.random((1, 1, 8, 8), np.float32)
        for half in (False, True):
            int8 = quantize(model, {"images": 1.0, "first.relu": 0.0}, ["head"], half=half)
            assert np.isfinite(run(int8, images)[0]).all()
            scales = [values for name, values in constants(int8).items() if name.endswith(".scale")]
            assert all(np.all(values > 0) for values in scales)  # TensorRT takes no others


class TestMixed:
    """INT8 with the rest in half."""

    def test_scales_are_half_and_the_opset_knows_them(self, case):
        model = case.quantized(half=True)
        assert [entry.version for entry in model.opset_import if entry.domain == ""] == [19]
        values, flow = constants(model), Dataflow(model)
        types = flow.element_types()
        for node in nodes(model, *PAIR):
            assert values[node.input[1]].dtype == np.float16
            assert values[node.input[2]].dtype == np.int8
        for name, layer in flow.layers.items():
            assert types[layer.output[0]] == (TensorProto.FLOAT if name in case.heads else TensorProto.FLOAT16)
        ends = [*model.graph.input, *model.graph.output]
        assert {value.type.tensor_type.elem_type for value in ends} == {TensorProto.FLOAT}

    def test_it_computes_nearly_the_same(self, case):
        outputs = run(case.model, case.images), run(case.int8, case.images), run(case.quantized(half=True), case.images)
        for one, int8, mixed in zip(*outputs, strict=True):
            assert np.abs(one - mixed).mean() < 1.5 * np.abs(one - int8).mean() + 1e-4

    def test_metadata_stays(self, case):
        for model in (case.int8, case.quantized(half=True)):
            assert model.metadata_props == case.model.metadata_props


class TestRunners:
    """Who takes it."""

    def test_onnx_runtime_computes_in_integers(self, case, tmp_path):
        """Every convolution for which it has a kernel: not the transposed ones, nor those whose output is not rounded,
        because it is added to another or goes to a head."""
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "fused.onnx")
        options.log_severity_level = 3
        ort.InferenceSession(case.int8.SerializeToString(), options, ["CPUExecutionProvider"])
        kinds = [node.op_type for node in onnx.load(str(tmp_path / "fused.onnx")).graph.node]
        in_float = {"release": 1, "public": 4 + 1, "facenet": 8}[case.kind]
        assert kinds.count("QLinearConv") == len(case.convolutions) - in_float

    @pytest.mark.parametrize("half", [False, True])
    def test_tensorrt_rtx_sees_int8(self, case, tmp_path, half):
        pytest.importorskip("tensorrt_rtx", reason="pip install 'facetrain[tensorrt-rtx]'")
        model = case.quantized(half=half)
        onnx.save(model, str(tmp_path / "q.onnx"))
        facts = build(tmp_path / "q.onnx", tmp_path / "q.engine")
        assert facts.layers["QUANTIZE"] == {"INT8": len(nodes(model, "QuantizeLinear"))}
        assert facts.layers["CONSTANT"]["INT8"] >= len(case.convolutions)
        layers = {**facts.layers["CONVOLUTION"]}
        for kind, number in facts.layers.get("DECONVOLUTION", {}).items():
            layers[kind] += number
        heads, rest = len(case.heads), len(case.convolutions)
        assert layers == ({"FLOAT": heads, "HALF": rest} if half else {"FLOAT": heads + rest})


class TestRanges:
    """Ranges that are missing, or of layers that there are not."""

    def test_one_that_was_not_measured(self, detector):
        ranges = dict(detector.ranges)
        del ranges[Dataflow(detector.model).layers["block_2a.conv_1"].input[0]]
        with pytest.raises(ExportError, match=r"there is no INT8 range for the input of block_2a\.conv_shortcut"):
            quantize(detector.model, ranges, detector.heads)

    def test_layers_that_there_are_not(self, case):
        with pytest.raises(ExportError, match=r"quantize\.excluded_layers: the graph has no layer 'conv9'; it has "):
            case.quantized("conv9")
        with pytest.raises(ExportError, match="heads: the graph has no layer 'neck9'"):
            quantize(case.model, case.ranges, ["neck9"])

    def test_those_of_training_by_layer(self):
        model = chain({name: np.ones((1, 1, 1, 1)) for name in ("first", "second", "head")})
        named = {"first.input": 3.0, "second.input": 2.0, "first.output": 1.0}
        assert layer_ranges(model, named, ["head"]) == {"images": 3, "first.relu": 2, "first.out": 1}
        with pytest.raises(ExportError, match=r"the model file has no INT8 range for the input of second; export with"):
            layer_ranges(model, {"first.input": 3.0}, ["head"])
        with pytest.raises(ExportError, match=r"a.* range for 'third\.input', which the network has not"):
            layer_ranges(model, named | {"third.input": 1.0}, ["head"])
