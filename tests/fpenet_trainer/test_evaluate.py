"""`evaluate` on files, with a network whose answer is known.

A network of zeros has flat maps, so it puts every point into the middle of the crop: in the source picture that is the
middle of the labelled points' box, and every error can be worked out from the labels alone.
"""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facetrain.configs.compose import to_plain
from facetrain.configs.fpenet.schema import DataConfig, FpenetEvaluateSpec, FpenetTrainSpec, ModelConfig, SourceConfig
from facetrain.datasets.preprocessing import Preprocessing
from facetrain.datasets.sample import FaceSample, PointState, Rejection
from facetrain.errors import ConfigError
from facetrain.fpenet_trainer.evaluate import evaluate
from facetrain.fpenet_trainer.face_report import write_training_report
from facetrain.fpenet_trainer.face_results import point_rows, predict_faces, region_rows
from facetrain.fpenet_trainer.network import build_model
from facetrain.fpenet_trainer.predictor import Predictor
from facetrain.fpenet_trainer.schemes import load_scheme
from facetrain.training.model_file import ModelMeta, save_model

FACES = 5


def zero_model(path, num_keypoints=68, data=None, visibility_head=False):
    """A model file whose network answers with the middle of the crop."""
    network = build_model(ModelConfig(num_keypoints=num_keypoints, width=8, visibility_head=visibility_head))
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    config = to_plain(FpenetTrainSpec(data=data or DataConfig()))
    scheme = load_scheme("", num_keypoints)
    meta = ModelMeta(network.architecture.to_dict(), scheme.to_dict(), Preprocessing().to_dict(), config)
    save_model(path, network.state_dict(), meta)
    return path


def write_faces(folder, count=FACES, num_keypoints=68):
    """Grey pictures with `.pts` files; returns the points [count, K, 2]."""
    folder.mkdir(parents=True)
    points = np.random.default_rng(3).uniform(20, 100, (count, num_keypoints, 2)).round(2)
    for i, face in enumerate(points):
        Image.fromarray(np.full((120, 120), 40 * i, np.uint8)).save(folder / f"face_{i}.png")
        lines = "\n".join(f"{x:.2f} {y:.2f}" for x, y in face)
        (folder / f"face_{i}.pts").write_text(f"version: 1\nn_points: {num_keypoints}\n{{\n{lines}\n}}\n")
    return points


def expected_errors(points):
    """[N, K] distance of each point to the middle of its face's box."""
    middle = (points.min(axis=1) + points.max(axis=1)) / 2
    return np.linalg.norm(points - middle[:, None], axis=2)


