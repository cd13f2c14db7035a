"""The command line as a user runs it: exit codes, messages, and nothing heavy before it is needed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from facetrain import __version__

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
COMMAND = [sys.executable, "-m", "facetrain", "fpenet"]


def fpenet(*arguments: str, cwd: Path | None = None) -> tuple[int, str, str]:
    """Exit code, output and messages of one run."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, env=ENVIRONMENT, cwd=cwd, timeout=60)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def imported(*arguments: str) -> tuple[int, set[str]]:
    """Exit code of a command line, and which of the heavy packages it imported."""
    program = (
        "import sys; from facetrain.cli import FPENET, main; "
        f"code = main('fpenet', FPENET, {list(arguments)!r}); "
        "print('\\n@', code, *{'torch', 'numpy', 'hydra', 'cv2', 'albumentations', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
    _, code, *names = done.stdout.splitlines()[-1].split()
    return int(code), set(names)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help(arguments):
    code, out, _ = fpenet(*arguments)
    assert code == 0
    for verb in ("train", "evaluate", "infer", "export", "default-spec", "doctor", "completion"):
        assert f"\n  {verb} " in out
    assert "Exit codes: 0 done, 1 failed, 2 usage" in out


def test_version():
    assert fpenet("--version") == (0, f"fpenet (facetrain {__version__})\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["nonsense"]])
def test_nothing_heavy_is_imported_to_help(arguments):
    code, names = imported(*arguments)
    assert code == (2 if arguments == ["nonsense"] else 0)
    assert names == set()


@pytest.mark.parametrize("arguments", [["train", "--help"], ["default-spec"], ["train", "train.epochs=0"]])
def test_specs_are_checked_before_torch_is_imported(arguments):
    code, names = imported(*arguments)
    assert code == (2 if "train.epochs=0" in arguments else 0)
    assert not names & {"torch", "numpy", "cv2", "albumentations", "matplotlib"}


def test_help_of_a_verb():
    code, out, _ = fpenet("evaluate", "--help")
    assert code == 0
    (groups,) = re.findall(r"\n  data=(.*)\n", out)
    assert {"fpenet_json", "pts", "pts_300w", "store", "synthetic"} <= set(groups.split("|"))
    assert "augment=" not in out  # evaluate augments nothing
    assert "\n  split: test  # which faces of data [train | val | test]\n" in out


def test_tao_names_of_verbs():
    assert fpenet("inference", "--help")[1] == fpenet("infer", "--help")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "fpenet: there is no verb 'trian'; accepted: train, prune, evaluate, infer, export"),
        (["train", "train.epoch=3"], "fpenet: unknown key 'train.epoch'; did you mean epochs?"),
        (["train", "--epochs=3"], "fpenet: there is no option --epochs=3; accepted: -e spec.yaml, -r folder, -m"),
        (["train", "epochs 3"], "is not key=value"),
        (["train", "-e"], "-e needs a spec file; `fpenet default-spec > spec.yaml` writes one"),
        (["train", "-r"], "-r needs a folder"),
        (["train", "-e", "nowhere.yaml"], "cannot read the spec nowhere.yaml: No such file or directory"),
        (["train", "seed=1,2"], "-m runs each"),
        (["default-spec", "trian"], "default-spec trian: there is no such verb; accepted: train, prune, evaluate"),
        (["evaluate", "model=nowhere.safetensors", "data=synthetic"], "no model file nowhere.safetensors"),
    ],
)
def test_usage_errors(tmp_path, arguments, message):
    code, out, err = fpenet(*arguments, cwd=tmp_path)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_grid_with_one_wrong_job_does_not_begin(tmp_path):
    code, out, err = fpenet("train", "-m", "data=synthetic", "train.epochs=1,0", "-r", "grid", cwd=tmp_path)
    assert (code, out) == (2, "")
    assert "train.epochs=0 is not accepted" in err
    assert not (tmp_path / "grid").exists()


