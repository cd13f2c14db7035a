"""What users really hand in: one clear message each, the right exit code, and what was good before stays good."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from facetrain.fpenet_trainer.predictor import Predictor
from facetrain.tests.runs import fill, fpenet, furthest, json_lines, train, train_arguments, weights

pytestmark = pytest.mark.usefixtures("one_thread", "no_report")


@pytest.fixture
def copy(faces, tmp_path) -> Path:
    """The faces, to spoil."""
    return Path(shutil.copytree(faces, tmp_path / "copy"))


def refused(capsys, *arguments: str, code: int = 2) -> str:
    """The one message of a command line that must fail."""
    capsys.readouterr()
    assert fpenet(*arguments) == code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err


def truncate(folder: Path, name: str = "03") -> Path:
    """Cuts off a picture whose head can still be read."""
    picture = folder / f"{name}.jpg"
    Image.open(folder / f"{name}.png").save(picture)
    (folder / f"{name}.png").unlink()
    picture.write_bytes(picture.read_bytes()[:-1000])
    return picture


def test_truncated_picture_is_left_out(copy, tmp_path, capsys):
    picture = truncate(copy)
    folder = train(copy, tmp_path / "run", "train.epochs=1", "data.split.fraction=0")
    out = capsys.readouterr().out
    assert "faces: 23 to train on" in out
    assert f"left out: 1 x picture unreadable, the first {picture}" in out
    assert json_lines(folder / "status.json")[-1]["status"] == "SUCCESS"


@pytest.mark.parametrize("workers", [0, 1])
def test_truncated_picture_met_in_training(copy, tmp_path, capsys, workers):
    """Without the cache it is only found out when the picture's turn comes."""
    picture = truncate(copy)
    without = ("data.cache=false", "data.drop_duplicates=false", "data.split.fraction=0", f"data.workers={workers}")
    err = refused(capsys, *train_arguments(copy, tmp_path / "run", *without))
    assert str(picture) in err.splitlines()[-1]
    assert "Traceback" not in json_lines(tmp_path / "run" / "status.json")[-1]["message"]


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_no_picture_of_a_set_can_be_read(faces, copy, tmp_path, capsys, part):
    """It is said before training, as `evaluate` says it; one picture that can be read is enough."""
    bad = [truncate(copy, f"{number:02}") for number in range(24)]
    source = f"data.{part}=[{{format: pts, path: {copy}}}]"
    settings = (source, "train.epochs=1", "data.split.fraction=0")
    err = refused(capsys, *train_arguments(faces, tmp_path / "run", *settings))
    assert f"data.{part} holds no labelled face that can be used: 24 were left out, the first: {bad[0]}" in err
    assert "file is truncated" in err and len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()
    if part != "train":
        evaluation = ("evaluate", "model=zoo", f"split={part}", source, f"results_dir={tmp_path / 'evaluation'}")
        assert refused(capsys, *evaluation) == err
        bad[20].unlink()
        shutil.copy(faces / "20.png", copy)
        train(faces, tmp_path / "run", *settings)


def test_label_with_a_word_for_a_number(copy, tmp_path, capsys):
    label = copy / "07.pts"
    lines = label.read_text().splitlines()
    lines[4] = "seventy 12.5"
    label.write_text("\n".join(lines))
    train(copy, tmp_path / "run", "train.epochs=1", "data.split.fraction=0")
    out = capsys.readouterr().out
    assert "faces: 23 to train on" in out
    assert f"left out: 1 x broken label, the first {label}:5: broken label" in out
    assert "found 'seventy 12.5'" in out


def test_points_outside_the_picture(copy, tmp_path, capsys):
    label = copy / "07.pts"
    lines = label.read_text().splitlines()
    lines[4] = "9000 12.5"
    label.write_text("\n".join(lines))
    train(copy, tmp_path / "run", "train.epochs=1", "data.split.fraction=0")
    out = capsys.readouterr().out
    assert f"left out: 1 x point outside the picture, the first {label}: " in out
    assert "point 2 at (9000, 12.5), picture 160 x 160" in out


def test_every_label_broken(copy, tmp_path, capsys):
    for label in copy.glob("*.pts"):
        label.write_text("version: 1\nn_points: 68\n{\nx y\n}\n")
    err = refused(capsys, *train_arguments(copy, tmp_path / "run"))
    assert f"data.train[0].path=.: no usable face in {copy}" in err
    assert "24 rejected: 24 broken label; such as" in err
    assert "00.pts:4: broken label" in err
    assert not (tmp_path / "run").exists()


