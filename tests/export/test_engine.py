"""Engines that TensorRT-RTX builds without a GPU, and what is said when one cannot be built."""

import json
import logging
import signal
import sys
import types
from contextlib import contextmanager
from io import StringIO

import numpy as np
import onnx
import pytest
import torch
from onnx import parser
from rich.console import Console

from facetrain.configs.export_schema import BuildConfig
from facetrain.errors import ConfigError, ExportError, ModelFileError
from facetrain.export.engines import build as engine
from facetrain.export.engines.options import EngineOptions, engine_options
from facetrain.export.engines.progress import build_monitor
from facetrain.export.engines.sidecar import read_sidecar
from facetrain.tests.engine_graphs import FOR_TENSORRT, INFO, META, build, quantize, small_graph, zoo_graphs

tensorrt_rtx = pytest.importorskip("tensorrt_rtx", reason="pip install 'facetrain[tensorrt-rtx]'")
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_graph(tmp_path_factory.mktemp("small") / "small.onnx")


@pytest.fixture(scope="module", params=["fpenet", "facenet"])
def built(request, tmp_path_factory):
    """Network, and precision -> facts of an engine of up to 8 inputs."""
    logging.disable(logging.WARNING)  # ONNX Runtime's advice on pre-processing
    folder = tmp_path_factory.mktemp(request.param)
    graphs = zoo_graphs(request.param, folder)
    facts = {
        precision: build(path, path.with_suffix(".engine"), opt_batch=2, max_batch=8)
        for precision, path in graphs.items()
    }
    logging.disable(logging.NOTSET)
    return request.param, folder, facts


# Of the zoo's models: inputs, outputs, convolutions, weights of the network.
NETWORKS = {
    "fpenet": (
        ("input_face_images:0", (-1, 1, 80, 80)),
        [("softargmax/strided_slice:0", (-1, 68, 2)), ("softargmax/strided_slice_1:0", (-1, 68))],
        17,
    ),
    "facenet": (
        ("input_1:0", (-1, 3, 736, 736)),
        [("output_bbox/BiasAdd:0", (-1, 4, 46, 46)), ("output_cov/Sigmoid:0", (-1, 1, 46, 46))],
        27,
    ),
}


def test_every_precision_has_the_original_names_and_float32_at_both_ends(built):
    network, _, facts = built
    given, taken, _ = NETWORKS[network]
    for one in facts.values():
        assert [(tensor.name, tensor.shape, tensor.dtype) for tensor in one.inputs] == [(*given, "FLOAT")]
        assert [(tensor.name, tensor.shape, tensor.dtype) for tensor in one.outputs] == [
            (name, shape, "FLOAT") for name, shape in taken
        ]
        assert one.profile == {"min": 1, "opt": 2, "max": 8}


def test_the_library_has_the_precision_that_the_graph_has(built):
    network, _, facts = built
    convolutions = NETWORKS[network][2]
    assert facts["fp32"].layers["CONVOLUTION"] == {"FLOAT": convolutions}
    assert facts["fp16"].layers["CONVOLUTION"] == {"HALF": convolutions}
    assert "QUANTIZE" not in facts["fp32"].layers
    assert facts["int8"].layers["CONSTANT"]["INT8"] == convolutions  # their weights
    assert facts["int8"].layers["QUANTIZE"]["INT8"] >= convolutions  # what goes in
    if network == "fpenet":  # the soft-argmax stays in float32
        assert facts["fp16"].layers["SOFTMAX"] == {"FLOAT": 1}


def test_a_plan_is_as_large_as_its_weights_are_precise(built):
    network, folder, facts = built
    size = {precision: one.bytes for precision, one in facts.items()}
    for precision, number in size.items():
        assert number == (folder / f"{network}_{precision}.engine").stat().st_size
    weights = sum(np.prod(w.dims) for w in onnx.load(str(folder / f"{network}_fp32.onnx")).graph.initializer)
    assert size["fp32"] - size["fp16"] == pytest.approx(2 * weights, rel=0.2)
    if network == "facenet":  # FPENet's half million weights are less than the 3 MB of INT8 kernels
        assert size["int8"] < 0.55 * size["fp32"]


