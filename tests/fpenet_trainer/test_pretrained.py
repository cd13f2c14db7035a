"""Starting from a model file: what is taken, what is not, and that the user is told."""

from pathlib import Path

import pytest
import torch

from facetrain.configs.fpenet.schema import ModelConfig
from facetrain.datasets.preprocessing import Preprocessing
from facetrain.errors import ConfigError, ModelFileError
from facetrain.fpenet_trainer.network import RecombinatorNet, build_model
from facetrain.fpenet_trainer.pretrained import copy_weights, start_network
from facetrain.fpenet_trainer.schemes import load_scheme
from facetrain.training.model_file import ModelMeta, save_model

TEN = [0, 8, 16, 19, 24, 33, 38, 44, 48, 54]


@pytest.fixture(autouse=True)
def _seeded(one_thread):
    torch.manual_seed(0)


def model_file(folder: Path, network: str = "fpenet", size: int = 80, **config) -> tuple[RecombinatorNet, str]:
    """A model file with random weights, and its network."""
    model = build_model(ModelConfig(**{"width": 16, "num_keypoints": 68, "beta": 0.5, **config}))
    assert model.keypoints.bias is not None
    torch.nn.init.normal_(model.keypoints.bias)
    path = folder / "source.safetensors"
    meta = ModelMeta(
        architecture=model.architecture.to_dict() | {"network": network},
        scheme=load_scheme("", model.architecture.num_keypoints).to_dict(),
        preprocessing=Preprocessing(size=size).to_dict(),
    )
    save_model(path, model.state_dict(), meta)
    return model, str(path)


def faces() -> torch.Tensor:
    return torch.rand(2, 1, 80, 80, generator=torch.Generator().manual_seed(1)) * 255


def test_without_a_file_the_network_is_fresh():
    network, scheme, lines = start_network(ModelConfig(width=16, num_keypoints=80), "")
    assert network.architecture.num_keypoints == scheme.num_keypoints == 80
    assert lines == []


def test_same_points_are_taken_whole(tmp_path):
    source, path = model_file(tmp_path)
    network, scheme, lines = start_network(ModelConfig(num_keypoints=68), path)
    assert all(torch.equal(a, b) for a, b in zip(source(faces())[:3], network(faces())[:3], strict=True))
    assert scheme == load_scheme("", 68)
    assert len(lines) == 1
    assert lines[0].startswith(f"from {path} (FpeNet_public, width 16, beta 0.5: ")
    assert f"{len(source.state_dict())} parameters whole, 0 for the kept points" in lines[0]


def test_kept_points_predict_as_in_the_source(tmp_path):
    source, path = model_file(tmp_path, visibility_head=True)
    config = ModelConfig(num_keypoints=10, source_points=TEN, visibility_head=True)
    network, scheme, lines = start_network(config, path)
    before, after = source(faces()), network(faces())
    torch.testing.assert_close(after.points, before.points[:, TEN], atol=1e-4, rtol=0)
    torch.testing.assert_close(after.visibility, before.visibility[:, TEN])
    assert scheme == load_scheme("", 68).subset(TEN)
    assert "4 for the kept points" in lines[0]
    assert len(lines) == 1


def test_without_source_points_the_head_is_fresh_and_that_is_said(tmp_path):
    source, path = model_file(tmp_path)
    network, scheme, lines = start_network(ModelConfig(num_keypoints=10), path)
    assert torch.equal(network.encoder[3][0].weight, source.encoder[3][0].weight)
    assert torch.equal(network.decoder[3][1][0].bias, source.decoder[3][1][0].bias)
    assert not network.keypoints.bias.any()
    assert scheme.num_keypoints == 10
    fresh = [line for line in lines if "not loaded" in line]
    assert len(fresh) == 2
    assert "keypoints.weight ([68, 16, 1, 1] there, [10, 16, 1, 1] here; name the points" in fresh[0]
    assert "model.source_points" in fresh[0]


def test_going_on_with_a_model_of_the_kept_points_takes_it_whole(tmp_path):
    source, path = model_file(tmp_path, num_keypoints=10)  # its labels still have 68 points
    network, scheme, lines = start_network(ModelConfig(num_keypoints=10, source_points=TEN), path)
    assert torch.equal(network.keypoints.weight, source.keypoints.weight)
    assert scheme == load_scheme("", 10)
    assert len(lines) == 1


def test_architecture_comes_with_the_weights(tmp_path):
    _, path = model_file(tmp_path, variant="base", upsampling="nearest", beta=0.25)
    network, _, _ = start_network(ModelConfig(num_keypoints=68, variant="public", width=64, beta=1.0), path)
    a = network.architecture
    assert (a.variant, a.upsampling, a.beta, a.width) == ("base", "nearest", 0.25, 16)


def test_new_and_left_over_parameters_are_listed(tmp_path):
    _, path = model_file(tmp_path)
    _, _, lines = start_network(ModelConfig(num_keypoints=68, visibility_head=True), path)
    assert lines[1:] == [
        "  not loaded: visibility.weight (not in the file)",
        "  not loaded: visibility.bias (not in the file)",
    ]
    _, path = model_file(tmp_path, visibility_head=True)
    network, _, lines = start_network(ModelConfig(num_keypoints=68), path)
    assert network.visibility is None
    assert lines[1:] == ["  not used: visibility.bias", "  not used: visibility.weight"]


def test_another_crop_size_is_noted(tmp_path):
    _, path = model_file(tmp_path, size=112)
    _, _, lines = start_network(ModelConfig(num_keypoints=68), path)
    assert lines[-1].strip() == "note: the file was trained on crops of 112 pixels, model.input_size is 80"


def test_crop_size_is_checked_with_a_file_too(tmp_path):
    _, path = model_file(tmp_path)
    with pytest.raises(ConfigError, match=r"model.input_size=100"):
        start_network(ModelConfig(num_keypoints=68, input_size=100), path)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([0, 1, 79], "79 is not a point of the pretrained model, which has 0..67"),
        ([0, 1, -1], "-1 is not a point"),
        ([0, 1, 1], "name each kept point once"),
    ],
)
def test_wrong_source_points(tmp_path, points, message):
    _, path = model_file(tmp_path)
    with pytest.raises(ConfigError, match=message):
        start_network(ModelConfig(num_keypoints=3, source_points=points), path)


def test_points_of_a_layout_larger_than_the_built_in_ones(tmp_path):
    source, path = model_file(tmp_path, num_keypoints=120)
    network, scheme, _ = start_network(ModelConfig(num_keypoints=2, source_points=[119, 3]), path)
    assert torch.equal(network.keypoints.weight, source.keypoints.weight[[119, 3]])
    assert scheme.names == ("point_119", "point_3")


def test_another_networks_file(tmp_path):
    _, path = model_file(tmp_path, network="facenet")
    with pytest.raises(ModelFileError, match="holds a facenet model, not FPENet"):
        start_network(ModelConfig(num_keypoints=68), path)


def test_copy_leaves_the_source_alone():
    source = build_model(ModelConfig(width=16, num_keypoints=10))
    target = build_model(ModelConfig(width=16, num_keypoints=10))
    weights = source.state_dict()
    copy_weights(weights, target, 10)
    with torch.no_grad():
        target.keypoints.weight.add_(1)
    assert not torch.equal(weights["keypoints.weight"], target.keypoints.weight)
