"""What users really hand to `facenet`: one clear message or a counted rejection each, the right exit code, and what was
good before stays good."""

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

from facetrain.facenet_trainer.predictor import Predictor
from facetrain.tests.facenet_runs import kitti_line, narrow_model, train, train_arguments
from facetrain.tests.runs import facenet, fill, furthest, json_lines, weights

pytestmark = pytest.mark.usefixtures("one_thread", "no_report")

ONE = ("train.epochs=1", "data.split.fraction=0")


@pytest.fixture
def copy(pictures, tmp_path) -> Path:
    """The pictures, to spoil."""
    return Path(shutil.copytree(pictures, tmp_path / "copy"))


def refused(capsys, *arguments: str, code: int = 2) -> str:
    """The one message of a command line that must fail."""
    capsys.readouterr()
    assert facenet(*arguments) == code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((60, 10, 20, 50), "box inverted"),
        ((20, 50, 60, 10), "box inverted"),
        ((20, 10, 20, 50), "box without area"),
        ((96, 10, 120, 50), "box outside the picture"),
        ((-40, 10, -1, 50), "box outside the picture"),
        ((20, 10, float("nan"), 50), "box not finite"),
        ((20, 10, float("inf"), 50), "box not finite"),
    ],
)
def test_a_box_that_is_none(copy, narrow, tmp_path, capsys, box, reason):
    """It goes alone: its picture and the other boxes of it stay."""
    label = copy / "07.txt"
    label.write_text(label.read_text() + kitti_line(box) + "\n")
    train(copy, narrow, tmp_path / "run", *ONE)
    out = capsys.readouterr().out
    assert "pictures: 16 to train on (24 boxes)" in out
    assert f"left out: 1 x {reason}, the first {label}:3: {reason}" in out


def test_wider_boxes_that_are_none(pictures, narrow, tmp_path, capsys):
    """The same in the other format, whose sides are widths and heights."""
    rows = ["10 10 30 30", "10 10 -5 30", "10 10 0 30", "200 10 30 30", "nan 10 30 30"]
    names = [f"{number:02}.png" for number in range(8)]
    blocks = [f"{name}\n{len(rows)}\n" + "".join(f"{row} 0 0 0 0 0 0\n" for row in rows) for name in names]
    (tmp_path / "faces.txt").write_text("".join(blocks))
    source = f"data.train=[{{format: wider, path: {tmp_path / 'faces.txt'}, images: {pictures}}}]"
    train(pictures, narrow, tmp_path / "run", source, *ONE)
    out = capsys.readouterr().out
    assert "pictures: 8 to train on (8 boxes)" in out
    for reason in ("box inverted", "box without area", "box outside the picture", "box not finite"):
        assert f"left out: 8 x {reason}, the first {tmp_path / 'faces.txt'}:" in out


def test_a_line_of_14_fields(copy, narrow, tmp_path, capsys):
    """It takes its picture with it: a face that is not known would be learnt as background."""
    label = copy / "07.txt"
    first, second = label.read_text().splitlines()
    label.write_text(f"{first}\n{second.rsplit(' ', 1)[0]}\n")
    train(copy, narrow, tmp_path / "run", *ONE)
    out = capsys.readouterr().out
    assert "pictures: 15 to train on (22 boxes)" in out
    assert f"left out: 1 x broken label, the first {label}:2: broken label" in out
    assert "14 fields, expected 15, or 16 with a score" in out


def test_a_word_for_a_number(copy, narrow, tmp_path, capsys):
    label = copy / "06.txt"
    label.write_text(label.read_text().replace("0.00 0 0.00", "0.00 0 zero"))
    train(copy, narrow, tmp_path / "run", *ONE)
    out = capsys.readouterr().out
    assert f"left out: 1 x broken label, the first {label}:1: broken label" in out
    assert "found 'zero'" in out


def test_every_label_broken(copy, narrow, tmp_path, capsys):
    for label in copy.glob("*.txt"):
        label.write_text("face 1 2 3\n")
    err = refused(capsys, *train_arguments(copy, narrow, tmp_path / "run"))
    assert f"data.train[0].path=.: no usable picture in {copy}" in err
    assert "16 rejected: 16 broken label; such as" in err
    assert not (tmp_path / "run").exists()


