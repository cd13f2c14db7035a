"""compat=tao: what it sets, that each of its keys can be had alone, and that whatever is given goes over it."""

import pytest

from facetrain.configs.compat import TAO
from facetrain.configs.compose import load_spec, to_plain
from facetrain.configs.facenet import schema as facenet
from facetrain.configs.fpenet import schema as fpenet
from facetrain.errors import ConfigError

SCHEMAS = {
    name: kind
    for module in (fpenet, facenet)
    for name, kind in vars(module).items()
    if hasattr(kind, "__dataclass_fields__") and "compat" in kind.__dataclass_fields__
    and not name.endswith("ImportSpec") and name.endswith("Spec") and kind.__module__ == module.__name__
}  # fmt: skip
KEYS = [(name, key, value) for name, keys in TAO.items() for key, value in keys.items()]


def at(spec: object, key: str):
    place = to_plain(spec)
    for part in key.split("."):
        place = place[part]
    return place


def test_every_verb_with_the_key_has_something_to_switch():
    assert set(TAO) <= set(SCHEMAS)


@pytest.mark.parametrize(("name", "key", "value"), KEYS)
def test_each_can_be_had_alone(name, key, value):
    plain = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
    if isinstance(value, dict):
        inner, plain = next(iter(value.items()))
        assert at(load_spec(SCHEMAS[name], [f"{key}.{inner}={plain}"]), key) == value
        return
    assert at(load_spec(SCHEMAS[name], [f"{key}={plain}"]), key) == value
    assert at(load_spec(SCHEMAS[name], ["compat=tao"]), key) == value


@pytest.mark.parametrize("name", TAO)
def test_together_they_differ_from_the_defaults(name):
    kind = SCHEMAS[name]
    assert load_spec(kind, ["compat=facetrain"]) == kind()
    changed = {key for key, value in TAO[name].items() if at(kind(), key) != value}
    assert changed


def test_what_is_given_goes_over_it(tmp_path):
    kind = fpenet.FpenetTrainSpec
    assert load_spec(kind, ["compat=tao", "crop.enlarge=1.3"]).crop.enlarge == 1.3
    assert load_spec(kind, ["crop.enlarge=1.3", "compat=tao"]).crop.enlarge == 1.3
    file = tmp_path / "spec.yaml"
    file.write_text("compat: tao\nloss: {kpts_coeff: 0.5}\n")
    spec = load_spec(kind, [], str(file))
    assert (spec.loss.kpts_coeff, spec.loss.reduction) == (0.5, "tao")
    assert load_spec(kind, ["compat=facetrain"], str(file)).loss.reduction == "mean"
    group = load_spec(kind, ["compat=tao", "augment=medium"])
    assert group.augment.contrast_scale_max == load_spec(kind, ["augment=medium"]).augment.contrast_scale_max > 0
    assert group.loss.reduction == "tao"


def test_other_names_are_refused():
    with pytest.raises(ConfigError, match=r"compat=caffe.*facetrain \| tao"):
        load_spec(fpenet.FpenetTrainSpec, ["compat=caffe"])
