"""The model file: whole or old, never half; everything else is refused with its reason."""

import contextlib
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from facetrain import __version__
from facetrain.errors import ModelFileError, TrainingError
from facetrain.training.model_file import ModelMeta, load_model, save_model, write_atomic

META = ModelMeta(
    architecture={"network": "fpenet", "beta": 0.1},
    scheme={"num_keypoints": 2, "names": ["a", "ö"]},
    preprocessing={"size": 80},
    config={"train": {"epochs": 3}},
    metrics={"nme": 0.0321},
)


def weights(fill: float = 0.1) -> dict[str, torch.Tensor]:
    return {"a.weight": torch.full((4, 3), fill), "b.bias": torch.arange(5.0), "steps": torch.tensor([7])}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, weights(), META)
    return path


def test_round_trip(model):
    state, meta = load_model(model)
    assert state.keys() == weights().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in weights().items())
    assert meta == META
    assert meta.versions == {"facetrain": __version__, "torch": torch.__version__}


def test_the_file_is_plain_safetensors(model):
    assert torch.equal(load_file(model)["a.weight"], weights()["a.weight"])


def test_half_is_stored_small_and_read_as_float32(tmp_path):
    state = {"w": torch.linspace(-1, 1, 10_000)}
    sizes = []
    for half in (False, True):
        path = tmp_path / f"{half}.safetensors"
        save_model(path, state, META, half=half)
        sizes.append(path.stat().st_size)
        loaded, _ = load_model(path)
        assert loaded["w"].dtype == torch.float32
        torch.testing.assert_close(loaded["w"], state["w"], atol=5e-4 if half else 0, rtol=0)
    assert sizes[0] - sizes[1] == 20_000


def test_views_and_parameters_are_saved_by_value(tmp_path):
    base = torch.arange(12.0).view(3, 4)
    path = tmp_path / "views.safetensors"
    save_model(path, {"t": base.T, "column": base[:, 1], "p": torch.nn.Parameter(base)}, META)
    state, _ = load_model(path)
    assert torch.equal(state["t"], base.T)
    assert torch.equal(state["column"], base[:, 1])
    assert not state["p"].requires_grad


def test_missing(tmp_path):
    with pytest.raises(ModelFileError, match=r"no model file .*nowhere\.safetensors"):
        load_model(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated(model, keep):
    model.write_bytes(model.read_bytes()[:keep])
    with pytest.raises(ModelFileError, match=r"model\.safetensors is not a whole safetensors file"):
        load_model(model)


class Harmful:
    """What a pickle can do to whoever reads it."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return os.system, (f"touch {self.victim}",)


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_pickles_are_refused_unread(tmp_path, how):
    path, victim = tmp_path / "model.pt", tmp_path / "victim"
    if how == "pickle":
        path.write_bytes(pickle.dumps(Harmful(victim)))
    else:
        torch.save({"w": Harmful(victim)}, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(ModelFileError, match=r"is a pickle .*never loaded; give a facetrain \.safetensors"):
        load_model(path)
    assert not victim.exists()


def test_foreign_safetensors(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(ModelFileError, match="not a facetrain model: its metadata lack 'facetrain'"):
        load_model(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (json.dumps({"format": 2, "brains": {}}), "written by a newer facetrain: update"),
        (json.dumps({"format": 1, "architecture": {}}), "cannot be read .*missing"),
        (json.dumps({"architecture": {}}), "cannot be read .*'format'"),
        (json.dumps([1]), "cannot be read"),
        ("{", "cannot be read"),
    ],
)
def test_wrong_metadata(tmp_path, header, message):
    path = tmp_path / "wrong.safetensors"
    save_file({"w": torch.zeros(2)}, path, metadata={"facetrain": header})
    with pytest.raises(ModelFileError, match=message):
        load_model(path)


def test_parent_folders_are_made(tmp_path):
    write_atomic(tmp_path / "a" / "b" / "file", b"x")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"x"


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"cannot write .*model"):
        write_atomic(tmp_path / "file" / "model", b"x")


@contextlib.contextmanager
def full_disk(folder: Path, room: int):
    """Within, no more than `room` bytes can be written below `folder`: a small disk, else a limit on file sizes."""
    options = f"size={room},mode=777"
    if (
        os.geteuid() == 0
        and not subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True).returncode
    ):
        try:
            yield
        finally:
            subprocess.run(["umount", folder], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    with full_disk(folder, 1 << 20):
        path = folder / "model.safetensors"
        save_model(path, weights(), META)
        with pytest.raises(TrainingError, match=r"cannot write .*model\.safetensors: .*make room"):
            save_model(path, {"w": torch.zeros(1 << 19)}, META)  # 2 MiB
        assert [p.name for p in folder.iterdir()] == ["model.safetensors"]
        state, meta = load_model(path)
        assert torch.equal(state["a.weight"], weights()["a.weight"])
        assert meta == META
        del state  # tensors that lie in the mapped file keep the disk mounted


WRITER = """
import sys, torch
from pathlib import Path
from facetrain.training.model_file import ModelMeta, save_model
torch.set_num_threads(1)
for i in range(1, 100000):
    save_model(Path(sys.argv[1]), {"w": torch.full((200_000,), float(i))}, ModelMeta({"i": i}, {}, {}))
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    path = tmp_path / "model.safetensors"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        seen = []
        deadline = time.monotonic() + 60
        while len(seen) < 10 and time.monotonic() < deadline:  # a reader meets whole files only, too
            if path.exists():
                state, meta = load_model(path)
                assert (state["w"] == meta.architecture["i"]).all()
                seen.append(meta.architecture["i"])
            time.sleep(0.01)
        assert seen[-1] > seen[0]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    state, meta = load_model(path)
    assert state["w"].shape == (200_000,)
    assert (state["w"] == meta.architecture["i"]).all()