def test_labels_without_pictures(copy, narrow, tmp_path, capsys):
    (copy / "03.png").unlink()
    train(copy, narrow, tmp_path / "run", *ONE)
    out = capsys.readouterr().out
    assert "pictures: 15 to train on" in out
    assert f"left out: 1 x image missing, the first {copy / '03.txt'}" in out


def truncate(folder: Path, name: str = "03") -> Path:
    """Cuts off a picture whose head can still be read."""
    picture = folder / f"{name}.jpg"
    Image.open(folder / f"{name}.png").save(picture)
    (folder / f"{name}.png").unlink()
    picture.write_bytes(picture.read_bytes()[:-1000])
    return picture


def test_truncated_picture_is_left_out(copy, narrow, tmp_path, capsys):
    picture = truncate(copy)
    train(copy, narrow, tmp_path / "run", *ONE)
    out = capsys.readouterr().out
    assert "pictures: 15 to train on" in out
    assert f"left out: 1 x picture unreadable, the first {picture}" in out


@pytest.mark.parametrize("part", ["val", "test"])
def test_truncated_picture_to_measure_on(pictures, copy, narrow, tmp_path, capsys, part):
    """The figures are of the other pictures."""
    truncate(copy)
    folder = train(pictures, narrow, tmp_path / "run", *ONE, f"data.{part}=[{{format: kitti, path: {copy}}}]")
    name = {"val": "validation", "test": "test"}[part]
    assert json_lines(folder / "status.json")[-1]["kpi"][f"{name}/pictures"] == 15


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_no_picture_of_a_set_can_be_read(pictures, narrow, copy, tmp_path, capsys, part):
    """It is said before training, as `evaluate` says it."""
    bad = [truncate(copy, f"{number:02}") for number in range(16)]
    source = f"data.{part}=[{{format: kitti, path: {copy}}}]"
    err = refused(capsys, *train_arguments(pictures, narrow, tmp_path / "run", *ONE, source))
    assert f"data.{part}: none of the 16 pictures can be read, the first: {bad[0]}" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()
    if part != "train":
        evaluation = ("evaluate", f"model={narrow}", f"split={part}", source, f"results_dir={tmp_path / 'evaluation'}")
        assert refused(capsys, *evaluation) == err


@pytest.mark.parametrize("workers", [0, 1])
def test_truncated_picture_met_in_training(copy, narrow, tmp_path, capsys, workers):
    """Without the cache it is only found out when the picture's turn comes."""
    picture = truncate(copy)
    without = ("data.cache=false", f"data.workers={workers}")
    err = refused(capsys, *train_arguments(copy, narrow, tmp_path / "run", *ONE, *without))
    assert str(picture) in err.splitlines()[-1]
    assert "Traceback" not in json_lines(tmp_path / "run" / "status.json")[-1]["message"]


def test_empty_and_wrong_folders(pictures, narrow, tmp_path, capsys):
    (tmp_path / "none").mkdir()
    err = refused(capsys, *train_arguments(tmp_path / "none", narrow, tmp_path / "run"))
    assert "data.train[0].path=.: no usable picture in " in err
    assert "expected a folder of .txt files with 15 columns, one a picture" in err
    wrong = "data.train=[{format: kitti, path: picturse0}]"
    err = refused(capsys, *train_arguments(pictures.parent, narrow, tmp_path / "run", wrong))
    assert f"data.train[0].path=picturse0: {pictures.parent / 'picturse0'} does not exist; nearest in " in err
    assert not (tmp_path / "run").exists()


def test_no_data(tmp_path, capsys):
    assert "data.train is empty: choose a data set" in refused(capsys, "train", f"results_dir={tmp_path / 'run'}")


def test_classes_that_match_nothing(copy, narrow, tmp_path, capsys):
    """Training refuses to start, and lists what the labels have."""
    for label in copy.glob("*.txt"):
        label.write_text(label.read_text().replace("face ", "Faces "))
    err = refused(capsys, *train_arguments(copy, narrow, tmp_path / "run"))
    assert "data.train: no box is of target class 'face'; data.class_mapping takes 'face'" in err
    assert "the labels have 'Faces' 24 times" in err
    assert not (tmp_path / "run").exists()


