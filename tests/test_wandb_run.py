"""A training run in W&B's offline mode, opened again."""

import pytest
import yaml
from PIL import Image

from facetrain.tests import facenet_runs
from facetrain.tests.runs import facenet, json_lines, train
from facetrain.tests.wandb_run import read_offline_run


@pytest.mark.usefixtures("one_thread", "no_report", "no_wandb_account")
def test_offline_run_holds_everything(faces, tmp_path):
    pytest.importorskip("wandb")
    folder = train(
        faces, tmp_path / "night", "track.wandb=true", "track.project=faces", "track.pictures=3", "track.csv=false",
        "loss.elt.mode=labels",
    )  # fmt: skip
    found = read_offline_run(folder)
    assert (found.run.project, found.run.display_name) == ("faces", "night")

    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert {name: found.config[name] for name in config} == config
    assert found.config["train"]["learning_rate"] == 3e-3

    metrics = json_lines(folder / "metrics.jsonl")
    for record in metrics:
        kind, step = record.pop("kind"), record.pop("step")
        record.pop("epoch")
        row = found.history[step]
        assert {name: row[f"{kind}/{name}"] for name in record} == record
    first = found.history[1]
    for name in ("loss", "landmarks", "elt", "landmarks_eyes", "learning_rate"):
        assert first[f"train/{name}"] > 0
    last = found.history[10]
    best = min(record["nme_interocular"] for record in metrics if "nme_interocular" in record)
    assert found.summary["validation/nme_interocular"] == pytest.approx(best, rel=1e-3)

    pictures = last["predictions/filenames"]
    assert len(pictures) == len(last["predictions/captions"]) == 2  # all the validation faces there are
    for name in pictures:
        with Image.open(found.file.parent / "files" / name) as picture:
            assert picture.size == (128, 128)

    assert found.artifact.type == "model"
    (entry,) = found.artifact.manifest.contents
    assert entry.path == "best.safetensors"
    assert entry.size == (folder / "best.safetensors").stat().st_size


@pytest.mark.usefixtures("one_thread", "no_report", "no_wandb_account")
def test_facenet_trains_and_prunes_into_offline_runs(pictures, narrow, tmp_path):
    pytest.importorskip("wandb")
    track = ("track.wandb=true", "track.project=detectors", "track.csv=false")
    folder = facenet_runs.train(
        pictures, narrow, tmp_path / "night", *track, "track.pictures=3", "loss.autoweighting=true"
    )
    found = read_offline_run(folder)
    assert (found.run.project, found.run.display_name) == ("detectors", "night")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert {name: found.config[name] for name in config} == config
    metrics = json_lines(folder / "metrics.jsonl")
    for record in metrics:
        kind, step = record.pop("kind"), record.pop("step")
        record.pop("epoch")
        row = found.history[step]
        assert {name: row[f"{kind}/{name}"] for name in record} == record
    assert {"train/coverage", "train/bbox", "train/regularizer"} <= found.history[1].keys()
    kpi = json_lines(folder / "status.json")[-1]["kpi"]
    assert {name: found.summary[name] for name in kpi} == pytest.approx(kpi)
    pictures_logged = found.history[6]["predictions/filenames"]
    assert len(pictures_logged) == 2  # all the validation pictures there are
    for name in pictures_logged:
        with Image.open(found.file.parent / "files" / name) as picture:
            assert picture.size == (facenet_runs.WIDTH, facenet_runs.HEIGHT)
    (entry,) = found.artifact.manifest.contents
    assert (entry.path, entry.size) == ("best.safetensors", (folder / "best.safetensors").stat().st_size)

    cut = tmp_path / "cut"
    settings = ("prune.threshold=0.9", "prune.min_filters=4", "prune.granularity=1")
    assert facenet("prune", f"model={folder / 'best.safetensors'}", f"results_dir={cut}", *track, *settings) == 0
    found = read_offline_run(cut)
    assert (found.run.project, found.run.display_name) == ("detectors", "cut")
    assert found.config["prune"]["threshold"] == 0.9
    (status,) = json_lines(cut / "status.json")
    row = found.history[0]
    for name in ("pruning_ratio", "parameters_before", "parameters_after", "latency_ms_after"):
        assert row[f"prune/{name}"] == pytest.approx(status["kpi"][name])
        assert found.summary[name] == pytest.approx(status["kpi"][name])
    assert len(row["prune/channels/filenames"]) == 1
    (entry,) = found.artifact.manifest.contents
    assert (entry.path, entry.size) == ("pruned.safetensors", (cut / "pruned.safetensors").stat().st_size)
