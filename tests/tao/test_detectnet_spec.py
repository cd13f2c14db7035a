"""DetectNet_v2's specs: what every value comes to, what is said of the others, and what is refused where."""

import pytest

from facetrain.configs.compose import load_content
from facetrain.configs.facenet.per_class import each_class
from facetrain.configs.facenet.schema import FacenetInferSpec, FacenetTrainSpec
from facetrain.errors import ConfigError
from facetrain.tao.account import FIXED, INVERTED, KINDS, NONE
from facetrain.tao.detectnet_messages import ENUMS, MESSAGES, ROOTS, fields_of
from facetrain.tao.detectnet_spec import convert_detectnet
from facetrain.tests.tao.specs import (
    FACENET,
    FACENET_CONVERT,
    FACENET_INFERENCE,
    FACENET_QAT,
    FACENET_RETRAIN,
    MODEL_CARD,
)

NOTEBOOK = {
    "seed": 42,
    "data.train": [{"format": "detectnet_tfrecords", "path": "/data/facenet/tfrecords/training/kitti_train-*",
                    "images": "/data/facenet/training"}],
    "data.val": [{"format": "detectnet_tfrecords", "path": "/data/facenet/tfrecords/validation/kitti_val-*",
                  "images": "/data/facenet/validation"}],
    "data.class_mapping": {"face": "face"},
    "input.width": 736, "input.height": 416, "input.grayscale": False, "input.resize": "letterbox",
    "augment.min_bbox_width": 1.0, "augment.min_bbox_height": 1.0,
    "augment.hflip_probability": 0.5, "augment.vflip_probability": 0.0,
    "augment.zoom_min": round(1 / 1.8, 6), "augment.zoom_max": round(1 / 0.7, 6),  # 1.8 shrank, here it enlarges
    "augment.translate_max_x": 12.0, "augment.translate_max_y": 12.0, "augment.rotate_rad_max": 0.0,
    "augment.color_shift_stddev": 0.0, "augment.hue_rotation_max": 25.0, "augment.saturation_shift_max": 0.2,
    "augment.contrast_scale_max": 0.1, "augment.contrast_center": 0.5,
    "clustering.algorithm": "dbscan", "clustering.coverage_threshold": 0.004, "clustering.dbscan_eps": 0.15,
    "clustering.dbscan_confidence_threshold": 0.9, "clustering.minimum_bounding_box_height": 4,
    "model.pretrained": "/models/facenet/model/imported.safetensors", "model.num_layers": 18,
    "model.bbox_scale": 35.0, "model.bbox_offset": 0.5, "train.precision": "fp32",
    "train.val_every": 10, "metrics.iou_threshold": 0.5, "metrics.average_precision": "voc",
    "metrics.minimum_height": 4, "metrics.maximum_height": 9999, "metrics.minimum_width": 4,
    "metrics.maximum_width": 9999, "metrics.pixels": "network",
    "loss.class_weights": {"face": 1.0}, "loss.coverage_foreground_weight": 0.05, "loss.coverage_weight": 1.0,
    "loss.bbox_weight": 10.0, "loss.autoweighting": False, "loss.max_objective_weight": 0.9999,
    "loss.min_objective_weight": 1e-4, "loss.regularizer": "l1", "loss.regularizer_weight": 3e-9,
    "loss.coverage": "bce", "loss.bbox": "l1",
    "train.batch_size": 32, "train.epochs": 100, "train.min_learning_rate": 5e-7, "train.learning_rate": 5e-5,
    "train.soft_start": 0.1, "train.annealing": 0.7, "train.checkpoint_every": 10,
    "train.optimizer": "adam", "train.schedule": "exponential", "train.clip_norm": 0.0, "train.ema": 0.0,
    "rasterizer.cov_center_x": 0.5, "rasterizer.cov_center_y": 0.5, "rasterizer.cov_radius_x": 1.0,
    "rasterizer.cov_radius_y": 1.0, "rasterizer.bbox_min_radius": 1.0, "rasterizer.deadzone_radius": 0.67,
}  # fmt: skip


