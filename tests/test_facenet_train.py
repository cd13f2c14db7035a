"""Whole runs of `facenet train` and `facenet prune`: both phases, what they leave behind, what the settings do."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from facetrain.facenet_trainer.pretrained import load_network
from facetrain.tests.facenet_runs import LEARNS, STILL, measured, narrow_model, train, train_arguments
from facetrain.tests.runs import facenet, furthest, json_lines, weights
from facetrain.training.complexity import count_parameters
from facetrain.training.model_file import load_model

pytestmark = pytest.mark.usefixtures("one_thread")

SCENES = (
    "data.train=[{format: scenes, count: 8, seed: 0}]", "data.val=[{format: scenes, count: 3, seed: 100}]",
    "data.test=[{format: scenes, count: 2, seed: 200}]", "input.width=160", "input.height=96",
    "clustering.algorithm=nms", "loss.autoweighting=true",
)  # fmt: skip
RUN_FILES = {
    "config.yaml", "status.json", "metrics.jsonl", "metrics.csv", "best.safetensors", "last.safetensors", "resume.pt",
    "report.html",
}  # fmt: skip


def val_records(folder: Path) -> list[dict]:
    return [record for record in json_lines(folder / "metrics.jsonl") if record["kind"] == "val"]


def train_records(folder: Path) -> list[dict]:
    return [record for record in json_lines(folder / "metrics.jsonl") if record["kind"] == "train"]


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Path:
    """16 channels in every layer, of which something can be cut."""
    return narrow_model(tmp_path_factory.mktemp("wide") / "wide.safetensors", channels=16)


@pytest.fixture(scope="module")
def regularised(wide, tmp_path_factory) -> tuple[Path, str]:
    """The first phase by the real command, loader process and report included: its folder and what it said."""
    folder = tmp_path_factory.mktemp("regularised") / "run"
    arguments = train_arguments(wide.parent, wide, folder, *SCENES, "data.workers=1")
    done = subprocess.run(
        [sys.executable, "-m", "facetrain", "facenet", *arguments], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "epoch 2/2" in done.stderr
    return folder, done.stdout


@pytest.fixture(scope="module")
def pruned(regularised, tmp_path_factory) -> Path:
    """`facenet prune` of the first phase: its folder."""
    folder = tmp_path_factory.mktemp("pruned") / "results"
    model = regularised[0] / "best.safetensors"
    settings = ("prune.target=parameters", "prune.target_share=0.6", "prune.min_filters=4", "prune.granularity=4")
    assert facenet("prune", f"model={model}", f"results_dir={folder}", *settings) == 0
    return folder


def test_the_first_phase_and_what_it_leaves(regularised, wide):
    folder, out = regularised
    assert "pictures: 8 to train on (" in out and " boxes), 3 to validate on, 2 to test on" in out
    assert f"from {wide} (ResNet-10, pruned, " in out  # its architecture is narrower than any ResNet-10
    assert f"report: {folder / 'report.html'}" in out
    assert {path.name for path in folder.iterdir()} == {*RUN_FILES, "plots"}
    assert list((folder / "plots").glob("*.png"))

    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["input"]["width"] == 160
    assert config["loss"]["regularizer_weight"] == 3e-9  # resolved: defaults too
    status = json_lines(folder / "status.json")
    assert [record["status"] for record in status] == ["STARTED", "RUNNING", "RUNNING", "SUCCESS"]
    assert {"epoch", "max_epoch", "time_per_epoch", "eta", "kpi", "graphical"} <= status[1].keys()
    assert status[1]["kpi"].keys() >= {"ap", "recall", "validation_cost"}
    assert status[3]["kpi"]["test/pictures"] == 2
    assert status[3]["kpi"]["validation/pictures"] == 3
    assert 0 <= status[3]["kpi"]["test/ap"] <= 1

    steps = train_records(folder)
    assert [record["step"] for record in steps] == [1, 2, 3, 4]
    for record in steps:
        assert {"loss", "coverage", "bbox", "regularizer", "learning_rate", "epoch"} <= record.keys()
    # Before the first epoch's end the objectives weigh what the spec says: 1 and 10 of 11.
    first = steps[0]
    expected = (first["coverage"] + 10 * first["bbox"]) / 11 + 3e-9 * first["regularizer"]
    assert first["loss"] == pytest.approx(expected, rel=1e-5)
    # Then each counts as much as that at the cost it had.
    sums = {name: sum(record[name] for record in steps[:2]) for name in ("coverage", "bbox")}
    scaled = {"coverage": 1 / sums["coverage"], "bbox": 10 / sums["bbox"]}
    total = sum(scaled.values())
    third = steps[2]
    expected = sum(scaled[name] / total * third[name] for name in scaled) + 3e-9 * third["regularizer"]
    assert third["loss"] == pytest.approx(expected, rel=1e-5)

    assert [record["epoch"] for record in val_records(folder)] == [1, 2]
    for record in val_records(folder):
        assert {"ap", "ap_face", "recall", "coco_map", "pictures", "faces", "validation_cost"} <= record.keys()
        assert record["pictures"] == 3
    for name in ("best", "last"):
        meta = load_model(folder / f"{name}.safetensors")[1]
        assert meta.config == config
        assert meta.scheme == {"classes": ["face"]}
        assert meta.preprocessing == {"width": 160, "height": 96, "grayscale": False, "resize": "letterbox"}
        assert meta.metrics["ap"] in [record["ap"] for record in val_records(folder)]
    page = (folder / "report.html").read_text()
    assert "ResNet-10, pruned" in page and "data:image" in page


def test_the_best_model_is_what_the_run_says(regularised, tmp_path):
    """Validation in training and the best model measured afterwards, picture by picture, agree."""
    folder, _ = regularised
    kpi = json_lines(folder / "status.json")[-1]["kpi"]
    best = load_model(folder / "best.safetensors")[1].metrics
    for name in ("ap", "recall", "coco_map", "faces", "detections"):
        assert kpi[f"validation/{name}"] == pytest.approx(best[name], abs=1e-6), name


def test_pruning_and_what_it_leaves(regularised, pruned):
    before, meta_before = load_network(str(regularised[0] / "best.safetensors"))
    after, meta = load_network(str(pruned / "pruned.safetensors"))
    assert {path.name for path in pruned.iterdir()} == {
        "pruned.safetensors", "layers.csv", "prune.json", "channels.png", "report.html", "status.json", "metrics.csv",
    }  # fmt: skip
    assert count_parameters(after) <= 0.6 * count_parameters(before)
    assert min(after.architecture.channels.values()) >= 4
    assert (meta.scheme, meta.preprocessing) == (meta_before.scheme, meta_before.preprocessing)
    (status,) = json_lines(pruned / "status.json")
    assert status["status"] == "SUCCESS"
    assert status["kpi"]["param_count"] == count_parameters(after)
    assert status["kpi"]["pruning_ratio"] == count_parameters(after) / count_parameters(before)
    content = json.loads((pruned / "prune.json").read_text())
    assert {layer["name"]: layer["after"] for layer in content["layers"]}["conv1"] == after.architecture.channels[
        "conv1"
    ]


@pytest.mark.usefixtures("no_report")
def test_the_second_phase_takes_the_architecture_from_the_file(pruned, tmp_path, capsys):
    """The spec says an unpruned ResNet-18: the file wins, and it is said so."""
    model = pruned / "pruned.safetensors"
    retrain = (*SCENES, "model.num_layers=18", "model.all_projections=false", "loss.regularizer=none")
    folder = train(tmp_path, model, tmp_path / "run", *retrain)
    source, _ = load_network(str(model))
    out = capsys.readouterr().out
    parameters = sum(p.numel() for p in source.parameters())
    assert f"from {model} (ResNet-10, pruned, {parameters:,} parameters, " in out
    assert "the network keeps that" in out
    assert "not loaded" not in out
    assert {path.name for path in folder.iterdir()} == RUN_FILES
    assert not [record for record in train_records(folder) if "regularizer" in record]
    for name in ("best", "last"):
        network, meta = load_network(str(folder / f"{name}.safetensors"))
        assert network.architecture == source.architecture
        assert meta.architecture["channels"] == source.architecture.channels
    assert furthest(weights(folder / "last.safetensors"), weights(model)) > 1e-3
    assert json_lines(folder / "status.json")[-1]["kpi"].keys() >= {"test/ap", "validation/ap"}


@pytest.mark.usefixtures("no_report")
class TestSettings:
    def test_it_learns(self, pictures, detector):
        """The painted rectangles, by heart."""
        curve = [record["loss"] for record in train_records(detector)]
        assert np.mean(curve[-4:]) < 0.3 * np.mean(curve[:4])
        assert measured(pictures, detector / "best.safetensors")["ap"] > 0.8

    def test_pruned_and_retrained_it_finds_them_again(self, pictures, detector, tmp_path):
        settings = ("prune.target=parameters", "prune.target_share=0.82", "prune.min_filters=2", "prune.granularity=1")
        model = detector / "last.safetensors"
        assert facenet("prune", f"model={model}", f"results_dir={tmp_path / 'cut'}", "report=false", *settings) == 0
        cut = tmp_path / "cut" / "pruned.safetensors"
        assert measured(pictures, cut)["ap"] < measured(pictures, model)["ap"] - 0.1
        retrain = (*LEARNS, "loss.regularizer=none", "data.split.fraction=0", "train.epochs=20")
        folder = train(pictures, cut, tmp_path / "run", *retrain)
        assert measured(pictures, folder / "best.safetensors")["ap"] > 0.8

    def test_same_seed_same_run(self, pictures, narrow, tmp_path):
        a, b, c = (
            weights(train(pictures, narrow, tmp_path / name, f"seed={seed}", "train.epochs=1") / "last.safetensors")
            for name, seed in (("a", 1), ("b", 1), ("c", 2))
        )
        assert furthest(a, b) == 0
        assert furthest(a, c) > 1e-3

    def test_average_with_its_statistics_is_what_is_saved(self, pictures, narrow, tmp_path):
        folder = train(pictures, narrow, tmp_path / "run", "train.ema=0.5", "data.split.fraction=0")
        state = torch.load(folder / "resume.pt", weights_only=True)
        saved = weights(folder / "last.safetensors")
        assert any("running_var" in name for name in saved)
        assert furthest(saved, {name: state["average"][f"module.{name}"] for name in saved}) == 0
        assert furthest(saved, state["weights"]) > 1e-5

    def test_accumulation_equals_a_larger_batch(self, pictures, detector, tmp_path):
        """With batch normalisation frozen; its statistics are of a batch otherwise."""
        common = ("model.freeze_bn=true", "data.split.fraction=0", *STILL, "train.learning_rate=1e-3")
        model = detector / "last.safetensors"
        one = train(pictures, model, tmp_path / "one", *common, "train.batch_size=8")
        two = train(pictures, model, tmp_path / "two", *common, "train.batch_size=4", "train.accumulate=2")
        assert furthest(*(weights(folder / "last.safetensors") for folder in (one, two))) < 1e-5
        assert furthest(weights(one / "last.safetensors"), weights(model)) > 1e-4
        assert [r["loss"] for r in train_records(one)] == pytest.approx(
            [r["loss"] for r in train_records(two)], rel=1e-4
        )

    def test_frozen_statistics_and_blocks_stay(self, pictures, detector, tmp_path):
        model = detector / "last.safetensors"
        folder = train(pictures, model, tmp_path / "run", "model.freeze_bn=true", "model.freeze_blocks=[0,1]")
        before, after = weights(model), weights(folder / "last.safetensors")
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert not [name for name in changed if "running" in name]
        assert not [name for name in changed if name.startswith(("conv1.", "block_1a.conv"))]
        assert {"bn_conv1.weight", "block_1a.bn_1.bias", "block_2a.conv_1.weight", "output_cov.bias"} <= changed

    def test_two_classes(self, pictures, narrow, tmp_path, capsys):
        """Each class has parts and figures of its own; what the file lacks of the heads is said."""
        labels = copy_of(pictures, tmp_path)
        for file in sorted(labels.glob("*.txt"))[::2]:
            file.write_text(file.read_text().replace("face", "Mask"))
        two = ("data.class_mapping={face: face, mask: mask}", "loss.class_weights={face: 3, mask: 1}")
        folder = train(labels, narrow, tmp_path / "run", *two, "data.split.fraction=0.5")
        assert "not loaded: output_cov.weight (for mask; the file's classes are face)" in capsys.readouterr().out
        first = train_records(folder)[0]
        assert {"coverage_face", "bbox_face", "coverage_mask", "bbox_mask"} <= first.keys()
        expected = sum(
            share * (first[f"coverage_{name}"] + 10 * first[f"bbox_{name}"]) / 11
            for name, share in (("face", 0.75), ("mask", 0.25))
        )
        assert first["loss"] == pytest.approx(expected + 3e-9 * first["regularizer"], rel=1e-5)
        assert {"ap", "ap_face", "ap_mask"} <= val_records(folder)[0].keys()
        assert load_model(folder / "best.safetensors")[1].scheme == {"classes": ["face", "mask"]}

    def test_a_finished_run_is_kept_unless_overwritten(self, pictures, narrow, tmp_path, capsys):
        folder = train(pictures, narrow, tmp_path / "run", "train.epochs=1")
        before = {path: path.read_bytes() for path in folder.iterdir()}
        assert facenet(*train_arguments(pictures, narrow, folder, "train.epochs=1")) == 2
        assert "holds a finished run: choose another folder, or" in capsys.readouterr().err
        assert {path: path.read_bytes() for path in folder.iterdir()} == before
        train(pictures, narrow, folder, "train.epochs=1", "overwrite=true", "seed=1")
        assert yaml.safe_load((folder / "config.yaml").read_text())["seed"] == 1

    def test_low_precision(self, pictures, detector, tmp_path):
        common = (*STILL, "data.split.fraction=0", "train.epochs=1", "train.learning_rate=1e-4")
        full, brain = (
            [r["loss"] for r in train_records(train(pictures, detector / "last.safetensors", tmp_path / name, *common,
                                                    f"train.precision={name}"))]
            for name in ("fp32", "bf16")
        )  # fmt: skip
        assert brain != full
        assert brain == pytest.approx(full, rel=0.05)

    def test_pictures_for_the_trackers(self, pictures, narrow, tmp_path):
        accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        folder = train(
            pictures, narrow, tmp_path / "run", "track.tensorboard=true", "track.pictures=2", "train.epochs=1"
        )
        events = accumulators.EventAccumulator(str(folder / "events"))
        events.Reload()
        assert len(events.Scalars("val/ap")) == 1
        assert len(events.Images("predictions/0")) == 1


def copy_of(pictures: Path, folder: Path) -> Path:
    return Path(shutil.copytree(pictures, folder / "copy"))
