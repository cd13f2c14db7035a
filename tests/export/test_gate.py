"""Exports that went wrong are not handed over: the gate names what is wrong, and moves the file aside."""

import json
from dataclasses import replace

import numpy as np
import pytest
from onnx import numpy_helper

from facetrain.export import command
from facetrain.fpenet_trainer.network import RecombinatorNet
from facetrain.fpenet_trainer.predictor import load_network
from facetrain.tests.export_graphs import remember_exports
from facetrain.tests.runs import fpenet
from facetrain.training.model_file import save_model

DRAWN = ("data.val=[{format: synthetic, count: 24, seed: 9}]", "gate.inputs=8", "export.deployment=false")


@pytest.fixture(scope="module", autouse=True)
def each_graph_once():
    with pytest.MonkeyPatch.context() as patch:
        remember_exports(patch)
        yield


def export(folder, *overrides, model="zoo"):
    return fpenet("export", f"model={model}", f"results_dir={folder}", *DRAWN, *overrides)


def verdict(folder, form):
    rows = json.loads((folder / "gate.json").read_text())["artefacts"]
    return next(row for row in rows if row["form"] == form)


@pytest.fixture
def broken(monkeypatch):
    """Lets a test spoil the graph that PyTorch's exporter has made, as a defect of it would."""
    real = command.export_graph

    def install(spoil):
        def spoiled(*arguments):
            model = real(*arguments)
            spoil(model)
            return model

        monkeypatch.setattr(command, "export_graph", spoiled)

    return install


def change_tensor(model, name, change):
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()).astype(np.float32), name))


def refused(folder, capsys, *overrides, **model):
    assert export(folder, "export.precisions=[fp32]", *overrides, **model) == 1
    error = capsys.readouterr().err
    assert f"artefacts failed; what was made of them lies aside as .rejected in {folder}" in error
    assert not (folder / "fpenet.onnx").exists()
    assert (folder / "fpenet.onnx.rejected").exists()
    row = verdict(folder, "fp32")
    assert row["gate"] == "REJECTED" and row["file"] == "fpenet.onnx.rejected"
    status = [json.loads(line) for line in (folder / "status.json").read_text().splitlines()]
    assert status[-1]["status"] == "FAILURE"
    return error, row


def test_a_sound_export_passes(tmp_path, capsys):
    assert export(tmp_path / "out", "export.precisions=[fp32]") == 0
    row = verdict(tmp_path / "out", "fp32")
    assert row["gate"] == "passed" and row["problems"] == []
    assert row["differences"]["pixels"][0] < 1e-3
    assert row["kpi"] == pytest.approx(verdict(tmp_path / "out", "PyTorch")["kpi"], abs=1e-3)
    assert row["bytes"] == (tmp_path / "out" / "fpenet.onnx").stat().st_size
    assert "8 val faces" in capsys.readouterr().out.replace("\n", " ")


def test_a_wrong_scale(tmp_path, capsys, broken):
    """A picture fed as 0..1 where the network wants 0..255, as the first layer sees it."""
    broken(lambda model: change_tensor(model, "encoder.0.0.weight", lambda w: w / 255))
    error, row = refused(tmp_path / "out", capsys)
    assert "gate.fp32_pixels" in error and "gate.fp32_kpi" in error
    assert row["blamed"][0].startswith("encoder.0.0 ")


def test_swapped_channels(tmp_path, capsys, broken):
    def swap(weights):
        weights[[3, 4]] = weights[[4, 3]]
        return weights

    broken(lambda model: change_tensor(model, "decoder.2.0.0.weight", swap))
    error, row = refused(tmp_path / "out", capsys)
    assert row["blamed"][0].startswith("decoder.2.0.0 ")
    assert "to blame: decoder.2.0.0 (relative error" in error


def test_a_lost_beta(tmp_path, capsys, broken):
    """The same function as the zoo's, with half of the sharpness in the soft-argmax and half in the weights."""
    network, meta = load_network("zoo")
    halved = RecombinatorNet(replace(network.architecture, beta=0.5))
    weights = network.state_dict()
    for name in ("keypoints.weight", "keypoints.bias"):
        weights[name] = 2 * weights[name]
    halved.load_state_dict(weights)
    model = tmp_path / "halved.safetensors"
    save_model(model, weights, replace(meta, architecture=halved.architecture.to_dict()))
    assert export(tmp_path / "sound", "export.precisions=[fp32]", model=model) == 0
    capsys.readouterr()

    def lose(graph):
        last = next(node for node in graph.graph.node if node.name == "keypoints").output[0]
        product = next(node for node in graph.graph.node if node.op_type == "Mul" and last in node.input)
        for node in graph.graph.node:
            node.input[:] = [last if name == product.output[0] else name for name in node.input]

    broken(lose)
    _, row = refused(tmp_path / "out", capsys, model=model)
    assert row["blamed"] == ["what comes behind the last layer: the decoding of the outputs, or their names"]


def test_limits_are_the_users(tmp_path, capsys, broken):
    broken(lambda model: change_tensor(model, "keypoints.bias", lambda b: b * 1.5))
    loose = ("gate.fp32_pixels=50", "gate.fp32_probability=1", "gate.fp32_kpi=100")
    assert export(tmp_path / "loose", "export.precisions=[fp32]", *loose) == 0
    assert verdict(tmp_path / "loose", "fp32")["gate"] == "passed"


def test_an_earlier_export_does_not_pass_for_this_one(tmp_path, capsys, broken):
    folder = tmp_path / "out"
    assert export(folder, "export.precisions=[fp32]") == 0
    assert export(folder, "export.precisions=[fp32]") == 2
    assert "overwrite=true" in capsys.readouterr().err
    (folder / "fpenet_int8.onnx").write_bytes(b"of yesterday")
    broken(lambda model: change_tensor(model, "encoder.0.0.weight", lambda w: 2 * w))
    refused(folder, capsys, "overwrite=true")
    assert not (folder / "fpenet_int8.onnx").exists()


def test_not_finite_outputs_are_refused(tmp_path, capsys, broken):
    broken(lambda model: change_tensor(model, "trunk.1.0.bias", lambda b: b * np.nan))
    assert export(tmp_path / "out", "export.precisions=[fp32]") == 1
    assert (tmp_path / "out" / "fpenet.onnx.rejected").exists()
