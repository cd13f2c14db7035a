"""`train.qat=true` by the commands: what the model file then holds, and that it is a run like any other."""

import json
from dataclasses import replace
from pathlib import Path

import onnxruntime as ort
import pytest
import torch

from facetrain.configs.compose import load_spec
from facetrain.configs.facenet.schema import FacenetTrainSpec
from facetrain.configs.fpenet.schema import FpenetTrainSpec
from facetrain.export.graph import export_graph
from facetrain.export.precision.quantize import layer_ranges, quantize, tensors_to_calibrate
from facetrain.facenet_trainer import graph as facenet_graph
from facetrain.facenet_trainer import train as facenet_train
from facetrain.facenet_trainer.pretrained import load_network as facenet_network
from facetrain.fpenet_trainer import graph as fpenet_graph
from facetrain.fpenet_trainer import train as fpenet_train
from facetrain.fpenet_trainer.predictor import load_network as fpenet_network
from facetrain.tests import facenet_runs
from facetrain.tests.facenet_runs import narrow_model
from facetrain.tests.runs import (
    COMPARABLE,
    TEN_POINTS,
    Runner,
    facenet,
    fpenet,
    furthest,
    json_lines,
    kill_at_replace,
    train_arguments,
    weights,
)
from facetrain.training.distributed import Processes
from facetrain.training.model_file import load_model, save_model
from facetrain.training.qat import FakeQuantized, plain

pytestmark = pytest.mark.usefixtures("one_thread", "no_report")

ALONE = Processes(0, 1, torch.device("cpu"))
QAT = ("train.qat=true", "train.epochs=3", "train.learning_rate=1e-3", "train.ema=0.5")


def fpenet_arguments(faces: Path, model: Path, folder: Path, *overrides: str) -> list[str]:
    """A phase of FPENet after another, on 20 faces, validated on 4."""
    start = f"train.pretrained={model}"
    return train_arguments(faces, folder, *TEN_POINTS, start, "data.split.fraction=0.17", *QAT, *overrides)


def facenet_arguments(pictures: Path, model: Path, folder: Path, *overrides: str) -> list[str]:
    focal = ("loss.coverage=focal", "loss.bbox=giou", "clustering.algorithm=nms", "clustering.coverage_threshold=0.01")
    return facenet_runs.train_arguments(pictures, model, folder, *focal, "data.split.fraction=0.4", *QAT, *overrides)


def ranges(path: Path) -> dict[str, float]:
    quantization = load_model(path)[1].quantization
    assert quantization.pop("method") == "qat"
    return quantization.pop("ranges")


def validated(arguments: list[str], path: Path, network: str) -> dict[str, float]:
    """The figures of a run's validation pictures by a model file's weights, rounded by its ranges."""
    kind, module = (FpenetTrainSpec, fpenet_train) if network == "fpenet" else (FacenetTrainSpec, facenet_train)
    job = module.prepare(load_spec(kind, arguments[1:]), ALONE)
    model = job.task.model
    assert isinstance(model, FakeQuantized)
    stored = ranges(path)
    assert list(stored) == list(model.described()["ranges"])
    model.ranges = torch.tensor([stored[tensor.names[0]] for tensor in model.tensors])
    plain(model).load_state_dict(weights(path))
    with torch.no_grad():
        return job.task.evaluate(model.eval(), job.val_loader, ALONE)


def test_fpenets_file_has_plain_weights_and_the_ranges(faces, trained, tmp_path, capsys):
    start, run = trained / "last.safetensors", tmp_path / "run"
    arguments = fpenet_arguments(faces, start, run)
    assert fpenet(*arguments) == 0
    assert "quantisation-aware: 19 convolutions round their inputs and kernels to INT8" in capsys.readouterr().out
    best, last = run / "best.safetensors", run / "last.safetensors"
    assert weights(best).keys() == weights(start).keys()
    assert 1e-4 < furthest(weights(last), weights(start)) < 0.1
    stored = ranges(best)
    layers = [name.removesuffix(".weight") for name in weights(start) if name.endswith(".weight")]
    assert sorted(stored) == sorted(f"{name}.input" for name in layers if name != "keypoints")
    assert all(value > 0 for value in stored.values())
    assert stored == ranges(last)
    assert fpenet("evaluate", f"model={best}", "data=pts", f"data.root={faces}", f"results_dir={tmp_path / 'e'}") == 0
    # What was validated, and by which the best was chosen, is the rounded network.
    records = [record for record in json_lines(run / "metrics.jsonl") if record["kind"] == "val"]
    figures = validated(arguments, best, "fpenet")
    assert min(record["nme_diagonal"] for record in records) == pytest.approx(figures["nme_diagonal"], rel=1e-5)
    assert load_model(best)[1].metrics["nme_diagonal"] == pytest.approx(figures["nme_diagonal"], rel=1e-5)


