"""Whole runs of `fpenet train`: what they leave behind, and that each setting does what it says."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from facetrain.fpenet_trainer.predictor import Predictor
from facetrain.tests.runs import (
    COMPARABLE,
    TEN,
    TEN_POINTS,
    fpenet,
    furthest,
    json_lines,
    train,
    train_arguments,
    weights,
)
from facetrain.training.model_file import load_model

STILL = ("augment=none", "train.learning_rate=1e-9", "train.min_learning_rate=1e-12")  # the weights stay as they are

pytestmark = pytest.mark.usefixtures("one_thread")


def val_records(folder: Path) -> list[dict]:
    return [record for record in json_lines(folder / "metrics.jsonl") if record["kind"] == "val"]


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in json_lines(folder / "metrics.jsonl") if record["kind"] == "train"]


def test_a_run_and_what_it_leaves(faces, tmp_path):
    """The real command: default workers, report included."""
    folder = tmp_path / "run"
    arguments = train_arguments(
        faces, folder, "data.workers=1", f"data.test=[{{format: pts, path: {faces}, count: 3, name: three}}]"
    )
    done = subprocess.run(
        [sys.executable, "-m", "facetrain", "fpenet", *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "epoch 2/2" in done.stderr
    # The three test faces are among the training faces, where they count as duplicates.
    assert "faces: 19 to train on, 2 to validate on, 3 to test on" in done.stdout
    assert f"report: {folder / 'report.html'}" in done.stdout
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml", "status.json", "metrics.jsonl", "metrics.csv", "best.safetensors", "last.safetensors",
        "resume.pt", "report.html", "plots",
    }  # fmt: skip

    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["width"] == 8
    assert config["train"]["weight_decay"] == 1e-4  # resolved: defaults too

    status = json_lines(folder / "status.json")
    assert [record["status"] for record in status] == ["STARTED", "RUNNING", "RUNNING", "SUCCESS"]
    for record in status:
        assert list(record)[:5] == ["date", "time", "status", "verbosity", "message"]
        assert re.fullmatch(r"\d+/\d+/\d{4}", record["date"]) and re.fullmatch(r"\d+:\d+:\d+", record["time"])
    assert {"epoch", "max_epoch", "time_per_epoch", "eta", "kpi"} <= status[1].keys()
    assert (status[2]["epoch"], status[2]["max_epoch"]) == (2, 2)
    assert status[3]["kpi"]["test/faces"] == 3

    metrics = json_lines(folder / "metrics.jsonl")
    trained = [record for record in metrics if record["kind"] == "train"]
    assert [record["step"] for record in trained] == list(range(1, 9))
    assert {"loss", "landmarks", "landmarks_eyes", "learning_rate", "epoch"} <= trained[0].keys()
    assert [record["epoch"] for record in val_records(folder)] == [1, 2]
    with open(folder / "metrics.csv", newline="") as file:
        rows = {(int(row["step"]), row["name"]): float(row["value"]) for row in csv.DictReader(file)}
    assert rows[8, "train/loss"] == trained[-1]["loss"]
    assert rows[8, "val/nme_interocular"] == val_records(folder)[-1]["nme_interocular"]

    for name in ("best", "last"):
        meta = load_model(folder / f"{name}.safetensors")[1]
        assert meta.config == config
        assert meta.metrics["nme_interocular"] in [record["nme_interocular"] for record in val_records(folder)]
    page = (folder / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?!data:|#)[^"'\s>]+|url\((?!["']?(?:data:|#))|@import""", page)
    assert "<script" not in page
    for word in ("Training", "Test faces", "Validation faces", "Cumulative error", "data:image"):
        assert word in page


