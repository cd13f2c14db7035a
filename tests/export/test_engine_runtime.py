"""Engines that are read back and run: what is refused before a GPU is asked, and on a GPU what they compute."""

import json
import sys
import types
from dataclasses import fields

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import parser

from facetrain.errors import ExportError, ModelFileError
from facetrain.export.engines import runtime as engine_runtime
from facetrain.export.engines.build import build_engine
from facetrain.export.engines.options import EngineOptions
from facetrain.export.engines.runtime import EngineModel, EngineRuntime
from facetrain.export.engines.sidecar import EngineFacts, TensorFacts
from facetrain.export.metadata import GraphInfo
from facetrain.export.runtime import open_runtime
from facetrain.tests.engine_graphs import META, build, small_graph, zoo_graphs

tensorrt_rtx = pytest.importorskip("tensorrt_rtx", reason="pip install 'facetrain[tensorrt-rtx]'")
CUDA = torch.device("cuda")


@pytest.fixture
def engine_path(tmp_path):
    """An engine of the small graph, of 1 to 4 inputs."""
    path = tmp_path / "small.engine"
    build(small_graph(tmp_path / "small.onnx"), path, max_batch=4)
    return path


def changed(path, **facts):
    """Another story beside an engine."""
    beside = path.with_name(f"{path.name}.json")
    values = json.loads(beside.read_text())
    values["engine"].update(facts)
    beside.write_text(json.dumps(values))


def refused(path, message, error=ModelFileError, device=CUDA):
    with pytest.raises(error, match=message):
        EngineRuntime(path, device)


def test_an_engine_that_is_not_there(tmp_path):
    refused(tmp_path / "x.engine", r"there is no engine .*x\.engine")


def test_someone_elses_engine_has_nothing_beside_it(engine_path):
    engine_path.with_name("small.engine.json").unlink()
    refused(engine_path, r"small\.engine has no small\.engine\.json beside it.*another program built it")


@pytest.mark.parametrize("content", ["", "no JSON", "[]", "{}", '{"engine": {}, "model": {}, "graph": {}}'])
def test_a_file_beside_it_that_is_not_ours(engine_path, content):
    engine_path.with_name("small.engine.json").write_text(content)
    refused(engine_path, r"small\.engine\.json does not describe an engine that facetrain built .*export\.engine")


def test_a_flavour_that_nobody_knows(engine_path):
    changed(engine_path, flavour="tensorrt_llm")
    refused(engine_path, "no engine flavour is called 'tensorrt_llm'")


def test_an_engine_that_is_cut_short(engine_path):
    content = engine_path.read_bytes()
    engine_path.write_bytes(content[:1000])
    refused(engine_path, rf"small\.engine is cut short: 1000 bytes of {len(content)}")


def test_an_engine_that_another_file_describes(engine_path, tmp_path):
    (tmp_path / "other.onnx").write_bytes((tmp_path / "small.onnx").read_bytes())
    build(tmp_path / "other.onnx", tmp_path / "other.engine", max_batch=2)
    other = (tmp_path / "other.engine").read_bytes()
    engine_path.write_bytes(other + bytes(engine_path.stat().st_size))  # longer, so not cut short
    refused(engine_path, r"is not the engine that small\.engine\.json describes, or is damaged")