def test_the_file_beside_an_engine_tells_all_of_it(built):
    network, folder, facts = built
    path = folder / f"{network}_fp16.engine"
    sidecar = read_sidecar(path)
    assert sidecar.engine == facts["fp16"]
    assert sidecar.model.architecture["network"] == network
    assert sidecar.graph.input == NETWORKS[network][0][0]
    assert not sidecar.verified and "no GPU has run it" in sidecar.note
    raw = json.loads((folder / f"{network}_fp16.engine.json").read_text())
    assert raw["engine"]["flavour"] == "tensorrt_rtx"
    assert raw["engine"]["library_version"] == tensorrt_rtx.__version__
    assert "its outputs" in raw["engine"]["unknown"]
    assert not list(folder.glob("*.tmp"))


def test_the_same_build_twice_has_the_same_facts(small, tmp_path):
    facts = [build(small, tmp_path / f"{i}.engine", max_batch=4) for i in range(2)]
    same = ("inputs", "outputs", "layers", "profile", "onnx", "bytes", "unknown")
    assert [getattr(facts[0], name) for name in same] == [getattr(facts[1], name) for name in same]
    again = build(small, tmp_path / "0.engine", max_batch=2)  # over the first
    assert read_sidecar(tmp_path / "0.engine").engine == again != facts[0]


def test_a_fixed_batch_needs_no_profile(tmp_path):
    facts = build(small_graph(tmp_path / "four.onnx", 4), tmp_path / "e.engine", min_batch=4, opt_batch=4, max_batch=4)
    assert facts.profile is None
    assert facts.batches == (4, 4)
    assert facts.inputs[0].shape == (4, 1, 16, 16)


def test_a_profile_that_contradicts_a_fixed_batch_is_refused(tmp_path):
    path = small_graph(tmp_path / "four.onnx", 4)
    with pytest.raises(ConfigError, match=r"build\.max_batch=8: .*four\.onnx has a fixed batch of 4"):
        build(path, tmp_path / "e.engine", opt_batch=4, max_batch=8)
    assert not (tmp_path / "e.engine").exists()


def test_a_spec_that_says_nothing_of_batches_follows_the_graph():
    fixed = INFO.__class__(**{**INFO.to_dict(), "input_shape": (1, 16, 16), "batch": 4})
    options = engine_options("tensorrt_rtx", BuildConfig(), fixed)
    assert (options.min_batch, options.opt_batch, options.max_batch) == (4, 4, 4)
    asked = engine_options("tensorrt_rtx", BuildConfig(max_batch=8), fixed)
    assert asked.max_batch == 8  # and the builder will refuse it
    free = engine_options("tensorrt", BuildConfig(opt_batch=8, workspace_mib=256, timing_cache="t.cache"), INFO)
    assert (free.min_batch, free.opt_batch, free.max_batch, free.workspace_mib) == (1, 8, 16, 256)
    assert free.timing_cache.name == "t.cache"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flavour": "openvino"}, r"export\.engine=openvino: accepted: tensorrt, tensorrt_rtx"),
        ({"min_batch": 0}, r"build\.min_batch=0 .*must be 1 or more"),
        ({"min_batch": 4, "opt_batch": 2, "max_batch": 8}, r"build\.min_batch=4 build\.opt_batch=2 .*in this order"),
        ({"max_batch": 4, "opt_batch": 8}, r"build\.opt_batch=8 build\.max_batch=4"),
        ({"workspace_mib": -1}, r"build\.workspace_mib=-1"),
        ({"timing_cache": "t.cache"}, r"build\.timing_cache=t\.cache: TensorRT-RTX has none"),
        ({"version_compatible": True}, r"build\.version_compatible=true: a TensorRT-RTX engine"),
        ({"hardware_compatible": True}, r"build\.hardware_compatible=true: a TensorRT-RTX engine"),
        ({"flavour": "tensorrt", "compute_capabilities": ("7.5",)}, r"build\.compute_capabilities=\['7\.5'\]"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_their_key(options, message):
    with pytest.raises(ConfigError, match=message):
        EngineOptions(**{"flavour": "tensorrt_rtx", **options})


def test_an_engine_for_turing_is_another_one(small, tmp_path):
    turing = build(small, tmp_path / "t.engine", compute_capabilities=("7.5",))
    assert turing.compute_capabilities == ("7.5",)
    assert turing.sha256 != build(small, tmp_path / "e.engine").sha256
    with pytest.raises(ConfigError, match=r"'9\.0' is none that TensorRT-RTX .* builds for; accepted: 7\.5, 8\.0"):
        build(small, tmp_path / "h.engine", compute_capabilities=("9.0",))


def test_too_little_workspace_is_told_by_its_key(built, tmp_path):
    network, folder, _ = built
    if network == "fpenet":
        pytest.skip("is small enough for the least that can be asked for")
    with pytest.raises(ExportError, match=r"build\.workspace_mib=1: make it larger"):
        build(folder / "facenet_fp32.onnx", tmp_path / "e.engine", workspace_mib=1)
    assert not list(tmp_path.iterdir())
    assert build(folder / "facenet_fp32.onnx", tmp_path / "e.engine", workspace_mib=512).bytes


@pytest.fixture
def images():
    return np.random.default_rng(1).random((8, 1, 16, 16), dtype=np.float32)


def test_onnx_runtimes_default_int8_recipe_is_refused_and_ours_taken(small, images, tmp_path):
    quantize(small, tmp_path / "default.onnx", images)
    with pytest.raises(ExportError) as caught:
        build(tmp_path / "default.onnx", tmp_path / "e.engine")
    message = str(caught.value)
    assert "default.onnx" in message
    assert "node first.bias_DequantizeLinear (DequantizeLinear)" in message
    assert "input has type Int32" in message
    assert "export.precisions=[int8]" in message
    assert "cuda" not in message.lower()  # which has nothing to do with it
    assert not (tmp_path / "e.engine").exists()
    quantize(small, tmp_path / "ours.onnx", images, **FOR_TENSORRT)
    assert build(tmp_path / "ours.onnx", tmp_path / "e.engine").layers["QUANTIZE"]["INT8"] == 4


def test_asymmetric_ranges_are_refused(small, images, tmp_path):
    recipe = {**FOR_TENSORRT, "extra_options": {"WeightSymmetric": True, "QuantizeBias": False}}
    quantize(small, tmp_path / "shifted.onnx", images - 0.2, **recipe)
    with pytest.raises(ExportError, match=r"images_QuantizeLinear.*zero points of 0 only"):
        build(tmp_path / "shifted.onnx", tmp_path / "e.engine")


def write_graph(path, graph, opset=17):
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}, "some": 1]> g {graph}')
    onnx.save(model, str(path))


