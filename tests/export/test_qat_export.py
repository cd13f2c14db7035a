"""A model of quantisation-aware training is exported with the ranges that it was trained with."""

import json

import numpy as np
import onnx
import pytest

from facetrain.export.precision.dataflow import Dataflow
from facetrain.tests.export_graphs import constants
from facetrain.tests.runs import TEN_POINTS, fpenet, train_arguments
from facetrain.training.model_file import load_model

pytestmark = pytest.mark.usefixtures("one_thread", "no_report")

GATE = ("gate.inputs=8", "gate.int8_pixels=5", "gate.int8_kpi=100", "export.deployment=false")


@pytest.fixture(scope="module")
def aware(faces, trained, tmp_path_factory):
    """The model file of a run of quantisation-aware training."""
    folder = tmp_path_factory.mktemp("aware")
    qat = (f"train.pretrained={trained / 'last.safetensors'}", "train.qat=true", "train.epochs=2")
    assert fpenet(*train_arguments(faces, folder, *TEN_POINTS, *qat, "data.split.fraction=0.17")) == 0
    return folder / "last.safetensors"


def scales(path):
    """Layer -> 127 times the scale that its input is rounded with."""
    model = onnx.load(str(path))
    flow, values = Dataflow(model), constants(model)
    pairs = {
        name: flow.producers[node.input[0]] for name, node in flow.layers.items() if node.input[0] in flow.producers
    }
    return {
        name: 127 * float(values[pair.input[1]]) for name, pair in pairs.items() if pair.op_type == "DequantizeLinear"
    }


def export(model, faces, folder, *overrides):
    """The scales of the INT8 graph, and the report."""
    data = ("data=pts", f"data.root={faces}", "data.split.fraction=0.17", "split=val")
    forms = ("export.precisions=[int8]", f"model={model}", f"results_dir={folder}")
    assert fpenet("export", *forms, *data, *GATE, *overrides) == 0
    rows = {row["form"]: row for row in json.loads((folder / "gate.json").read_text())["artefacts"]}
    assert rows["int8"]["gate"] == "passed"
    return scales(folder / "fpenet_int8.onnx"), (folder / "report.html").read_text()


def test_its_own_ranges_are_used(aware, faces, tmp_path):
    stored = load_model(aware)[1].quantization["ranges"]
    found, report = export(aware, faces, tmp_path / "out")
    assert "Ranges: those of quantisation-aware training." in report
    assert {f"{layer}.input" for layer in found} == set(stored)
    assert found == pytest.approx({name.removesuffix(".input"): value for name, value in stored.items()}, rel=1e-6)


def test_unless_they_are_to_be_measured(aware, faces, tmp_path):
    stored = load_model(aware)[1].quantization["ranges"]
    found, report = export(aware, faces, tmp_path / "out", "calibration.ranges=measured", "calibration.method=minmax")
    assert "quantisation-aware" not in report
    assert "Ranges: minmax over 20 training faces." in report
    ratios = [found[name.removesuffix(".input")] / value for name, value in stored.items()]
    assert np.abs(np.log(ratios)).max() > 0.01
