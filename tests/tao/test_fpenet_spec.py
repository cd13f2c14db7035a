"""FPENet's specs: what every value comes to, what is said of the others, and what is refused where."""

import pytest
import yaml

from facetrain.configs.compose import load_content
from facetrain.configs.fpenet.schema import FpenetTrainSpec
from facetrain.errors import ConfigError
from facetrain.tao.account import FIXED, INVERTED, NONE
from facetrain.tao.fpenet_rules import conversion_rules, training_rules
from facetrain.tao.fpenet_spec import convert_fpenet
from facetrain.tests.tao.specs import FPENET_CONVERT, FPENET_DEFAULT, FPENET_TEN

RECORDS = {"format": "fpenet_tfrecords"}
COMMON = {
    "train.checkpoint_every": 1, "train.val_every": 1, "seed": 35, "track.tensorboard": True, "track.pictures": 3,
    "model.input_size": 80,
    "augment.resize_scale": 1.6, "augment.gamma_max": 1.6, "augment.gamma_min": 0.6, "augment.gamma_prob": 0.1,
    "augment.gamma_type": "uniform", "augment.rotate_rad_max": 0.35, "augment.translate_max_x": 10,
    "augment.translate_max_y": 10, "augment.zoom_max": 1.2, "augment.zoom_min": 0.8, "augment.patch_prob": 0.5,
    "augment.size_to_image_ratio": 0.5, "augment.mask_augmentation_patch": True,
    # Ours alone, or never applied there:
    "augment.contrast_scale_max": 0.0, "augment.brightness_scale_max": 0.0, "augment.blur_prob": 0.0,
    "augment.shift_prob": 0.0, "augment.noise_prob": 0.0,
    "loss.kpts_coeff": 0.01, "loss.mask_occluded": True, "loss.elt.weight": 0.5, "loss.elt.mode": "labels",
    "loss.elt.rotate_rad_max": 0.35, "loss.elt.translate_max": 10, "loss.elt.zoom_max": 1.2,
    "loss.elt.zoom_min": 0.8, "loss.regularizer": "l2", "loss.regularizer_weight": 1e-5, "loss.heatmap_weight": 0.0,
    "train.annealing": 0.5, "train.soft_start": 0.3, "train.optimizer": "adam", "train.schedule": "exponential",
    "train.clip_norm": 0.0, "train.ema": 0.0,
}  # fmt: skip
TEN = COMMON | {
    "results_dir": "/runs/exp1",
    "data.train": [RECORDS | {"path": "/data/tfrecords/afw_10/FpeTfRecords/data.tfrecords", "name": "afw_10"}],
    "data.split.fraction": 0.1,
    "augment.resize_prob": 0.7, "augment.hflip_prob": 0.0, "train.batch_size": 32, "train.epochs": 50,
    "model.num_keypoints": 10, "model.variant": "public", "model.beta": 0.1,
    "train.pretrained": "/models/fpenet/model/imported.safetensors", "loss.type": "square_euclidean",
    "train.learning_rate": 0.002, "train.min_learning_rate": 1e-4,
}  # fmt: skip
DEFAULT = COMMON | {
    "results_dir": "/runs/fpenet",
    "data.train": [
        RECORDS | {"path": "/data/tfrecords/set_a/FpeTfRecords/data.tfrecords", "name": "set_a"},
        RECORDS | {"path": "/data/tfrecords/set_b/FpeTfRecords/data.tfrecords", "name": "set_b",
                   "mask_occluded": False},
    ],
    "data.val": [RECORDS | {"path": "/data/tfrecords/set_c/FpeTfRecords/data.tfrecords", "name": "set_c"}],
    "data.test": [RECORDS | {"path": "/data/tfrecords/set_d/FpeTfRecords/data.tfrecords", "name": "set_d"}],
    "augment.resize_prob": 0.5, "augment.hflip_prob": 0.25, "train.batch_size": 64, "train.epochs": 40,
    "model.num_keypoints": 80, "model.variant": "base", "model.beta": 0.01, "model.upsampling": "deconv",
    "loss.type": "wing_loss", "loss.region_weights": {"face": 0.3, "eyes": 0.4, "mouth": 0.3},
    "train.learning_rate": 0.0005, "train.min_learning_rate": 1e-7,
}  # fmt: skip


def convert(text: str, compat: str = "facetrain"):
    return convert_fpenet(text, "spec.yaml", compat)


