"""`export` as a user runs it: the files it leaves, what passes for the model afterwards, what bad input gets."""

import json
import logging

import numpy as np
import onnx
import pytest
from PIL import Image

from facetrain.datasets.drawn.scenes import draw_scene
from facetrain.datasets.drawn.synthetic import draw_faces
from facetrain.export.precision import quantized as precision
from facetrain.tests.export_graphs import remember_exports
from facetrain.tests.facenet_runs import narrow_model
from facetrain.tests.runs import facenet, fpenet

DRAWN = (
    "data.train=[{format: synthetic, count: 24, seed: 3}]", "data.val=[{format: synthetic, count: 24, seed: 9}]",
    "gate.inputs=8", "calibration.count=24",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def each_graph_once():
    with pytest.MonkeyPatch.context() as patch:
        remember_exports(patch)
        yield


def verdicts(folder):
    return {row["form"]: row for row in json.loads((folder / "gate.json").read_text())["artefacts"]}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The zoo's keypoint network in every form, with an engine of each."""
    pytest.importorskip("tensorrt_rtx", reason="engines need tensorrt-rtx")
    folder = tmp_path_factory.mktemp("export") / "out"
    forms = "export.precisions=[fp32,fp16,int8,int8_fp16]"
    assert fpenet("export", f"results_dir={folder}", forms, "export.engine=tensorrt_rtx", *DRAWN) == 0
    return folder


@pytest.fixture(scope="module")
def detector(exported, tmp_path_factory):
    """The zoo's detector for a small input, in three forms, with what joins it to the keypoints."""
    folder = tmp_path_factory.mktemp("detector") / "out"
    scenes = ("data.train=[{format: scenes, count: 8, seed: 3}]", "data.val=[{format: scenes, count: 12, seed: 9}]")
    small = ("input_size.width=320", "input_size.height=256", "gate.inputs=8", "calibration.count=8")
    joined = f"export.partner={exported}"
    assert facenet("export", f"results_dir={folder}", *scenes, *small, joined, "gate.int8_kpi=3") == 0
    return folder


def test_every_form_passes_and_every_engine_is_not_verified(exported):
    rows = verdicts(exported)
    assert list(rows) == ["PyTorch", *(f"{form}{kind}" for form in ("fp32", "fp16", "int8", "int8_fp16")
                                       for kind in ("", " engine"))]  # fmt: skip
    for form in ("fp32", "fp16", "int8", "int8_fp16"):
        assert rows[form]["gate"] == "passed"
        assert rows[form]["kpi"] == pytest.approx(rows["PyTorch"]["kpi"], abs=0.1)
        engine = rows[f"{form} engine"]
        assert engine["gate"] == "not verified"
        sidecar = json.loads((exported / f"{engine['file']}.json").read_text())
        assert sidecar["verified"] is False
        assert sidecar["graph"]["precision"] == form
    assert rows["fp32"]["differences"]["pixels"][0] < 1e-3 < rows["int8"]["differences"]["pixels"][0]
    status = [json.loads(line) for line in (exported / "status.json").read_text().splitlines()]
    assert status[-1]["status"] == "SUCCESS"
    assert "4 artefacts passed; NOT VERIFIED: fpenet.engine, fpenet_fp16.engine" in status[-1]["message"]


def test_precision_makes_the_files_smaller(exported):
    sizes = {form: row["bytes"] for form, row in verdicts(exported).items()}
    assert sizes["int8"] < 0.35 * sizes["fp32"]
    assert sizes["fp16"] < 0.55 * sizes["fp32"]


def test_the_graph_says_its_precision(exported):
    for form, kinds in (("fp16", {10}), ("int8", {3}), ("int8_fp16", {3, 10})):
        model = onnx.load(str(exported / f"fpenet_{form}.onnx"))
        types = {tensor.data_type for tensor in model.graph.initializer}
        assert kinds <= types
        ends = [*model.graph.input, *model.graph.output]
        assert {value.type.tensor_type.elem_type for value in ends} == {onnx.TensorProto.FLOAT}


def test_deployment_files_lie_beside_the_graphs(exported, detector):
    listed = set(json.loads((exported / "gate.json").read_text())["files"])
    alone = {"predict.py", "deepstream/fpenet_probe.py", "deepstream/config_infer_secondary_fpenet_int8.txt"}
    assert alone <= listed and all((exported / file).is_file() for file in listed)
    listed = set(json.loads((detector / "gate.json").read_text())["files"])
    assert {"deepstream/deepstream_app.txt", "deepstream/fpenet_probe.py", "deepstream/labels_facenet.txt"} <= listed
    assert any(file.startswith("triton/") for file in listed)


def test_the_report_shows_gate_and_layers(exported):
    page = (exported / "report.html").read_text(encoding="utf-8")
    for word in ("not verified", "entropy over 24 training faces", "decoder.3.0.0", "Opset"):
        assert word in page


def test_the_calibration_cache_has_every_tensor(exported):
    lines = (exported / "fpenet_calibration.txt").read_text().splitlines()
    assert lines[0].startswith("TRT-") and lines[0].endswith("-EntropyCalibration2")
    scales = {name: np.frombuffer(bytes.fromhex(value), ">f4")[0]
              for name, _, value in (line.rpartition(": ") for line in lines[1:])}  # fmt: skip
    assert scales["input_face_images:0"] == pytest.approx(255 / 127, rel=0.05)
    assert {"softargmax/strided_slice:0", "softargmax/strided_slice_1:0"} <= set(scales)


@pytest.mark.parametrize("form", ["", "_fp16", "_int8", "_int8_fp16"])
def test_evaluate_takes_a_graph_for_the_model(exported, tmp_path, form):
    data = "data.test=[{format: synthetic, count: 12, seed: 9}]"
    for name, model in (("model", "zoo"), ("graph", exported / f"fpenet{form}.onnx")):
        assert fpenet("evaluate", f"model={model}", data, f"results_dir={tmp_path / name}") == 0
    files = [tmp_path / name / "metrics.json" for name in ("model", "graph")]
    ours, theirs = (json.loads(file.read_text())["metrics"] for file in files)
    if not form:
        assert theirs == pytest.approx(ours, rel=1e-4)
    assert theirs["nme_interocular"] == pytest.approx(ours["nme_interocular"], rel=0.05)


def test_the_cascade_of_graphs_finds_what_the_models_find(exported, detector, tmp_path):
    scene = tmp_path / "scene.png"
    Image.fromarray(draw_scene(3000, 3).image).save(scene)
    runs = {"models": ("zoo", "zoo"), "graphs": (exported / "fpenet.onnx", detector / "facenet.onnx")}
    found = {}
    for name, (model, finder) in runs.items():
        folder = tmp_path / name
        sizes = ("detector_input_size.width=320", "detector_input_size.height=256")
        arguments = (f"model={model}", f"detector={finder}", f"input={scene}", f"results_dir={folder}", *sizes)
        assert fpenet("infer", *arguments) == 0
        found[name] = json.loads((folder / "predictions.json").read_text())["predictions"][0]["faces"]
    assert len(found["models"]) == len(found["graphs"]) > 0
    for ours, theirs in zip(found["models"], found["graphs"], strict=True):
        assert np.abs(np.array(ours["points"]) - np.array(theirs["points"])).max() < 0.05
        assert np.abs(np.array(ours["box"]) - np.array(theirs["box"])).max() < 0.5


def test_the_detector_passes_in_three_forms(detector):
    rows = verdicts(detector)
    assert [row["gate"] for form, row in rows.items() if form != "PyTorch"] == ["passed"] * 3
    assert rows["PyTorch"]["kpi"] > 80


def test_a_detector_that_ends_in_a_suppression(tmp_path):
    scenes = "data.val=[{format: scenes, count: 6, seed: 9}]"
    small = ("input_size.width=320", "input_size.height=256", "gate.inputs=6", "export.precisions=[fp32]")
    for batch in (0, 4):  # six pictures: rows of the second run are of the fifth picture on
        folder = tmp_path / f"batch_{batch}"
        settings = ("export.nms=true", f"export.batch={batch}")
        assert facenet("export", f"results_dir={folder}", scenes, *small, *settings) == 0
        row = verdicts(folder)["fp32"]
        assert row["differences"]["pixels"][0] < 0.01 and row["kpi"] > 50
        assert [output.name for output in onnx.load(str(folder / "facenet.onnx")).graph.output] == ["detections"]


def test_an_engine_that_cannot_be_built_is_a_failure_of_its_own(tmp_path, capsys):
    pytest.importorskip("tensorrt_rtx", reason="engines need tensorrt-rtx")
    folder = tmp_path / "out"
    small = ("input_size.width=320", "input_size.height=256", "gate.inputs=2", "export.precisions=[fp32]")
    settings = ("export.nms=true", "export.engine=tensorrt_rtx")
    assert facenet("export", f"results_dir={folder}", *small, *settings) == 1
    error = capsys.readouterr().err
    assert "1 of 2 artefacts failed" in error and "NonMaxSuppression" in error and "export.nms" in error
    assert [verdicts(folder)[form]["gate"] for form in ("fp32", "fp32 engine")] == ["passed", "NOT MADE"]
    assert (folder / "facenet.onnx").exists() and (folder / "report.html").exists()


@pytest.fixture
def dead_layer(monkeypatch):
    """Ranges of which one is far too small, as a calibration on the wrong pictures would give."""
    real = precision.calibrate

    def spoiled(model, batches, tensors, *settings):
        ranges = real(model, batches, tensors, *settings)
        neck = next(node for node in model.graph.node if node.name == "neck.0").input[0]
        return ranges | {neck: ranges[neck] / 200}

    monkeypatch.setattr(precision, "calibrate", spoiled)


def test_a_layer_quantised_to_death_is_refused(tmp_path, capsys, dead_layer):
    folder = tmp_path / "out"
    settings = ("export.precisions=[int8]", "quantize.auto_exclude=false", *DRAWN)
    assert fpenet("export", f"results_dir={folder}", *settings) == 1
    error = capsys.readouterr().err
    assert "int8: mean difference" in error and "to blame: neck.0 " in error
    assert (folder / "fpenet_int8.onnx.rejected").exists() and not (folder / "fpenet_int8.onnx").exists()


def test_or_goes_back_to_float(tmp_path, capsys, dead_layer):
    folder = tmp_path / "out"
    assert fpenet("export", f"results_dir={folder}", "export.precisions=[int8]", *DRAWN) == 0
    assert verdicts(folder)["int8"]["gate"] == "passed"
    assert "Left in float: neck.0" in (folder / "report.html").read_text(encoding="utf-8")


def test_without_data_nothing_is_hidden(tmp_path, caplog):
    folder = tmp_path / "out"
    with caplog.at_level(logging.WARNING):
        assert fpenet("export", f"results_dir={folder}", "export.precisions=[fp32]", "gate.inputs=4") == 0
    assert "the KPI is not measured" in caplog.text
    assert json.loads((folder / "gate.json").read_text())["inputs"] == "4 drawn faces"
    assert verdicts(folder)["fp32"]["kpi"] is None


def refused(capsys, run, *arguments):
    capsys.readouterr()
    assert run("export", *arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    return lines[-1]


def test_bad_input(tmp_path, capsys, exported):
    out = f"results_dir={tmp_path / 'out'}"
    empty = tmp_path / "empty"
    empty.mkdir()
    grid = narrow_model(tmp_path / "grid.safetensors")
    cases = [
        (fpenet, (f"model={grid}",), "holds a facenet model, not FPENet"),
        (fpenet, (f"model={exported / 'fpenet.onnx'}",), "has been exported already"),
        (fpenet, ("model=nowhere.safetensors",), "there is no model file nowhere.safetensors"),
        (fpenet, (f"calibration.images={empty}", "export.precisions=[int8]"), "no picture (.jpg"),
        (fpenet, (f"calibration.images={tmp_path / 'gone'}", "export.precisions=[int8]"), "gone is missing"),
        (fpenet, ("export.precisions=[int8]",), "int8 needs faces to calibrate on"),
        (facenet, ("export.precisions=[int8]",), "int8 needs pictures to calibrate on"),
        (fpenet, ("export.precisions=[int4]",), "'int4' is no form; accepted: fp32, fp16, int8, int8_fp16"),
        (fpenet, ("export.opset=9",), "export.opset"),
        (fpenet, (f"export.partner={empty}",), "no FaceNet graph lies there; give the folder that `facenet export`"),
        (facenet, (f"export.partner={tmp_path / 'gone'}",), "no FPENet graph lies there"),
        (fpenet, ("export.precisions=[fp32]", "export.batch=4", "build.max_batch=8", "build.opt_batch=2",
                  "export.engine=tensorrt_rtx"), "build."),
    ]  # fmt: skip
    for run, arguments, message in cases:
        assert not (tmp_path / "out").exists()  # whatever was wrong before, nothing was written
        assert message in refused(capsys, run, out, *arguments), arguments


def test_whole_photographs_are_noticed(tmp_path, caplog):
    scenes, crops = tmp_path / "scenes", tmp_path / "crops"
    for folder in (scenes, crops):
        folder.mkdir()
    for i in range(6):
        Image.fromarray(draw_scene(50, i).image).save(scenes / f"{i}.png")
    for i, face in enumerate(draw_faces(6, seed=4, num_keypoints=68)):
        Image.fromarray(face.image).save(crops / f"{i}.png")
    for folder, warned in ((scenes, True), (crops, False)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            settings = ("export.precisions=[int8]", "quantize.auto_exclude=false", "gate.inputs=2",
                        "calibration.count=6", "gate.int8_pixels=100")  # fmt: skip
            fpenet("export", f"results_dir={tmp_path / 'out'}", f"calibration.images={folder}", *settings,
                   "overwrite=true")  # fmt: skip
        assert ("do not look like cut-out faces" in caplog.text) == warned
