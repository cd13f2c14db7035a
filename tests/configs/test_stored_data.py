"""Which sources `evaluate` reads: the spec's own, else the model file's, and of these what the split needs."""

from dataclasses import replace

import pytest

from facetrain.configs.compose import to_plain
from facetrain.configs.facenet import schema as facenet
from facetrain.configs.fpenet import schema as fpenet
from facetrain.configs.schema import SplitConfig
from facetrain.configs.stored_data import evaluated_data
from facetrain.errors import ConfigError


@pytest.mark.parametrize("schema", [fpenet, facenet])
def test_only_the_sources_of_the_split_are_kept(schema):
    a, b, c = (schema.SourceConfig(path=name) for name in "abc")
    data = schema.DataConfig(train=[a], val=[b], test=[c])
    assert evaluated_data(data, "test", {}) == schema.DataConfig(test=[c])
    assert evaluated_data(data, "val", {}) == schema.DataConfig(val=[b])
    held_out = schema.DataConfig(train=[a], test=[c])
    assert evaluated_data(held_out, "val", {}) == held_out  # the split, and its duplicates, need both
    assert evaluated_data(schema.DataConfig(train=[a]), "test", {}) == schema.DataConfig(test=[a])


@pytest.mark.parametrize("schema", [fpenet, facenet])
def test_the_model_s_own_data_are_the_same_again_from_their_plain_values(schema):
    sources = [schema.SourceConfig(path="a", weight=0.5), schema.SourceConfig(path="b")]
    stored = schema.DataConfig(root="there", train=sources, split=SplitConfig(fraction=0.3), workers=0)
    plain = {**to_plain(stored), "key_of_another_version": 1}
    assert evaluated_data(schema.DataConfig(), "val", plain) == stored
    assert evaluated_data(schema.DataConfig(root="here"), "val", plain) == replace(stored, root="here")


def test_ignore_filters_and_classes_of_a_detector_come_with_its_data():
    stored = facenet.DataConfig(
        test=[facenet.SourceConfig()],
        class_mapping={"person": "face", "mask": "mask"},
        ignore=facenet.IgnoreConfig(min_height=8.0, crop=[0.0, 0.0, 100.0, 100.0]),
    )
    assert evaluated_data(facenet.DataConfig(), "test", to_plain(stored)) == stored
    given = facenet.DataConfig(ignore=facenet.IgnoreConfig(min_height=20.0))
    expected = replace(stored, ignore=replace(stored.ignore, min_height=20.0))
    assert evaluated_data(given, "test", to_plain(stored)) == expected


def test_a_split_without_sources_is_refused_by_its_key():
    for split in ("test", "val", "train"):
        with pytest.raises(ConfigError, match=rf"data\.{split} names no source"):
            evaluated_data(fpenet.DataConfig(), split, {})
    source = fpenet.SourceConfig()
    with pytest.raises(ConfigError, match="take split=val"):
        evaluated_data(fpenet.DataConfig(train=[source], val=[source]), "test", {})
    with pytest.raises(ConfigError, match=r"data\.train names no source"):
        evaluated_data(fpenet.DataConfig(test=[source]), "train", {})
