"""Specs: what beats what, what is refused and how the message helps."""

from pathlib import Path

import pytest
import yaml

from facetrain.configs import schema as shared
from facetrain.configs.compose import commented, grid, group_home, load_spec, to_plain, words
from facetrain.configs.facenet.schema import FacenetTrainSpec
from facetrain.configs.fpenet import schema as fpenet
from facetrain.configs.fpenet.schema import FpenetEvaluateSpec, FpenetInferSpec, FpenetTrainSpec
from facetrain.configs.spec_yaml import SpecLoader
from facetrain.errors import ConfigError

SPECS = [FpenetTrainSpec, FpenetEvaluateSpec, FpenetInferSpec]
GROUP_FILES = sorted(group_home(FpenetTrainSpec).glob("*/*.yaml"))


def error(overrides: list[str], spec_file: str | None = None, kind: type = FpenetTrainSpec) -> str:
    with pytest.raises(ConfigError) as caught:
        load_spec(kind, overrides, spec_file)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def spec(tmp_path: Path):
    """Writes a spec file."""

    def write(text: str) -> str:
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("kind", SPECS)
def test_no_arguments_are_the_defaults(kind):
    assert load_spec(kind, []) == kind()


@pytest.mark.parametrize("path", GROUP_FILES, ids=lambda p: f"{p.parent.name}={p.stem}")
def test_every_group_file_fits_the_schema(path):
    load_spec(FpenetTrainSpec, [f"{path.parent.name}={path.stem}"])


@pytest.mark.parametrize("path", [p for p in GROUP_FILES if p.parent.name == "data"], ids=lambda p: p.stem)
def test_every_data_group_serves_evaluate_too(path):
    train, evaluate = (load_spec(kind, [f"data={path.stem}"]) for kind in (FpenetTrainSpec, FpenetEvaluateSpec))
    assert evaluate.data == train.data
    assert evaluate.model == "zoo"


def test_a_group_that_the_verb_has_no_use_for():
    assert "augment=light: unknown key 'augment'" in error(["augment=light"], kind=FpenetEvaluateSpec)


def test_300w_group():
    spec = load_spec(FpenetTrainSpec, ["data=pts_300w", "data.root=/faces"])
    assert [s.path for s in spec.data.train] == ["helen/train", "lfpw/train"]
    assert [s.path for s in spec.data.test] == ["helen/test", "lfpw/test"]
    assert (spec.data.root, spec.model.num_keypoints) == ("/faces", 68)


def test_overrides_beat_the_spec_file_which_beats_the_group(spec):
    file = spec("augment: {zoom_min: 0.7, zoom_max: 1.05}\ntrain: {epochs: 7}\n")
    got = load_spec(FpenetTrainSpec, ["augment=none", "augment.zoom_max=1.5", "train.batch_size=3"], file)
    assert got.augment.hflip_prob == 0.0  # the group's
    assert (got.augment.zoom_min, got.augment.zoom_max) == (0.7, 1.5)
    assert (got.train.epochs, got.train.batch_size) == (7, 3)
    assert got.train.learning_rate == FpenetTrainSpec().train.learning_rate


def test_spec_file_chooses_groups(spec):
    file = spec("defaults:\n  - data: pts_300w\n  - augment: none\nmodel: {beta: 0.5}\n")
    got = load_spec(FpenetTrainSpec, [], file)
    assert (got.model.num_keypoints, got.model.beta, got.augment.patch_prob) == (68, 0.5, 0.0)
    assert load_spec(FpenetTrainSpec, ["augment=light"], file).augment.zoom_min == 0.9  # the command line's choice


