"""Starting from a model file or an ImageNet ResNet: what is taken, what is not, and that the user is told."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from facetrain.configs.facenet.schema import ModelConfig
from facetrain.errors import ConfigError, ModelFileError
from facetrain.facenet_trainer.network import START_DISTANCE, GridBoxNet, build_model
from facetrain.facenet_trainer.pretrained import copy_torchvision, load_network, start_network
from facetrain.training.model_file import ModelMeta, save_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def model_file(folder: Path, classes=("face",), width: int = 8, network: str = "facenet", **config):
    """A model file of a narrow network with random weights, and that network."""
    architecture = build_model(ModelConfig(**config), classes).architecture
    model = GridBoxNet(replace(architecture, channels=dict.fromkeys(architecture.channels, width)))
    for value in model.state_dict().values():
        if value.is_floating_point() and value.dim() == 1:
            torch.nn.init.uniform_(value, 0.5, 1.5)
    path = folder / "source.safetensors"
    meta = ModelMeta(architecture=model.architecture.to_dict() | {"network": network}, scheme={}, preprocessing={})
    save_model(path, model.state_dict(), meta)
    return model.eval(), str(path)


def resnet(depth: int) -> torch.nn.Module:
    """torchvision's network with random weights and statistics, some channels of which hardly vary."""
    from torchvision import models

    model = {18: models.resnet18, 34: models.resnet34}[depth](weights=None)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.2, 1.0)
            torch.nn.init.normal_(module.bias, std=0.2)
            torch.nn.init.normal_(module.running_mean, std=0.2)
            torch.nn.init.uniform_(module.running_var, 0.3, 1.5)
            module.running_var[::8] = 1e-5
            module.weight.data[::8] *= 0.005
    return model.eval()


@pytest.fixture(scope="module")
def resnet18() -> torch.nn.Module:
    torch.manual_seed(5)
    return resnet(18)


@pytest.fixture
def resnet18_file(resnet18, tmp_path) -> str:
    torch.save(resnet18.state_dict(), tmp_path / "resnet18.pth")
    return str(tmp_path / "resnet18.pth")


def test_without_a_file_the_network_is_fresh():
    network, lines = start_network(ModelConfig(num_layers=10), ["face", "hand"])
    assert network.architecture.classes == ("face", "hand")
    assert lines == []


def test_a_pruned_model_file_is_taken_whole_with_its_own_architecture(tmp_path):
    source, path = model_file(tmp_path, num_layers=10, bbox_scale=20.0)
    network, lines = start_network(ModelConfig(num_layers=18, pretrained=path), ["face"])
    assert network.architecture == source.architecture
    image = torch.rand(1, 3, 64, 64)
    for ours, theirs in zip(network.eval()(image), source(image), strict=True):
        assert torch.equal(ours, theirs)
    assert len(lines) == 1
    assert lines[0].startswith(f"from {path} (ResNet-10, pruned, ")
    assert (
        f"box scale 20 and offset 0.5: the network keeps that): {len(source.state_dict())} parameters whole" in lines[0]
    )


def test_heads_are_taken_for_the_classes_that_agree(tmp_path):
    source, path = model_file(tmp_path, classes=("face", "hand"))
    network, lines = start_network(ModelConfig(pretrained=path), ["foot", "hand", "face"])
    image = torch.rand(1, 3, 32, 32)
    ours, theirs = network.eval()(image), source(image)
    torch.testing.assert_close(ours.coverage_logits[:, [2, 1]], theirs.coverage_logits)
    torch.testing.assert_close(ours.bbox[:, [8, 9, 10, 11, 4, 5, 6, 7]], theirs.bbox)
    assert "4 for the known classes" in lines[0]
    assert lines[1:] == [
        f"  not loaded: output_{name} (for foot; the file's classes are face, hand)"
        for name in ("bbox.weight", "bbox.bias", "cov.weight", "cov.bias")
    ]


def test_heads_of_other_classes_are_fresh(tmp_path):
    source, path = model_file(tmp_path)
    network, lines = start_network(ModelConfig(pretrained=path), ["car"])
    assert torch.equal(network.block_4b.conv_2.weight, source.block_4b.conv_2.weight)
    assert (network.output_bbox.bias == START_DISTANCE).all()
    assert not torch.equal(network.output_cov.weight, source.output_cov.weight)
    assert "known classes" not in lines[0]
    assert len(lines) == 5


