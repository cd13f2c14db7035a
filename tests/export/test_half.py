"""Half precision: float16 between the ends, float32 at them and from the heads on, and nothing cast to and fro."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from facetrain.errors import ExportError
from facetrain.export.precision.dataflow import Dataflow
from facetrain.export.precision.half import in_float, to_half
from facetrain.tests.engine_graphs import build
from facetrain.tests.export_graphs import KINDS, chain, constants, narrow_graph, run

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory):
    """A float32 graph and its half."""
    whole = narrow_graph(tmp_path_factory.mktemp(request.param), request.param)
    return whole, to_half(whole.model, whole.heads)


def test_layers_are_half_up_to_the_heads(made):
    whole, half = made
    flow = Dataflow(half)
    types = flow.element_types()
    assert set(flow.layers) > set(whole.heads)
    for name, layer in flow.layers.items():
        wanted = FLOAT if name in whole.heads else HALF
        assert {types[tensor] for tensor in [*layer.input, *layer.output]} == {wanted}, name
    tail = flow.behind(whole.heads)
    assert HALF not in {types[tensor] for tensor in tail}
    ends = [*half.graph.input, *half.graph.output]
    assert {value.type.tensor_type.elem_type for value in ends} == {FLOAT}


def test_types_change_once_on_the_way(made):
    """At the input, and before the heads: all layers between follow each other in half."""
    whole, half = made
    casts = [node for node in half.graph.node if node.op_type == "Cast"]
    before = len([node for node in whole.model.graph.node if node.op_type == "Cast"])
    assert len(casts) == before + 2


def test_the_rest_of_the_graph_is_as_it_was(made):
    whole, half = made
    assert half.metadata_props == whole.model.metadata_props
    assert half.graph.input == whole.model.graph.input and half.graph.output == whole.model.graph.output
    before, after = constants(whole.model), constants(half)
    assert before.keys() == after.keys()
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values.astype(after[name].dtype))


def test_what_it_computes_is_near_and_not_the_same(made):
    whole, half = made
    expected, exact, rounded = (run(model, whole.images) for model in (whole.model, half, in_float(half)))
    for one, plain, other in zip(expected, exact, rounded, strict=True):
        far = np.abs(one - other).mean()
        assert 0 < far < 2e-3 * np.abs(one).max()
        assert np.abs(one - plain).mean() < 2e-3 * np.abs(one).max()


def test_tensorrt_rtx_takes_it_as_it_is_written(made, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="pip install 'facetrain[tensorrt-rtx]'")
    whole, half = made
    onnx.save(half, str(tmp_path / "half.onnx"))
    facts = build(tmp_path / "half.onnx", tmp_path / "half.engine")
    found = {**facts.layers["CONVOLUTION"]}
    for kind, number in facts.layers.get("DECONVOLUTION", {}).items():
        found[kind] += number
    assert found == {"FLOAT": len(whole.heads), "HALF": len(Dataflow(half).layers) - len(whole.heads)}
    assert {tensor.dtype for tensor in (*facts.inputs, *facts.outputs)} == {"FLOAT"}


def test_weights_beyond_float16():
    rng = np.random.default_rng(0)
    kernels = {"first": rng.random((4, 1, 1, 1)), "head": rng.random((2, 4, 1, 1))}
    kernels["first"][2] = 70000
    with pytest.raises(ExportError, match=r"first\.weight has values beyond float16's 65504"):
        to_half(chain(kernels), ["head"])
    kernels["first"][2], kernels["head"][1, 1] = 1, 70000  # which is float32
    assert constants(to_half(chain(kernels), ["head"]))["head.weight"][1, 1] == 70000


def test_a_head_that_is_none():
    model = chain({"first": np.ones((1, 1, 1, 1)), "head": np.ones((1, 1, 1, 1))})
    with pytest.raises(ExportError, match="heads: the graph has no layer 'neck'; it has first, head"):
        to_half(model, ["neck"])


def test_weights_that_both_sides_take():
    """Each gets them in its own type."""
    model = chain({name: np.full((1, 1, 1, 1), 1 / 3) for name in ("first", "head")})
    model.graph.node[-1].input[1] = "first.weight"
    del model.graph.initializer[2]
    half = to_half(model, ["head"])
    images = np.ones((1, 1, 8, 8), np.float32)
    first = np.float32(np.float16(np.float16(1 / 3) + np.float32(np.float16(0.1))))
    assert run(in_float(half), images)[0][0, 0, 0, 0] == pytest.approx(first * np.float32(1 / 3) + 0.1, abs=1e-7)
    assert {tensor.data_type for tensor in half.graph.initializer if "weight" in tensor.name} == {HALF, FLOAT}


@pytest.mark.parametrize("optimised", [False, True])
class TestInFloat:
    """The check on a CPU shows what float16 does to numbers, as a GPU would, whatever ONNX Runtime makes of it."""

    def model(self, kernel=1.0):
        model = chain({"first": np.full((1, 1, 1, 1), kernel), "head": np.ones((1, 1, 1, 1))})
        for tensor in model.graph.initializer:
            if tensor.name.endswith("bias"):
                tensor.CopyFrom(numpy_helper.from_array(np.zeros(1, np.float32), tensor.name))
        return in_float(to_half(model, ["head"]))

    def test_numbers_are_rounded(self, optimised):
        images = np.full((1, 1, 8, 8), 2049, np.float32)  # float16 has 2048 and 2050
        assert np.all(run(self.model(), images, optimised=optimised)[0] == 2048)

    def test_what_layers_give_is_rounded(self, optimised):
        kernel = np.float16(1 / 3)
        images = np.full((1, 1, 8, 8), 1001, np.float32)
        expected = np.float16(np.float32(1001) * np.float32(kernel))
        assert expected != np.float32(1001) * np.float32(kernel)
        assert np.all(run(self.model(1 / 3), images, optimised=optimised)[0] == np.float32(expected))

    def test_overflow_shows(self, optimised):
        images = np.full((1, 1, 8, 8), 300, np.float32)
        assert np.all(np.isinf(run(self.model(300), images, optimised=optimised)[0]))