def test_lists_and_mappings(spec):
    file = spec(
        "data:\n  train:\n    - {format: pts, path: a, weight: 2}\n    - {path: b}\n"
        "loss: {region_weights: {eyes: 1, face: 0.5}}\nmodel: {source_points: [3, 1]}\n"
    )
    got = load_spec(FpenetTrainSpec, [], file)
    assert [(s.format, s.path, s.weight) for s in got.data.train] == [("pts", "a", 2.0), ("synthetic", "b", 1.0)]
    assert got.loss.region_weights == {"eyes": 1.0, "face": 0.5}
    assert got.model.source_points == [3, 1]
    assert load_spec(FpenetTrainSpec, ["loss.region_weights={mouth: 0.3}"]).loss.region_weights == {"mouth": 0.3}
    assert load_spec(FpenetTrainSpec, ["loss.region_weights.mouth=0.3"]).loss.region_weights == {"mouth": 0.3}


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "1.0e-4", "0.0001", ".0001"])
def test_numbers_as_people_write_them(spec, text):
    assert load_spec(FpenetTrainSpec, [f"train.learning_rate={text}"]).train.learning_rate == 1e-4
    assert load_spec(FpenetTrainSpec, [], spec(f"train: {{learning_rate: {text}}}")).train.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epoch=3", "unknown key 'train.epoch'; did you mean epochs? Accepted: epochs, batch_size"),
        ("trian.epochs=3", "unknown key 'trian'; did you mean train? Accepted: results_dir, seed"),
        ("epochs=3", "unknown key 'epochs'; did you mean train.epochs?"),
        ("lr=3", "unknown key 'lr'; accepted: results_dir, seed"),
        ("data.train=[{formt: pts}]", "did you mean format?"),
        ("train.epochs=abc", "train.epochs: Value 'abc'"),
        ("train.epochs=1.5", "train.epochs: Value '1.5'"),
        ("train.epochs=null", "train.epochs: Incompatible value 'None'"),
        ("train.channels_last=maybe", "train.channels_last: Value 'maybe'"),
        ("train=5", "train: "),
        ("data.train=5", "data.train: "),
        ("model.source_points=[a]", "model.source_points[0]: Value 'a'"),
        ("loss.region_weights={eyes: a}", "loss.region_weights.eyes: Value 'a'"),
        ("train.epochs=0", "train.epochs=0 is not accepted [1 to 100000]"),
        ("augment.hflip_prob=1.5", "augment.hflip_prob=1.5 is not accepted [0 to 1]"),
        ("train.learning_rate=nan", "train.learning_rate=nan is not accepted"),
        ("data.train=[{weight: -1}]", "data.train[0].weight=-1.0 is not accepted [at least 0]"),
        ("seed=-1", "seed=-1 is not accepted"),
        ("train.precision=fp8", "train.precision=fp8 is not accepted [fp32 | bf16 | fp16]"),
        ("data.train=[{format: voc}]", "data.train[0].format=voc is not accepted [pts | fpenet_json | "),
        ("train.min_learning_rate=1", "train.min_learning_rate=1.0 is above train.learning_rate=0.003"),
        ("train.soft_start=0.9", "train.soft_start=0.9 is above train.annealing=0.05"),
        ("augment.zoom_min=2", "augment.zoom_min=2.0 is above augment.zoom_max=1.2"),
        ("augment.blur_kernel_sizes=[4]", "augment.blur_kernel_sizes: 4 is not an odd number"),
        ("model.input_size=100", "model.input_size=100: four poolings need a multiple of 16"),
        ("data=nope", "data=nope: there is no such data; accepted: "),
        ("data=pts_300", "data=pts_300: there is no such data; did you mean pts_300w?"),
        ("train.epochs", "'train.epochs' is not key=value"),
        ("~seed", "'~seed': write key=value"),
        ("+lr=3", "'+lr=3': write key=value"),
        ("seed=1,2", "'seed=1,2' lists several values: -m runs each"),
        ("data=pts,synthetic", "'data=pts,synthetic' lists several values: -m runs each"),
    ],
)
def test_wrong_override(override, expected):
    assert expected in error([override])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train: {epoch: 3}", "spec.yaml: unknown key 'train.epoch'; did you mean epochs?"),
        ("epochs: 3", "spec.yaml: unknown key 'epochs'; did you mean train.epochs?"),
        ("train: {epochs: many}", "spec.yaml: train.epochs: Value 'many'"),
        ("train: {epochs: 0}", "train.epochs=0 is not accepted"),
        ("- train", "spec.yaml: a spec is a mapping of keys"),
        ("train: {epochs: 3", "spec.yaml is not YAML"),
        ("defaults: [pts_300w]", "spec.yaml: defaults is a list of `group: name`"),
        ("defaults: [{data: nope}]", "data=nope: there is no such data"),
    ],
)
def test_wrong_spec_file(spec, text, expected):
    assert expected in error([], spec(text))


