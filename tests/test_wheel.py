"""The wheel holds all of facetrain, and nothing beside it."""

import configparser
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata, util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOT_SHIPPED = ("tests", "benchmarks", "docs")


def project_files() -> list[Path]:
    """Every file of the project as a clone of it would have it, relative to its root."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return [Path(name) for name in sorted(set(listed.split("\0"))) if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    if util.find_spec("setuptools") is None or int(metadata.version("setuptools").split(".")[0]) < 77:
        pytest.skip("setuptools 77 or newer is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    tree, out = folder / "tree", folder / "out"
    for name in project_files():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    build = "import sys, setuptools.build_meta as b; print(b.build_wheel(sys.argv[1]))"
    out.mkdir()
    subprocess.run([sys.executable, "-c", build, str(out)], cwd=tree, check=True, capture_output=True, timeout=300)
    (path,) = out.iterdir()
    return zipfile.ZipFile(path)


def shipped(wheel: zipfile.ZipFile) -> set[str]:
    return {name.removeprefix("facetrain/") for name in wheel.namelist() if name.startswith("facetrain/")}


def test_only_facetrain_is_installed(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"facetrain"}
    assert len(tops) == 2


def test_every_module_and_data_file_is_in_it(wheel):
    folders = ("configs/", "fpenet_trainer/schemes/", "fpenet_trainer/zoo/")
    wanted = {
        name.as_posix()
        for name in project_files()
        if name.parts[0] not in NOT_SHIPPED
        and (
            name.suffix == ".py"
            or name.as_posix() == "py.typed"
            or (name.suffix in (".yaml", ".safetensors", ".txt", ".css") and len(name.parts) > 1)
            or name.as_posix().startswith(folders)
        )
        and not name.parts[0].startswith(".")
    }
    assert {"cli.py", "py.typed", "fpenet_trainer/schemes/104.yaml", "configs/fpenet/data/pts_300w.yaml"} <= wanted
    assert wanted - shipped(wheel) == set()


def test_nothing_else_is_in_it(wheel):
    known = {name.as_posix() for name in project_files()}
    assert shipped(wheel) - known == set()
    assert not [name for name in shipped(wheel) if name.split("/")[0] in NOT_SHIPPED]


def test_command_and_licence(wheel):
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    scripts = configparser.ConfigParser()
    scripts.read_string(wheel.read(f"{info}/entry_points.txt").decode())
    assert scripts["console_scripts"]["fpenet"] == "facetrain.cli:fpenet"
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
