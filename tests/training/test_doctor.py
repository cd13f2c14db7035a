"""`doctor` says what is there, what is missing and how to get it, and never fails over what is only optional."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import types
from importlib import metadata
from pathlib import Path

import pytest
import torch
from rich.console import Console

from facetrain.training.doctor import Finding, doctor, examine


def report() -> tuple[int, str]:
    text = io.StringIO()
    code = doctor(Console(file=text, width=200))
    return code, text.getvalue()


def findings() -> dict[str, Finding]:
    return {finding.what: finding for finding in examine()}


def test_this_machine_can_train() -> None:
    code, text = report()
    assert code == 0
    assert "Training can run here." in text
    for name, version in {"torch": metadata.version("torch"), "albumentations": "2.0.8"}.items():
        assert any(name in line and version in line and "ok" in line for line in text.splitlines()), name
    assert f"of {os.cpu_count()} cores usable" in text
    assert "gloo" in text


def test_an_optional_package_that_is_absent_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # Python's own way to say that a module is not there
    monkeypatch.setitem(sys.modules, "tensorrt", types.ModuleType("tensorrt"))  # a folder of that name and no package
    found = findings()
    assert (found["wandb"].state, found["wandb"].remedy) == ("absent", "pip install 'facetrain[wandb]'")
    assert found["tensorrt"].state == "absent"
    code, text = report()
    assert code == 0
    assert "wandb: pip install 'facetrain[wandb]'" in text


def test_a_required_package_of_the_wrong_version_or_absent(tmp_path: Path) -> None:
    """In another process, whose first path entry holds a broken safetensors and an old albumentations."""
    (tmp_path / "safetensors.py").write_text("raise ImportError('libfoo.so.1: cannot open shared object file')")
    old = tmp_path / "albumentations-1.4.0.dist-info"
    old.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: albumentations\nVersion: 1.4.0\n")
    command = [sys.executable, "-c", "import sys; from facetrain.training.doctor import doctor; sys.exit(doctor())"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "libfoo.so.1" in done.stdout
    assert "pip install 'safetensors>=" in done.stdout
    assert "1.4.0, needs ==2.0.8" in done.stdout
    assert "albumentations: pip install 'albumentations==2.0.8'" in done.stdout
    assert "Training cannot run: albumentations, safetensors" in done.stdout


def test_a_torchvision_for_another_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    operators = types.ModuleType("torchvision.ops")

    def nms(*_: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    operators.nms = nms  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision.ops", operators)
    found = findings()["torch with torchvision"]
    assert found.state == "broken"
    major, minor = torch.__version__.split(".")[:2]
    assert f"torch=={major}.{minor}.*" in found.remedy and f"torchvision==0.{int(minor) + 15}.*" in found.remedy
    assert report()[0] == 1


def test_a_damaged_zoo_file_is_named_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "fpenet_trainer" / "zoo").mkdir(parents=True)
    (tmp_path / "fpenet_trainer" / "zoo" / "fpenet_68.safetensors").write_bytes(b"half a file")
    found = {finding.what: finding for finding in examine(tmp_path)}["zoo fpenet_68"]
    assert found.state == "absent"
    assert "not a whole safetensors file" in found.found
    assert "pip install" in found.remedy
