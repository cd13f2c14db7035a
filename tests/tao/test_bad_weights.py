"""What import-weights says of files that are cut off, of another network, hostile or encrypted: one line, code 2."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from facetrain.tests.runs import facenet, fpenet

h5py = pytest.importorskip("h5py")
ENV = os.environ | {"CUDA_VISIBLE_DEVICES": ""}


def weight_file(path: Path, whole: bool = True, layers: dict[str, dict[str, tuple[int, ...]]] | None = None) -> Path:
    """A Keras file of one layer or a few, of ones, as TensorFlow's Keras writes it."""
    layers = layers or {"conv1": {"kernel:0": (7, 7, 3, 8), "bias:0": (8,)}}
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights") if whole else file
        group.attrs["layer_names"] = [name.encode() for name in layers]
        for name, tensors in layers.items():
            inner = group.create_group(name)
            inner.attrs["weight_names"] = [f"{name}/{tensor}".encode() for tensor in tensors]
            for tensor, shape in tensors.items():
                inner.create_dataset(f"{name}/{tensor}", data=np.ones(shape, np.float32))
        if whole:
            set_graph(file, [("Conv2D", name, {}) for name in layers])
    return path


def set_graph(file: h5py.File, layers: list[tuple[str, str, dict]]) -> None:
    graph = [{"class_name": kind, "config": {"name": name, **config}} for kind, name, config in layers]
    file.attrs["model_config"] = json.dumps({"class_name": "Model", "config": {"layers": graph}})


