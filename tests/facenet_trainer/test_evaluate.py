"""`facenet evaluate` on files, with a network whose answer is known.

It hands every channel of the picture on to the last map. A cell of 16 x 16 pixels is therefore as lit as its top-left
pixel is red (class 0) or green (class 1), and stands for itself as a box: what is found, and how sure the network is,
is painted.
"""

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from facetrain.cli import FACENET, main
from facetrain.configs.compose import to_plain
from facetrain.configs.facenet.schema import (
    ClusteringConfig,
    DataConfig,
    FacenetEvaluateSpec,
    FacenetTrainSpec,
    IgnoreConfig,
    MetricsConfig,
    SourceConfig,
)
from facetrain.configs.schema import SplitConfig
from facetrain.datasets.resizing import PicturePreprocessing
from facetrain.errors import ConfigError, DataError, ModelFileError
from facetrain.facenet_trainer.evaluate import evaluate
from facetrain.facenet_trainer.network import GridBoxArchitecture, GridBoxNet
from facetrain.training.model_file import ModelMeta, save_model

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTH, HEIGHT, CELL = 96, 64, 16
SURE, LESS_SURE, UNSURE = 255, 230, 200


def confidence(light):
    return 1 / (1 + math.exp(5 - 10 * light / 255))


@torch.no_grad()
def light_meter(path, classes=("face",), data=None):
    """The model file of the network above."""
    full = GridBoxArchitecture(num_layers=10).channels
    network = GridBoxNet(GridBoxArchitecture(num_layers=10, classes=tuple(classes), channels=dict.fromkeys(full, 3)))
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.fill_(1)
            module.running_var.fill_(1 - module.eps)
        elif name == "conv1":
            module.weight[range(3), range(3), 3, 3] = 1
        elif name.endswith("conv_shortcut"):
            module.weight[range(3), range(3)] = 1
    network.output_cov.weight[range(len(classes)), range(len(classes))] = 10
    network.output_cov.bias.fill_(-5)
    to_edges = torch.tensor([0.5, 0.5, CELL - 0.5, CELL - 0.5]) / 35  # from half a pixel inside the cell
    network.output_bbox.bias.copy_(to_edges.repeat(len(classes)))
    spec = FacenetTrainSpec(clustering=ClusteringConfig(algorithm="nms", coverage_threshold=0.1))
    config = {**to_plain(spec), "data": to_plain(data or DataConfig())}
    preprocessing = PicturePreprocessing(WIDTH, HEIGHT)
    scheme = {"classes": list(classes)}
    meta = ModelMeta(network.architecture.to_dict(), scheme, preprocessing.to_dict(), config)
    save_model(path, network.state_dict(), meta)
    return path


def paint(path, *cells, scale=1, channel=0):
    """A black picture, `scale` times the input, with lit cells given as (column, row, light)."""
    picture = np.zeros((HEIGHT * scale, WIDTH * scale, 3), np.uint8)
    side, margin = CELL * scale, 4 * (scale - 1)  # so that resizing blends nothing dark into the corner
    for column, row, light in cells:
        top, left = max(row * side - margin, 0), max(column * side - margin, 0)
        picture[top : (row + 1) * side, left : (column + 1) * side, channel] = light
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(picture).save(path)


def label(column, row, *, side=CELL, invalid=0, occlusion=0):
    return f"{column * side} {row * side} {side} {side} 0 0 0 {invalid} {occlusion} 0"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """WIDER's text beside two pictures, and two pictures without a face.

    a.png, as large as the input: a face that is found, one that is not, and a false positive. b.png, twice as large: an
    occluded face that is found, and an invalid one that is found too.
    """
    folder = tmp_path_factory.mktemp("pictures")
    paint(folder / "a.png", (0, 0, SURE), (2, 1, UNSURE))
    paint(folder / "b.png", (1, 1, LESS_SURE), (4, 2, SURE), scale=2)
    b = [label(1, 1, side=32, occlusion=1), label(4, 2, side=32, invalid=1)]
    lines = ["a.png", "2", label(0, 0), label(4, 2), "b.png", "2", *b]
    (folder / "labels.txt").write_text("\n".join(lines) + "\n")
    paint(folder / "faceless" / "less.png", (1, 1, UNSURE))
    paint(folder / "faceless" / "sub" / "more.png", (3, 0, SURE))
    return folder


WIDER = SourceConfig(format="wider", path="labels.txt")


def spec_for(pictures, folder, /, **changes):
    spec = FacenetEvaluateSpec(
        model=str(folder / "model.safetensors"),
        results_dir=str(folder / "results"),
        data=DataConfig(root=str(pictures), test=[WIDER]),
        batch_size=1,
        device="cpu",
    )
    if not Path(spec.model).exists():
        light_meter(folder / "model.safetensors")
    return replace(spec, **changes)


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    """Spec and figures of one evaluation."""
    spec = spec_for(pictures, tmp_path_factory.mktemp("run"), faceless=str(pictures / "faceless"))
    return spec, evaluate(spec)


def table(spec, name):
    with open(Path(spec.results_dir) / name, newline="") as file:
        return list(csv.DictReader(file))