def test_facenet_pruned(pictures, tmp_path):
    """Batch normalisation keeps its statistics; evaluation takes the file as any other."""
    run, wide = tmp_path / "run", narrow_model(tmp_path / "wide.safetensors", channels=12)
    cut = ("prune.threshold=0.9", "prune.min_filters=8", "prune.granularity=1", "report=false")
    assert facenet("prune", f"model={wide}", f"results_dir={tmp_path / 'cut'}", *cut) == 0
    start = tmp_path / "cut" / "pruned.safetensors"
    arguments = facenet_arguments(pictures, start, run)
    assert facenet(*arguments) == 0
    best, last = run / "best.safetensors", run / "last.safetensors"
    before, after = weights(start), weights(last)
    assert after.keys() == before.keys()
    statistics = [name for name in before if name.endswith(("running_mean", "running_var"))]
    assert statistics and all(torch.equal(before[name], after[name]) for name in statistics)
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert {"conv1.weight", "bn_conv1.weight", "output_cov.bias"} <= set(moved)
    stored = ranges(best)
    assert len(stored) == 1 + 4 * 5
    assert stored["block_3a.conv_1.input"] == stored["block_3a.conv_shortcut.input"]
    records = [record for record in json_lines(run / "metrics.jsonl") if record["kind"] == "val"]
    figures = validated(arguments, last, "facenet")
    assert records[-1]["validation_cost"] == pytest.approx(figures["validation_cost"], rel=1e-5)
    source = "data.test=[{format: kitti, path: .}]"
    assert facenet("evaluate", f"model={best}", source, f"data.root={pictures}", f"results_dir={tmp_path / 'e'}") == 0


