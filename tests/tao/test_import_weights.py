"""Weights of TAO's compute here what they did in Keras: every network, whole models and weight files."""

import csv
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facetrain.facenet_trainer.pretrained import load_network as load_facenet
from facetrain.fpenet_trainer.predictor import load_network as load_fpenet
from facetrain.tests.runs import facenet, fpenet

keras_models = pytest.importorskip("facetrain.tests.tao.keras_models", reason="needs keras and h5py")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras' own use of numpy

VARIANTS = {  # kernel, neck, nearest
    "public": (3, False, False),
    "release": (3, True, True),
    "base": (3, True, False),
    "base_5x5_conv": (5, False, False),
    "base_5x5_conv-nearest": (5, False, True),
}
HOW = {"whole": (True, ":0"), "whole-keras3": (True, ""), "weights": (False, ":0"), "weights-keras3": (False, "")}


def narrow(seed: int) -> Callable[..., int]:
    """Channel counts as pruning leaves them: anything from 3 to 24."""
    generator = random.Random(seed)
    return lambda *_: generator.randint(3, 24)


def small(full: int) -> int:
    """An eighth of the width, to be quick."""
    return full // 8


def import_fpenet(file: Path, folder: Path, *arguments: str) -> Path:
    assert fpenet("import-weights", f"weights={file}", f"results_dir={folder}", *arguments) == 0
    return folder / "imported.safetensors"


def import_facenet(file: Path, folder: Path, *arguments: str) -> Path:
    assert facenet("import-weights", f"weights={file}", f"results_dir={folder}", *arguments) == 0
    return folder / "imported.safetensors"


