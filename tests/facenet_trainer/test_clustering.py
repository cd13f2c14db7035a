"""Clustering against scikit-learn, and against cases small enough to work out by hand."""

import numpy as np
import pytest
from sklearn.cluster import DBSCAN

from facetrain.configs.facenet.per_class import each_class
from facetrain.configs.facenet.schema import ClusteringConfig
from facetrain.errors import ConfigError, FacetrainError
from facetrain.facenet_trainer.clustering import batch_detections, cluster, detections
from facetrain.facenet_trainer.dbscan import EPS_SLACK, dbscan

BOX = [100.0, 50.0, 200.0, 150.0]


def moved(x, box=BOX):
    """The box moved to the right."""
    return [box[0] + x, box[1], box[2] + x, box[3]]


def found(boxes, coverage, **settings):
    return cluster(np.array(boxes, np.float32), np.array(coverage, np.float32), ClusteringConfig(**settings))


def reference(boxes, coverage, eps, min_weight):
    """scikit-learn's labels, from the whole matrix of distances."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    intersection = np.maximum(high - low, 0).prod(axis=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    distance = 1 - intersection / (area[:, None] + area - intersection)
    # Its min_samples is a whole number; weights of the same ratio say the same.
    search = DBSCAN(eps=eps + EPS_SLACK, min_samples=1, metric="precomputed")
    return search.fit(distance, sample_weight=coverage / min_weight).labels_


def scattered(rng, count, faces, spread, size=(40, 100)):
    """Cells that each point at one of some faces, not quite, and random coverages."""
    centre, side = rng.uniform(0, [736, 416], (faces, 2)), rng.uniform(*size, (faces, 1))
    boxes = np.concatenate([centre - side / 2, centre + side / 2], axis=1)
    which = rng.integers(faces, size=count)
    boxes = boxes[which] + rng.normal(0, spread, (count, 4)) * side[which]
    return boxes.astype(np.float32).astype(np.float64), rng.uniform(0, 1, count).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("count", "faces"), [(1, 1), (10, 3), (60, 8), (150, 25), (150, 2)])
def test_clusters_are_those_of_scikit_learn(count, faces, seed):
    rng = np.random.default_rng(seed)
    # Much noise and many cells between two clusters: where a wrong rule would show.
    boxes, coverage = scattered(rng, count, faces, spread=rng.choice([0.02, 0.06, 0.1]))
    for eps, min_weight in ((0.15, 1.0), (0.3, 2.0), (0.5, 0.5), (1.0, 1.0)):
        labels = dbscan(boxes, coverage, eps, min_weight)
        assert labels.tolist() == reference(boxes, coverage, eps, min_weight).tolist()


def test_the_random_cases_hold_both_clusters_and_noise():
    boxes, coverage = scattered(np.random.default_rng(0), 150, 25, spread=0.06)
    labels = dbscan(boxes, coverage, 0.3, 2.0)
    assert labels.max() > 5
    assert np.sum(labels == -1) > 5


def test_one_cell_of_less_than_the_core_s_weight_is_noise():
    assert len(found([BOX], [0.9])) == 0
    assert found([BOX], [1.0]).scores.tolist() == [1]
    assert found([BOX], [0.9], dbscan_min_weight=0.9 - 1e-6).boxes.tolist() == [BOX]


def test_two_cells_that_point_at_the_same_box_are_one_face_with_their_summed_coverage():
    result = found([BOX, BOX], [0.6, 0.6])
    assert result.boxes.tolist() == [BOX]
    assert result.scores == pytest.approx([1.2])
    assert result.boxes.dtype == result.scores.dtype == np.float32


def test_a_chain_is_one_cluster_when_every_link_is_within_eps_inclusive():
    # Moved by 1/9 of the width the IoU is (8/9) / (10/9) = 0.8; the ends of the chain do not touch by eps.
    width = 90.0
    chain = [[i * 10.0, 0.0, i * 10.0 + width, 50.0] for i in range(5)]
    result = found(chain, [1.0] * 5, dbscan_eps=0.2)
    assert result.boxes == pytest.approx(np.array([[20, 0, 110, 50]]))
    assert result.scores == pytest.approx([5])
    assert len(found(chain, [1.0] * 5, dbscan_eps=0.199)) == 5


@pytest.mark.parametrize("left_first", [True, False])
def test_a_cell_between_two_clusters_joins_the_one_that_a_scan_meets_first_and_does_not_join_them(left_first):
    # Neighbours lie 10 px apart. The outer cells give the inner ones the weight of a core, 4.6; the middle has 3.1.
    cells = [moved(-20), moved(-10), moved(0), moved(10), moved(20)]
    boxes = np.array(cells if left_first else cells[::-1])
    labels = dbscan(boxes, np.array([3.0, 1.5, 0.1, 1.5, 3.0]), 0.2, 4.0)
    assert labels.tolist() == [0, 0, 0, 1, 1]


def test_a_box_is_the_coverage_weighted_mean_of_its_cells():
    result = found([moved(0), moved(4)], [0.9, 0.3])
    assert result.boxes == pytest.approx(np.array([moved(1)]))


def test_mean_coverage_is_weighted_by_itself_and_exists_for_any_cluster():
    assert found([BOX, BOX], [0.9, 0.3], confidence="mean_cov").scores == pytest.approx([(0.81 + 0.09) / 1.2])
    assert found([BOX, BOX], [0.6, 0.6], confidence="mean_cov").scores == pytest.approx([0.6])  # TAO: NaN


def test_detections_come_in_order_of_confidence_and_are_kept_from_their_threshold_on():
    boxes = [BOX, moved(300), moved(300), moved(600), moved(600), moved(600)]
    coverage = [1.0, 0.75, 0.75, 1.0, 1.0, 0.5]
    assert found(boxes, coverage).scores.tolist() == [2.5, 1.5, 1.0]
    assert found(boxes, coverage, dbscan_confidence_threshold=1.5).scores.tolist() == [2.5, 1.5]
    assert found(boxes, coverage, nms_confidence_threshold=1.0).scores.tolist() == [2.5, 1.5, 1.0]  # not NMS's


def test_cells_are_candidates_above_the_coverage_threshold():
    assert found([BOX, BOX], [1.0, 0.25], coverage_threshold=0.25).scores.tolist() == [1.0]
    assert found([BOX, BOX], [1.0, 0.25], coverage_threshold=0.2).scores.tolist() == [1.25]


@pytest.mark.parametrize("algorithm", ["dbscan", "nms", "hybrid"])
def test_low_boxes_are_dropped(algorithm):
    low, enough = [10.0, 10, 40, 13.5], [110.0, 10, 140, 14]
    assert found([low, enough], [1.0, 1.0], algorithm=algorithm).boxes.tolist() == [enough]


@pytest.mark.parametrize("algorithm", ["dbscan", "nms", "hybrid"])
def test_no_candidate_is_no_detection(algorithm):
    result = found(np.zeros((0, 4)), [], algorithm=algorithm)
    assert result.boxes.shape == (0, 4) and result.scores.shape == (0,)
    assert len(found([BOX], [0.001], algorithm=algorithm)) == 0
    assert len(found([[200.0, 50, 100, 150], [100.0, 50, 100, 150]], [1.0, 1.0], algorithm=algorithm)) == 0  # no area


def test_nms_keeps_each_box_with_its_own_confidence():
    # The pairs (0, 1) and (2, 3) overlap; TAO reports .6 and 0 for boxes 1 and 2.
    boxes = [moved(0), moved(10), moved(300), moved(310)]
    result = found(boxes, [0.5, 0.9, 0.6, 0.3], algorithm="nms")
    assert result.boxes.tolist() == [boxes[1], boxes[2]]
    assert result.scores == pytest.approx([0.9, 0.6])
    assert len(found(boxes, [0.5, 0.9, 0.6, 0.3], algorithm="nms", nms_confidence_threshold=0.7)) == 1


def test_nms_measures_the_overlap_in_floats():
    # Two small boxes with an IoU of exactly 1/3, which pixels counted in whole numbers would make 9/15.
    boxes = [[0.0, 0, 4, 4], [2.0, 0, 6, 4]]
    assert len(found(boxes, [0.9, 0.8], algorithm="nms", nms_iou_threshold=1 / 3 + 1e-6)) == 2
    assert len(found(boxes, [0.9, 0.8], algorithm="nms", nms_iou_threshold=1 / 3 - 1e-6)) == 1


def test_hybrid_takes_the_best_cell_of_each_cluster_and_none_of_the_noise():
    boxes = [moved(0), moved(4), moved(300), moved(600), moved(600)]
    result = found(boxes, [0.7, 0.8, 0.9, 0.5, 0.6], algorithm="hybrid", dbscan_confidence_threshold=1.2)
    assert result.boxes.tolist() == [moved(4)]  # the third is noise, the last two sum up to 1.1 only
    assert result.scores == pytest.approx([0.8])


def test_every_class_of_every_picture_is_clustered_for_itself():
    boxes = np.array([[[BOX, BOX], [moved(300), moved(300)]], [[BOX, moved(300)], [BOX, BOX]]], np.float32)
    coverage = np.array([[[0.6, 0.6], [0.5, 0.5]], [[0.9, 0.9], [0.1, 0.2]]], np.float32)
    config = ClusteringConfig(per_class={"mask": {"dbscan_confidence_threshold": 1.1}})
    result = batch_detections(boxes, coverage, ["face", "mask"], config)
    assert [[len(part) for part in picture] for picture in result] == [[1, 0], [0, 0]]
    only = detections(boxes[0], coverage[0], ["face", "mask"], ClusteringConfig())
    assert [part.boxes.tolist() for part in only] == [[BOX], [moved(300)]]


def test_a_class_s_own_thresholds_stand_over_the_common_ones():
    config = ClusteringConfig(dbscan_eps=0.25, per_class={"face": {"dbscan_eps": 0.5}})
    face, mask = each_class(config, ["face", "mask"])
    assert (face.dbscan_eps, mask.dbscan_eps) == (0.5, 0.25)


@pytest.mark.parametrize(
    ("per_class", "message"),
    [
        ({"Face": {"dbscan_eps": 0.2}}, "clustering.per_class.Face: not a target class; did you mean face"),
        (
            {"face": {"dbscan_epsilon": 0.2}},
            "clustering.per_class.face.dbscan_epsilon: a class has no such key; did you mean dbscan_eps",
        ),
        ({"face": {"dbscan_eps": 1.2}}, r"clustering.per_class.face.dbscan_eps=1.2 is not accepted \[0 to 1\]"),
        ({"face": {"minimum_bounding_box_height": -1.0}}, r"height=-1.0 is not accepted \[at least 0\]"),
        ({"face": {"dbscan_eps": float("nan")}}, "dbscan_eps=nan is not accepted"),
    ],
)
def test_a_class_s_thresholds_are_checked(per_class, message):
    with pytest.raises(ConfigError, match=message):
        each_class(ClusteringConfig(per_class=per_class), ["face", "mask"])


@pytest.mark.parametrize(("box", "coverage"), [(BOX, np.nan), ([0, 0, np.nan, 9], 0.9), ([-np.inf, 0, 9, 9], 0.9)])
def test_outputs_that_are_not_finite_are_an_error_and_not_an_empty_picture(box, coverage):
    with pytest.raises(FacetrainError, match="outputs are not finite"):
        found([BOX, box], [0.9, coverage])