def test_one_wrong_bit(engine_path):
    content = bytearray(engine_path.read_bytes())
    content[len(content) // 2] ^= 1
    engine_path.write_bytes(content)
    refused(engine_path, "or is damaged")


def test_an_engine_of_another_version(engine_path):
    changed(engine_path, library_version="1.6.0.1")
    refused(
        engine_path,
        r"was built by TensorRT-RTX 1\.6\.0\.1 and cannot run under TensorRT-RTX .*, which is installed here: build it "
        r"again with export\.engine here, or install version 1\.6\.0\.1",
    )


def test_an_engine_whose_library_is_not_installed(engine_path, monkeypatch):
    changed(engine_path, flavour="tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    refused(engine_path, r"TensorRT is not installed: pip install 'facetrain\[tensorrt\]'", ExportError)


def test_an_engine_without_a_gpu(engine_path):
    refused(
        engine_path, r"small\.engine: an engine runs on a GPU only, and device=cpu", ExportError, torch.device("cpu")
    )
    with pytest.raises(ExportError, match=r"runs on a GPU only.*take the \.onnx"):
        open_runtime(engine_path, "fpenet", "cpu")


@pytest.fixture
def as_tensorrt(engine_path, monkeypatch):
    """The same engine as if TensorRT 11.4 had built it on an RTX 3090; what is asked first needs no more than that."""
    module = types.ModuleType("tensorrt")
    vars(module).update(vars(tensorrt_rtx) | {"__version__": "11.4.0.106"})
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    gpu = {"name": "NVIDIA GeForce RTX 3090", "compute_capability": "8.6"}
    changed(engine_path, flavour="tensorrt", library_version="11.4.0.106", gpu=gpu)

    def here(name, capability):
        facts = {"name": name, "compute_capability": capability}
        monkeypatch.setattr(engine_runtime, "gpu_facts", lambda device: facts)

    return here


def test_an_engine_for_another_gpu(engine_path, as_tensorrt):
    as_tensorrt("NVIDIA T4", "7.5")
    refused(
        engine_path,
        r"built for a GPU of compute capability 8\.6 \(NVIDIA GeForce RTX 3090\), and NVIDIA T4 has 7\.5: build it "
        r"again with export\.engine here, or with build\.hardware_compatible=true there",
    )
    changed(engine_path, hardware_compatible=True)
    refused(engine_path, r"and NVIDIA T4 has 7\.5: build it again with export\.engine here$")  # older than Ampere


@pytest.mark.parametrize(("compatible", "version"), [(False, "11.3.0.99"), (True, "11.5.0.1"), (False, "11.5.0.1")])
def test_an_engine_runs_under_later_versions_only_if_it_was_built_so(engine_path, as_tensorrt, compatible, version):
    changed(engine_path, library_version=version, version_compatible=compatible)
    as_tensorrt("NVIDIA GeForce RTX 3090", "8.6")
    refused(engine_path, rf"was built by TensorRT {version} and cannot run under TensorRT 11\.4\.0\.106")


def test_a_later_version_takes_an_engine_that_was_built_for_it(engine_path, as_tensorrt):
    changed(engine_path, library_version="10.16.0.72", version_compatible=True)
    as_tensorrt("NVIDIA T4", "7.5")
    refused(engine_path, "NVIDIA T4 has 7.5")  # the next question: the version has been let through


def by_onnx_runtime(path, images):
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    results = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    return {output.name: torch.from_numpy(value) for output, value in zip(session.get_outputs(), results, strict=True)}


@pytest.fixture
def images():
    return torch.from_numpy(np.random.default_rng(2).random((11, 1, 16, 16), dtype=np.float32))


class Played(EngineRuntime):
    """An engine that ONNX Runtime plays on the CPU, which shows what is made of batches.

    Like the library, it takes no batch outside of the profile.
    """

    def __init__(self, path, low, high, joinable=True):
        graph = onnx.load(str(path)).graph
        given, taken = (
            tuple(
                TensorFacts(value.name, (-1, *(d.dim_value for d in value.type.tensor_type.shape.dim[1:])), "FLOAT")
                for value in values
            )
            for values in (graph.input, graph.output)
        )
        self.path, self.device, self.joinable, self.ran = path, torch.device("cpu"), joinable, []
        facts = {field.name: None for field in fields(EngineFacts)}
        profile = {"min": low, "opt": low, "max": high}
        self.facts = EngineFacts(**facts | {"inputs": given, "outputs": taken, "profile": profile})

    def _run(self, inputs):
        (images,) = inputs.values()
        low, high = self.facts.batches
        assert low <= len(images) <= high and images.dtype == torch.float32
        self.ran.append(len(images))
        return by_onnx_runtime(self.path, images), self.joinable


@pytest.mark.parametrize(
    ("count", "ran"), [(0, [2]), (1, [2]), (2, [2]), (4, [4]), (5, [4, 2]), (8, [4, 4]), (11, [4, 4, 3])]
)
def test_batches_outside_of_the_profile_are_filled_up_and_split(images, tmp_path, count, ran):
    path = small_graph(tmp_path / "small.onnx")
    engine = Played(path, 2, 4)
    found = engine.run({"images": images[:count].double()})["scores"]
    assert found.shape == (count, 4, 14, 14)
    torch.testing.assert_close(found, by_onnx_runtime(path, images)["scores"][:count])
    assert engine.ran == ran


def test_inputs_that_an_engine_does_not_take(images, tmp_path):
    engine = Played(small_graph(tmp_path / "small.onnx"), 1, 4)
    with pytest.raises(ModelFileError, match="takes images, not pictures"):
        engine.run({"pictures": images})
    with pytest.raises(ModelFileError, match=r"'images' is \[11, 1, 16, 8\], the engine takes \[N, 1, 16, 16\]"):
        engine.run({"images": images[..., :8]})


def suppression(path):
    """Images [N, 2, 5, 2], corners and sizes of five boxes each -> detections [M, 7], picture and box."""
    model = parser.parse_model(
        """<ir_version: 10, opset_import: ["": 17]> g (float[n, 2, 5, 2] images) => (float[m, 7] detections) {
        most = Constant <value_ints = [9]> ()
        iou = Constant <value_float = 0.5> ()
        least = Constant <value_float = 0.7> ()
        zero = Constant <value_ints = [0]> ()
        one = Constant <value_ints = [1]> ()
        two = Constant <value_ints = [2]> ()
        front = Slice (images, zero, one, one)
        back = Slice (images, one, two, one)
        corner = Squeeze (front, one)
        size = Squeeze (back, one)
        end = Add (corner, size)
        boxes = Concat <axis = 2> (corner, end)
        best = ReduceMax <axes = [2], keepdims = 0> (size)
        scores = Unsqueeze (best, one)
        chosen = NonMaxSuppression (boxes, scores, most, iou, least)
        picture = Gather <axis = 1> (chosen, zero)
        which = Gather <axis = 1> (chosen, two)
        number = Cast <to = 1> (picture)
        box = Cast <to = 1> (which)
        detections = Concat <axis = 1> (number, box, box, box, box, box, box) }"""
    )
    onnx.save(model, str(path))
    return path, GraphInfo("fp32", "plain", "images", (2, 5, 2), {"detections": "detections"})


@pytest.fixture
def boxes():
    images = torch.from_numpy(np.random.default_rng(4).random((7, 2, 5, 2), dtype=np.float32))
    images[:, 0, :, :] += 2 * torch.arange(5)[:, None]  # apart from each other
    images[3] = 0  # a picture without any
    return images


def test_rows_that_are_found_tell_their_picture_over_all_batches(boxes, tmp_path):
    path, info = suppression(tmp_path / "nms.onnx")
    expected = by_onnx_runtime(path, boxes)["detections"]
    assert len(expected) > 7
    model = EngineModel.__new__(EngineModel)
    model.engine, model.info = Played(path, 2, 3, joinable=False), info
    assert model.run(boxes)["detections"].tolist() == expected.tolist()
    assert model.engine.ran == [3, 3, 2]
    assert model.run(boxes[:0])["detections"].shape == (0, 7)
    with pytest.raises(ModelFileError, match="takes 2 to 3 inputs at a time, not 7"):
        model.engine.run({"images": boxes})


# On a GPU from here on.


@pytest.fixture(params=["tensorrt", "tensorrt_rtx"])
def flavour(request):
    """A library that is here and runs on this GPU."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    library = pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    if request.param == "tensorrt_rtx":
        name = "SM{}{}".format(*torch.cuda.get_device_capability())
        if not hasattr(library.ComputeCapability, name):
            pytest.skip(f"TensorRT-RTX builds for no GPU of {name}")
    return request.param


def options(flavour):
    """TensorRT-RTX builds for Turing only when it is told to."""
    turing = flavour == "tensorrt_rtx" and torch.cuda.get_device_capability() < (8, 0)
    return {"compute_capabilities": ("7.5",)} if turing else {}


@pytest.mark.gpu
@pytest.mark.parametrize("count", [0, 1, 2, 3, 8, 11])
def test_any_number_of_inputs(flavour, images, tmp_path, count):
    path = small_graph(tmp_path / "small.onnx")
    build(path, tmp_path / "e.engine", flavour, min_batch=2, opt_batch=2, max_batch=4, **options(flavour))
    with EngineRuntime(tmp_path / "e.engine", CUDA) as engine:
        found = engine.run({"images": images[:count]})["scores"]
    assert found.is_cuda and found.shape == (count, 4, 14, 14) and found.dtype == torch.float32
    expected = by_onnx_runtime(path, images)["scores"][:count]
    torch.testing.assert_close(found.cpu(), expected, atol=5e-3, rtol=0)  # TF32


@pytest.mark.gpu
def test_a_fixed_batch_is_filled_up_and_split(flavour, images, tmp_path):
    path = small_graph(tmp_path / "small.onnx", 4)
    build(path, tmp_path / "e.engine", flavour, min_batch=4, opt_batch=4, max_batch=4, **options(flavour))
    with EngineRuntime(tmp_path / "e.engine", CUDA) as engine:
        found = engine.run({"images": images})["scores"]
    free = small_graph(tmp_path / "free.onnx")
    torch.testing.assert_close(found.cpu(), by_onnx_runtime(free, images)["scores"], atol=5e-3, rtol=0)


@pytest.mark.gpu
def test_inputs_on_a_stream_and_of_other_types(flavour, images, tmp_path):
    path = small_graph(tmp_path / "small.onnx")
    build(path, tmp_path / "e.engine", flavour, max_batch=16, **options(flavour))
    with EngineRuntime(tmp_path / "e.engine", CUDA) as engine, torch.cuda.stream(torch.cuda.Stream()):
        outputs = [engine.run({"images": images.cuda().double() * scale})["scores"] for scale in (1, 2)]
        torch.cuda.current_stream().synchronize()
    for scale, found in zip((1, 2), outputs, strict=True):
        expected = by_onnx_runtime(path, images * scale)["scores"]
        torch.testing.assert_close(found.cpu(), expected, atol=1e-2, rtol=0)


@pytest.mark.gpu
def test_the_zoos_keypoints_come_out_of_every_precision(flavour, faces, tmp_path):
    from PIL import Image

    crops = [Image.open(path).convert("L").resize((80, 80)) for path in sorted(faces.glob("*.png"))]
    inputs = torch.from_numpy(np.stack(crops).astype(np.float32))[:, None]
    for precision, path in zoo_graphs("fpenet", tmp_path, inputs).items():
        build(path, path.with_suffix(".engine"), flavour, opt_batch=8, max_batch=16, **options(flavour))
        runtime = open_runtime(path.with_suffix(".engine"), "fpenet", "cuda")
        assert torch.cuda.get_device_name() in runtime.backend
        found, (points, confidence) = runtime.run(inputs), by_onnx_runtime(path, inputs).values()
        limit = {"fp32": 0.05, "fp16": 0.1, "int8": 0.5}[precision]  # px, mean
        assert (found["points"].cpu() - points).norm(dim=-1).mean() < limit, precision
        assert (found["confidence"].cpu() - confidence).abs().mean() < 0.02, precision


@pytest.mark.gpu
def test_rows_whose_number_only_a_run_tells(flavour, boxes, tmp_path):
    if flavour == "tensorrt_rtx":
        pytest.skip("TensorRT-RTX has no kernel for NonMaxSuppression")
    path, info = suppression(tmp_path / "nms.onnx")
    build_engine(path, tmp_path / "e.engine", EngineOptions(flavour, 2, 2, 3), META, info)
    found = EngineModel(tmp_path / "e.engine", CUDA).run(boxes)["detections"]
    assert sorted(found.cpu().tolist()) == sorted(by_onnx_runtime(path, boxes)["detections"].tolist())


@pytest.mark.gpu
def test_an_engine_that_the_gpu_is_not_of_the_kind_for(tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    other = "12.0" if torch.cuda.get_device_capability()[0] < 10 else "8.6"
    path = tmp_path / "e.engine"
    build(small_graph(tmp_path / "small.onnx"), path, compute_capabilities=(other,))
    refused(path, r"does not take it on this machine \(.*unsupported cc.*\): build it again")