@pytest.mark.parametrize(
    ("opset", "body", "advice"),
    [
        (
            26,
            "axis = Constant <value_int = 1> () out = CumProd (images, axis)",
            r"\(CumProd\).*opset 26.*export\.opset=17",
        ),
        (17, "out = Det (images)", r"\(Det\).*without what this node stands for"),
        (17, "out = some.body (images)", r"\(body\).*without what this node stands for"),
    ],
)
def test_an_operator_that_the_library_lacks_is_named(tmp_path, opset, body, advice):
    write_graph(tmp_path / "odd.onnx", f"(float[n, 4] images) => (float[n, 4] out) {{ {body} }}", opset)
    with pytest.raises(ExportError, match=advice) as caught:
        build(tmp_path / "odd.onnx", tmp_path / "e.engine")
    assert "odd.onnx" in str(caught.value) and "TensorRT-RTX" in str(caught.value)


def test_a_suppression_in_the_graph_is_no_more_than_tensorrt_can_take(tmp_path):
    body = "most = Constant <value_ints = [5]> () out = NonMaxSuppression (boxes, scores, most)"
    write_graph(
        tmp_path / "nms.onnx", f"(float[n, 9, 4] boxes, float[n, 1, 9] scores) => (int64[m, 3] out) {{ {body} }}"
    )
    with pytest.raises(ExportError, match=r"no kernel for node out \(NonMaxSuppression\).*export\.nms"):
        build(tmp_path / "nms.onnx", tmp_path / "e.engine")


def test_sizes_that_are_left_open_are_refused(tmp_path):
    body = "(float[n, 1, h, w] images) => (float[n, 1, h, w] out) { out = Relu (images) }"
    write_graph(tmp_path / "open.onnx", body)
    with pytest.raises(ExportError, match=r"'images' leaves more open than the batch, \[-1, 1, -1, -1\]"):
        build(tmp_path / "open.onnx", tmp_path / "e.engine")


@pytest.mark.parametrize("content", [b"", b"no graph at all" * 40, None])
def test_a_file_that_is_no_graph_is_refused(small, tmp_path, content):
    path = tmp_path / "x.onnx"
    path.write_bytes(small.read_bytes()[:700] if content is None else content)
    with pytest.raises(ModelFileError, match=r"x\.onnx is not"):
        build(path, tmp_path / "e.engine")
    with pytest.raises(ModelFileError, match="there is no ONNX file"):
        build(tmp_path / "none.onnx", tmp_path / "e.engine")