def test_missing_spec_file(tmp_path):
    assert "cannot read the spec" in error([], str(tmp_path / "nowhere.yaml"))


def test_empty_spec_file(spec):
    assert load_spec(FpenetTrainSpec, [], spec("# nothing yet\n")) == FpenetTrainSpec()


@pytest.mark.parametrize("kind", SPECS)
def test_the_printed_default_spec_loads_back(spec, kind):
    text = "\n".join(commented(kind))
    assert yaml.load(text, SpecLoader) == to_plain(kind())
    assert load_spec(kind, [], spec(text)) == kind()


@pytest.mark.parametrize("overrides", [["data=pts_300w", "seed=7", "train.min_learning_rate=1e-7"], ["data=synthetic"]])
def test_a_resolved_spec_loads_back(spec, overrides):
    first = load_spec(FpenetTrainSpec, overrides)
    assert load_spec(FpenetTrainSpec, [], spec(yaml.safe_dump(to_plain(first)))) == first


def test_grid():
    assert grid(["seed=1,2", "train.learning_rate=1e-3,3e-3", "data=synthetic"]) == [
        ["seed=1", "train.learning_rate=0.001", "data=synthetic"],
        ["seed=1", "train.learning_rate=0.003", "data=synthetic"],
        ["seed=2", "train.learning_rate=0.001", "data=synthetic"],
        ["seed=2", "train.learning_rate=0.003", "data=synthetic"],
    ]
    assert [job[0] for job in grid(["seed=range(1,4)"])] == ["seed=1", "seed=2", "seed=3"]
    assert grid([]) == [[]]
    assert grid(["data=pts,pts_300w"]) == [["data=pts"], ["data=pts_300w"]]


@pytest.mark.parametrize(
    "sweep",
    ["results_dir='a b','c,d'", "data.train=[{path: a}],[{path: b}]", "loss.region_weights={eyes: 1},{all: 1}"],
)
def test_each_job_of_a_grid_is_a_spec(sweep):
    jobs = grid([sweep])
    first, second = (load_spec(FpenetTrainSpec, job) for job in jobs)
    assert first != second


def test_words_complete_groups_and_keys():
    found = words(FpenetTrainSpec)
    assert {"data=pts_300w", "augment=none", "train.epochs=", "loss.elt.mode=", "seed="} <= set(found)
    assert "train=" not in found


def test_every_key_says_what_it_means():
    for cls in [*vars(shared).values(), *vars(fpenet).values()]:
        for item in getattr(cls, "__dataclass_fields__", {}).values():
            nested = hasattr(item.default_factory, "__dataclass_fields__")
            assert nested or item.metadata["help"], f"{cls.__name__}.{item.name}"


def test_a_mapping_that_is_given_takes_the_place_of_the_default_one(spec):
    def classes(overrides: list[str], file: str | None = None) -> dict[str, str]:
        return load_spec(FacenetTrainSpec, overrides, file).data.class_mapping

    assert classes(["data.class_mapping={car: car}"]) == {"car": "car"}
    assert classes(["data.class_mapping.head=face"]) == {"face": "face", "head": "face"}
    file = spec("data: {class_mapping: {van: car}}")
    assert classes([], file) == {"van": "car"}
    assert classes(["data.class_mapping={face: face}"], file) == {"van": "car", "face": "face"}
    assert classes(["data=wider"]) == {"face": "face"}