def error(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        convert(text)
    message = str(caught.value)
    assert "\n" not in message
    return message


def replaced(old: str, new: str, text: str = FPENET_TEN) -> str:
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(("text", "expected"), [(FPENET_TEN, TEN), (FPENET_DEFAULT, DEFAULT)])
def test_every_value_survives(text, expected):
    assert convert(text).values == expected


@pytest.mark.parametrize("text", [FPENET_TEN, FPENET_DEFAULT])
def test_every_line_of_the_spec_has_an_answer(text):
    conversion = convert(text)
    given = sum(not isinstance(value, dict) for value in flat(yaml.safe_load(text)))
    keys = {(entry.given.key, entry.given.line) for entry in conversion.entries if entry.given}
    assert len(keys) == given
    assert all(entry.note for entry in conversion.entries if entry.kind in (NONE, FIXED, INVERTED))
    lines = text.splitlines()
    assert all(key.rsplit(".", 1)[-1] in lines[line - 1] for key, line in keys)


def flat(tree: dict):
    for value in tree.values():
        yield from flat(value) if isinstance(value, dict) else [value]


def test_probabilities_of_leaving_out_are_inverted():
    text = replaced("patch_probability: 0.5", "patch_probability: 0.9")
    kinds = {entry.key: (entry.kind, entry.value) for entry in convert(text).entries}
    assert kinds["augment.patch_prob"] == (INVERTED, 0.1)
    assert kinds["augment.resize_prob"] == (INVERTED, 0.7)
    assert kinds["augment.gamma_prob"] == ("renamed", 0.1)  # which has the right sense there


def test_switches_beat_probabilities():
    off = convert(replaced("enable_occlusion_augmentation: true", "enable_occlusion_augmentation: false")).values
    assert off["augment.patch_prob"] == 0 and off["augment.resize_prob"] == 0.7
    off = convert(replaced("enable_online_augmentation: true", "enable_online_augmentation: false")).values
    assert off["augment.resize_prob"] == off["augment.gamma_prob"] == off["augment.rotate_rad_max"] == 0
    assert (off["augment.zoom_min"], off["augment.zoom_max"]) == (1, 1)
    spec = load_content(FpenetTrainSpec, {"augment": {k[8:]: v for k, v in off.items() if k.startswith("augment.")}})
    assert spec.augment.hflip_prob == 0


def test_changes_that_tao_accepts_and_never_makes_are_made():
    extra = "    blur_augmentation: {kernel_sizes: [3, 5], blur_probability: 0.2, channels: 1}\n"
    extra += "    random_shift_bbx_augmentation: {shift_percent_max: 0.1, shift_probability: 0.3}\n"
    extra += "    modulus_color_augmentation: {hue_rotation_max: 5, contrast_scale_max: 0.1, contrast_center: 127.5}\n"
    text = replaced("    patch_probability: 0.5\n", "    patch_probability: 0.5\n" + extra)
    found = convert(text).values
    assert found["augment.blur_kernel_sizes"] == [3, 5] and found["augment.blur_prob"] == 0.2
    assert found["augment.shift_prob"] == 0.3 and found["augment.contrast_scale_max"] == 0.1
    kept = convert(text, "tao").values
    assert kept["augment.blur_prob"] == kept["augment.shift_prob"] == kept["augment.contrast_scale_max"] == 0


def test_sets_that_are_trained_on_do_not_validate():
    conversion = convert(FPENET_TEN)
    notes = {entry.given.key: entry.note for entry in conversion.entries if entry.given}
    assert "held out" in notes["dataloader.dataset_info.tfrecords_set_id_val"]
    assert "split=train" in notes["dataloader.kpiset_info.tfrecords_set_id_kpi"]
    both = convert(replaced("tfrecords_set_id_val: afw_10", "tfrecords_set_id_val: afw_10 other")).values
    assert [source["name"] for source in both["data.val"]] == ["other"]
    assert "data.split.fraction" not in both
    kept = convert(FPENET_TEN, "tao").values
    assert kept["data.val"] == kept["data.test"] == kept["data.train"] == TEN["data.train"]
    assert kept["data.drop_duplicates"] is False


def test_a_set_that_is_named_twice_weighs_double():
    text = replaced("tfrecords_set_id_train: afw_10", "tfrecords_set_id_train: a b\n      a")
    assert [(s["name"], s.get("weight", 1)) for s in convert(text).values["data.train"]] == [("a", 2.0), ("b", 1)]
    assert [source["name"] for source in convert(text, "tao").values["data.train"]] == ["a", "b", "a"]


def test_no_occlusion_masking_sets():
    empty = replaced("no_occlusion_masking_sets: none", "no_occlusion_masking_sets: ''")
    assert "mask_occluded" not in convert(empty).values["data.train"][0]
    assert convert(empty, "tao").values["data.train"][0]["mask_occluded"] is False  # TAO's switches masking off


def test_compat_keeps_the_quirks():
    found = convert(FPENET_TEN, "tao").values
    assert found["loss.elt.mode"] == "off"
    assert "loss.regularizer" not in found
    spec = load_content(FpenetTrainSpec, {"compat": "tao", "loss": {"kpts_coeff": found["loss.kpts_coeff"]}})
    assert (spec.loss.reduction, spec.loss.regularizer, spec.crop.enlarge) == ("tao", "none", 1.0)


def test_dataset_convert_spec_names_the_labels_themselves():
    conversion = convert(FPENET_CONVERT)
    assert conversion.values == {
        "data.train": [
            {"format": "fpenet_json", "path": f"/fpenet/data/{name}", "name": name, "image_root": "/pictures"}
            for name in ("afw_10", "other")
        ],
        "model.num_keypoints": 10,
        "crop.enlarge": 1.0,
    }
    lost = {entry.given.key for entry in conversion.entries if entry.kind == NONE}
    assert lost == {"save_path", "save_root_path", "tfrecord_folder", "tfrecord_name"}
    load_content(FpenetTrainSpec, conversion.nested())


def test_a_part_of_a_spec_will_do():
    part = "model:\n  __class_name__: FpeNetBaseModel\n  model_parameters: {type: FpeNet_release, beta: 0.1}\n"
    assert convert(part).values == {"model.variant": "release", "model.beta": 0.1}


@pytest.mark.parametrize("compat", ["facetrain", "tao"])
def test_every_key_of_a_rule_is_one_of_the_spec(compat):
    from facetrain.configs.compose import _all_keys

    keys = set(_all_keys(FpenetTrainSpec))
    rules = training_rules(tao=compat == "tao") | conversion_rules()
    assert {key for rule in rules.values() for key in rule.keys} <= keys


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("patch_probability: 0.5", "patch_probabilty: 0.5", "did you mean dataloader.augmentation_info.patch_prob"),
        ("patch_probability: 0.5", "patch_probability: 1.5", "0 to 1"),
        ("patch_probability: 0.5", "patch_probability: often", "0 to 1"),
        ("hflip_probability: 0.0\n", "hflip_probability: 0.2\n", "10 points cannot be mirrored"),
        ("type: FpeNet_public", "type: FpeNet_big", "FpeNet_release"),
        ("beta: 0.1", "beta: 0", "above 0"),
        ("regularizer_type: l2", "regularizer_type: null", "l1 | l2"),
        ("weights_dict: null", "weights_dict: {face: 0.5, eyes: 0.4, mouth: 0.3}", "1.2"),
        ("weights_dict: null", "weights_dict: {face: 0.5, pupil: 0.5}", "face | eyes | mouth"),
        ("loss_type: square_euclidean", "loss_type: l3", "wing_loss"),
        ("soft_start: 0.3", "soft_start: 0.8", "annealing=0.5"),
        ("channel: 1", "channel: 3", "[1]"),
        ("height: 80", "height: 84", "multiple of 16"),
        ("width: 80", "width: 96", "height=80"),
        ("num_epoch: 50", "num_epoch: 0", "at least 1"),
        ("num_epoch: 50", "num_epoch: many", "at least 1"),
        ("num_epoch: 50", "num_epoch: [", "not YAML"),
        ("num_epoch: 50", "num_epoch: 50\nnum_epoch: 60", "twice"),
        ("\nnum_keypoints: 10", "\nnum_keypoints: 68", "dataloader.num_keypoints=10"),
        ("__class_name__: AdamOptimizer", "__class_name__: SgdOptimizer", "AdamOptimizer"),
        ("beta1: 0.9", "beta1: 0.5", "0.9"),
        ("tfrecords_set_id_train: afw_10", "tfrecords_set_id_train: [afw_10]", "text"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(old, new, what):
    text = replaced(old, new)
    message = error(text)
    assert what in message
    line = int(message.split(":")[1])
    assert new.split(":")[0].split()[-1] in text.splitlines()[line - 1] or "not YAML" in message or "line" in message
