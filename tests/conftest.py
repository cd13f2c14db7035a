"""Fixtures that several rooms share."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import pytest

# A shell starts background jobs with SIGINT ignored, and every process below inherits that: the tests of Ctrl-C would
# wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def no_pauses() -> Iterator[None]:
    """Runs that are timed do not wait for threads to fall asleep: no test judges how long a pass takes."""
    from facetrain.training import timing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "PAUSE", 0.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def drawn_once() -> Iterator[None]:
    """A drawn face or scene is drawn once a session, 15 ms and more each: their own tests have the functions."""
    from facetrain.datasets.drawn import scenes, synthetic

    with pytest.MonkeyPatch.context() as patch:
        for module, name, kept in ((synthetic, "draw_face", 2000), (scenes, "draw_scene", 150)):
            remembered = lru_cache(kept)(getattr(module, name))
            patch.setattr(module, name, lambda *given, draw=remembered: deepcopy(draw(*given)))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real faces, which lie beside the checkout and are never part of it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "300w").is_dir():
        pytest.skip(f"real faces are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 drawn faces as a folder of pictures and .pts files with 68 points; read only."""
    from PIL import Image

    from facetrain.datasets.drawn.synthetic import draw_faces

    folder = tmp_path_factory.mktemp("faces")
    for index, face in enumerate(draw_faces(24, seed=5, num_keypoints=68)):
        Image.fromarray(face.image).save(folder / f"{index:02}.png")
        points = "\n".join(f"{x:.3f} {y:.3f}" for x, y in face.points)
        (folder / f"{index:02}.pts").write_text(f"version: 1\nn_points: 68\n{{\n{points}\n}}\n")
    return folder


@pytest.fixture(scope="session")
def trained(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learnt 10 points of 8 faces by heart; its models are something to go on from."""
    from facetrain.tests import runs

    with alone():
        return runs.train(
            faces, tmp_path_factory.mktemp("trained"), *runs.TEN_POINTS,
            "data.train=[{format: pts, path: ., count: 8}]", "data.split.fraction=0", "augment=none",
            "train.epochs=40", "train.batch_size=8", "train.learning_rate=2e-2", "train.annealing=0.7",
            "train.checkpoint_every=40",
        )  # fmt: skip


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 painted pictures with KITTI labels, something for the detector to find in each; read only."""
    from facetrain.tests import facenet_runs

    folder = tmp_path_factory.mktemp("pictures")
    facenet_runs.paint_pictures(folder, 16, seed=7)
    return folder


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector's model file of 8 channels in every layer, with random weights: what runs of seconds start from."""
    from facetrain.tests import facenet_runs

    return facenet_runs.narrow_model(tmp_path_factory.mktemp("narrow") / "narrow.safetensors")


@pytest.fixture(scope="session")
def detector(pictures: Path, narrow: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FaceNet run, regularised, that has learnt the painted pictures; its models are something to go on from."""
    from facetrain.tests import facenet_runs

    with alone():
        return facenet_runs.train(
            pictures, narrow, tmp_path_factory.mktemp("detector"), *facenet_runs.LEARNS, "data.split.fraction=0",
            "train.checkpoint_every=40",
        )  # fmt: skip


@contextmanager
def alone() -> Iterator[None]:
    """For a run that several files go on from: no report, and one thread."""
    from facetrain.tests import runs

    with pytest.MonkeyPatch.context() as patch, single_thread():
        runs.leave_out_reports(patch.setattr)
        yield


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out report.html, which takes longer than the training of these tests."""
    from facetrain.tests import runs

    runs.leave_out_reports(monkeypatch.setattr)


@contextmanager
def single_thread() -> Iterator[None]:
    """Networks of the tests are too small for threads to help: two take twice the time of one."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def one_thread() -> Iterator[None]:
    with single_thread():
        yield


@pytest.fixture
def no_wandb_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No W&B account of the machine that runs the tests takes part."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, folder in {"WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache", "WANDB_CONFIG_DIR": "config"}.items():
        monkeypatch.setenv(name, str(tmp_path / "wandb_home" / folder))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)
