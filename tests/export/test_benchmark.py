"""The verb benchmark: what it compares, that its figures, files and tables agree, and what it says when it cannot."""

import json
import re
import shutil
import time

import numpy as np
import pytest
import torch
from PIL import Image

from facetrain.datasets.image import read_image
from facetrain.export.benchmark.models import BACKENDS_OF
from facetrain.export.runtime import OnnxRuntime, TorchRuntime
from facetrain.facenet_trainer.benchmark import PicturePath
from facetrain.facenet_trainer.predictor import Predictor as Detector
from facetrain.fpenet_trainer.benchmark import FacePath
from facetrain.fpenet_trainer.predictor import Predictor
from facetrain.tests.runs import facenet, fpenet
from facetrain.training import timing
from facetrain.training.report import number
from facetrain.training.timing import LEAST, PAUSE, ROUNDS, turns

STAGES = ["read", "preprocess", "network", "decode", "draw"]
SHORT = ("warm_up=1", "repeats=4", "seconds=60", "batches=[1,3]", "threads=1")
PROGRAMS = {"fpenet": fpenet, "facenet": facenet}
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")


def exported(program, model, folder, *overrides):
    quick = ("export.precisions=[fp32]", "export.deployment=false", "gate.inputs=2", "gate.kpi_samples=2")
    assert program("export", f"model={model}", f"results_dir={folder}", "split=train", *quick, *overrides) == 0
    return folder


@pytest.fixture(scope="module")
def files(trained, detector, tmp_path_factory):
    """Program -> its model file and an export's folder, of small networks."""
    folder = tmp_path_factory.mktemp("exports")
    models = {"fpenet": trained / "best.safetensors", "facenet": detector / "best.safetensors"}
    return {name: (str(model), str(exported(PROGRAMS[name], model, folder / name))) for name, model in models.items()}


def benchmark(name, folder, models, *overrides):
    assert PROGRAMS[name]("benchmark", f"models=[{','.join(models)}]", f"results_dir={folder}", *SHORT, *overrides) == 0
    return json.loads((folder / "benchmark.json").read_text())