def test_the_figures_of_two_pictures(run):
    # In order of confidence: a hit in a.png, one in b.png, a false positive; one of three faces is not found.
    _, figures = run
    assert (figures["pictures"], figures["faces"], figures["detections"]) == (2, 3, 3)
    assert figures["ap"] == figures["ap_face"] == pytest.approx(2 / 3)
    assert figures["recall"] == figures["precision"] == pytest.approx(2 / 3)
    assert figures["f1_face"] == pytest.approx(0.8)
    assert figures["f1_score_face"] == pytest.approx(confidence(LESS_SURE), abs=1e-3)
    assert figures["false_positives_per_image"] == 0.5
    # Only the face of b.png is 20 px high, 32 in fact: boxes count in pixels of the picture.
    assert (figures["ap_20px"], figures["recall_20px"], figures["faces_20px"]) == (1, 1, 1)
    assert figures["coco_map_50"] == pytest.approx(67 / 101)  # recalls 0, 0.01, ... 0.66


def test_false_positives_where_there_is_no_face(run):
    _, figures = run
    assert figures["faceless_pictures"] == 2
    assert figures["faceless_false_positives_per_image"] == 1
    assert figures["faceless_false_positives_per_image_best_f1"] == 0.5


def test_the_three_kinds_of_average_precision(run):
    spec, _ = run
    (row,) = table(spec, "average_precision.csv")
    assert (row["class"], row["faces"]) == ("face", "3")
    expected = {"voc": 2 / 3, "tao_sample": 7 / 11, "tao_integrate": 1 / 3}
    assert {kind: float(row[kind]) for kind in expected} == pytest.approx(expected, abs=1e-5)
    classes = json.loads((Path(spec.results_dir) / "metrics.json").read_text())["classes"]
    assert classes == {"face": pytest.approx(expected)}


def test_the_curve_and_the_parts_of_the_faces_are_written(run):
    spec, _ = run
    curve = [(float(row["precision"]), float(row["recall"])) for row in table(spec, "precision_recall.csv")]
    assert curve == [pytest.approx(point, abs=1e-5) for point in [(1, 1 / 3), (1, 2 / 3), (2 / 3, 2 / 3)]]
    rows = {(row["group"], row["name"]): row for row in table(spec, "groups.csv")}
    assert [rows["occlusion", level]["recall"] for level in "01"] == ["0.5", "1"]
    assert (rows["height, px", "32 to 64"]["faces"], rows["height, px", "16 to 32"]["faces"]) == ("1", "2")
    assert rows["share of the picture, %", "1 to 10"]["faces"] == "3"
    assert table(spec, "pictures.csv") == [
        {"picture": "a.png", "source": "labels", "faces": "2", "missed": "1", "false_positives": "0"},
        {"picture": "b.png", "source": "labels", "faces": "1", "missed": "0", "false_positives": "0"},
    ]


def test_status_has_tao_s_names_in_percent(run):
    spec, figures = run
    status = json.loads((Path(spec.results_dir) / "status.json").read_text().splitlines()[-1])
    assert status["status"] == "SUCCESS"
    assert status["kpi"] == {**figures, "mean average precision": 66.6667}
    assert status["categorical"] == {"average_precision": {"face": 66.6667}}


def test_everything_promised_is_written_and_agrees(run):
    spec, figures = run
    folder = Path(spec.results_dir)
    content = json.loads((folder / "metrics.json").read_text())
    assert content["metrics"] == figures
    assert content["split"] == "test"
    assert (content["model"], content["input"]["width"]) == (spec.model, WIDTH)
    assert content["clustering"]["coverage_threshold"] == 0.1
    assert Image.open(folder / "precision_recall.png").width > 500
    report = (folder / "report.html").read_text()
    for text in (
        "2 pictures, 3 faces (1 at least 20 px high), 1 ignored",
        "TAO INTEGRATE",
        "share of the picture, %",
        "occlusion",
        "Pictures without a face",
        "a.png: 1 missed, 0 false",
        "sub/more.png: 0 missed, 1 false",
    ):
        assert text in report
    assert report.count("<img") == 2  # the only pictures with a mistake at the best F1
    assert report.count("<svg") == 2
    assert not re.search(r"[>\s]nan\b", report)


def test_results_are_not_written_over_unasked_and_are_the_same_again(run, pictures):
    spec, figures = run
    with pytest.raises(ConfigError, match="results_dir="):
        evaluate(spec)
    assert evaluate(replace(spec, overwrite=True, batch_size=8)) == figures