def test_empty_folder(tmp_path, capsys):
    (tmp_path / "faces").mkdir()
    err = refused(capsys, *train_arguments(tmp_path / "faces", tmp_path / "run"))
    assert "data.train[0].path=.: no usable face in " in err
    assert "expected a folder of pictures, each with a .pts file of the same name beside it" in err
    assert not (tmp_path / "run").exists()


def test_wrong_folder(faces, tmp_path, capsys):
    err = refused(capsys, *train_arguments(faces.parent, tmp_path / "run", "data.train=[{format: pts, path: facse0}]"))
    assert f"data.train[0].path=facse0: {faces.parent / 'facse0'} does not exist; nearest in {faces.parent}: " in err
    assert len(err.splitlines()) == 1


def test_no_data(tmp_path, capsys):
    assert "data.train is empty: choose a data set" in refused(capsys, "train", f"results_dir={tmp_path / 'run'}")


def test_k_that_does_not_match(faces, tmp_path, capsys):
    for k in (80, 21):
        err = refused(capsys, *train_arguments(faces, tmp_path / "run", f"model.num_keypoints={k}"))
        assert f"00.png has 68 points, model.num_keypoints={k}; set model.num_keypoints=68" in err
        assert ("model.source_points" in err) == (k < 68)


@pytest.mark.parametrize(
    ("flip", "message"),
    [("[1, 2, 0]", "flip is no involution at point 0: it goes to 1, which goes to 2"), ("[[0, 3]]", "within 0-2")],
)
def test_flip_table_that_is_no_involution(faces, tmp_path, capsys, flip, message):
    scheme = tmp_path / "three.yaml"
    scheme.write_text(f"num_keypoints: 3\nflip: {flip}\n")
    err = refused(
        capsys, *train_arguments(faces, tmp_path / "run", "model.num_keypoints=3", f"model.scheme={scheme}")
    )  # fmt: skip
    assert f"{scheme}: flip" in err
    assert message in err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "unknown key 'train.epoch'; did you mean epochs?"),
        ("train.epochs=three", "train.epochs: "),
        ("train.epochs=-1", "train.epochs=-1 is not accepted [1 to 100000]"),
        ("results_dir=???", "results_dir is ???"),
        ("train.pretrained=nowhere.safetensors", "there is no model file nowhere.safetensors"),
    ],
)
def test_wrong_keys_and_values(faces, tmp_path, capsys, monkeypatch, override, message):
    monkeypatch.chdir(tmp_path)
    err = refused(capsys, *train_arguments(faces, tmp_path / "run", override))
    assert message in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_results_dir_below_a_file(faces, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    err = refused(capsys, *train_arguments(faces, tmp_path / "file" / "run"))
    assert f"results_dir={tmp_path / 'file' / 'run'}: cannot make this folder (Not a directory)" in err


class Harmful:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return os.system, (f"touch {self.victim}",)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5, "torch"])
def test_pickle_offered_as_a_model(faces, tmp_path, capsys, protocol):
    model, victim = tmp_path / "model.pt", tmp_path / "victim"
    if protocol == "torch":
        torch.save(Harmful(victim), model)
    else:
        model.write_bytes(pickle.dumps(Harmful(victim), protocol))
    for arguments in (
        ["evaluate", f"model={model}", "data=pts", f"data.root={faces}"],
        ["infer", f"model={model}", f"input={faces / '00.png'}", f"results_dir={tmp_path / 'infer'}"],
        train_arguments(faces, tmp_path / "run", f"train.pretrained={model}"),
    ):
        err = refused(capsys, *arguments)
        assert f"{model} is a pickle" in err
        assert "never loaded; give a facetrain .safetensors model file" in err
    assert not victim.exists()