@pytest.mark.parametrize("name", PROGRAMS)
def test_figures_agree_with_each_other_and_with_every_file(name, files, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    content = benchmark(name, tmp_path, files[name], "device=cpu")
    rows = content["latency"]
    both = [("best.safetensors", "pytorch"), (f"{name}.onnx", "onnxruntime_cpu")]
    assert [(row["file"], row["backend"], row["batch"]) for row in rows] == [
        (*which, batch) for batch in (1, 3) for which in both
    ]
    for row in rows:
        assert row["precision"] == "fp32" and row["runs"] == 4 and row["device"] == content["machine"]["cpu"]
        assert row["fps"] == pytest.approx(1000 * row["batch"] / row["mean_ms"])
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
    paths = content["end_to_end"]
    assert [(row["file"], row["backend"]) for row in paths] == both
    for row in paths:
        assert list(row["stages_ms"]) == list(row["shares"]) == STAGES
        total = sum(row["stages_ms"].values())
        assert row["shares"] == pytest.approx({stage: ms / total for stage, ms in row["stages_ms"].items()})
        assert row["fps"] == pytest.approx(1000 / row["mean_ms"])
    assert content["not_run"] == [] and content["notes"] == []
    assert content["settings"]["repeats"] == 4 and content["threads"] == {"pytorch": 1, "onnxruntime": 1}
    assert content["versions"]["torch"] == torch.__version__

    printed, page = capsys.readouterr().out, (tmp_path / "report.html").read_text()
    for shown in (printed, re.sub(r"<[^>]+>", " ", page)):
        lines = [line.replace("│", " ").split() for line in shown.splitlines()]
        for row in rows:
            figures = [str(row["batch"]), *(number(row[f"{of}_ms"]) for of in ("mean", "p50", "p90", "p99"))]
            assert any(line[-6:] == [*figures, number(row["fps"])] and "fp32" in line for line in lines)
        for row in paths:
            assert {f"{ms:.2f}" for ms in row["stages_ms"].values()} <= set(shown.split())
    assert "<svg" in page
    status = json.loads((tmp_path / "status.json").read_text().splitlines()[-1])
    assert status["status"] == "SUCCESS"
    assert status["kpi"] == {f"{row['file']}/{row['backend']}/batch_{row['batch']}/fps": row["fps"] for row in rows}


def test_inputs_are_pictures_and_fill_the_batch(files, tmp_path, monkeypatch):
    seen = []
    real = TorchRuntime.run
    monkeypatch.setattr(TorchRuntime, "run", lambda self, images: seen.append(images.numpy()) or real(self, images))
    threads = torch.get_num_threads()
    benchmark("fpenet", tmp_path, files["fpenet"][:1], "batches=[2,11]", "end_to_end=false", "warm_up=3")
    # Three to warm up, four that count, and two that do not at the head of the second and the third turn.
    assert [len(images) for images in seen] == [2] * 9 + [11] * 9
    assert all(images.std() > 10 for batch in (seen[0], seen[-1]) for images in batch)
    assert len({images.tobytes() for images in seen[-1]}) == 8
    assert torch.get_num_threads() == threads


def test_runs_take_turns_and_end_in_time():
    made = list(turns(2, warm_up=2, passes=5, seconds=60))
    first, later = (
        [[(i, False), (i, False), (i, True)] for i in (0, 1)],
        [[(i, False), *[(i, True)] * 2] for i in (0, 1)],
    )
    assert made == [*first[0], *first[1], *later[0], *later[1], *later[0], *later[1]]
    assert list(turns(2, warm_up=0, passes=1, seconds=60)) == [(0, True), (1, True)]
    assert sum(counts for _, counts in turns(1, warm_up=0, passes=1000, seconds=0)) == LEAST * ROUNDS
    assert list(turns(0, warm_up=5, passes=100, seconds=60)) == []


def test_whoever_is_next_starts_after_a_pause(monkeypatch):
    """Or the threads of PyTorch, which spin after a pass, would slow the ONNX Runtime that follows."""
    monkeypatch.setattr(timing, "PAUSE", PAUSE)  # which is left out elsewhere
    last, ended = None, 0.0
    for i, _ in turns(2, warm_up=1, passes=6, seconds=60):
        assert i == last or time.perf_counter() - ended >= PAUSE
        last, ended = i, time.perf_counter()


@pytest.mark.parametrize("exporter", [None, "runtime"])
def test_path_finds_what_infer_finds(exporter, files, faces, pictures, tmp_path):
    """All stages one after the other give the results of infer, under PyTorch and ONNX Runtime."""
    point_model, box_model = ((f"{folder}/{name}.onnx" if exporter else model)
                              for name, (model, folder) in files.items())  # fmt: skip
    file = faces / "03.png"
    picture = read_image(file, grey=False)
    path = FacePath(Predictor.load(point_model, "cpu"))
    images, square = path.preprocess(picture)
    points, visibility = path.decode(path.runtime.run(images), square)
    assert fpenet("infer", f"model={point_model}", f"input={file}", f"results_dir={tmp_path / 'points'}") == 0
    (face,) = json.loads((tmp_path / "points" / "predictions.json").read_text())["predictions"][0]["faces"]
    assert np.abs(points - np.array(face["points"])).max() < 2e-3 and visibility is None
    assert (path.draw(picture, (points, None)) != picture).any()

    file = pictures / "03.png"
    picture = read_image(file, grey=False)
    path = PicturePath(Detector.load(box_model, "cpu"))
    images, place = path.preprocess(picture)
    found = path.decode(path.runtime.run(images), place)
    assert facenet("infer", f"model={box_model}", f"input={file}", f"results_dir={tmp_path / 'boxes'}") == 0
    rows = json.loads((tmp_path / "boxes" / "predictions.json").read_text())["predictions"][0]["detections"]
    assert len(rows) > 0
    np.testing.assert_allclose(found.boxes, [row["box"] for row in rows], atol=2e-3)
    np.testing.assert_allclose(found.scores, [row["score"] for row in rows], atol=2e-5)
    assert (path.draw(picture, found) != picture).any()


def test_graph_of_a_fixed_batch_runs_at_that_only(files, tmp_path, capsys):
    model = files["fpenet"][0]
    folder = exported(fpenet, model, tmp_path / "fixed", "export.batch=2")
    content = benchmark("fpenet", tmp_path / "out", [model, str(folder)])
    ran = [(row["file"], row["batch"]) for row in content["latency"]]
    # The model is timed at the graph's batch as well, to compare.
    assert ran == [("best.safetensors", 1), ("best.safetensors", 2), ("fpenet.onnx", 2), ("best.safetensors", 3)]
    assert content["notes"] == ["fpenet.onnx takes 2 inputs at a time, no other number"]
    assert "takes 2 inputs at a time" in capsys.readouterr().out
    assert len(content["end_to_end"]) == 2


def test_backends_leave_files_out_and_files_of_one_name_are_told_apart(files, tmp_path, capsys):
    model, folder = files["fpenet"]
    again = shutil.copytree(folder, tmp_path / "again")
    rest = ("backends=[onnxruntime_cpu]", "batches=[1]", "end_to_end=false")
    content = benchmark("fpenet", tmp_path / "out", [model, folder, str(again)], *rest)
    assert [row["file"] for row in content["latency"]] == [f"{folder}/fpenet.onnx", f"{again}/fpenet.onnx"]
    assert "file" in capsys.readouterr().out


def test_input_size_and_clustering_of_the_detector(files, tmp_path):
    seen = benchmark("facenet", tmp_path, files["facenet"][:1], "input_size.width=128", "clustering.algorithm=dbscan")
    assert seen["settings"]["input_size"] == {"width": 128}
    assert facenet("benchmark", f"models=[{files['facenet'][1]}]", f"results_dir={tmp_path}", "overwrite=true",
                   "input_size.width=128") == 2  # fmt: skip


def test_pictures_of_the_user(files, faces, tmp_path, capsys):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "a.png").write_bytes((faces / "00.png").read_bytes()[:300])
    program = ("fpenet", tmp_path / "out", files["fpenet"][:1])
    assert fpenet("benchmark", f"input={mixed}", f"results_dir={tmp_path / 'out'}") == 2
    assert "a.png: the picture cannot be read" in capsys.readouterr().err
    shutil.copy(faces / "00.png", mixed / "b.png")
    assert benchmark(*program, f"input={mixed}")["inputs"] == f"1 picture of {mixed}"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(mixed / "c.gif")
    assert fpenet("benchmark", f"input={mixed / 'c.gif'}", f"results_dir={tmp_path}") == 2


