"""FaceNet's task: what a step and a validation give, and what of them is carried on."""

from itertools import pairwise

import pytest
import torch

from facetrain.configs.compose import load_spec
from facetrain.configs.facenet.schema import FacenetTrainSpec
from facetrain.datasets.pictures import picture_loader
from facetrain.facenet_trainer.train import prepare as prepare_run
from facetrain.tests.facenet_runs import HEIGHT, LEARNS, WIDTH, kitti_line, train_arguments
from facetrain.training.distributed import Processes

pytestmark = pytest.mark.usefixtures("one_thread")

ALONE = Processes(0, 1, torch.device("cpu"))


@pytest.fixture
def prepare(pictures, detector, tmp_path):
    """The task of a spec with its training loader and its validation pictures; overrides count last."""

    def build(*overrides, folder=pictures):
        arguments = train_arguments(folder, detector / "last.safetensors", tmp_path / "run", *LEARNS,
                                    "train.batch_size=2", *overrides)  # fmt: skip
        job = prepare_run(load_spec(FacenetTrainSpec, arguments[1:]), ALONE)
        job.task.model.eval()
        return job

    return build


@torch.no_grad()
def evaluated(job, batch_size=4):
    loader = picture_loader(job.val_loader.dataset, batch_size, shuffle=False, drop_last=False, seed=0, workers=0)
    return job.task.evaluate(job.task.model, loader, ALONE)


@pytest.mark.parametrize("coverage", ["bce", "focal"])
@pytest.mark.parametrize("bbox", ["l1", "giou"])
def test_figures_do_not_depend_on_the_batches(prepare, coverage, bbox):
    job = prepare("data.split.fraction=0.45", f"loss.coverage={coverage}", f"loss.bbox={bbox}")
    one, *others = (evaluated(job, batch_size) for batch_size in (1, 3, 7))
    assert one["pictures"] == 7
    assert one["ap"] > 0.5
    for other in others:
        assert other == pytest.approx(one, rel=1e-5)


