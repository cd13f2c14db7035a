"""What the reports show of detections made by hand."""

import numpy as np
from PIL import Image

from facetrain.configs.facenet.schema import MetricsConfig
from facetrain.datasets.resizing import PicturePreprocessing
from facetrain.datasets.sample import DetectionSample, Rejection
from facetrain.facenet_trainer.detection_report import write_training_report
from facetrain.facenet_trainer.detection_results import FoundPictures
from facetrain.facenet_trainer.detection_tables import class_table, cut_table, group_table, summary_table
from facetrain.facenet_trainer.draw import FOUND, IGNORED, TRUTH
from facetrain.facenet_trainer.frame import Frame
from facetrain.facenet_trainer.matching import PictureDetections
from facetrain.facenet_trainer.metrics import detection_results
from facetrain.facenet_trainer.worst_pictures import SIDE, drawn, worst_pictures

FACE, OTHER, REGION = [10.0, 10.0, 40.0, 40.0], [60.0, 10.0, 90.0, 40.0], [10.0, 60.0, 40.0, 90.0]
LOG = [
    {"kind": "train", "step": 10, "epoch": 1, "loss": 3.0, "coverage": 2.0, "learning_rate": 1e-3},
    {"kind": "val", "step": 20, "epoch": 1, "ap": 0.4, "ap_face": 0.4, "recall": 0.7, "validation_cost": 2.0},
]


def boxes_of(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def picture(name, boxes, ignore=(), source="one", side=100, **attributes):
    known = {key: np.array(values, np.float32) for key, values in attributes.items()}
    image = np.full((side, side, 3), 40, np.uint8)
    labels = np.zeros(len(boxes), np.int64)
    return DetectionSample(image, boxes_of(*boxes), labels, boxes_of(*ignore), known, name, source)


AS_THEY_ARE = Frame("picture", PicturePreprocessing(96, 64))


def found(*pictures, classes=("face",), rejections=(), **settings):
    """Pictures given as (sample, [(box, score), ...])."""
    samples = [sample for sample, _ in pictures]
    predictions = [
        PictureDetections(
            boxes_of(*(box for box, _ in rows)),
            np.array([score for _, score in rows], np.float32),
            np.zeros(len(rows), np.int64),
            sample.image.shape[1::-1],
        )
        for sample, rows in pictures
    ]
    results = detection_results(samples, predictions, classes, MetricsConfig(**settings))
    return FoundPictures(samples, predictions, results, AS_THEY_ARE, rejections)


def two_pictures(**settings):
    good = picture("good.png", [FACE, OTHER], occlusion=[0, 2])
    bad = picture("bad.png", [FACE], ignore=[REGION], source="two", occlusion=[1])
    return found((good, [(FACE, 0.9), (OTHER, 0.8)]), (bad, [(REGION, 0.95), (OTHER, 0.85)]), **settings)


def test_a_training_report_shows_curves_results_and_what_was_left_out(tmp_path):
    left_out = [Rejection("a.txt", 3, "broken label"), Rejection("b.txt", None, "broken label")]
    results = {"test": two_pictures(), "validation": two_pictures(rejections=[left_out[0]])}
    write_training_report(tmp_path, "FaceNet", {"seed": "42"}, LOG, results, left_out, ["A note."], pictures=1)
    report = (tmp_path / "report.html").read_text()
    for text in ("Training loss", "Test pictures", "Validation pictures: the worst", "bad.png: 1 missed, 1 false",
                 "A note.", "a.txt:3", "were left out: 2.", "at least 20 px high"):  # fmt: skip
        assert text in report
    assert report.count("<img") == 2
    assert report.count("<svg") == 5 + 2 * 2
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names >= {"training_0.png", "precision_recall_test.png", "precision_recall_validation.png"}
    assert Image.open(tmp_path / "plots" / "precision_recall_test.png").width > 500


def test_a_report_of_nothing_found_and_of_nothing_to_find(tmp_path):
    results = {"test": found((picture("a", [FACE]), [])), "validation": found((picture("b", []), [(FACE, 0.5)]))}
    write_training_report(tmp_path, "FaceNet", {}, [], results)
    report = (tmp_path / "report.html").read_text()
    assert "a: 1 missed, 0 false" in report
    assert "There are no labelled faces." in report


def test_tables_show_what_is_asked_first():
    results = two_pictures()
    summary = summary_table(results)
    assert [row[0] for row in summary.rows[:2]] == ["AP at IoU 0.5, all faces",
                                                    "AP at IoU 0.5, faces at least 20 px high"]  # fmt: skip
    # A hit, a false positive, a hit; the detection in the ignore region counts for nothing. Of three faces.
    assert summary.rows[0][1] == np.float64(1 / 3 + 2 / 9)
    assert summary.caption == "2 pictures, 3 faces (3 at least 20 px high), 1 ignored, 3 detections that count."
    assert class_table(results.results).rows[0][:3] == ["face", 3, summary.rows[0][1]]
    assert cut_table(results.results).rows == [["face", np.float32(0.8), 2 / 3, 2 / 3, 2 / 3]]
    rows = {(row[0], row[1]): row[2:] for row in group_table(results).rows}
    assert rows["source", "one"] == [2, 1, 1, 1]
    assert rows["source", "two"] == [1, 0, 0, 0]
    assert [rows["occlusion", level][1:3] for level in "012"] == [[1, 1], [0, 0], [1 / 2, 1]]


def test_several_classes_have_a_mean():
    table = class_table(two_pictures(classes=("face", "mask")).results)
    assert [row[0] for row in table.rows] == ["face", "mask", "mean"]
    assert table.rows[2][1:3] == [3, table.rows[0][2]]  # no mask is labelled


def test_the_worst_picture_comes_first_and_one_without_a_mistake_not_at_all():
    faultless = picture("faultless.png", [FACE])
    one = picture("one.png", [FACE, OTHER])
    most = picture("most.png", [OTHER])
    results = found((faultless, [(FACE, 0.9)]), (one, [(FACE, 0.9)]), (most, [(FACE, 0.9), (REGION, 0.2)]))
    shown = worst_pictures(results, np.array([0.5]), 5).pictures
    assert [text for _, text in shown] == ["most.png: 1 missed, 1 false", "one.png: 1 missed, 0 false"]
    assert len(worst_pictures(results, np.array([0.5]), 1).pictures) == 1


def test_found_labelled_and_ignored_boxes_are_drawn_to_scale_in_their_colours():
    low = [60.0, 60.0, 90.0, 65.0]
    sample = picture("a.png", [FACE, low], ignore=[REGION], side=400)
    unsure = [200.0, 200.0, 300.0, 300.0]
    results = found((sample, [(OTHER, 0.9), (unsure, 0.1)]), minimum_height=10)
    image = drawn(results, 0, np.array([0.5]))
    assert image.shape == (SIDE, SIDE, 3)

    def has(colour, box):
        """Whether the colour is on the middle of the box's left edge."""
        x, y = (round(value * SIDE / 400) for value in (box[0], (box[1] + box[3]) / 2))
        near = image[y, x - 2 : x + 3].astype(int)
        return bool((abs(near - colour).max(axis=1) < 60).any())

    assert has(FOUND, OTHER) and has(TRUTH, FACE) and has(IGNORED, REGION)
    assert has(IGNORED, low)  # outside the limits
    assert not has(FOUND, unsure)


def test_small_pictures_are_enlarged_within_reason():
    assert drawn(found((picture("a", [FACE]), [])), 0, np.array([0.5])).shape == (400, 400, 3)