def test_batch_that_fails_is_listed(files, tmp_path, monkeypatch, capsys):
    """As one does that the memory cannot take."""
    real = OnnxRuntime.run

    def run(self, images):
        if len(images) == 3:
            raise RuntimeError("out of memory")
        return real(self, images)

    monkeypatch.setattr(OnnxRuntime, "run", run)
    content = benchmark("fpenet", tmp_path, files["fpenet"])
    assert [(row["backend"], row["batch"]) for row in content["latency"]] == [
        ("pytorch", 1), ("onnxruntime_cpu", 1), ("pytorch", 3)
    ]  # fmt: skip
    (left_out,) = content["not_run"]
    assert left_out == {"file": "fpenet.onnx", "backend": "onnxruntime_cpu", "batch": 3,
                        "reason": "RuntimeError: out of memory"}  # fmt: skip
    assert "not run: fpenet.onnx, onnxruntime_cpu, batch 3: RuntimeError: out of memory" in capsys.readouterr().out


@no_gpu
def test_engine_that_cannot_run_here(files, tmp_path, capsys):
    pytest.importorskip("tensorrt_rtx", reason="pip install 'facetrain[tensorrt-rtx]'")
    folder = exported(fpenet, files["fpenet"][0], tmp_path / "engines", "export.engine=tensorrt_rtx")
    capsys.readouterr()
    content = benchmark("fpenet", tmp_path / "out", [str(folder)])
    assert {row["file"] for row in content["latency"]} == {"fpenet.onnx"}
    (left_out,) = content["not_run"]
    assert left_out["file"] == "fpenet.engine" and left_out["backend"] == "engine" and left_out["batch"] == 0
    assert "an engine runs on a GPU only" in left_out["reason"]
    assert "not run: fpenet.engine, engine:" in capsys.readouterr().out

    again = ("benchmark", f"results_dir={tmp_path / 'again'}")
    for models, code in ((folder / "fpenet.engine", 1), (folder, 1)):
        asked = ["backends=[engine]"] if models == folder else []
        assert fpenet(*again, f"models=[{models}]", *asked) == code
        assert "an engine runs on a GPU only" in capsys.readouterr().err
    (folder / "fpenet.onnx").unlink()
    assert fpenet(*again, f"models=[{folder}]") == 2
    error = capsys.readouterr().err
    assert "nothing of this can run here" in error and "an engine runs on a GPU only" in error
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(("override", "message"), [
    ("models=[]", "models=[] names nothing to time"),
    ("models=[nowhere.onnx]", "there is no ONNX file nowhere.onnx"),
    ("models=[nowhere]", "nowhere is neither a file nor a folder"),
    ("models=[{other}]", "holds a facenet model, not FPENet"),
    ("models=[{empty}]", "holds no .onnx and no .engine file"),
    ("models=[{text}]", "is of no known kind; accepted: 'zoo', .safetensors"),
    ("batches=[0]", "batches=[0]: give one or more whole numbers from 1 up"),
    ("batches=[]", "batches=[]"),
    ("backends=[tensorrt]", "'tensorrt' is no backend; accepted: auto, pytorch"),
    ("backends=[engine]", "engine runs .engine files, and models=['zoo'] names none"),
    ("backends=[onnxruntime_cpu]", "onnxruntime_cpu runs .onnx files, and models=['zoo'] names none"),
    ("input={empty}", "no picture"),
    ("input=nowhere", "there is no such file or folder"),
])  # fmt: skip
def test_wrong_spec_is_one_clear_error(override, message, files, tmp_path, capsys):
    places = {"other": f"{files['facenet'][1]}/facenet.onnx", "empty": tmp_path / "empty", "text": tmp_path / "a.txt"}
    places["empty"].mkdir()
    places["text"].write_text("")
    out = tmp_path / "out"
    assert fpenet("benchmark", f"results_dir={out}", override.format(**places)) == 2
    captured = capsys.readouterr()
    assert message in captured.err and len(captured.err.splitlines()) == 1
    assert not out.exists()


@no_gpu
@pytest.mark.parametrize("backend", BACKENDS_OF[".onnx"][1:])
def test_backend_that_is_not_there_is_told_how_to_get(backend, files, tmp_path, capsys):
    models = f"models=[{files['fpenet'][1]}]"
    assert fpenet("benchmark", models, f"results_dir={tmp_path / 'out'}", f"backends=[{backend}]") == 2
    assert f"{backend}: this ONNX Runtime has no" in (error := capsys.readouterr().err)
    assert "pip install onnxruntime-gpu" in error


def test_results_are_not_overwritten_by_chance(files, tmp_path, capsys):
    benchmark("fpenet", tmp_path, files["fpenet"][:1], "end_to_end=false", "batches=[1]")
    before = (tmp_path / "benchmark.json").read_bytes()
    assert fpenet("benchmark", f"models=[{files['fpenet'][0]}]", f"results_dir={tmp_path}") == 2
    assert "holds results" in capsys.readouterr().err
    assert (tmp_path / "benchmark.json").read_bytes() == before
    assert benchmark("fpenet", tmp_path, files["fpenet"][:1], "overwrite=true", "end_to_end=false")["end_to_end"] == []