@pytest.mark.parametrize("depth", [18, 34])
def test_imagenet_resnet_computes_the_same_up_to_its_pool(depth, resnet18):
    """With `use_pooling` the strides are torchvision's too, so the features must be."""
    theirs = resnet18 if depth == 18 else resnet(34)
    network = build_model(ModelConfig(num_layers=depth, use_pooling=True), ["face"]).eval()
    taken = copy_torchvision(theirs.state_dict(), network)
    assert taken.unused == ["fc.bias", "fc.weight"]
    seen = {}
    last = f"block_4{'bc'[depth == 34]}"
    network.get_submodule(last).register_forward_hook(lambda module, inputs, output: seen.update(ours=output))
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        network(images)
        # The border is black here and mid-grey there: padded before it is normalised, torchvision's is black as well.
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x = (F.pad(images, (3, 3, 3, 3)) - mean[:, None, None]) / std[:, None, None]
        x = F.relu(theirs.bn1(F.conv2d(x, theirs.conv1.weight, stride=2)))
        x = theirs.maxpool(x)
        for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
            x = layer(x)
    assert x.std() > 0.1
    torch.testing.assert_close(seen["ours"], x, atol=1e-4 * float(x.abs().max()), rtol=1e-4)


def test_resnet_file_without_pooling(resnet18_file):
    network, lines = start_network(ModelConfig(pretrained=resnet18_file), ["face"])
    assert network(torch.rand(1, 3, 64, 64)).bbox.shape == (1, 4, 4, 4)
    assert network.conv1.bias.any()  # the normalisation of the picture
    assert not network.block_2a.conv_1.bias.any()
    made = 5 * 7  # shortcuts 1a, 1b, 2b, 3b, 4b, each with kernel, bias and batch normalisation
    whole = len(network.state_dict()) - made - 4
    assert lines[0] == (
        f"from {resnet18_file}: {whole} parameters whole, {made} of shortcuts made to pass on what they see"
    )
    assert lines[1:5] == [
        f"  not loaded: output_{name} (a ResNet has no such head)"
        for name in ("bbox.weight", "bbox.bias", "cov.weight", "cov.bias")
    ]
    assert lines[5:] == ["  not used: fc.bias", "  not used: fc.weight"]


def test_made_shortcuts_pass_on_every_channel(resnet18_file):
    network, _ = start_network(ModelConfig(pretrained=resnet18_file), ["face"])
    network.eval()
    for name, step in (("block_1a", 2), ("block_3b", 1)):
        block = network.get_submodule(name)
        x = torch.randn(1, block.conv_shortcut.in_channels, 8, 8)
        passed = block.bn_shortcut(block.conv_shortcut(x))
        torch.testing.assert_close(passed, x[:, :, ::step, ::step])


def test_identity_shortcuts_need_no_making(resnet18_file):
    network, lines = start_network(ModelConfig(pretrained=resnet18_file, all_projections=False), ["face"])
    assert network.block_2b.conv_shortcut is None
    assert ", 7 of shortcuts made" in lines[0]  # only stage 1 begins without a convolution there


def test_file_of_another_depth(resnet18_file):
    with pytest.raises(ModelFileError, match=r"is a ResNet-18, model.num_layers is 34: set model.num_layers=18"):
        start_network(ModelConfig(pretrained=resnet18_file, num_layers=34), ["face"])


def test_bottleneck_network(tmp_path):
    from torchvision import models

    with torch.device("meta"):
        names = models.resnet50().state_dict()
    torch.save({name: torch.zeros(1) for name in names}, tmp_path / "resnet50.pth")
    with pytest.raises(ModelFileError, match=r"resnet50.pth holds no ResNet-18 or -34 of torchvision's names"):
        start_network(ModelConfig(pretrained=str(tmp_path / "resnet50.pth"), num_layers=34), ["face"])


def test_state_dict_with_a_tensor_missing_or_of_another_shape(resnet18, tmp_path):
    weights = resnet18.state_dict()
    path = tmp_path / "broken.pth"
    torch.save({name: value for name, value in weights.items() if name != "layer3.1.bn2.bias"}, path)
    with pytest.raises(ModelFileError, match=r"layer3.1.bn2.bias is missing, \[256\] is needed"):
        start_network(ModelConfig(pretrained=str(path)), ["face"])
    torch.save(weights | {"conv1.weight": torch.zeros(64, 1, 7, 7)}, path)
    with pytest.raises(ModelFileError, match=r"conv1.weight is \[64, 1, 7, 7\], \[64, 3, 7, 7\] is needed"):
        start_network(ModelConfig(pretrained=str(path)), ["face"])


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (print, ("a pickle ran code",))