def refused(path: Path, capsys: pytest.CaptureFixture, *arguments: str, run: Callable[..., int] = facenet) -> str:
    """The one line that stands there instead of a model."""
    out = path.parent / "out"
    assert run("import-weights", f"weights={path}", f"results_dir={out}", *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and path.name in error
    assert not (out / "imported.safetensors").exists()
    return error


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
def test_cut_off(share: float, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = weight_file(tmp_path / "model.hdf5")
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert "HDF5 file" in refused(path, capsys)


def test_any_damage_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = weight_file(tmp_path / "model.hdf5")
    data = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(data)
        for place in random.integers(0, 3000, 20):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(damaged)
        refused(path, capsys)


def test_code_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = weight_file(tmp_path / "model.hdf5")
    with h5py.File(path, "r+") as file:
        set_graph(file, [("Conv2D", "conv1", {}), ("Lambda", "evil", {"function": ["4wEAAAA=", None, None]})])
    error = refused(path, capsys)
    assert "layer evil is a Lambda, which could run code" in error
    with h5py.File(path, "r+") as file:
        set_graph(file, [("Conv2D", "conv1", {"activation": "os.system"})])
    assert "layer conv1 has the activation 'os.system'" in refused(path, capsys)


def test_claims_that_the_file_does_not_hold(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A shape of terabytes costs an attacker nothing: HDF5 stores only what was written."""
    path = weight_file(tmp_path / "model.hdf5")
    with h5py.File(path, "r+") as file:
        group = file["model_weights/conv1"]
        del group["conv1/kernel:0"]
        group.create_dataset("conv1/kernel:0", shape=(7, 7, 3, 1 << 40), dtype="f4")
    assert "conv1/kernel:0 claims [7, 7, 3, 1099511627776]" in refused(path, capsys)
    with h5py.File(path, "r+") as file:
        group = file["model_weights/conv1"]
        del group["conv1/kernel:0"]
        group.create_dataset("conv1/kernel:0", shape=(7, 7, 3, 1 << 30), dtype="f4", compression="gzip", chunks=True)
    assert "is compressed or lies outside the file" in refused(path, capsys)


def test_one_tensor_under_many_names(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = weight_file(tmp_path / "model.hdf5", False, {"conv1": {"kernel:0": (7, 7, 3, 64)}})
    with h5py.File(path, "r+") as file:
        for i in range(100):
            file[f"conv1/conv1/kernel_{i}:0"] = file["conv1/conv1/kernel:0"]
        file["conv1"].attrs["weight_names"] = [f"conv1/kernel_{i}:0".encode() for i in range(100)]
    assert "which the file does not hold" in refused(path, capsys)


def test_nothing_outside_the_file_is_opened(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    secret = weight_file(tmp_path / "secret.hdf5")
    path = weight_file(tmp_path / "model.hdf5")
    with h5py.File(path, "r+") as file:
        del file["model_weights/conv1"]
        file["model_weights/conv1"] = h5py.ExternalLink(str(secret), "/model_weights/conv1")
    assert "conv1 is a link to elsewhere, which is never followed" in refused(path, capsys)
    path = weight_file(tmp_path / "other.hdf5")
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(7 * 7 * 3 * 8 * 4))
    with h5py.File(path, "r+") as file:
        group = file["model_weights/conv1"]
        del group["conv1/kernel:0"]
        group.create_dataset("conv1/kernel:0", (7, 7, 3, 8), "f4", external=[(str(raw), 0, h5py.h5f.UNLIMITED)])
    assert "is compressed or lies outside the file" in refused(path, capsys)


def test_nested_without_end(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = weight_file(tmp_path / "model.hdf5")
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = "[" * 20000
    assert "its model_config is no Keras graph" in refused(path, capsys)


def test_another_network(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = weight_file(tmp_path / "model.hdf5")
    error = refused(path, capsys)
    assert "is no ResNet-10, -18 or -34 of DetectNet_v2" in error and "the file's layers are conv1" in error
    assert "is no FPENet" in refused(path, capsys, "beta=0.1", run=fpenet)
    assert "does not say beta" in refused(path, capsys, run=fpenet)
    head = weight_file(tmp_path / "fpenet.h5", False, {"conv_keypoints_m80": {"kernel:0": (1, 1, 64, 80)}})
    assert "`fpenet import-weights` reads FPENet's" in refused(head, capsys)


def test_numbers_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = weight_file(tmp_path / "model.hdf5")
    with h5py.File(path, "r+") as file:
        file["model_weights/conv1/conv1/bias:0"][3] = np.nan
    assert "conv1/bias:0 holds numbers that are not finite" in refused(path, capsys)


@pytest.mark.parametrize("name", ["model.hdf5", "model.onnx", "model.pth", "model.tlt"])
def test_other_files(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    refused(tmp_path / name, capsys)  # missing
    (tmp_path / name).write_bytes(b"\x80\x04cposix\nsystem\n(S'echo'\ntR." * 20)  # a pickle
    refused(tmp_path / name, capsys)


def test_results_are_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "imported.safetensors").touch()
    assert facenet("import-weights", "weights=x.hdf5", f"results_dir={tmp_path}") == 2
    assert "overwrite=true" in capsys.readouterr().err


def test_encrypted_without_a_key_or_the_wheel(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "model.tlt"
    path.write_bytes(bytes(range(200)))
    assert "give its key with key=KEY or -k KEY" in refused(path, capsys)
    try:
        import eff_tao_encryption  # noqa: F401
    except ImportError:
        error = refused(path, capsys, "-k", "nvidia_tlt")
        assert "pip install nvidia-eff-tao-encryption" in error and "TAO 5" in error


def test_uff_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "facenet.etlt"
    path.write_bytes((7).to_bytes(4, "little") + b"input_1" + bytes(100))
    assert "holds a UFF graph (input 'input_1')" in refused(path, capsys, "-k", "nvidia_tlt")


def test_encrypted_files_go_through_the_wheel(tmp_path: Path) -> None:
    """A stand-in for NVIDIA's wheel, which exists for few Pythons: the same call, and a cipher that a test can do."""
    wheel = tmp_path / "wheel" / "eff_tao_encryption"
    wheel.mkdir(parents=True)
    (wheel / "__init__.py").touch()
    (wheel / "tao_codec.py").write_text(
        "def decrypt_stream(source, target, key, encryption=True, rewind=True):\n"
        "    assert encryption and not rewind and isinstance(key, bytes)\n"
        "    target.write(bytes(b ^ key[0] for b in source.read()))\n"
    )
    path = weight_file(tmp_path / "model.hdf5")
    secret = tmp_path / "model.tlt"
    secret.write_bytes(bytes(b ^ ord("n") for b in path.read_bytes()))
    env = ENV | {"PYTHONPATH": str(wheel.parent)}
    facenet_command = [sys.executable, "-c", "from facetrain.cli import facenet; facenet()", "import-weights",
                       f"weights={secret}", f"results_dir={tmp_path / 'out'}", "-k"]  # fmt: skip
    right = subprocess.run([*facenet_command, "nvidia_tlt"], env=env, capture_output=True, text=True, check=False)
    assert "the file's layers are conv1" in right.stderr  # decrypted and read: it is no whole network
    wrong = subprocess.run([*facenet_command, "other"], env=env, capture_output=True, text=True, check=False)
    assert "give the key that it was written with" in wrong.stderr


def test_an_import_takes_less_than_five_seconds(tmp_path: Path) -> None:
    """The whole command on a full ResNet-18, the start of Python and torch included."""
    keras_models = pytest.importorskip("facetrain.tests.tao.keras_models")
    path = keras_models.save(keras_models.gridbox((2, 2, 2, 2), True), tmp_path / "model.hdf5")
    command = [sys.executable, "-c", "from facetrain.cli import facenet; facenet()", "import-weights",
               f"weights={path}", f"results_dir={tmp_path / 'out'}"]  # fmt: skip
    times = []
    for _ in range(2):  # the second finds the interpreter's files in memory
        start = time.perf_counter()
        subprocess.run([*command, "overwrite=true"], env=ENV, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 5