def test_a_training_run_s_folder_is_never_written_to(pictures, tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(ConfigError, match="training run"):
        evaluate(spec_for(pictures, tmp_path, results_dir=str(tmp_path), overwrite=True))


def test_the_model_s_own_data_classes_and_ignore_filter(pictures, tmp_path):
    """They moved, and the model says that what is higher than 15 px of the input is ignored: all there is."""
    stored = DataConfig(root="/moved/away", test=[WIDER], ignore=IgnoreConfig(max_height=15.0))
    light_meter(tmp_path / "model.safetensors", data=stored)
    own = spec_for(pictures, tmp_path, data=DataConfig(root=str(pictures)))
    with pytest.raises(ConfigError, match=r"data\.test has no box to find: all are ignored .*max_height=15\.0"):
        evaluate(own)
    given = DataConfig(root=str(pictures), ignore=IgnoreConfig(max_height=1000.0))
    assert evaluate(replace(own, data=given, pictures=0))["ap"] == pytest.approx(2 / 3)


def test_classes_are_the_model_s_in_whatever_order_the_spec_maps_them(pictures, tmp_path):
    """A kitti label with a red face and a green mask."""
    folder = tmp_path / "kitti"
    paint(folder / "one.png", (1, 1, SURE))
    paint(folder / "two.png", (2, 1, SURE), channel=1)
    line = "{} 0 0 0 {} 16 {} 32 0 0 0 0 0 0 0\n"
    (folder / "one.txt").write_text(line.format("Face", 16, 32))
    (folder / "two.txt").write_text(line.format("masked", 32, 48) + line.format("face", 0, 16))
    light_meter(tmp_path / "model.safetensors", classes=("face", "mask"))
    mapping = {"masked": "mask", "face": "face"}
    data = DataConfig(root=str(tmp_path), test=[SourceConfig("kitti", "kitti")], class_mapping=mapping)
    spec = spec_for(pictures, tmp_path, data=data, pictures=0)
    figures = evaluate(spec)
    assert (figures["ap_mask"], figures["ap_face"], figures["ap"]) == (1, 0.5, 0.75)
    status = json.loads((Path(spec.results_dir) / "status.json").read_text().splitlines()[-1])
    assert status["kpi"]["mean average precision"] == 75
    assert status["categorical"]["average_precision"] == {"face": 50, "mask": 100}
    wrong = replace(spec, data=replace(data, class_mapping={"face": "visage"}), overwrite=True)
    with pytest.raises(ConfigError, match=r"data\.class_mapping: the model has no class 'visage'.*face \| mask"):
        evaluate(wrong)


def test_limits_and_clustering_are_the_spec_s(pictures, tmp_path):
    """Faces from 20 px on, found by cells that are surer than the one in b.png."""
    spec = spec_for(pictures, tmp_path, metrics=MetricsConfig(minimum_height=20.0), pictures=0)
    assert (figures := evaluate(spec))["faces"] == 1
    assert (figures["ap"], figures["detections"]) == (1, 1)
    surer = replace(spec, clustering={"coverage_threshold": 0.99}, overwrite=True)
    assert (figures := evaluate(surer))["recall"] == 0
    assert figures["ap"] == figures["detections"] == 0


def test_the_part_that_was_held_out_is_measured_as_val(pictures, tmp_path):
    data = DataConfig(root=str(pictures), train=[WIDER], split=SplitConfig(fraction=0.5))
    spec = spec_for(pictures, tmp_path, data=data, split="val", pictures=0)
    assert evaluate(spec)["pictures"] == 1
    whole = replace(spec, data=replace(data, split=SplitConfig(fraction=0.0)), overwrite=True)
    with pytest.raises(ConfigError, match=r"split=val: the data hold no picture.*data\.split\.fraction"):
        evaluate(whole)


def test_wrong_requests_are_one_clear_error(pictures, tmp_path):
    spec = spec_for(pictures, tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"no picture")

    def error(kind, match, **changes):
        with pytest.raises(kind, match=match) as caught:
            evaluate(replace(spec, **changes))
        assert "\n" not in str(caught.value)

    error(DataError, r"faceless=.*facles is missing; give a folder.*nearest in .*: faceless",
          faceless=str(pictures / "facles"))  # fmt: skip
    error(DataError, "faceless=.*is a file; give a folder", faceless=str(pictures / "a.png"))
    error(DataError, r"faceless=.*no picture \(\.jpg", faceless=str(tmp_path / "empty"))
    error(DataError, "faceless=.*none of the 1 pictures can be read", faceless=str(tmp_path / "broken"))
    error(ConfigError, "clustering: unknown key 'coverage_treshold'.*coverage_threshold",
          clustering={"coverage_treshold": 0.3})  # fmt: skip
    error(ConfigError, r"width=100: the stride of the grid is 16", input_size={"width": 100})
    error(ConfigError, r"data\.test names no source", data=DataConfig())
    error(ModelFileError, "there is no model file", model=str(tmp_path / "none.safetensors"))
    save_model(tmp_path / "points.safetensors", {"a": torch.zeros(1)}, ModelMeta({"network": "fpenet"}, {}, {}))
    error(ModelFileError, "holds a fpenet model, not FaceNet", model=str(tmp_path / "points.safetensors"))
    assert not Path(spec.results_dir).exists()


def test_a_wrong_key_on_the_command_line_is_an_exit_code(pictures, tmp_path, capsys):
    spec_for(pictures, tmp_path)
    arguments = ["evaluate", f"model={tmp_path / 'model.safetensors'}", f"results_dir={tmp_path / 'r'}"]
    assert main("facenet", FACENET, [*arguments, "clustering.coverage_threshold=7", f"data.root={pictures}"]) == 2
    assert "clustering.coverage_threshold=7" in capsys.readouterr().err