@pytest.mark.usefixtures("no_report")
class TestSettings:
    def test_overfits_a_few_faces(self, trained):
        curve = losses(trained)
        assert len(curve) == 40
        assert np.mean(curve[-4:]) < 0.55 * np.mean(curve[:4])

    def test_same_seed_same_run(self, faces, tmp_path):
        a, b, c = (
            weights(train(faces, tmp_path / name, f"seed={seed}", "train.epochs=1") / "last.safetensors")
            for name, seed in (("a", 1), ("b", 1), ("c", 2))
        )
        assert furthest(a, b) == 0
        assert furthest(a, c) > 1e-2

    def test_average_is_what_is_saved(self, faces, tmp_path):
        folder = train(faces, tmp_path / "run", "train.ema=0.5", "data.split.fraction=0")
        state = torch.load(folder / "resume.pt", weights_only=True)
        saved = weights(folder / "last.safetensors")
        assert furthest(saved, {name: state["average"][f"module.{name}"] for name in saved}) == 0
        assert 1e-5 < furthest(saved, state["weights"]) < 0.1
        plain = train(faces, tmp_path / "plain", "train.ema=0", "data.split.fraction=0")
        assert furthest(weights(plain / "last.safetensors"), state["weights"]) == 0  # it only looks on

    def test_accumulation_equals_a_larger_batch(self, faces, trained, tmp_path):
        common = (
            *TEN_POINTS, *COMPARABLE, f"train.pretrained={trained / 'last.safetensors'}", "train.learning_rate=1e-3",
            "train.epochs=3", "data.split.fraction=0",
        )  # fmt: skip
        one = train(faces, tmp_path / "one", *common, "train.batch_size=8")
        two = train(faces, tmp_path / "two", *common, "train.batch_size=4", "train.accumulate=2")
        a, b = (weights(folder / "last.safetensors") for folder in (one, two))
        assert furthest(a, b) < 1e-6
        assert furthest(a, weights(trained / "last.safetensors")) > 1e-3
        assert losses(one) == pytest.approx(losses(two), rel=1e-5)
        assert len(losses(one)) == 9

    def test_low_precision_learns_like_fp32(self, faces, trained, tmp_path):
        common = (
            *TEN_POINTS, f"train.pretrained={trained / 'last.safetensors'}", "augment=none", "data.split.fraction=0",
            "train.epochs=4", "train.batch_size=8", "train.learning_rate=1e-3", "loss.heatmap_weight=0",
        )  # fmt: skip
        full, brain, half = (
            losses(train(faces, tmp_path / name, *common, f"train.precision={name}"))
            for name in ("fp32", "bf16", "fp16")
        )
        for low in (brain, half):
            assert low != full
            assert low == pytest.approx(full, rel=0.05)
            assert np.mean(low[-3:]) < np.mean(low[:3])

    def test_batch_norm_is_folded_into_the_model_file(self, faces, tmp_path):
        folder = train(faces, tmp_path / "run", "model.batch_norm=true")
        assert not [name for name in weights(folder / "best.safetensors") if "running" in name]
        measured = tmp_path / "measured"
        data = ["data=pts", f"data.root={faces}", "split=val"]
        assert fpenet("evaluate", f"model={folder / 'best.safetensors'}", f"results_dir={measured}", *data) == 0
        found = json.loads((measured / "metrics.json").read_text())["metrics"]["nme_interocular"]
        assert found == pytest.approx(min(record["nme_interocular"] for record in val_records(folder)), rel=1e-4)
        refused = ["model.batch_norm=true", f"train.pretrained={folder / 'best.safetensors'}"]
        assert fpenet(*train_arguments(faces, tmp_path / "tuned", *refused)) == 2

    def test_early_stopping(self, faces, tmp_path, capfd):
        folder = train(faces, tmp_path / "run", *STILL, "train.epochs=30", "train.early_stopping=2")
        found = [record["nme_interocular"] for record in val_records(folder)]
        best = min(found)
        assert 3 <= len(found) < 30
        assert found.index(best) == len(found) - 3  # one that is as good is no better one
        assert "no better model for 2 validations: stopping early" in capfd.readouterr().err
        assert load_model(folder / "best.safetensors")[1].metrics["nme_interocular"] == best

    def test_val_every(self, faces, tmp_path):
        folder = train(faces, tmp_path / "run", "train.epochs=5", "train.val_every=2", "train.checkpoint_every=5")
        assert [record["epoch"] for record in val_records(folder)] == [2, 4, 5]  # the last epoch always

    def test_without_validation_the_last_model_is_the_best(self, faces, tmp_path, capsys):
        folder = train(faces, tmp_path / "run", "data.split.fraction=0")
        assert "faces: 24 to train on, 0 to validate on, 0 to test on" in capsys.readouterr().out
        assert val_records(folder) == []
        assert furthest(*(weights(folder / f"{name}.safetensors") for name in ("best", "last"))) == 0

    def test_a_finished_run_is_kept_unless_overwritten(self, faces, tmp_path, capsys):
        folder = train(faces, tmp_path / "run", "train.epochs=1")
        before = {path: path.read_bytes() for path in folder.iterdir()}
        assert fpenet(*train_arguments(faces, folder, "train.epochs=1")) == 2
        assert (
            "holds a finished run: choose another folder, or delete it with overwrite=true" in capsys.readouterr().err
        )
        assert {path: path.read_bytes() for path in folder.iterdir()} == before
        train(faces, folder, "train.epochs=1", "overwrite=true", "seed=1")
        assert yaml.safe_load((folder / "config.yaml").read_text())["seed"] == 1
        assert [record["status"] for record in json_lines(folder / "status.json")] == ["STARTED", "RUNNING", "SUCCESS"]

    def test_overwrite_removes_runs_only(self, faces, tmp_path):
        """A folder with a config.yaml may be anything."""
        (tmp_path / "config.yaml").write_text("mine: true")
        (tmp_path / "thesis.txt").write_text("years of work")
        train(faces, tmp_path, "train.epochs=1", "overwrite=true")
        assert (tmp_path / "thesis.txt").exists()

    def test_an_aborted_start_leaves_no_metrics(self, faces, tmp_path):
        """Stopped before the first save, a run has logged steps that the next one takes again."""
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "metrics.jsonl").write_text('{"kind": "train", "step": 1, "loss": 99.0}\n')
        train(faces, folder, "train.epochs=1", "data.split.fraction=0")
        assert [record["step"] for record in json_lines(folder / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]

    def test_fine_tuning_to_ten_points(self, faces, tmp_path, capsys):
        source = train(faces, tmp_path / "source") / "best.safetensors"
        ten = ("model.num_keypoints=10", f"train.pretrained={source}", f"model.source_points={TEN}")
        capsys.readouterr()
        folder = train(faces, tmp_path / "ten", *ten, *STILL)
        out = capsys.readouterr().out
        assert f"from {source} " in out and " 2 for the kept points" in out
        crops = np.random.default_rng(0).integers(0, 256, (2, 32, 32), np.uint8)
        before, after = (Predictor.load(str(path), "cpu") for path in (source, folder / "last.safetensors"))
        np.testing.assert_allclose(after.predict(crops).points, before.predict(crops).points[:, TEN], atol=1e-3)
        assert after.scheme == before.scheme.subset(TEN)

    def test_unlabelled_faces_serve_the_elt_loss(self, faces, tmp_path, capsys):
        drawn = "{format: synthetic, count: 8, seed: 1}, {format: synthetic, count: 8, seed: 2, labelled: false}"
        common = (f"data.train=[{drawn}]", "augment=none", "train.epochs=1", "train.batch_size=14")
        mixed = train(faces, tmp_path / "mixed", *common, "loss.elt.mode=prediction")
        # A tenth of the labelled faces is held out; the unlabelled ones are all learnt from.
        assert "faces: 15 to train on, 1 to validate on" in capsys.readouterr().out
        assert val_records(mixed)[0]["faces"] == 1
        (record,) = (r for r in json_lines(mixed / "metrics.jsonl") if r["kind"] == "train")
        assert record["elt"] > 0
        assert record["loss"] == pytest.approx(record["landmarks"] + record["heatmap"] + 0.5 * record["elt"], rel=1e-5)

    def test_validation_counts_labelled_faces_only(self, faces, tmp_path):
        val = "{format: synthetic, count: 3, seed: 1}, {format: synthetic, count: 4, seed: 2, labelled: false}"
        folder = train(faces, tmp_path / "run", f"data.val=[{val}]", "train.epochs=1")
        assert val_records(folder)[0]["faces"] == 3

    def test_custom_scheme(self, faces, tmp_path, capsys):
        labels = tmp_path / "five"
        labels.mkdir()
        for file in sorted(faces.glob("*.pts")):
            lines = file.read_text().splitlines()[3:-1]
            (labels / file.name).write_text("\n".join(lines[i] for i in (36, 45, 30, 48, 54)))
            (labels / f"{file.stem}.png").symlink_to(faces / f"{file.stem}.png")
        scheme = tmp_path / "five.yaml"
        scheme.write_text(
            "num_keypoints: 5\nnames: [right_eye, left_eye, nose, right_lip, left_lip]\n"
            "regions: {upper: [0, 1], lower: [3-4]}\nflip: [[0, 1], [3, 4]]\neye_corners: [0, 1]\n"
        )
        five = ("model.num_keypoints=5", f"model.scheme={scheme}", "loss.region_weights={upper: 0.7, all: 0.3}")
        folder = train(labels, tmp_path / "run", *five)
        assert "flips are off" not in capsys.readouterr().out
        assert {"error_upper", "error_lower", "nme_interocular"} <= val_records(folder)[0].keys()
        saved = load_model(folder / "best.safetensors")[1].scheme
        assert saved["names"] == ["right_eye", "left_eye", "nose", "right_lip", "left_lip"]
        assert saved["flip"] == [1, 0, 2, 4, 3]
        assert "landmarks_upper" in json_lines(folder / "metrics.jsonl")[0]
        train(labels, tmp_path / "plain", "model.num_keypoints=5", "train.epochs=1")
        assert "horizontal flips are off: the scheme of 5 points has no flip table" in capsys.readouterr().out

    def test_grid(self, faces, tmp_path, capsys):
        assert fpenet(*train_arguments(faces, tmp_path, "-m", "seed=1,2", "train.epochs=1")) == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
        for number in (0, 1):
            config = yaml.safe_load((tmp_path / str(number) / "config.yaml").read_text())
            assert config["seed"] == number + 1
            assert json_lines(tmp_path / str(number) / "status.json")[-1]["status"] == "SUCCESS"
        assert f"fpenet: run 2 of 2 in {tmp_path / '1'}: " in capsys.readouterr().out

    def test_tensorboard(self, faces, tmp_path):
        accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        folder = train(faces, tmp_path / "run", "track.tensorboard=true", "track.pictures=2", "train.epochs=1")
        events = accumulators.EventAccumulator(str(folder / "events"))
        events.Reload()
        assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(losses(folder))
        assert len(events.Scalars("val/nme_interocular")) == 1
        assert len(events.Images("predictions/1")) == 1

    def test_visibility_head(self, faces, tmp_path):
        drawn = "data.train=[{format: synthetic, count: 12, seed: 1}]"
        folder = train(faces, tmp_path / "run", drawn, "model.visibility_head=true", "train.epochs=1")
        assert json_lines(folder / "metrics.jsonl")[0]["visibility"] > 0
        assert 0 <= val_records(folder)[0]["visibility_accuracy"] <= 1
        crops = np.zeros((1, 32, 32), np.uint8)
        assert Predictor.load(str(folder / "best.safetensors"), "cpu").predict(crops).visibility.shape == (1, 68)


def test_status_is_json_for_any_reader(faces, tmp_path):
    """NaN is no JSON, and Python's reader is the only one that takes it."""
    folder = train(faces, tmp_path / "run", "train.epochs=1", "train.learning_rate=1e-3")
    for name in ("status.json", "metrics.jsonl"):
        for line in (folder / name).read_text().splitlines():
            json.loads(line, parse_constant=pytest.fail)