def values(text: str, compat: str = "facetrain") -> dict:
    return convert_detectnet(text, "spec.txt", compat).values


def error(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        convert_detectnet(text, "spec.txt", "facetrain")
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_value_of_the_notebook_spec_survives():
    assert values(FACENET) == NOTEBOOK


def test_the_values_that_have_no_key_here_are_named_with_their_lines_and_reasons():
    conversion = convert_detectnet(FACENET, "spec.txt", "facetrain")
    lost = {entry.given.key.rsplit(".", 1)[-1]: entry for entry in conversion.entries if entry.kind == NONE}
    assert set(lost) == {
        "name", "image_extension", "dbscan_min_samples", "use_batch_norm", "cov", "arch", "load_graph",
        "first_validation_epoch", "epsilon", "beta1", "beta2", "initial_exponent", "increment", "decrement",
    }  # fmt: skip
    lines = FACENET.splitlines()
    for name, entry in lost.items():
        assert name in lines[entry.given.line - 1]
        assert entry.note


def test_what_changes_its_meaning_is_marked():
    kinds = {entry.key: entry.kind for entry in convert_detectnet(FACENET, "spec.txt", "facetrain").entries}
    assert kinds["augment.zoom_min"] == kinds["augment.zoom_max"] == INVERTED
    assert kinds["metrics.average_precision"] == kinds["augment.min_bbox_width"] == FIXED
    assert set(kinds.values()) <= set(KINDS)


def test_retraining_differs_where_the_notebook_does():
    changed = {key: value for key, value in values(FACENET_RETRAIN).items() if NOTEBOOK[key] != value}
    assert changed == {
        "model.pretrained": "/runs/pruned/model/imported.safetensors", "train.epochs": 50, "loss.regularizer": "none"
    }  # fmt: skip
    assert values(FACENET_QAT)["train.qat"] is True


def test_the_model_cards_snippet_is_a_spec_by_itself():
    assert values(MODEL_CARD) == {
        "model.pretrained": "/models/facenet/model/imported.safetensors", "model.num_layers": 18,
        "model.bbox_scale": 35.0, "model.bbox_offset": 0.5, "model.all_projections": True, "train.precision": "fp32",
    }  # fmt: skip


def test_inference_spec():
    conversion = convert_detectnet(FACENET_INFERENCE, "spec.txt", "facetrain")
    assert conversion.verb == "infer"
    assert conversion.values == {
        "model": "/runs/retrain/weights/detector/imported.safetensors", "batch_size": 16, "input_size.width": 736,
        "input_size.height": 416, "input_size.grayscale": False, "draw": True, "line_width": 2,
        "names": {"face": "person"}, "colours": {"face": [0, 255, 10]}, "clustering.confidence": "aggregate_cov",
        "clustering.algorithm": "dbscan", "clustering.coverage_threshold": 0.004, "clustering.dbscan_eps": 0.15,
        "clustering.dbscan_confidence_threshold": 0.9, "clustering.minimum_bounding_box_height": 4, "min_score": 0.0,
    }  # fmt: skip
    spec = load_content(FacenetInferSpec, conversion.nested())
    assert spec.clustering["dbscan_eps"] == 0.15 and spec.colours == {"face": [0, 255, 10]}


def test_dataset_convert_spec_names_the_labels_themselves():
    found = values(FACENET_CONVERT)
    folder = "/data/facenet/training"
    assert found["data.train"] == [{"format": "kitti", "path": f"{folder}/label_2", "images": f"{folder}/image_2"}]
    assert (found["data.split.by"], found["data.split.fraction"]) == ("fraction", 0.1)
    assert found["data.class_mapping"] == {"face": "face"}
    load_content(FacenetTrainSpec, convert_detectnet(FACENET_CONVERT, "spec.txt", "facetrain").nested())


def test_coco_config_pairs_files_with_folders():
    text = 'coco_config { root_directory_path: "/c" img_dir_names: ["a", "b"] annotation_files: "x.json" %s }'
    found = values(text % 'annotation_files: "y.json" num_partitions: 2 num_shards: [1, 1]')
    assert found["data.train"] == [
        {"format": "coco", "path": "/c/x.json", "images": "/c/a"},
        {"format": "coco", "path": "/c/y.json", "images": "/c/b"},
    ]
    assert "one folder a file" in error(text % "")


def test_a_validation_fold_holds_out_its_record_files():
    source = 'data_sources { tfrecords_path: "/t/rec-*" image_directory_path: "/i" source_weight: 2.5 }'
    text = f"dataset_config {{ {source} validation_fold: 0 }}"
    found = values(text)
    assert found["data.train"] == [{"format": "detectnet_tfrecords", "path": "/t/rec-*", "images": "/i", "weight": 2.5}]
    assert found["data.val"][0]["path"] == "/t/rec-*fold-000-of-*"
    named = values(text.replace("rec-*", "rec-fold-00*"))
    assert named["data.val"][0]["path"] == "/t/rec-fold-000-of-*"
    both = text.replace("validation_fold: 0", 'validation_data_source { tfrecords_path: "v" } validation_fold: 0')
    assert "spec.txt:1: dataset_config.validation_fold" in error(both)


def test_classes_keep_the_order_of_the_outputs():
    mapping = "".join(
        f'target_class_mapping {{ key: "{name}" value: "{target}" }}\n'
        for name, target in (("van", "car"), ("Person", "human"), ("car", "car"))
    )
    cost = 'cost_function_config { target_classes { name: "human" class_weight: 4 } target_classes { name: "car" } }'
    conversion = convert_detectnet(f"dataset_config {{ {mapping} }}\n{cost}", "spec.txt", "facetrain")
    assert list(conversion.values["data.class_mapping"].items()) == [
        ("Person", "human"), ("van", "car"), ("car", "car")
    ]  # fmt: skip
    assert conversion.values["loss.class_weights"] == {"human": 4.0}
    spec = load_content(FacenetTrainSpec, conversion.nested())
    assert spec.data.class_mapping == {"Person": "human", "van": "car", "car": "car"}
    person = next(entry for entry in conversion.entries if entry.given and "Person" in entry.given.key)
    assert person.kind == FIXED and "lower case" in person.note
    assert "spec.txt:2: dataset_config.target_class_mapping[Person]=dog" in error(
        f"dataset_config {{ {mapping.replace('human', 'dog')} }}\n{cost}"
    )
    assert "spec.txt:2" in error(f"dataset_config {{ {mapping.splitlines()[0]} }}\n{cost}")


def test_other_classes_keep_their_thresholds():
    block = 'target_class_config { key: "%s" value { clustering_config { dbscan_eps: %s coverage_threshold: 0.01 } } }'
    text = f"postprocessing_config {{ {block % ('car', 0.2)} {block % ('a.b', 0.3)} }}"
    found = values(text)
    assert found["clustering.dbscan_eps"] == 0.2
    assert found["clustering.coverage_threshold"] == 0.01  # of both
    assert found["clustering.per_class"] == {"a.b": {"dbscan_eps": 0.3}}
    text = text.replace("coverage_threshold: 0.01", "minimum_bounding_box_height: 20")
    assert load_content(FacenetTrainSpec, convert_detectnet(text, "s", "facetrain").nested()).clustering.per_class


def test_inference_of_several_classes_goes_by_the_default_entry():
    block = """classwise_bbox_handler_config { key: "%s" value { confidence_model: "aggregate_cov" bbox_color { R: %d }
        clustering_config { clustering_algorithm: DBSCAN dbscan_eps: %s } } }"""
    blocks = "".join(block % case for case in (("car", 1, 0.2), ("human", 2, 0.3), ("default", 3, 0.4)))
    conversion = convert_detectnet(f"bbox_handler_config {{ {blocks} }}", "spec.txt", "facetrain")
    assert conversion.values["clustering.dbscan_eps"] == 0.4
    assert conversion.values["clustering.per_class"] == {"car": {"dbscan_eps": 0.2}, "human": {"dbscan_eps": 0.3}}
    assert conversion.values["colours"] == {"car": [1, 0, 0], "human": [2, 0, 0]}
    spec = load_content(FacenetInferSpec, conversion.nested())
    assert spec.clustering["per_class"]["human"] == {"dbscan_eps": 0.3}
    alike = blocks.replace("0.2", "0.4").replace("0.3", "0.4")  # all go by it, though it stands last
    assert "clustering.per_class" not in values(f"bbox_handler_config {{ {alike} }}")


TWO_CLASSES = """
evaluation_config {
  minimum_detection_ground_truth_overlap { key: "car" value: 0.7 }
  minimum_detection_ground_truth_overlap { key: "human" value: 0.5 }
  evaluation_box_config { key: "human" value {
    minimum_height: 25 maximum_height: 9999 minimum_width: 10 maximum_width: 9999 } }
  evaluation_box_config { key: "car" value {
    minimum_height: 40 maximum_height: 9999 minimum_width: 20 maximum_width: 9999 } }
}
cost_function_config {
  target_classes { name: "car" class_weight: 1 coverage_foreground_weight: 0.05
    objectives { name: "cov" initial_weight: 1 } objectives { name: "bbox" initial_weight: 10 } }
  target_classes { name: "human" class_weight: 4 coverage_foreground_weight: 0.1
    objectives { name: "cov" initial_weight: 1 } objectives { name: "bbox" initial_weight: 5 weight_target: 5 } }
}
bbox_rasterizer_config {
  target_class_config { key: "car" value { cov_radius_x: 0.4 cov_radius_y: 0.4 bbox_min_radius: 1 } }
  target_class_config { key: "human" value { cov_radius_x: 1.0 cov_radius_y: 1.0 bbox_min_radius: 1 } }
  deadzone_radius: 0.4
}
"""


def test_every_class_keeps_its_overlap_limits_weights_and_shapes():
    conversion = convert_detectnet(TWO_CLASSES, "spec.txt", "facetrain")
    found = conversion.values
    assert found["metrics.iou_threshold"] == 0.7 and found["metrics.minimum_height"] == 25
    assert found["metrics.per_class"] == {
        "human": {"iou_threshold": 0.5}, "car": {"minimum_height": 40.0, "minimum_width": 20.0}
    }  # fmt: skip
    assert found["metrics.pixels"] == "network"  # what TAO's limits are in
    assert found["loss.class_weights"] == {"car": 1.0, "human": 4.0}
    assert found["loss.per_class"] == {"human": {"coverage_foreground_weight": 0.1, "bbox_weight": 5.0}}
    assert found["rasterizer.cov_radius_x"] == 0.4 and found["rasterizer.deadzone_radius"] == 0.4
    assert found["rasterizer.per_class"] == {"human": {"cov_radius_x": 1.0, "cov_radius_y": 1.0}}
    assert not [entry for entry in conversion.entries if entry.kind == NONE and "name" not in entry.given.key]
    spec = load_content(FacenetTrainSpec, conversion.nested())
    car, human = each_class(spec.metrics, ["car", "human"])
    assert (car.iou_threshold, car.minimum_height, car.minimum_width) == (0.7, 40, 20)
    assert (human.iou_threshold, human.minimum_height, human.minimum_width) == (0.5, 25, 10)


def test_what_is_not_set_is_taos_zero():
    text = 'postprocessing_config { target_class_config { key: "a" value { clustering_config { dbscan_eps: 0.2 } } } }'
    found = values(text + "evaluation_config { validation_period_during_training: 5 }")
    assert (found["clustering.coverage_threshold"], found["clustering.minimum_bounding_box_height"]) == (0, 0)
    assert found["metrics.average_precision"] == "tao_sample"
    handler = 'bbox_handler_config { classwise_bbox_handler_config { key: "a" value { clustering_config { %s } } } }'
    found = values(handler % "clustering_algorithm: NMS")
    assert (found["clustering.coverage_threshold"], found["clustering.nms_confidence_threshold"]) == (0, 0.1)
    # What the specs of older versions have, where this was no whole number.
    (entry,) = [entry for entry in convert_detectnet(handler % "dbscan_min_samples: 0.05", "s", "tao").entries
                if entry.given]  # fmt: skip
    assert entry.given.value == 0.05 and "no effect" in entry.note


def test_a_mask_by_size_is_the_opposite_limit():
    block = "objective_label_filter_configs { label_filter { bbox_dimensions_label_filter { %s } } }"
    one = f"loss_mask_label_filter {{ {block % 'max_height: 8'} {block % 'min_width: 300'} mask_multiplier: 0.1 }}"
    conversion = convert_detectnet(one, "spec.txt", "facetrain")
    assert conversion.values["data.ignore.min_height"] == 8 and conversion.values["data.ignore.max_width"] == 300
    assert [entry.kind for entry in conversion.entries if "height" in entry.key] == [INVERTED]
    both = f"loss_mask_label_filter {{ {block % 'max_height: 8 max_width: 9'} }}"
    conversion = convert_detectnet(both, "spec.txt", "facetrain")
    assert [entry.kind for entry in conversion.entries if entry.given] == [NONE, NONE]
    assert "data.ignore.min_height" not in conversion.values
    assert "spec.txt:1" in error(one.replace("8", "-8"))


def test_a_second_value_for_one_key_is_not_lost_in_silence():
    block = 'target_class_config { key: "%s" value { clustering_config { clustering_algorithm: %s } } }'
    blocks = " ".join(block % case for case in (("car", "DBSCAN"), ("human", "NMS"), ("dog", "DBSCAN")))
    text = f"postprocessing_config {{ {blocks} }}"
    conversion = convert_detectnet(text, "spec.txt", "facetrain")
    assert conversion.values["clustering.algorithm"] == "dbscan"
    notes = {entry.given.key.split("]")[0][-5:]: entry.note for entry in conversion.entries if entry.kind == NONE}
    assert list(notes) == ["human"] and "dbscan" in notes["human"]


def test_zooms_keep_the_sense_of_the_loader():
    spatial = "augmentation_config { spatial_augmentation { zoom_min: 0.5 zoom_max: 2 rotate_rad_max: 0.25 } }"
    default = "dataset_config { dataloader_mode: DEFAULT }\n" + spatial
    assert values(spatial)["augment.zoom_max"] == 2.0 and values(spatial)["augment.zoom_min"] == 0.5
    narrow = spatial.replace("zoom_max: 2", "zoom_max: 1.25")
    assert (values(narrow)["augment.zoom_min"], values(narrow)["augment.zoom_max"]) == (0.8, 2.0)
    narrow = default.replace("zoom_max: 2", "zoom_max: 1.25")
    assert (values(narrow)["augment.zoom_min"], values(narrow)["augment.zoom_max"]) == (0.5, 1.25)
    assert values(spatial)["augment.rotate_rad_max"] == 0.25


def test_compat_keeps_the_quirks():
    found = values(FACENET, "tao")
    assert found["metrics.average_precision"] == "tao_integrate" and found["metrics.outside"] == "drop"
    assert found["input.resize"] == "pad_crop"
    assert "clustering.dbscan_confidence_threshold" not in found  # 0.9 goes where TAO puts it
    assert found["clustering.nms_confidence_threshold"] == 0.9
    assert values(FACENET_CONVERT, "tao")["data.split.by"] == "head"
    rotated = "augmentation_config { spatial_augmentation { rotate_rad_max: 90 } }"
    assert values(rotated, "tao")["augment.rotate_rad_max"] == pytest.approx(1.5708, abs=1e-4)  # which were degrees
    assert values(FACENET_INFERENCE, "tao")["input_size.resize"] == "stretch"


def test_text_format_as_protobuf_has_it():
    text = """
# comments, ; and , between fields, <> for {}, lists, words beside each other
model_config < num_layers: 0xA, use_pooling: True; freeze_blocks: [0, 1] freeze_blocks: 2 arch: 'res' "net"
  objective_set: { bbox: < scale: 16 offset: 5e-1 > } >
training_config { regularizer { type: 2 weight: 1e-5 } }  # a number for a word
"""
    assert values(text) == {
        "model.num_layers": 10, "model.use_pooling": True, "model.freeze_blocks": [0, 1, 2], "model.bbox_scale": 16.0,
        "model.bbox_offset": 0.5, "model.all_projections": False, "loss.regularizer": "l2",
        "loss.regularizer_weight": 1e-5, "train.optimizer": "adam", "train.schedule": "exponential",
        "train.clip_norm": 0.0, "train.ema": 0.0,
    }  # fmt: skip


def test_what_is_given_again_counts_as_in_tao():
    text = """
training_config { num_epochs: 10
  num_epochs: 20 batch_size_per_gpu: 4 }
dataset_config { target_class_mapping { key: "a" value: "b" } target_class_mapping { key: "a" value: "c" } }
cost_function_config { target_classes { name: "c" class_weight: 2 } }
training_config { num_epochs: 30 }
cost_function_config { target_classes { name: "d" class_weight: 3 } }
dataset_config { target_class_mapping { key: "d" value: "d" } }
"""
    conversion = convert_detectnet(text, "spec.txt", "facetrain")
    found = conversion.values
    assert (found["train.epochs"], found["train.batch_size"]) == (30, 4)
    assert found["data.class_mapping"] == {"a": "c", "d": "d"}
    assert found["loss.class_weights"] == {"c": 2, "d": 3}
    lost = {(entry.given.key, entry.given.value, entry.given.line): entry.note
            for entry in conversion.entries if "again" in entry.note}  # fmt: skip
    assert lost == {
        ("training_config.num_epochs", 10, 2): "given again in line 6; that one counts, in TAO too",
        ("training_config.num_epochs", 20, 3): "given again in line 6; that one counts, in TAO too",
        ("dataset_config.target_class_mapping[a]", "b", 4): "given again in line 4; that one counts, in TAO too",
    }


def test_the_early_stopping_schedule_becomes_shares_of_the_run():
    schedule = "soft_start_epochs: 10 annealing_epochs: 20 patience_steps: 4 min_learning_rate: 1e-6"
    found = values(
        "training_config { num_epochs: 100 learning_rate { early_stopping_annealing_schedule { "
        f"{schedule} max_learning_rate: 1e-3 }} }} }}"
    )
    assert (found["train.soft_start"], found["train.annealing"], found["train.early_stopping"]) == (0.1, 0.8, 4)
    assert (found["train.min_learning_rate"], found["train.learning_rate"]) == (1e-6, 1e-3)


def test_a_key_for_wandb_is_not_written_anywhere():
    text = 'training_config { visualizer { enabled: true wandb_config { enabled: true key: "s3cret" project: "p" } } }'
    conversion = convert_detectnet(text, "spec.txt", "facetrain")
    assert conversion.values["track.project"] == "p" and conversion.values["track.wandb"] is True
    assert "s3cret" not in conversion.yaml() + conversion.table() + "\n".join(conversion.summary())


SCHEDULE = "training_config { learning_rate { soft_start_annealing_schedule {\n %s } } }"
CLUSTERS = 'postprocessing_config { target_class_config { key: "a"\n value { clustering_config {\n %s } } } }'


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("model_config {\n  num_layerz: 18\n}", "2", "did you mean num_layers?"),
        ("model_config {\n  num_layers: 50\n}", "2: model_config.num_layers=50", "[0 | 10 | 18 | 34]"),
        ('model_config {\n  arch: "vgg"\n}', "2: model_config.arch=vgg", "resnet"),
        ("model_config {\n  num_layers: ten\n}", "2", "integer"),
        ("model_config {\n  freeze_blocks: 5\n}", "2", "[0 to 4]"),
        ("model_config {\n", "1", "Expected"),
        ('model_config {\n  arch: "x\n}', "2", "quote"),
        ("augmentation_config { preprocessing {\n output_image_width: 730 } }", "2", "multiple of 16"),
        ("augmentation_config { preprocessing {\n output_image_channel: 2 } }", "2", "[1 | 3]"),
        ("augmentation_config { spatial_augmentation {\n hflip_probability: 1.5 } }", "2", "0 to 1"),
        ("bbox_rasterizer_config { deadzone_radius: 1.2 }", "1", "0 to 1"),
        ('bbox_rasterizer_config { target_class_config { key: "a" value { cov_radius_x: 2 } } }', "1", "to 1"),
        ('cost_function_config { target_classes { name: "a"\n coverage_foreground_weight: 1 } }', "2", "below 1"),
        ('cost_function_config { target_classes { name: "a" objectives { name: "depth" } } }', "1", "cov | bbox"),
        ("training_config { regularizer {\n type: L3 } }", "2", "L3"),
        ("training_config { cost_scaling {\n increment: 0 } }", "2", "above 0"),
        ("evaluation_config { first_validation_epoch: 0 }", "1", "at least 1"),
        ("training_config { learning_rate { soft_start_annealing_schedule {\n min_learning_rate: 0 } } }", "2",
         "above 0"),
        ("training_config { learning_rate { soft_start_annealing_schedule {\n soft_start: 1 } } }", "2", "below"),
        (SCHEDULE % "soft_start: 0.5\n annealing: 0.2", "2", "line 3"),
        (CLUSTERS % "dbscan_min_samples: 2", "3", "0 to 1"),
        ("model_config {\n num_layers: [18, 18]\n}", "2", "integer"),
        ("training_config { optimizer { adam { beta1: 0.5 } } }", "1", "0.9"),
        ('kitti_config { partition_mode: "odd" }', "1", "random | sequence"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(text, where, what):
    message = error(text)
    assert message.startswith(f"spec.txt:{where}")
    assert what in message


GOOD = {
    "output_image_width": "736", "output_image_height": "416", "output_image_channel": "3", "num_layers": "18",
    "arch": '"resnet"', "beta1": "0.9", "beta2": "0.999", "epsilon": "1e-8", "input": '""', "image_width": "736",
    "image_height": "416", "image_channels": "3", "partition_mode": '"random"', "use_batch_norm": "true",
    "confidence_model": '"mean_cov"', "max_learning_rate": "0.9", "backend_floatx": "FLOAT16", "freeze_blocks": "2",
    "num_epochs": "100",
}  # fmt: skip
ONE_OF = {"validation_data_source", "coco_config", "early_stopping_annealing_schedule"}  # the others exclude these


def everything(message: str, left_out: set[str]) -> str:
    """A text with every field of a message."""
    parts = []
    for name, kind in fields_of(message).items():
        kind = kind.removesuffix("*")
        if name in left_out:
            continue
        if kind in MESSAGES:
            parts.append(f"{name} {{ {everything(kind, left_out)} }}")
        elif name == "name" and message == "Objective":
            parts.append('name: "cov"')
        else:
            scalar = {"string": '"face"', "float": "0.5", "bool": "true"}.get(kind, "1")
            parts.append(f"{name}: {GOOD.get(name, ENUMS[kind].split()[0] if kind in ENUMS else scalar)}")
    return "\n".join(parts)


@pytest.mark.parametrize("compat", ["facetrain", "tao"])
@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("left_out", [ONE_OF, {"validation_fold", "kitti_config", "soft_start_annealing_schedule"}])
def test_no_field_of_taos_is_without_an_answer(root, left_out, compat):
    text = everything(root, left_out)
    conversion = convert_detectnet(text, "spec.txt", compat)
    answered = {entry.given.line for entry in conversion.entries if entry.given}
    scalars = {number for number, line in enumerate(text.splitlines(), start=1) if ":" in line and "{" not in line}
    keys = {n for n in scalars if text.splitlines()[n - 1].startswith(("key:", "value:"))}
    assert scalars - answered <= keys