def same_fpenet(model: keras_models.keras.Model, path: Path) -> None:
    """Holds the points, confidences and maps of both on a random crop against each other."""
    coarse = np.random.default_rng(0).uniform(0, 100, (2, 1, 4, 4)).astype(np.float32)
    crop = coarse.repeat(model.input_shape[2] // 4, axis=2).repeat(model.input_shape[3] // 4, axis=3)
    network, _ = load_fpenet(str(path))
    with torch.no_grad():
        points, confidence, maps = (part.cpu().numpy() for part in model(crop))
        ours = network.eval()(torch.from_numpy(crop))
    side, size = maps.shape[-1], np.abs(maps).max()
    assert np.ptp(points) > 1, "the maps are too flat to tell networks apart"
    np.testing.assert_allclose(ours.heatmaps.numpy() / size, maps / size, atol=1e-5)
    np.testing.assert_allclose(ours.points.numpy() / side, points / side, atol=1e-5)
    np.testing.assert_allclose(ours.confidence.numpy(), confidence, atol=1e-5)


def same_facenet(model: keras_models.keras.Model, path: Path) -> None:
    picture = np.random.default_rng(0).uniform(0, 1, (2, *model.input_shape[1:])).astype(np.float32)
    network, _ = load_facenet(str(path))
    with torch.no_grad():
        bbox, cov = (part.cpu().numpy() for part in model(picture))
        ours = network.eval()(torch.from_numpy(picture))
    assert bbox.std() > 0.01
    np.testing.assert_allclose(ours.bbox.numpy(), bbox, atol=1e-5 * max(1, np.abs(bbox).max()))
    np.testing.assert_allclose(ours.coverage_logits.sigmoid().numpy(), cov, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_fpenet_computes_what_it_did(variant: str, tmp_path: Path) -> None:
    model = keras_models.fpenet(*VARIANTS[variant], points=80, beta=0.05)
    path = import_fpenet(keras_models.save(model, tmp_path / "model.hdf5"), tmp_path / "out")
    same_fpenet(model, path)
    _, meta = load_fpenet(str(path))
    assert meta.architecture["variant"] == variant.split("-")[0]
    assert meta.architecture["beta"] == pytest.approx(0.05)
    assert meta.architecture["upsampling"] == ("nearest" if VARIANTS[variant][2] else "deconv")
    assert meta.preprocessing["size"] == 32
    assert meta.preprocessing["enlarge"] == 1.0


@pytest.mark.parametrize("how", HOW)
def test_fpenet_files_of_every_kind(how: str, tmp_path: Path) -> None:
    whole, suffix = HOW[how]
    model = keras_models.fpenet(3, True, False, points=10, beta=0.1, width=narrow(1))
    file = keras_models.save(model, tmp_path / "model.h5", whole=whole, suffix=suffix)
    same_fpenet(model, import_fpenet(file, tmp_path / "out", *([] if whole else ["beta=0.1", "input_size=32"])))


def test_blocks_are_counted_from_any_number(tmp_path: Path) -> None:
    """A second network in one process of TAO's begins at block_10a (quirk 16)."""
    model = keras_models.fpenet(3, False, True, points=68, beta=0.1, first_block=10, width=narrow(2))
    same_fpenet(model, import_fpenet(keras_models.save(model, tmp_path / "model.h5"), tmp_path / "out"))


def test_every_tensor_is_in_the_table_and_the_model_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model = keras_models.fpenet(3, False, False, points=68, beta=0.1, width=narrow(3))
    path = import_fpenet(keras_models.save(model, tmp_path / "model.h5"), tmp_path / "out")
    assert "FpeNet_public, pruned, 68 points, up-sampling by deconv, beta 0.1" in capsys.readouterr().out
    with open(tmp_path / "out" / "weights.csv", encoding="utf-8") as file:
        rows = {row["source"]: row for row in csv.DictReader(file)}
    kernels = {f"{layer.name}/kernel" for layer in model.layers if layer.weights and layer.name != "softargmax"}
    biases = {f"{layer.name}/bias" for layer in model.layers if getattr(layer, "use_bias", False)}
    assert rows.keys() == kernels | {name for name in biases if "transpose" not in name}
    assert rows["block_6a_conv_2/kernel"]["parameter"] == "decoder.0.1.0.weight"
    assert fpenet("prune", f"model={path}", f"results_dir={tmp_path / 'pruned'}", "prune.min_filters=2",
                  "prune.granularity=1", "prune.threshold=0.5", "report=false") == 0  # fmt: skip


@pytest.mark.parametrize("projections", [True, False], ids=["all_projections", "some"])
@pytest.mark.parametrize("repeats", [(1, 1, 1, 1), (2, 2, 2, 2), (3, 4, 6, 3)], ids=["R10", "R18", "R34"])
def test_every_resnet_computes_what_it_did(repeats: tuple[int, ...], projections: bool, tmp_path: Path) -> None:
    model = keras_models.gridbox(repeats, projections, channels=small)
    path = import_facenet(keras_models.save(model, tmp_path / "model.hdf5"), tmp_path / "out")
    same_facenet(model, path)
    _, meta = load_facenet(str(path))
    assert meta.architecture["num_layers"] == {4: 10, 8: 18, 16: 34}[sum(repeats)]
    assert meta.preprocessing["width"] == 96 and meta.preprocessing["height"] == 64


@pytest.mark.parametrize("projections", [True, False], ids=["all_projections", "some"])
@pytest.mark.parametrize("how", HOW)
def test_pruned_resnets_keep_their_channels(how: str, projections: bool, tmp_path: Path) -> None:
    whole, suffix = HOW[how]
    model = keras_models.gridbox((2, 2, 2, 2), projections, classes=3, channels=narrow(4))
    file = keras_models.save(model, tmp_path / "model.hdf5", whole=whole, suffix=suffix)
    same_facenet(model, import_facenet(file, tmp_path / "out", "classes=[person,face,bag]"))


def test_full_width_and_what_the_spec_says(tmp_path: Path) -> None:
    model = keras_models.gridbox((1, 1, 1, 1), True)
    file = keras_models.save(model, tmp_path / "model.hdf5")
    path = import_facenet(file, tmp_path / "out", "bbox_scale=20", "bbox_offset=1", "input.grayscale=true")
    same_facenet(model, path)
    network, meta = load_facenet(str(path))
    assert not network.architecture.pruned
    assert (network.architecture.bbox_scale, network.architecture.bbox_offset) == (20, 1)
    assert meta.preprocessing["grayscale"] is True
    biases = model.get_layer("conv1").get_weights()[1]
    np.testing.assert_array_equal(network.conv1.bias.detach().numpy(), biases)  # kept, though a normalisation follows
    picture = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)).save(picture)
    assert facenet("infer", f"model={path}", f"input={picture}", f"results_dir={tmp_path / 'infer'}") == 0


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "weights"])
def test_pooling(whole: bool, tmp_path: Path) -> None:
    model = keras_models.gridbox((1, 1, 1, 1), True, pooling=True, channels=small)
    file = keras_models.save(model, tmp_path / "model.hdf5", whole=whole)
    same_facenet(model, import_facenet(file, tmp_path / "out", *([] if whole else ["use_pooling=true"])))
