"""Matching, limits, ignore regions and groups on pictures small enough to work out by hand, and against COCO's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facetrain.configs.facenet.schema import DataConfig, MetricsConfig, SourceConfig
from facetrain.datasets.detection_sources import read_detection_sets
from facetrain.datasets.sample import DetectionSample
from facetrain.errors import FacetrainError
from facetrain.facenet_trainer.groups import by_group, by_source
from facetrain.facenet_trainer.matching import PictureDetections
from facetrain.facenet_trainer.metrics import detection_results

FACE = [100.0, 100.0, 140.0, 140.0]
OTHER = [300.0, 100.0, 350.0, 150.0]
SIZE = (640, 480)


def boxes_of(rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def picture(boxes, ignore=(), labels=None, **attributes):
    labels = np.zeros(len(boxes), np.int64) if labels is None else np.array(labels)
    known = {name: np.array(values, np.float32) for name, values in attributes.items()}
    return DetectionSample(Path("picture.jpg"), boxes_of(boxes), labels, boxes_of(ignore), known)


def found(*rows, labels=None):
    """Detections given as (box, score)."""
    labels = np.zeros(len(rows), np.int64) if labels is None else np.array(labels)
    scores = np.array([score for _, score in rows], np.float32)
    return PictureDetections(boxes_of([box for box, _ in rows]), scores, labels, SIZE)


def results(samples, predictions, classes=("face",), **settings):
    return detection_results(samples, predictions, classes, MetricsConfig(**settings))


def shifted(box, x):
    return [box[0] + x, box[1], box[2] + x, box[3]]


def test_the_figures_of_two_pictures():
    samples = [picture([FACE, OTHER]), picture([FACE])]
    predictions = [found((FACE, 0.9), (shifted(OTHER, 100), 0.8)), found((shifted(FACE, 4), 0.7))]
    figures = results(samples, predictions).summary()
    # Hit, miss, hit of three faces: the envelope is 1, then 2/3.
    assert figures["ap"] == figures["ap_face"] == pytest.approx(1 / 3 + 2 / 9)
    assert figures["recall"] == figures["recall_face"] == pytest.approx(2 / 3)
    assert figures["precision"] == figures["precision_face"] == pytest.approx(2 / 3)
    assert figures["f1_face"] == pytest.approx(2 / 3)
    assert figures["f1_score_face"] == pytest.approx(0.7)
    assert figures["false_positives_per_image"] == 0.5
    assert (figures["pictures"], figures["faces"], figures["detections"]) == (2, 3, 3)
    assert results(samples, predictions, average_precision="tao_integrate").summary()["ap"] == pytest.approx(1 / 3)


def test_a_second_detection_of_a_face_is_a_false_positive_even_in_the_other_order():
    result = results([picture([FACE])], [found((shifted(FACE, 5), 0.5), (FACE, 0.4), (FACE, 0.3))])
    assert result.found.hit.tolist() == [True, False, False]
    assert result.summary()["precision"] == pytest.approx(1 / 3)


def test_overlap_is_measured_in_floats_and_reaches_the_threshold_when_equal():
    # Half the box: intersection 20 x 40 of a union of 40 x 40, an IoU of exactly 0.5.
    half = [100.0, 100.0, 120.0, 140.0]
    assert results([picture([FACE])], [found((half, 0.9))]).summary()["recall"] == 1
    assert results([picture([FACE])], [found((half, 0.9))], iou_threshold=0.51).summary()["recall"] == 0


def test_a_detection_belongs_to_the_face_that_it_overlaps_most():
    near = shifted(FACE, 10)
    result = results([picture([FACE, near])], [found((shifted(FACE, 9), 0.9), (shifted(FACE, 1), 0.8))])
    assert result.found.face.tolist() == [1, 0]
    assert result.found.hit.all()


def test_pictures_and_classes_are_kept_apart():
    samples = [picture([FACE, OTHER], labels=[0, 1]), picture([])]
    predictions = [found((FACE, 0.9), (OTHER, 0.8), labels=[1, 1]), found((FACE, 0.7))]
    figures = results(samples, predictions, ("face", "mask")).summary()
    assert figures["recall_face"] == figures["ap_face"] == 0
    assert figures["recall_mask"] == 1
    assert figures["ap_mask"] == 0.5
    assert figures["ap"] == 0.25


def test_a_class_without_faces_is_left_out_of_the_mean():
    figures = results([picture([FACE])], [found((FACE, 0.9))], ("face", "mask")).summary()
    assert figures["ap"] == 1
    assert "ap_mask" not in figures and "recall_mask" not in figures


@pytest.mark.parametrize(("box", "ignored"), [(FACE, True), (shifted(FACE, 19), True), (shifted(FACE, 21), False)])
def test_a_detection_is_ignored_when_half_of_its_own_area_lies_in_an_ignore_region(box, ignored):
    # The region is far larger than the detection: their IoU is small.
    result = results([picture([OTHER], ignore=[[0, 0, 140, 400]])], [found((OTHER, 0.5), (box, 0.9))])
    assert result.summary()["precision"] == (1 if ignored else 0.5)
    assert result.summary()["detections"] == (1 if ignored else 2)


def test_a_face_in_an_ignore_region_is_found_all_the_same_and_its_second_detection_is_ignored():
    result = results([picture([FACE], ignore=[[0, 0, 400, 400]])], [found((FACE, 0.9), (FACE, 0.8))])
    assert result.summary()["recall"] == 1
    assert result.summary()["precision"] == 1
    assert results([picture([FACE], ignore=[[0, 0, 400, 400]])], [found()]).summary()["recall"] == 0


def test_small_faces_and_their_detections_are_ignored():
    small = [10.0, 10.0, 20.0, 20.0]
    samples = [picture([FACE, small])]
    predictions = [found((FACE, 0.8), (small, 0.9), ([50.0, 10, 60, 20], 0.7), ([10.0, 10, 20, 22.5], 0.6))]
    figures = results(samples, predictions, minimum_height=12).summary()
    # The last detection is large enough, but belongs to the small face.
    assert (figures["faces"], figures["detections"]) == (1, 1)
    assert figures["ap"] == figures["precision"] == figures["coco_map_50"] == 1
    dropped = results(samples, predictions, minimum_height=12, outside="drop").summary()
    assert (dropped["faces"], dropped["detections"], dropped["precision"]) == (1, 2, 0.5)


def test_occluded_faces_can_be_ignored():
    samples = [picture([FACE, OTHER], occlusion=[0, 1])]
    predictions = [found((OTHER, 0.9), (FACE, 0.8), (shifted(OTHER, 100), 0.7))]
    assert results(samples, predictions).summary()["precision"] == pytest.approx(2 / 3)
    figures = results(samples, predictions, occluded="ignore").summary()
    assert (figures["faces"], figures["detections"], figures["recall"], figures["precision"]) == (1, 2, 1, 0.5)
    plain = results([picture([FACE])], [found((FACE, 0.9))], occluded="ignore")  # labels that say nothing of it
    assert plain.summary()["faces"] == 1


def test_a_face_of_just_the_minimum_size_is_counted():
    assert results([picture([FACE])], [found()], minimum_height=40, maximum_width=40).summary()["faces"] == 1


@pytest.mark.parametrize("limit", ["minimum_width", "maximum_width", "minimum_height", "maximum_height"])
def test_every_limit_is_obeyed(limit):
    value = 41.0 if limit.startswith("minimum") else 39.0
    assert results([picture([FACE])], [found((FACE, 0.9))], **{limit: value}).summary()["faces"] == 0


@pytest.mark.parametrize("outside", ["ignore", "drop"])
def test_nothing_found_and_nothing_to_find_have_figures(outside):
    nothing = results([picture([FACE])], [found()], outside=outside).summary()
    assert nothing["ap"] == nothing["recall"] == nothing["coco_map"] == 0
    assert "precision" not in nothing
    faceless = results([picture([])], [found((FACE, 0.9))], outside=outside).summary()
    assert faceless["false_positives_per_image"] == 1
    assert "ap" not in faceless and "coco_map" not in faceless
    assert results([], [], outside=outside).summary()["pictures"] == 0
    assert by_group(results([picture([])], [found()]))[0].faces == 0


def test_mistakes_are_counted_picture_by_picture():
    samples = [picture([FACE, OTHER]), picture([FACE])]
    predictions = [found((FACE, 0.9), (shifted(OTHER, 100), 0.2)), found((OTHER, 0.8), (FACE, 0.1))]
    missed, wrong = results(samples, predictions).mistakes()
    assert (missed.tolist(), wrong.tolist()) == ([1, 0], [1, 1])
    missed, wrong = results(samples, predictions).mistakes(min_scores=0.5)
    assert (missed.tolist(), wrong.tolist()) == ([1, 1], [0, 1])


def test_mistakes_at_a_confidence_of_each_class():
    samples = [picture([FACE], labels=[0]), picture([])]
    predictions = [found((FACE, 0.6), (OTHER, 0.6), labels=[0, 1]), found((FACE, 0.5), (OTHER, 0.9), labels=[0, 1])]
    result = results(samples, predictions, ("face", "mask"))
    assert result.best_scores() == pytest.approx([0.6, np.nan], nan_ok=True)
    assert [part.tolist() for part in result.mistakes(np.array([0.6, 0.7]))] == [[0, 0], [0, 1]]
    assert [part.tolist() for part in result.mistakes(np.array([0.7, np.nan]))] == [[1, 0], [0, 0]]


def test_the_figures_of_faces_at_least_20_px_high():
    small = [10.0, 10.0, 22.0, 22.0]
    figures = results([picture([FACE, small])], [found((FACE, 0.5), ([60.0, 10, 72, 22], 0.9))]).summary()
    assert (figures["ap"], figures["recall"]) == (0.25, 0.5)
    assert (figures["ap_20px"], figures["recall_20px"], figures["faces_20px"]) == (1, 1, 1)
    assert "ap_20px" not in results([picture([small])], [found()]).summary()


def test_groups_tell_small_faces_from_large_ones():
    small, large = [10.0, 10.0, 22.0, 22.0], [100.0, 100.0, 340.0, 340.0]
    samples = [picture([small, large])]
    predictions = [found((large, 0.9), (shifted(small, 100), 0.8), ([400.0, 10, 440, 50], 0.7))]
    rows = {(row.group, row.name): row for row in by_group(results(samples, predictions))}
    lone = rows["height, px", "8 to 16"]
    assert (lone.faces, lone.ap, lone.recall) == (1, 0, 0)
    big = rows["height, px", "128 and more"]
    assert (big.faces, big.ap, big.recall) == (1, 1, 1)
    assert rows["height, px", "at least 20"].faces == 1
    assert rows["height, px", "32 to 64"].faces == 0 and np.isnan(rows["height, px", "32 to 64"].ap)
    # 144 and 57,600 of 307,200 square pixels.
    assert rows["share of the picture, %", "0 to 0.1"].recall == 0
    assert rows["share of the picture, %", "10 and more"].recall == 1


def test_a_false_positive_counts_against_the_group_of_its_own_size_only():
    samples, predictions = [picture([FACE])], [found((FACE, 0.5), ([0.0, 0, 40, 40], 0.9), ([0.0, 0, 400, 400], 0.8))]
    rows = {row.name: row for row in by_group(results(samples, predictions)) if row.group == "height, px"}
    assert rows["32 to 64"].ap == pytest.approx(1 / 2)
    assert rows["at least 20"].ap == pytest.approx(1 / 3)


def test_groups_have_the_recall_at_the_confidence_to_cut_at():
    samples = [picture([FACE, OTHER]), picture([shifted(FACE, 200)])]
    predictions = [found((FACE, 0.9)), found(*[(shifted(FACE, 200 + x), 0.5) for x in (100, 50, 0)])]
    rows = {row.name: row for row in by_group(results(samples, predictions)) if row.group == "height, px"}
    # F1 is 2 x 1 / (1 + 3) with the first detection, 2 x 2 / (4 + 3) with all.
    assert (rows["32 to 64"].recall, rows["32 to 64"].recall_best) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    predictions[1] = found(*[(shifted(FACE, 200 + x), 0.5) for x in (100, 50, 200, -100, 0)])
    rows = {row.name: row for row in by_group(results(samples, predictions)) if row.group == "height, px"}
    assert (rows["32 to 64"].recall, rows["32 to 64"].recall_best) == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_the_sources_of_pictures_are_told_apart():
    samples = [picture([FACE]), picture([FACE, OTHER])]
    predictions = [found((FACE, 0.5)), found((FACE, 0.9), (shifted(OTHER, 100), 0.8))]
    one, two = by_source(results(samples, predictions), ["a", "b"])
    assert (one.name, one.faces, one.ap, one.recall) == ("a", 1, 1, 1)
    assert (two.name, two.faces, two.ap, two.recall) == ("b", 2, 0.5, 0.5)


def test_groups_by_the_attributes_that_the_labels_have():
    samples = [picture([FACE, OTHER], occlusion=[0, 2]), picture([FACE], blur=[1], occlusion=[np.nan])]
    predictions = [found((FACE, 0.9)), found((FACE, 0.8), (OTHER, 0.7))]
    rows = {(row.group, row.name): row for row in by_group(results(samples, predictions))}
    assert {group for group, _ in rows} >= {"occlusion", "blur"}
    assert (rows["occlusion", "0"].faces, rows["occlusion", "0"].recall) == (1, 1)
    assert (rows["occlusion", "2"].faces, rows["occlusion", "2"].recall) == (1, 0)
    assert rows["blur", "1"].faces == 1
    assert ("blur", "0") not in rows


def test_an_attribute_that_is_a_share_is_told_apart_by_its_quarters():
    samples = [picture([FACE, OTHER, shifted(FACE, 300)], truncation=[0, 0.1, 0.9])]
    rows = {row.name: row.faces for row in by_group(results(samples, [found()])) if row.group == "truncation"}
    assert rows == {"0": 1, "up to 0.25": 1, "up to 0.5": 0, "up to 0.75": 0, "above 0.75": 1}


@pytest.mark.parametrize("seed", range(3))
def test_detections_that_count_and_find_are_those_of_coco(seed):
    """Faces apart from each other, so that both rules of matching say the same; ignore regions as crowds."""
    samples, predictions = scenes(np.random.default_rng(seed), pictures=40)
    result = results(samples, predictions)
    figures = result.summary()
    curve = result.curve(0)
    envelope = np.append(np.maximum.accumulate(curve.precision[::-1])[::-1], 0.0)
    recalls = np.linspace(0, 1, 101)
    assert 0.1 < figures["ap"] < 0.9
    sampled = envelope[np.searchsorted(curve.recall, recalls, side="left")].mean()
    assert figures["coco_map_50"] == pytest.approx(sampled, abs=1e-9)
    assert figures["coco_map_50"] == pytest.approx(figures["ap"], abs=0.01)
    assert figures["coco_map_75"] < figures["coco_map_50"]
    assert figures["coco_map_75"] == pytest.approx(results(samples, predictions, iou_threshold=0.75).summary()["ap"],
                                                   abs=0.01)  # fmt: skip


def scenes(rng, pictures, cells=6):
    """Faces in the cells of a grid, found more or less well, or not; regions and stray detections in other cells."""
    samples, predictions = [], []
    for _ in range(pictures):
        kinds = rng.integers(0, 4, cells * cells)
        corner = np.stack(np.meshgrid(np.arange(cells), np.arange(cells)), axis=-1).reshape(-1, 2) * 80.0
        box = np.concatenate([corner + rng.uniform(0, 20, corner.shape), corner + rng.uniform(40, 70, corner.shape)], 1)
        near = box + rng.normal(0, 3, box.shape)
        scores = rng.uniform(0, 1, len(box)).astype(np.float32)
        spoken = (kinds != 1) & (rng.uniform(size=len(box)) < 0.8)
        samples.append(picture(box[kinds <= 1], ignore=box[kinds == 2]))
        twice = rng.uniform(size=len(box)) < 0.1
        rows = [(b.tolist(), s) for b, s in zip(near[spoken], scores[spoken], strict=True)]
        rows += [(b.tolist(), s / 2) for b, s in zip(near[spoken & twice], scores[spoken & twice], strict=True)]
        predictions.append(found(*rows))
    return samples, predictions


def test_a_crowd_beyond_one_portion_of_comparisons_is_matched_the_same(monkeypatch):
    samples, predictions = scenes(np.random.default_rng(9), pictures=30)
    whole = results(samples, predictions)
    monkeypatch.setattr("facetrain.facenet_trainer.boxes.MAX_PAIRS", 100)
    parts = results(samples, predictions)
    assert np.array_equal(whole.found.face, parts.found.face)
    assert np.array_equal(whole.found.covered, parts.found.covered)


def test_a_detection_that_is_not_finite_is_an_error():
    broken = found((FACE, np.nan))
    with pytest.raises(FacetrainError, match="not finite"):
        results([picture([FACE])], [broken])
    with pytest.raises(FacetrainError, match="not finite"):
        results([picture([FACE])], [replace(broken, boxes=boxes_of([[0, 0, np.inf, 1]]), scores=np.ones(1))])


def test_the_labels_of_wider_found_to_the_pixel_are_all_found(shared_data):
    data = DataConfig(root=str(shared_data), val=[SourceConfig("wider", "wider/wider_face_val_bbx_gt.txt")])
    samples = read_detection_sets(data).val
    sizes = [sample.size or SIZE for sample in samples]
    # Its invalid boxes are found too, and are no mistakes.
    predictions = [
        PictureDetections(
            np.concatenate([sample.boxes, sample.ignore]),
            np.ones(len(sample.boxes) + len(sample.ignore)),
            np.zeros(len(sample.boxes) + len(sample.ignore), np.int64),
            size,
        )
        for sample, size in zip(samples, sizes, strict=True)
    ]
    assert sum(len(sample.ignore) for sample in samples) > 0
    result = results(samples, predictions)
    figures = result.summary()
    assert figures["ap"] == figures["precision"] == figures["recall"] == 1
    rows = {(row.group, row.name): row for row in by_group(result)}
    assert rows["height, px", "at least 20"].faces == 1761  # valid lines of the file with a height of 20 or more
    assert {"0", "1", "2"} <= {name for group, name in rows if group == "blur"}
    assert all(row.recall == 1 for row in rows.values() if row.faces)