@pytest.mark.parametrize(
    ("flavour", "line"),
    [
        ("tensorrt", r"pip install 'facetrain\[tensorrt\]' .*NVIDIA's own index"),
        ("tensorrt_rtx", r"pip install 'facetrain\[tensorrt-rtx\]'"),
    ],
)
def test_a_missing_library_gives_the_line_that_installs_it(small, tmp_path, monkeypatch, flavour, line):
    monkeypatch.setitem(sys.modules, flavour, None)
    with pytest.raises(ExportError, match=rf"export\.engine={flavour}: .* is not installed: {line}"):
        build(small, tmp_path / "e.engine", flavour)
    folder_of_that_name = types.ModuleType(flavour)
    monkeypatch.setitem(sys.modules, flavour, folder_of_that_name)
    with pytest.raises(ExportError, match=f"is not installed: {line}"):
        build(small, tmp_path / "e.engine", flavour)


def stand_in(version="11.4.0.106"):
    """TensorRT-RTX has TensorRT's interface, so it can play TensorRT where that is not installed."""
    module = types.ModuleType("tensorrt")
    vars(module).update(vars(tensorrt_rtx) | {"__version__": version})
    return module


@no_gpu
def test_tensorrt_says_that_it_needs_a_gpu(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in())
    with pytest.raises(ExportError, match=r"export\.engine=tensorrt: TensorRT builds on the GPU.*tensorrt_rtx"):
        build(small, tmp_path / "e.engine", "tensorrt")


def test_a_library_that_is_too_old_is_refused(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in("8.6.1"))
    with pytest.raises(ExportError, match=r"TensorRT 8\.6\.1 is too old, 10\.0 or later is needed: pip install"):
        build(small, tmp_path / "e.engine", "tensorrt")


def test_a_timing_cache_is_written_and_one_of_no_use_refused(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in())
    gpu = {"name": "a GPU", "compute_capability": "8.6"}
    monkeypatch.setattr(engine, "gpu_facts", lambda: gpu)
    cache = tmp_path / "t.cache"
    with pytest.warns(DeprecationWarning, match="Timing cache"):  # TensorRT-RTX's word on what it only plays
        facts = build(small, tmp_path / "e.engine", "tensorrt", timing_cache=cache)
    assert cache.stat().st_size > 0
    assert facts.gpu == gpu
    cache.write_bytes(b"no cache at all" * 20)
    with (
        pytest.warns(DeprecationWarning, match="Timing cache"),
        pytest.raises(ConfigError, match=r"build\.timing_cache=.*t\.cache: TensorRT 11.* cannot use it"),
    ):
        build(small, tmp_path / "e.engine", "tensorrt", timing_cache=cache)
    assert cache.read_bytes() == b"no cache at all" * 20


def test_progress_is_shown_on_a_terminal_only(small, tmp_path, monkeypatch, capfd):
    build(small, tmp_path / "e.engine")
    assert capfd.readouterr() == ("", "")
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(engine, "build_monitor", lambda library: build_monitor(library, console))
    build(small, tmp_path / "e.engine")
    assert "Building engine" in screen.getvalue()


def test_ctrl_c_ends_a_build_and_leaves_nothing(small, tmp_path, monkeypatch):
    @contextmanager
    def pressed(library):
        with build_monitor(library) as monitor:
            signal.raise_signal(signal.SIGINT)  # as if while the library is at work
            yield monitor

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "build_monitor", pressed)
        with pytest.raises(KeyboardInterrupt):
            build(small, tmp_path / "e.engine")
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGINT) is before
    assert build(small, tmp_path / "e.engine").bytes  # the library has not taken it amiss


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_tensorrt_builds_with_all_its_options(small, tmp_path):
    tensorrt = pytest.importorskip("tensorrt", reason="pip install 'facetrain[tensorrt]'")
    cache = tmp_path / "t.cache"
    options = {"max_batch": 4, "workspace_mib": 256, "timing_cache": cache, "version_compatible": True}
    hardware = torch.cuda.get_device_capability() >= (8, 0)
    for _ in range(2):  # with a new cache, then with that
        facts = build(small, tmp_path / "e.engine", "tensorrt", hardware_compatible=hardware, **options)
    assert cache.stat().st_size > 0
    assert facts.library_version == tensorrt.__version__
    assert facts.gpu["name"] == torch.cuda.get_device_name()
    assert facts.layers["CONVOLUTION"] == {"FLOAT": 2}
    assert read_sidecar(tmp_path / "e.engine").model == META