def test_results_dir_may_hold_anything_a_path_may(tmp_path):
    program = (
        "import sys; from facetrain.cli import _parse; from facetrain.configs.compose import load_spec; "
        "from facetrain.configs.fpenet.schema import FpenetTrainSpec; "
        "_, _, overrides = _parse('fpenet', ['-r', sys.argv[1]]); "
        "print(load_spec(FpenetTrainSpec, overrides).results_dir)"
    )
    for folder in ("plain", "Anna's runs, new=1", "a b/ü", '"quoted" {x} [1]', "50%"):
        done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, env=ENVIRONMENT)
        assert done.stdout == folder + "\n", done.stderr


@pytest.mark.parametrize("verb", ["train", "evaluate", "infer"])
def test_default_spec_is_complete_yaml(verb):
    code, out, err = fpenet("default-spec", verb)
    assert (code, err) == (0, "")
    assert out.startswith(f"# fpenet {verb} -e this.yaml\n")
    spec = yaml.safe_load(out)
    assert "results_dir" in spec
    assert spec["data"]["root"] == "" if verb != "infer" else spec["boxes"] == ""


def test_printed_spec_is_accepted(tmp_path):
    (tmp_path / "spec.yaml").write_text(fpenet("default-spec")[1])
    # A key that is wrong on purpose: the file itself gave no error before it.
    code, _, err = fpenet("train", "-e", "spec.yaml", "train.epochs=0", cwd=tmp_path)
    assert (code, err) == (2, "fpenet: train.epochs=0 is not accepted [1 to 100000]\n")


@pytest.mark.parametrize("arguments", [["default-spec"], ["--help"], ["train", "--help"]])
def test_a_reader_that_has_seen_enough(arguments):
    buffered = {**ENVIRONMENT, "PYTHONUNBUFFERED": ""}  # as in a shell: much is written only at the end
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered)
    process.stdout.close()  # as `| head -0` does
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(timeout=60)


def complete(script: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    quoted = " ".join(f"'{word}'" for word in words)
    line = (
        f"source '{script}'; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; "
        'compopt() { :; }; _fpenet; printf "%s\\n" "${COMPREPLY[@]}"; complete -p fpenet'
    )
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.stderr == ""
    *offers, registered = done.stdout.splitlines()
    assert registered.endswith("-F _fpenet fpenet")
    return offers


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_completion_in_bash(tmp_path):
    script = tmp_path / "completion.sh"
    script.write_text(fpenet("completion")[1])
    assert complete(script, "fpenet", "tr") == ["train"]
    assert set(complete(script, "fpenet", "")) >= {"train", "evaluate", "infer", "doctor", "--help"}
    assert complete(script, "fpenet", "train", "train.ep") == ["train.epochs="]
    assert complete(script, "fpenet", "train", "seed=3", "data=pts") == ["data=pts", "data=pts_300w"]
    assert complete(script, "fpenet", "evaluate", "spl") == ["split="]
    assert complete(script, "fpenet", "evaluate", "augment=") == [""]
    assert complete(script, "fpenet", "default-spec", "e") == ["evaluate", "export"]


def test_module_wants_a_command():
    done = subprocess.run([sys.executable, "-m", "facetrain"], capture_output=True, text=True, env=ENVIRONMENT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: python -m facetrain fpenet|facenet <verb>")


@pytest.mark.parametrize("program", ["fpenet", "facenet"])
def test_module_runs_either_command(program):
    command = [sys.executable, "-m", "facetrain", program, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert (done.returncode, done.stdout) == (0, f"{program} (facetrain {__version__})\n")


def test_console_script():
    script = Path(sys.executable).with_name("fpenet")
    if not script.exists():
        pytest.skip(f"facetrain's scripts are not installed beside {sys.executable}")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, env=ENVIRONMENT)
    assert (done.returncode, done.stdout) == (0, f"fpenet (facetrain {__version__})\n")