def test_names_that_only_some_boxes_have_are_shown_with_the_nearest(copy, narrow, tmp_path, capsys):
    label = copy / "06.txt"
    label.write_text(label.read_text().replace("face ", "Fcae "))
    train(copy, narrow, tmp_path / "run", *ONE)
    assert "data.class_mapping lacks 'Fcae' 1 times (nearest: 'face')" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "unknown key 'train.epoch'; did you mean epochs?"),
        ("loss.coverage=bse", "loss.coverage=bse is not accepted [bce | focal]"),
        ("loss.class_weights={fase: 1}", "loss.class_weights.fase: the target classes are face"),
        ("input.width=100", "input.width=100: the stride of the grid is 16"),
        ("model.num_layers=50", "model.num_layers=50 is not accepted [10 | 18 | 34]"),
        ("model.freeze_blocks=[5]", "model.freeze_blocks: 5 is not a block [0 to 4]"),
        ("train.batch_size=17", "train.batch_size=17 on 1 process(es) is more than the "),
        ("results_dir=???", "results_dir is ???"),
        ("model.pretrained=nowhere.safetensors", "there is no model file nowhere.safetensors"),
        ("model.pretrained=nowhere.pth", "there is no file nowhere.pth"),
    ],
)
def test_wrong_keys_and_values(pictures, narrow, tmp_path, capsys, monkeypatch, override, message):
    monkeypatch.chdir(tmp_path)
    err = refused(capsys, *train_arguments(pictures, narrow, tmp_path / "run", override))
    assert message in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_results_dir_below_a_file(pictures, narrow, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    prune = ("prune", f"model={narrow}", "report=false", f"results_dir={tmp_path / 'file' / 'run'}")
    for arguments in (train_arguments(pictures, narrow, tmp_path / "file" / "run"), prune):
        err = refused(capsys, *arguments)
        assert f"results_dir={tmp_path / 'file' / 'run'}: cannot make this folder (Not a directory)" in err


class Harmful:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return os.system, (f"touch {self.victim}",)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_pickle_offered_as_a_model(pictures, tmp_path, capsys, suffix):
    victim, model = tmp_path / "victim", tmp_path / f"model{suffix}"
    for write in (lambda: torch.save(Harmful(victim), model), lambda: model.write_bytes(pickle.dumps(Harmful(victim)))):
        write()
        err = refused(capsys, *train_arguments(pictures, model, tmp_path / "run"))
        assert f"{model} is " in err and ".safetensors" in err
        assert len(err.splitlines()) == 1
        err = refused(capsys, "prune", f"model={model}", f"results_dir={tmp_path / 'cut'}")
        assert f"{model} is a pickle" in err
    assert not victim.exists()


def test_a_model_of_the_other_network(pictures, tmp_path, capsys):
    from facetrain.fpenet_trainer.predictor import ZOO

    err = refused(capsys, *train_arguments(pictures, ZOO, tmp_path / "run"))
    assert f"{ZOO} holds a fpenet model, not FaceNet" in err
    err = refused(capsys, "prune", f"model={ZOO}", f"results_dir={tmp_path / 'cut'}")
    assert f"{ZOO} holds a fpenet model, not FaceNet" in err


def test_a_pruned_file_and_an_unpruned_spec(pictures, tmp_path, capsys):
    """The file's architecture wins over what the spec says, and it is said."""
    model = narrow_model(tmp_path / "pruned.safetensors", channels=9, bbox_scale=20.0)
    spec = ("model.num_layers=34", "model.use_pooling=true", "model.bbox_scale=35")
    folder = train(pictures, model, tmp_path / "run", *spec, *ONE)
    assert f"from {model} (ResNet-10, pruned, " in capsys.readouterr().out
    architecture = Predictor.load(str(folder / "last.safetensors"), "cpu").architecture
    assert set(architecture.channels.values()) == {9}
    assert (architecture.bbox_scale, architecture.stride) == (20.0, 16)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("prune.threshold=1.5", "prune.min_filters=0"), "prune.threshold=1.5 would leave nothing of conv1"),
        (("prune.target=parameters", "prune.target_share=0.001"), "prune.target_share=0.001: with min_filters=16"),
        (("prune.excluded_layers=[conv2]",), "no layer 'conv2'; did you mean conv1"),
        (("prune.treshold=0.5",), "unknown key 'prune.treshold'; did you mean threshold?"),
    ],
)
def test_what_cannot_be_pruned_leaves_nothing_behind(narrow, tmp_path, capsys, overrides, message):
    err = refused(capsys, "prune", f"model={narrow}", f"results_dir={tmp_path / 'cut'}", *overrides)
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "cut").exists()