def test_the_cost_of_validation_is_the_mean_of_its_pictures(prepare):
    """By the loss of a step on each picture alone, without the penalty, which is no cost of a picture."""
    job = prepare("data.split.fraction=0.45", "loss.regularizer=none")
    loader = picture_loader(job.val_loader.dataset, 1, shuffle=False, drop_last=False, seed=0, workers=0)
    losses = [job.task.step(job.task.model, batch, 0)["loss"].item() for batch in loader]
    assert evaluated(job)["validation_cost"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_ignored_by_size_is_neither_rewarded_nor_punished(prepare):
    """The widest boxes of the validation pictures, which the detector finds."""
    split = "data.split.fraction=0.9"
    whole = prepare(split)
    with torch.no_grad():
        everything, _ = whole.task.results(whole.task.model, whole.val_loader, ALONE)
    widths = everything.labelled.boxes[:, 2] - everything.labelled.boxes[:, 0]
    limit = float(sorted(widths)[len(widths) // 2])
    ignored = int((widths > limit).sum())
    assert ignored > 4
    job = prepare(split, f"data.ignore.max_width={limit}")
    figures = evaluated(job)
    assert figures["faces"] == len(widths) - ignored
    hit_and_ignored = int((everything.found.hit & (widths > limit)[everything.found.face]).sum())
    assert hit_and_ignored == ignored  # all of them are found, and are no false positives now
    before = everything.summary()
    false = [round(f["false_positives_per_image"] * f["pictures"]) for f in (before, figures)]
    assert false[1] <= false[0]
    assert figures["detections"] - false[1] == before["detections"] - false[0] - ignored  # and no hits either


def test_validation_leaves_the_automatic_weights_alone(prepare):
    job = prepare("loss.autoweighting=true", "data.split.fraction=0.45")
    batch = next(iter(job.train_loader))
    job.task.step(job.task.model, batch, 0)
    before = {name: value.clone() for name, value in job.task.state_dict().items()}
    assert before["sums"].sum() > 0
    evaluated(job)
    with torch.no_grad():
        job.task.pictures(job.task.model, job.val_loader, ALONE, 2)
    after = job.task.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_goes_on_from_its_state(prepare):
    first, second = (prepare("loss.autoweighting=true", "data.split.fraction=0") for _ in range(2))
    batch = next(iter(first.train_loader))
    first.task.step(first.task.model, batch, 0)
    first.task.end_epoch()
    first.task.step(first.task.model, batch, 1)
    state = first.task.state_dict()
    assert not torch.equal(state["weights"], second.task.state_dict()["weights"])
    second.task.load_state_dict(state)
    for job in (first, second):
        job.task.end_epoch()
    ours, theirs = first.task.state_dict(), second.task.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    losses = [job.task.step(job.task.model, batch, 2)["loss"] for job in (first, second)]
    assert torch.equal(*losses)


def test_parts_of_two_classes(prepare, pictures, tmp_path):
    """A class's costs come from its own boxes: without any, its boxes cost nothing."""
    two = ("data.class_mapping={face: face, mask: mask}", "data.split.fraction=0")
    job = prepare(*two, folder=labelled_as_two(pictures, tmp_path))
    batch = next(iter(job.train_loader))
    batch["labels"] = torch.where(batch["labels"] == 1, 0, batch["labels"])
    parts = job.task.step(job.task.model, batch, 0)
    assert set(parts) == {"loss", "coverage_face", "bbox_face", "coverage_mask", "bbox_mask", "regularizer"}
    assert parts["bbox_mask"] == 0 < parts["bbox_face"]
    batch["labels"] = torch.where(batch["labels"] == 0, 1, batch["labels"])
    parts = job.task.step(job.task.model, batch, 0)
    assert parts["bbox_face"] == 0 < parts["bbox_mask"]


def labelled_as_two(pictures, tmp_path):
    folder = tmp_path / "two"
    folder.mkdir()
    for number, label in enumerate(sorted(pictures.glob("*.txt"))):
        (folder / f"{label.stem}.png").symlink_to(label.with_suffix(".png"))
        name = ("face", "mask")[number % 2]
        (folder / label.name).write_text(label.read_text().replace("face", name))
    return folder


def test_a_weight_of_pictures_counts_in_their_loss(prepare):
    job = prepare("data.split.fraction=0", "loss.regularizer=none")
    batch = next(iter(job.train_loader))
    once = job.task.step(job.task.model, batch, 0)["loss"]
    twice = job.task.step(job.task.model, {**batch, "weight": 2 * batch["weight"]}, 0)["loss"]
    assert twice.item() == pytest.approx(2 * once.item(), rel=1e-6)


def test_pictures_show_labels_and_detections(prepare):
    job = prepare("data.split.fraction=0.45")
    with torch.no_grad():
        drawn = job.task.pictures(job.task.model, job.val_loader, ALONE, 6)  # more than one batch
    assert [caption for _, caption in drawn] == [f"picture {i}" for i in range(6)]
    plain = [item["image"].numpy().transpose(1, 2, 0) for item in (job.val_loader.dataset[0, i] for i in range(6))]
    for (picture, _), before in zip(drawn, plain, strict=True):
        assert picture.shape == (HEIGHT, WIDTH, 3)
        assert (picture != before).any()
    assert all((a[0] != b[0]).any() for a, b in pairwise(drawn))


def test_a_picture_without_a_face_validates(prepare, pictures, tmp_path):
    """It only has background to be right about."""
    folder = tmp_path / "faceless"
    folder.mkdir()
    for label in sorted(pictures.glob("0*.txt")):
        (folder / f"{label.stem}.png").symlink_to(label.with_suffix(".png"))
        (folder / label.name).write_text("" if label.stem == "03" else label.read_text())
    (folder / "02.txt").write_text(kitti_line((0, 0, WIDTH, HEIGHT), "DontCare"))
    job = prepare(f"data.val=[{{format: kitti, path: {folder}}}]")
    figures = evaluated(job)
    assert figures["pictures"] == 10
    assert figures["ap"] > 0.5
    assert 0 < figures["validation_cost"] < 10