def write_trap(path: Path) -> None:
    path.write_bytes(pickle.dumps(Trap(), protocol=2))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_trap, "is not a state dict"),
        (lambda path: torch.save(resnet(18), path), "is not a state dict"),  # a whole module
        (lambda path: torch.save([1, 2], path), "holds a list that is no state dict of tensors"),
        (lambda path: torch.save({"epoch": 3, "conv1.weight": torch.zeros(1)}, path), "holds a dict that is no state"),
        (lambda path: torch.save({"a": torch.zeros(1)}, path), "holds no ResNet-18 or -34"),
        (lambda path: path.write_bytes(b""), "is not a state dict"),
        (lambda path: path.write_text("<html>not found</html>"), "is not a state dict"),
        (lambda path: save_file({"a": torch.zeros(1)}, path), "is not a state dict"),
        (lambda path: None, "there is no file"),
    ],
)
def test_files_that_are_no_state_dict(write, message, tmp_path, capsys):
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(ModelFileError, match=message) as caught:
        start_network(ModelConfig(pretrained=str(path)), ["face"])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "ran code" not in capsys.readouterr().out


def test_imagenet_comes_from_torchvisions_cache(resnet18, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(resnet18.state_dict(), tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    network, lines = start_network(ModelConfig(pretrained="imagenet"), ["face"])
    assert torch.equal(network.block_1a.conv_1.weight, resnet18.layer1[0].conv1.weight)
    assert lines[0].startswith("from torchvision's ResNet-18: ")


def test_imagenet_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ModelFileError, match=r"resnet34-b627a593.pth cannot be had .*model.pretrained=PATH/resnet34-"):
        start_network(ModelConfig(pretrained="imagenet", num_layers=34), ["face"])


def test_imagenet_has_no_resnet_10():
    with pytest.raises(ConfigError, match=r"there is no ResNet-10; take model.num_layers=18 or 34"):
        start_network(ModelConfig(pretrained="imagenet", num_layers=10), ["face"])


def test_frozen_blocks_keep_their_convolutions_and_learn_their_scale(tmp_path):
    _, path = model_file(tmp_path)
    network, _ = start_network(ModelConfig(pretrained=path, freeze_blocks=[0, 2]), ["face"])
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    expected = {"conv1.weight", "conv1.bias"} | {
        f"block_2{sub}.{conv}.{part}"
        for sub in "ab"
        for conv in ("conv_1", "conv_2", "conv_shortcut")
        for part in ("weight", "bias")
    }
    assert frozen == expected


def test_frozen_batch_norm_is_set(tmp_path):
    _, path = model_file(tmp_path)
    network, _ = start_network(ModelConfig(pretrained=path, freeze_bn=True), ["face"])
    before = network.bn_conv1.running_mean.clone()
    network.train()(torch.rand(2, 3, 32, 32))
    assert torch.equal(network.bn_conv1.running_mean, before)


def test_random_weights_are_not_frozen():
    with pytest.raises(ConfigError, match=r"model\.freeze_blocks would freeze random weights: give model\.pretrained"):
        start_network(ModelConfig(freeze_blocks=[1]), ["face"])


def test_another_networks_file(tmp_path):
    _, path = model_file(tmp_path, network="fpenet")
    with pytest.raises(ModelFileError, match="holds a fpenet model, not FaceNet"):
        start_network(ModelConfig(pretrained=path), ["face"])


def test_file_whose_weights_do_not_fit_its_words(tmp_path):
    model, path = model_file(tmp_path)
    words = model.architecture.to_dict()
    for change in ({"num_layers": 34}, {"classes": ["a", "b"]}, {"channels": words["channels"] | {"conv1": 9}}):
        save_model(Path(path), model.state_dict(), ModelMeta(words | change, {}, {}))
        with pytest.raises(ModelFileError, match=r"source.safetensors: its weights do not fit the architecture"):
            load_network(path)


def test_copy_leaves_the_source_alone(tmp_path):
    _, path = model_file(tmp_path)
    source, _ = load_network(path)
    before = source.output_cov.weight.clone()
    network, _ = start_network(ModelConfig(pretrained=path), ["face"])
    with torch.no_grad():
        network.output_cov.weight.add_(1)
    assert torch.equal(source.output_cov.weight, before)