def test_pruning_destroys_no_results(pictures, narrow, tmp_path, capsys):
    run = train(pictures, narrow, tmp_path / "run", *ONE)
    before = {path: path.read_bytes() for path in run.iterdir()}
    arguments = ("prune", f"model={run / 'best.safetensors'}", "report=false", "prune.min_filters=4")
    err = refused(capsys, *arguments, f"results_dir={run}", "overwrite=true")
    assert "is the folder of a training run, whose report would be lost" in err
    assert {path: path.read_bytes() for path in run.iterdir()} == before
    assert facenet(*arguments, f"results_dir={tmp_path / 'cut'}") == 0
    assert "holds results: choose another folder" in refused(capsys, *arguments, f"results_dir={tmp_path / 'cut'}")


EXPLOSIVE = (
    "train.learning_rate=10", "train.min_learning_rate=10", "train.weight_decay=10", "train.clip_norm=0",
    "train.epochs=60", "loss.bbox=l1", "model.freeze_bn=true", "train.val_every=60",
)  # fmt: skip


def test_loss_that_is_not_finite(pictures, narrow, tmp_path, capsys):
    err = refused(capsys, *train_arguments(pictures, narrow, tmp_path / "run", *EXPLOSIVE), code=1)
    message = err.splitlines()[-1]
    assert " is not finite at step " in message
    assert "bbox " in message
    assert "lower train.learning_rate" in message
    last = json_lines(tmp_path / "run" / "status.json")[-1]
    assert last["status"] == "FAILURE" and "not finite" in last["message"]
    for model in (tmp_path / "run").glob("*.safetensors"):
        assert all(weight.isfinite().all() for weight in weights(model).values())


def test_validation_without_a_face_to_find(pictures, narrow, tmp_path, capsys):
    """All of them are too low to count: there is no AP to choose the best model by."""
    low = ("data.ignore.min_height=60", "data.split.fraction=0.2")
    err = refused(capsys, *train_arguments(pictures, narrow, tmp_path / "run", *low), code=1)
    assert "validation gives no ap, by which the best model is chosen" in err
    assert "data.val" in err


def test_unreadable_resume_state(pictures, narrow, tmp_path, capsys):
    folder = train(pictures, narrow, tmp_path / "run", *ONE)
    (folder / "status.json").unlink()
    (folder / "resume.pt").write_bytes((folder / "resume.pt").read_bytes()[:1000])
    err = refused(capsys, *train_arguments(pictures, narrow, folder, *ONE))
    assert f"{folder / 'resume.pt'} is not a readable resume state" in err
    assert "delete it to begin anew" in err
    (folder / "resume.pt").unlink()
    train(pictures, narrow, folder, *ONE)


def test_disk_full_while_saving(pictures, narrow, tmp_path, small_disk, capsys):
    settings = ("train.epochs=3", "train.ema=0.9", "loss.autoweighting=true")
    arguments = train_arguments(pictures, narrow, small_disk / "run", *settings)
    # The first epoch's models and state fit in; the second state beside the first one does not.
    ballast = fill(small_disk, 420_000)
    err = refused(capsys, *arguments, code=1)
    assert f"cannot write {small_disk / 'run' / 'resume.pt'}: No space left on device" in err
    assert "make room and run the same command again to go on" in err
    Predictor.load(str(small_disk / "run" / "best.safetensors"), "cpu")
    assert not list((small_disk / "run").glob(".*"))
    ballast.unlink()
    assert facenet(*arguments) == 0
    assert "going on with" in capsys.readouterr().out
    whole = train(pictures, narrow, tmp_path / "whole", *settings)
    for name in ("best.safetensors", "last.safetensors"):
        assert furthest(weights(small_disk / "run" / name), weights(whole / name)) == 0


def test_ctrl_c(pictures, narrow, tmp_path):
    """The real command, stopped as a terminal stops it."""
    folder = tmp_path / "run"
    arguments = train_arguments(pictures, narrow, folder, "data.workers=1", "train.epochs=500")
    process = subprocess.Popen(
        [sys.executable, "-m", "facetrain", "facenet", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (folder / "resume.pt").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-2:] == [
        "facenet: interrupted; the same command goes on from here",
        "facenet: interrupted",
    ]
    assert "Traceback" not in err
    Predictor.load(str(folder / "best.safetensors"), "cpu")
    state = torch.load(folder / "resume.pt", weights_only=True)
    assert state["step"] == json_lines(folder / "metrics.jsonl")[-1]["step"] > 0