def table(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder, points and figures of one evaluation in batches of 2: the last one holds a single face."""
    folder = tmp_path_factory.mktemp("evaluate")
    points = write_faces(folder / "faces")
    spec = FpenetEvaluateSpec(
        model=str(zero_model(folder / "model.safetensors")),
        results_dir=str(folder / "results"),
        data=DataConfig(root=str(folder), test=[SourceConfig(format="pts", path="faces")]),
        batch_size=2,
        device="cpu",
        pictures=2,
    )
    return spec, points, evaluate(spec)


def test_every_face_counts_once_the_last_batch_too(run):
    spec, _, figures = run
    assert figures["faces"] == FACES
    data = json.loads((Path(spec.results_dir) / "kpi_testing_all_data.json").read_text())
    assert [face["name"] for face in data] == [f"face_{i}.png" for i in range(FACES)]


def test_errors_are_in_pixels_of_the_source_picture(run):
    _, points, figures = run
    errors = expected_errors(points)
    assert figures["error_all"] == pytest.approx(errors.mean(), abs=1e-3)
    assert figures["error_mouth"] == pytest.approx(errors[:, 48:68].mean(), abs=1e-3)
    corners = np.linalg.norm(points[:, 36] - points[:, 45], axis=1)
    assert figures["nme_interocular"] == pytest.approx((100 * errors.mean(axis=1) / corners).mean(), rel=1e-4)


def test_the_tables_have_the_original_s_columns_first(run):
    spec, points, _ = run
    errors = expected_errors(points)
    rows = table(Path(spec.results_dir) / "kpi_testing_error_per_point.csv")
    assert rows[0][:4] == [
        "Error per point", "mean_pxl_err_xy_all", "mean_pxl_err_xy_non_occ", "num_samples_non_occluded",
    ]  # fmt: skip
    assert [row[0] for row in rows[1:]] == [str(i) for i in range(68)]
    assert [float(row[1]) for row in rows[1:]] == pytest.approx(errors.mean(axis=0).tolist(), abs=1e-3)
    assert {row[3] for row in rows[1:]} == {str(FACES)}
    rows = table(Path(spec.results_dir) / "kpi_testing_error_per_region.csv")
    assert rows[0][:3] == ["Error per region", "mean_region_err_xy_all", "mean_region_err_xy_non_occ"]
    assert [row[0] for row in rows[1:8]] == ["All", "Eyes", "Nose", "Mouth", "Eyebrows", "Chin", "HP"]
    assert float(rows[1][1]) == pytest.approx(errors.mean(), abs=1e-3)


def test_the_json_has_the_original_s_keys_and_points_of_the_crop(run):
    spec, points, _ = run
    face = json.loads((Path(spec.results_dir) / "kpi_testing_all_data.json").read_text())[3]
    assert list(face)[:6] == ["image_path", "face_box", "gt_keypoints", "pred_keypoints", "gt_occlusions", "pred_conf"]
    side = np.ptp(points[3], axis=0).max() * 1.25
    middle = (points[3].min(axis=0) + points[3].max(axis=0)) / 2 + 0.5
    assert face["face_box"] == pytest.approx([*(middle - side / 2), side, side], abs=1e-2)
    assert face["pred_keypoints"] == [[39.5, 39.5]] * 68
    in_crop = (points[3] + 0.5 - middle) * 80 / side + 39.5
    assert np.array(face["gt_keypoints"]) == pytest.approx(in_crop, abs=1e-2)
    assert face["gt_occlusions"] == [1] * 68  # visible, whatever the name says
    assert face["states"] == [PointState.VISIBLE] * 68
    assert face["pred_conf"] == pytest.approx([1 / 6400] * 68, abs=1e-4)
    assert np.array(face["gt_points_image"]) == pytest.approx(points[3], abs=1e-3)


def test_everything_promised_is_written_and_agrees(run):
    spec, _, figures = run
    folder = Path(spec.results_dir)
    content = json.loads((folder / "metrics.json").read_text())
    assert content["metrics"] == figures
    assert content["sources"] == {"faces": figures}
    assert Image.open(folder / "ced.png").width > 500
    assert json.loads((folder / "status.json").read_text().splitlines()[-1])["kpi"] == figures
    report = (folder / "report.html").read_text()
    assert f"{FACES} faces, 68 points each" in report
    assert report.count("<img") == 2
    assert not re.search(r"[>\s]nan\b", report)


def test_results_are_not_written_over_unasked(run):
    spec, _, figures = run
    with pytest.raises(ConfigError, match="results_dir="):
        evaluate(spec)
    assert evaluate(replace(spec, overwrite=True)) == figures


def test_a_training_run_s_folder_is_never_written_to(run, tmp_path):
    spec, _, _ = run
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(ConfigError, match="training run"):
        evaluate(replace(spec, results_dir=str(tmp_path), overwrite=True))


def test_the_model_s_own_data_are_taken_where_the_spec_has_none(tmp_path, run):
    spec, _, figures = run
    stored = DataConfig(root="/moved/away", test=[SourceConfig(format="pts", path="faces")])
    model = zero_model(tmp_path / "model.safetensors", data=stored)
    data = DataConfig(root=str(Path(spec.data.root)))
    own = replace(spec, model=str(model), results_dir=str(tmp_path / "results"), data=data)
    assert evaluate(own) == figures


def predicted(tmp_path, num_keypoints, states, **model):
    """Results on one face [K, 2] given as a picture in memory."""
    points = np.random.default_rng(5).uniform(10, 50, (num_keypoints, 2)).astype(np.float32)
    points[states == PointState.MISSING] = np.nan
    sample = FaceSample(np.zeros((60, 60), np.uint8), points, states.astype(np.int8), name="face", source="memory")
    predictor = Predictor.load(str(zero_model(tmp_path / "m.safetensors", num_keypoints, **model)), "cpu")
    return predict_faces(predictor, [sample, replace(sample, labelled=False)])


def test_ten_points_of_any_layout(tmp_path):
    states = np.full(10, PointState.VISIBLE)
    states[[2, 3]] = PointState.MISSING, PointState.OCCLUDED
    results = predicted(tmp_path, 10, states)
    assert len(results.samples) == 1  # the unlabelled face has nothing to compare with
    rows = point_rows(results.errors)
    assert rows[3][1:4] == [pytest.approx(np.nan, nan_ok=True), pytest.approx(np.nan, nan_ok=True), -1]
    assert np.isfinite(rows[4][1])
    assert rows[4][3] == -1
    assert rows[5][3] == 1
    assert [row[0] for row in region_rows(results.errors)[1:]] == ["All"]
    write_training_report(tmp_path, "FPENet", {}, [], {"test": results})
    report = (tmp_path / "report.html").read_text()
    assert "box diagonal" in report
    assert "inter-ocular" not in report


def test_a_visibility_head_is_measured_and_shown(tmp_path):
    states = np.full(68, PointState.VISIBLE)
    states[:17] = PointState.OCCLUDED
    results = predicted(tmp_path, 68, states, visibility_head=True)
    assert results.predicted.visibility == pytest.approx(np.full((1, 68), 0.5))
    assert results.errors.summary()["visibility_accuracy"] == pytest.approx(51 / 68)
    write_training_report(tmp_path, "FPENet", {}, [], {"test": results})
    assert "network says" in (tmp_path / "report.html").read_text()


def test_a_training_report_shows_curves_results_and_what_was_left_out(tmp_path):
    log = [
        {"kind": "train", "step": 10, "epoch": 1, "loss": 3.0, "landmarks": 2.0, "learning_rate": 1e-3},
        {
            "kind": "val",
            "step": 20,
            "epoch": 1,
            "nme_interocular": 9.0,
            "error_all": 4.0,
            "auc_8": 0.1,
            "failure_8": 50.0,
        },
    ]
    left_out = [Rejection("a.pts", 3, "broken label"), Rejection("b.pts", None, "broken label")]
    results = predicted(tmp_path, 68, np.full(68, PointState.VISIBLE))
    write_training_report(tmp_path, "FPENet", {"seed": "42"}, log, {"test": results}, left_out, ["A note."], 1)
    report = (tmp_path / "report.html").read_text()
    for text in ("Training loss", "Learning rate", "Test faces", "seed", "A note.", "broken label", "a.pts:3"):
        assert text in report
    assert report.count("<svg") == 6 + 3