@pytest.mark.parametrize("network", ["fpenet", "facenet"])
@torch.no_grad()
def test_the_export_computes_what_was_trained(network, faces, trained, pictures, detector, tmp_path):
    """The exporter finds a range for every tensor that it may round, whichever layers are excluded, and its graph gives
    the rounded network's outputs."""
    if network == "fpenet":
        kind, module, graphs = FpenetTrainSpec, fpenet_train, fpenet_graph
        start, arguments = trained / "last.safetensors", fpenet_arguments(faces, trained / "last.safetensors", tmp_path)
        images, whole, load = 255 * torch.rand(16, 1, 32, 32), graphs.FpenetGraph, fpenet_network
    else:
        kind, module, graphs = FacenetTrainSpec, facenet_train, facenet_graph
        start = detector / "last.safetensors"
        arguments = facenet_arguments(pictures, start, tmp_path)
        images, whole, load = torch.rand(16, 3, 64, 96), graphs.GridBoxGraph, facenet_network
    model = module.prepare(load_spec(kind, arguments[1:]), ALONE).task.model
    float_network, meta = load(str(start))
    graph = whole(float_network)
    exported = export_graph(graph, images[:2], meta, graphs.graph_info(float_network, meta, start))
    found = layer_ranges(exported, model.described()["ranges"], graphs.HEADS)
    assert [name for name in tensors_to_calibrate(exported, graphs.HEADS) if name not in found] == []
    int8 = quantize(exported, found, graphs.HEADS)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(int8.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    unrounded = graph.eval()(images)
    graph.network = model.eval()
    for output, rounded, plain_output in zip(outputs, graph(images), unrounded, strict=True):
        # What lies on a half may go either way, since the exporter folds batch normalisation before.
        far = (rounded - plain_output).abs().mean()
        assert (rounded - torch.from_numpy(output)).abs().mean() < 0.1 * far


def test_a_killed_run_goes_on_to_the_same_end(faces, trained, tmp_path):
    runner = Runner(tmp_path)
    again, whole = (fpenet_arguments(faces, trained / "last.safetensors", tmp_path / name) for name in ("a", "w"))
    assert runner.run(whole) == 0, runner.output
    assert runner.run(again, kill_at_replace, 6) < 0
    assert runner.run(again) == 0, runner.output
    assert "going on with" in runner.output
    for name in ("last.safetensors", "best.safetensors"):
        assert furthest(weights(tmp_path / "a" / name), weights(tmp_path / "w" / name)) == 0
        assert ranges(tmp_path / "a" / name) == ranges(tmp_path / "w" / name)
    mine, theirs = (json_lines(tmp_path / name / "metrics.jsonl") for name in ("a", "w"))
    assert mine == theirs


def test_ranges_are_part_of_the_state(faces, trained, tmp_path):
    """Those that the run began with count, whatever calibration would find now."""
    runner, run = Runner(tmp_path), tmp_path / "run"
    arguments = fpenet_arguments(faces, trained / "last.safetensors", run)
    assert runner.run(arguments, kill_at_replace, 6) < 0
    first = ranges(run / "last.safetensors")
    state = torch.load(run / "resume.pt", weights_only=True)
    state["weights"]["ranges"] *= 2
    state["average"]["module.ranges"] *= 2
    torch.save(state, run / "resume.pt")
    assert runner.run(arguments) == 0, runner.output
    assert ranges(run / "last.safetensors") == {name: 2 * value for name, value in first.items()}


@pytest.mark.parametrize("network", ["fpenet", "facenet"])
def test_two_processes_equal_one_with_twice_the_batch(network, faces, trained, pictures, detector, tmp_path):
    """From the same ranges, although each sees other samples first."""
    if network == "fpenet":
        program, build, start = fpenet, fpenet_arguments, (faces, trained / "last.safetensors")
    else:
        program, build, start = facenet, facenet_arguments, (pictures, detector / "last.safetensors")
    runner = Runner(tmp_path, program)
    two = build(*start, tmp_path / "two", *COMPARABLE, "train.batch_size=4")
    one = build(*start, tmp_path / "one", *COMPARABLE, "train.batch_size=8")
    assert runner.together(two) == [0, 0], runner.output
    assert runner.run(one) == 0, runner.output
    a, b = (tmp_path / run / "last.safetensors" for run in ("two", "one"))
    assert ranges(a) == pytest.approx(ranges(b), rel=1e-6)
    assert furthest(weights(a), weights(b)) < 1e-6
    assert furthest(weights(a), weights(start[1])) > 5e-4


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_in_lower_precision(faces, trained, tmp_path, precision):
    """Ranges are found and weights are learnt, and they are float32."""
    arguments = fpenet_arguments(faces, trained / "last.safetensors", tmp_path / "run", f"train.precision={precision}")
    assert fpenet(*arguments) == 0
    assert furthest(weights(tmp_path / "run" / "last.safetensors"), weights(trained / "last.safetensors")) > 1e-4


def test_files_of_before_load(trained, tmp_path):
    """Of a version that knew nothing of quantisation."""
    path, old = trained / "last.safetensors", tmp_path / "old.safetensors"
    state, meta = load_model(path)
    assert meta.quantization == {}
    save_model(old, state, replace(meta))
    data = old.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    values = json.loads(header["__metadata__"]["facetrain"])
    del values["quantization"]
    header["__metadata__"]["facetrain"] = json.dumps(values)
    text = json.dumps(header).encode()
    old.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    assert load_model(old)[1] == meta


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("train.pretrained=",), "train.qat=true goes on from a trained network: give train.pretrained=FILE"),
        (("model.batch_norm=true",), "model.batch_norm=true trains from random weights only"),
        (("train.sync_bn=true",), "train.sync_bn=true: train.qat=true keeps batch normalisation's statistics"),
    ],
)
def test_what_fpenet_cannot_do(faces, trained, tmp_path, capsys, overrides, message):
    arguments = fpenet_arguments(faces, trained / "last.safetensors", tmp_path / "run", *overrides)
    assert fpenet(*arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("start", ["", "imagenet", "resnet18.pth"])
def test_facenet_starts_from_a_detector(pictures, tmp_path, capsys, start):
    assert facenet(*facenet_arguments(pictures, Path("x"), tmp_path / "run", f"model.pretrained={start}")) == 2
    expected = f"model.pretrained={start!r}: train.qat=true goes on from a trained detector; give"
    assert expected in capsys.readouterr().err
