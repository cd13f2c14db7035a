"""TAO's detection metrics to the digit: cases worked out by hand from its rules (gridbox §7.5, §8.1, §8.2)."""

import json

import numpy as np
import pytest

from facetrain.configs.facenet.schema import MetricsConfig
from facetrain.errors import ConfigError
from facetrain.facenet_trainer.detection_files import tao_status
from facetrain.facenet_trainer.metrics import detection_results
from facetrain.tests.facenet_runs import kitti_line, train
from facetrain.tests.facenet_trainer.test_evaluate import light_meter, paint
from facetrain.tests.facenet_trainer.test_metrics import found, picture
from facetrain.tests.runs import facenet

pytestmark = pytest.mark.usefixtures("one_thread")

TAO = {"outside": "drop", "pixels": "network", "whole_pixels": True}


def measured(samples, predictions, classes=("face",), **settings):
    return detection_results(samples, predictions, classes, MetricsConfig(**(TAO | settings)))


def hits(box, truth, threshold):
    return measured([picture([truth])], [found((box, 0.9))], iou_threshold=threshold).found.hit.tolist() == [True]


@pytest.mark.parametrize(
    ("box", "truth", "overlap"),
    [
        ([0, 0, 10, 5], [0, 0, 10, 10], 11 * 6 / 121),  # the last row and column count
        ([0.4, 0.4, 10.4, 5.4], [-0.4, -0.4, 9.6, 9.6], 11 * 6 / 121),  # the same once rounded
        ([4.5, 0, 9, 9], [0, 0, 9, 9], 0.6),  # 4.5 becomes 4: six columns of ten
        ([5.5, 0, 9, 9], [0, 0, 9, 9], 0.4),  # and 5.5 becomes 6: four
        ([10, 0, 20, 10], [0, 0, 10, 10], 11 / 231),  # boxes that touch share a column
    ],
)
def test_edges_are_rounded_and_the_last_pixel_belongs_to_the_box(box, truth, overlap):
    assert hits(box, truth, overlap - 1e-9)
    assert not hits(box, truth, overlap + 1e-9)


def test_limits_are_those_of_edges_before_they_are_rounded_and_belong_to_what_they_allow():
    def faces(height, **limits):
        return int(measured([picture([[0, 0, 10, height]])], [found()], **limits).counted.sum())

    assert [faces(height, minimum_height=4) for height in (3.75, 4.0)] == [0, 1]
    assert [faces(height, maximum_height=4) for height in (4.0, 4.25)] == [1, 0]
    low = measured([picture([[0, 0, 10, 3.75]])], [found(([0, 0, 10, 4.0], 0.9))], minimum_height=4)
    assert low.scored().tolist() == [True] and not low.found.hit.any()  # its face is not there: a false positive


def five_faces():
    """Hit, miss, hit, hit, and a second detection of a face already found, of five faces in three pictures."""
    one, two, far = [0.0, 0, 20, 20], [40.0, 0, 60, 20], [80.0, 40, 95, 60]
    samples = [picture([one, two]), picture([one, two]), picture([far])]
    predictions = [found((one, 0.9), (far, 0.8)), found((one, 0.7), (two, 0.6), (one, 0.5)), found()]
    return samples, predictions


def test_both_kinds_of_average_precision():
    # precision 1, 1/2, 2/3, 3/4, 3/5 at recall .2, .2, .4, .6, .6
    integrate = measured(*five_faces(), average_precision="tao_integrate")
    assert integrate.average_precision() == pytest.approx(0.2 * 1 + 0.2 * 2 / 3, abs=1e-12)
    assert tao_status(integrate)["kpi"] == {"mean average precision": 33.3333}
    # eleven recalls: 1 at 0, .1, .2; 3/4 at .3, .4, .5; nothing at .6, a hair above 3 faces of 5
    sample = measured(*five_faces(), average_precision="tao_sample")
    assert sample.average_precision() == pytest.approx((3 * 1 + 3 * 3 / 4) / 11, abs=1e-12)
    assert tao_status(sample)["categorical"] == {"average_precision": {"face": 47.7273}}