def test_loss_that_is_not_finite(faces, tmp_path):
    """The rate climbs to where the weights explode; by the real command."""
    explosive = (
        "train.learning_rate=10", "train.weight_decay=10", "train.clip_norm=0", "train.soft_start=1",
        "train.annealing=1", "train.epochs=12", "loss.heatmap_weight=0",
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "facetrain", "fpenet", *train_arguments(faces, tmp_path / "run", *explosive)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    message = done.stderr.splitlines()[-1]
    assert " is not finite at step " in message
    assert "landmarks nan" in message
    assert "lower train.learning_rate" in message
    assert "Traceback" not in done.stderr
    last = json_lines(tmp_path / "run" / "status.json")[-1]
    assert last["status"] == "FAILURE" and "not finite" in last["message"]
    for name in ("best", "last"):
        model = tmp_path / "run" / f"{name}.safetensors"
        assert all(weight.isfinite().all() for weight in weights(model).values())
        Predictor.load(str(model), "cpu")


def test_weights_that_are_spoilt_by_the_last_step(faces, tmp_path, capsys):
    """One step an epoch and no validation: no later loss would show it, and the good model must stay."""
    start = train(faces, tmp_path / "start", "train.epochs=1", "train.batch_size=24", "data.split.fraction=0")
    spoilt = (
        f"train.pretrained={start / 'last.safetensors'}", "train.learning_rate=10", "train.min_learning_rate=10",
        "train.weight_decay=10", "train.clip_norm=0", "train.epochs=40", "train.batch_size=24", "data.split.fraction=0",
        "loss.regularizer=l2", "loss.regularizer_weight=10", "model.beta=0.0001",
    )  # fmt: skip
    err = refused(capsys, *train_arguments(faces, tmp_path / "run", *spoilt), code=1)
    assert " is not finite at step " in err
    for model in (tmp_path / "run").glob("*.safetensors"):
        assert all(weight.isfinite().all() for weight in weights(model).values())


def test_validation_without_what_the_metric_needs(faces, copy, tmp_path, capsys):
    """Both outer eye corners on one spot: there is no distance between them to measure by."""
    for label in copy.glob("*.pts"):
        lines = label.read_text().splitlines()
        lines[3 + 45] = lines[3 + 36]
        label.write_text("\n".join(lines))
    val = f"data.val=[{{format: pts, path: {copy}}}]"
    err = refused(capsys, *train_arguments(faces, tmp_path / "run", val, "data.drop_duplicates=false"), code=1)
    assert "validation gives no nme_interocular, by which the best model is chosen" in err
    assert "data.val" in err


def test_disk_full_while_saving(faces, tmp_path, small_disk, capsys):
    arguments = train_arguments(faces, small_disk / "run", "train.epochs=3", "train.ema=0.9")
    # The first epoch's 0.3 MiB of models and state fit in; the second state beside the first one does not.
    ballast = fill(small_disk, 450_000)
    err = refused(capsys, *arguments, code=1)
    assert f"cannot write {small_disk / 'run' / 'resume.pt'}: No space left on device" in err
    assert "make room and run the same command again to go on" in err
    Predictor.load(str(small_disk / "run" / "best.safetensors"), "cpu")
    assert not list((small_disk / "run").glob(".*"))
    ballast.unlink()
    assert fpenet(*arguments) == 0
    assert "going on with" in capsys.readouterr().out
    whole = train(faces, tmp_path / "whole", "train.epochs=3", "train.ema=0.9")
    for name in ("best.safetensors", "last.safetensors"):
        assert furthest(weights(small_disk / "run" / name), weights(whole / name)) == 0
    status = [record["status"] for record in json_lines(small_disk / "run" / "status.json")]
    assert status[-1] == "SUCCESS"


def test_disk_full_to_the_last_byte(faces, small_disk, capsys):
    """Not even the failure can be logged: the message is the disk's all the same."""
    (small_disk / "run").mkdir()
    ballast = fill(small_disk, 0)
    err = refused(capsys, *train_arguments(faces, small_disk / "run"), code=1)
    assert f"cannot write {small_disk / 'run' / 'config.yaml'}: No space left on device" in err
    ballast.unlink()
    train(faces, small_disk / "run")


def test_ctrl_c(faces, tmp_path, capsys):
    """The real command, stopped as a terminal stops it."""
    folder = tmp_path / "run"
    arguments = train_arguments(faces, folder, "data.workers=1", "train.epochs=200")
    process = subprocess.Popen(
        [sys.executable, "-m", "facetrain", "fpenet", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (folder / "resume.pt").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-2:] == [
        "fpenet: interrupted; the same command goes on from here",
        "fpenet: interrupted",
    ]
    assert "Traceback" not in err
    Predictor.load(str(folder / "best.safetensors"), "cpu")
    state = torch.load(folder / "resume.pt", weights_only=True)
    assert state["step"] == json_lines(folder / "metrics.jsonl")[-1]["step"] > 0
    changed = refused(capsys, *train_arguments(faces, folder, "data.workers=1", "train.epochs=100"))
    assert "train.epochs=100, but the unfinished run in" in changed  # it is there to go on with


def test_unfinished_run_without_its_config(faces, tmp_path, capsys):
    folder = train(faces, tmp_path / "run", "train.epochs=1")
    (folder / "status.json").unlink()
    (folder / "config.yaml").unlink()
    err = refused(capsys, *train_arguments(faces, folder, "train.epochs=1"))
    assert "holds an unfinished run without a readable config.yaml" in err
    train(faces, folder, "train.epochs=1", "train.resume=never")