def test_classes_have_their_own_overlap_and_limits_and_one_without_faces_counts_as_0():
    box, narrow = [0.0, 0, 20, 20], [0.0, 0, 20, 12]  # 21 x 13 of 21 x 21 pixels: 0.619
    low = [50.0, 0, 70, 10]
    samples = [picture([box, box, low, low], labels=[0, 1, 0, 1])]
    predictions = [found((narrow, 0.9), (narrow, 0.8), (low, 0.7), (low, 0.6), labels=[0, 1, 0, 1])]
    per_class = {"car": {"iou_threshold": 0.7}, "person": {"minimum_height": 11}}
    result = measured(
        samples, predictions, ("car", "person", "bus"), per_class=per_class, average_precision="tao_sample"
    )
    assert result.labelled.labels.tolist() == [0, 1, 0]
    assert result.found.hit.tolist() == [False, True, True]
    # car: miss, hit of two faces: 1/2 up to recall .5. person: its one face at once. bus: none.
    car = 6 * 0.5 / 11
    assert result.curve(0).average_precision("tao_sample") == pytest.approx(car)
    assert result.average_precision() == pytest.approx((car + 1 + 0) / 3)
    with pytest.raises(ConfigError, match=r"metrics\.per_class\.cat: not a target class; did you mean car"):
        measured(samples, predictions, ("car", "person", "bus"), per_class={"cat": {"iou_threshold": 0.7}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """KITTI labels of a picture as large as the input and one twice as large, for the network that sees lit cells.

    In the input's pixels: a.png has a face that is found, one that is not, and a detection in a dontcare region. b.png
    has a face of 33 x 16 in which a cell of 16 x 16 lies, and one of 16 x 15, all of which a cell covers.
    """
    folder = tmp_path_factory.mktemp("kitti")
    paint(folder / "a.png", (0, 0, 255), (2, 1, 200))
    paint(folder / "b.png", (1, 1, 230), (4, 2, 245), scale=2)
    a = [kitti_line((0, 0, 16, 16)), kitti_line((64, 32, 80, 48)), kitti_line((30, 14, 50, 34), "DontCare")]
    b = [kitti_line((32, 32, 98, 64)), kitti_line((128, 66, 160, 96))]
    for name, lines in (("a", a), ("b", b)):
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def evaluated(folder, tmp_path, name, *arguments):
    model = tmp_path / "light.safetensors"
    light_meter(model)
    source = ("data.test=[{format: kitti, path: .}]", f"data.root={folder}", "metrics.minimum_height=16")
    assert facenet("evaluate", f"model={model}", *source, "-r", str(tmp_path / name), "device=cpu", *arguments) == 0
    status = [json.loads(line) for line in (tmp_path / name / "status.json").read_text().splitlines()][-1]
    return status, json.loads((tmp_path / name / "metrics.json").read_text())["metrics"]


def test_evaluate_compat_tao(folder, tmp_path):
    # Three faces, as the low one is dropped; by confidence: hit, nothing where that one was, 17 x 17 of 34 x 17 pixels
    # which is a hit, and nothing in the dontcare region. Precision 1, 1/2, 2/3, 1/2 at recall 1/3, 1/3, 2/3, 2/3.
    status, metrics = evaluated(folder, tmp_path, "integrate", "compat=tao")
    assert status["kpi"]["mean average precision"] == 33.3333
    assert status["categorical"] == {"average_precision": {"face": 33.3333}}
    assert (metrics["faces"], metrics["detections"], metrics["recall"]) == (3, 4, pytest.approx(2 / 3))
    status, _ = evaluated(folder, tmp_path, "sample", "compat=tao", "metrics.average_precision=tao_sample")
    assert status["kpi"]["mean average precision"] == round(100 * (4 * 1 + 3 * 2 / 3) / 11, 4)


def test_each_quirk_alone(folder, tmp_path):
    """Four faces and three detections that count: hit, hit of the low face, miss of the wide one by 0.485."""
    _, plain = evaluated(folder, tmp_path, "plain")
    assert (plain["faces"], plain["detections"], plain["ap"]) == (4, 3, 0.5)
    _, network = evaluated(folder, tmp_path, "network", "metrics.pixels=network")  # the low face is ignored
    assert (network["faces"], network["detections"], network["ap"]) == (3, 2, pytest.approx(1 / 3))
    _, whole = evaluated(folder, tmp_path, "whole", "metrics.pixels=network", "metrics.whole_pixels=true")
    assert (whole["faces"], whole["detections"], whole["ap"]) == (3, 2, pytest.approx(2 / 3))
    _, regions = evaluated(folder, tmp_path, "regions", "data.ignore.classes=[]")
    assert (regions["faces"], regions["detections"], regions["precision"]) == (4, 4, 0.5)


def test_in_the_networks_pixels_it_is_as_if_the_pictures_had_been_resized_beforehand(folder, tmp_path):
    small = tmp_path / "small"
    paint(small / "a.png", (0, 0, 255), (2, 1, 200))
    paint(small / "b.png", (1, 1, 230), (4, 2, 245))
    for name in "ab":
        rows = [line.split() for line in (folder / f"{name}.txt").read_text().splitlines()]
        scale = 0.5 if name == "b" else 1
        lines = [kitti_line(scale * np.array(row[4:8], float), row[0]) for row in rows]
        (small / f"{name}.txt").write_text("\n".join(lines) + "\n")
    _, ours = evaluated(folder, tmp_path, "ours", "metrics.pixels=network")
    _, theirs = evaluated(small, tmp_path, "theirs")
    assert ours == theirs
    groups = (tmp_path / "ours" / "groups.csv").read_text()
    assert groups == (tmp_path / "theirs" / "groups.csv").read_text() and '"height, px",16 to 32' in groups


def test_training_validates_by_the_same_measure(pictures, narrow, tmp_path):
    keys = ("metrics.pixels=network", "metrics.whole_pixels=true", "metrics.outside=drop", "input.width=64",
            "input.height=48", "clustering.algorithm=nms", "clustering.coverage_threshold=0.0001")  # fmt: skip
    run = train(pictures, narrow, tmp_path / "run", *keys, "train.epochs=1", "data.split.fraction=0.5")
    during = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    arguments = (f"model={run / 'best.safetensors'}", "split=val", "device=cpu", *keys[:3])
    assert facenet("evaluate", *arguments, "-r", str(tmp_path / "after")) == 0
    after = json.loads((tmp_path / "after" / "metrics.json").read_text())["metrics"]
    assert after["recall"] > 0
    assert {name: during[name] for name in after} == pytest.approx(after)
