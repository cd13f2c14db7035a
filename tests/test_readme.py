"""The documentation against the code: commands, keys, specs and links."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from PIL import Image

from facetrain.cli import ALIASES, FACENET, FPENET, OTHER_VERBS, _parse
from facetrain.configs import compose
from facetrain.configs.facenet import schema as facenet_schema
from facetrain.configs.facenet.schema import FacenetTrainSpec
from facetrain.configs.fpenet import schema
from facetrain.configs.fpenet.schema import FpenetTrainSpec
from facetrain.datasets.formats.face_csv import read_face_csv
from facetrain.datasets.formats.fpenet_json import read_fpenet_json
from facetrain.datasets.formats.point_maps import built_in_maps, load_point_map
from facetrain.datasets.formats.pts import read_pts
from facetrain.errors import ConfigError
from facetrain.fpenet_trainer.infer_boxes import read_boxes
from facetrain.fpenet_trainer.infer_results import CONVENTIONS
from facetrain.fpenet_trainer.schemes import load_scheme

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SWEEP = ROOT / "configs" / "fpenet" / "wandb_sweep.yaml"
PROGRAMS = {"fpenet": (FPENET, schema), "facenet": (FACENET, facenet_schema)}
SPECS = [getattr(module, verb.schema) for verbs, module in PROGRAMS.values() for verb in verbs.values()]
TRAINED = (FpenetTrainSpec, FacenetTrainSpec)
GROUPS = {path.parent.name for kind in TRAINED for path in compose.group_home(kind).glob("*/*.yaml")}
OPEN = {"clustering", "input_size", "class_mapping"}  # sections of some verb that take keys of another's, or any
NO_KEYS = {"key", "weights_only"}  # before an equals sign in the prose
FILE_ENDINGS = (".py", ".yaml", ".json", ".jsonl", ".csv", ".safetensors", ".pt", ".md", ".html", ".txt", ".sh")


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced code blocks of a page in any of the languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def code_spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def shell_lines(page: Path) -> list[str]:
    """The lines of a page's shell blocks, continued ones joined."""
    return [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]


def commands(page: Path) -> Iterator[list[str]]:
    """Every command of a page from its program's name on: in its shell blocks, and in its prose."""
    for line in [*shell_lines(page), *code_spans(page)]:
        words = shlex.split(line, comments=True)
        for program in PROGRAMS:
            if program in words and (words[0] == program or "torchrun" in words):
                yield words[words.index(program) :]


def cases(find: Any) -> list[Any]:
    """One test case for everything that `find` finds on a page, named by page and content."""
    return [
        pytest.param(page, found, id=f"{page.name}: {' '.join(found) if isinstance(found, list) else found[:60]}")
        for page in PAGES
        for found in find(page)
    ]


def all_keys() -> set[str]:
    """Every key of every verb, and those of a source under `data.train[]` and by themselves."""
    keys = {key for spec in SPECS for key in compose._all_keys(spec)}
    source = {name for _, module in PROGRAMS.values() for name in get_type_hints(module.SourceConfig)}
    return keys | source | {f"data.{part}[].{name}" for part in ("train", "val", "test") for name in source}


def test_all_pages_are_there():
    names = {page.relative_to(ROOT).as_posix() for page in PAGES}
    pages = {"training", "data", "evaluation", "inference", "differences-from-tao"}
    assert names >= {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", *(f"docs/{name}.md" for name in pages)}


@pytest.mark.parametrize(("page", "words"), cases(commands))
def test_command(page, words):
    """The verb exists, the spec file is there or made on the same page, and the overrides fit the schema."""
    program, name, *rest = words
    verbs, module = PROGRAMS[program]
    name = ALIASES.get(name, name)
    if name.startswith("--") or name in OTHER_VERBS or ">" in rest:
        assert name in [*OTHER_VERBS, "--help", "--version"]
        assert name != "default-spec" or set(rest[: rest.index(">") if ">" in rest else None]) <= set(verbs)
        return
    assert name in verbs
    if "--help" in rest:
        return
    spec_file, multirun, overrides = _parse(program, rest)
    if spec_file is not None:
        assert (ROOT / spec_file).exists() or f"> {spec_file}" in page.read_text(encoding="utf-8")
    kind = getattr(module, verbs[name].schema)
    for job in compose.grid(overrides) if multirun else [overrides]:
        spec = compose.load_spec(kind, job)
        if (program, name) == ("fpenet", "train") and not spec.model.scheme:
            load_scheme("", spec.model.num_keypoints, spec.model.source_points)


@pytest.mark.parametrize(("page", "block"), cases(lambda page: blocks(page, "yaml")))
def test_yaml_block_is_a_spec_or_a_scheme(page, block, tmp_path):
    file = tmp_path / "block.yaml"
    file.write_text(block, encoding="utf-8")
    content = yaml.safe_load(block)
    if "num_keypoints" in content:
        assert load_scheme(str(file), content["num_keypoints"]).flip is not None
    else:  # what differs from the defaults of one of the two
        kind = FacenetTrainSpec if "# facenet" in block else FpenetTrainSpec
        assert compose.load_spec(kind, [], str(file)) != kind()


@pytest.fixture
def data_page() -> Path:
    return ROOT / "docs" / "data.md"


def test_pts_example_is_read(data_page, tmp_path):
    (tmp_path / "face.pts").write_text(blocks(data_page, "")[0])
    assert read_pts(tmp_path / "face.pts").shape == (3, 2)


def test_table_example_is_read(data_page, tmp_path):
    (table,) = (block for block in blocks(data_page, "") if block.startswith("image,"))
    (tmp_path / "a").mkdir()
    for name in ("0001.jpg", "0002.jpg"):
        Image.new("L", (640, 480)).save(tmp_path / "a" / name)
    (tmp_path / "faces.csv").write_text(table)
    faces, rejections = read_face_csv(schema.SourceConfig(format="csv", path="faces.csv"), tmp_path)
    assert rejections == []
    assert [(face.subject, face.states.tolist()) for face in faces] == [("ann", [2, 1]), ("ben", [2, 0])]


def test_map_example_is_one(data_page, tmp_path):
    (text,) = (block for block in blocks(data_page, "") if block.startswith("from:"))
    (tmp_path / "map.yaml").write_text(text)
    assert load_point_map("map.yaml", tmp_path).rows == ((0,), (4,), (5,), (6,), (1, 2, 3))
    named = re.findall(r"`(\d+_to_\d+)`", data_page.read_text(encoding="utf-8"))
    assert set(named) == set(built_in_maps())


def test_label_example_is_read(data_page, tmp_path):
    (tmp_path / "set1").mkdir()
    Image.new("L", (1280, 720)).save(tmp_path / "set1" / "000123.png")
    (tmp_path / "labels.json").write_text(blocks(data_page, "json")[0])
    source = schema.SourceConfig(format="fpenet_json", path="labels.json")
    (face,), rejections = read_fpenet_json(source, tmp_path, num_keypoints=3)
    assert rejections == []
    assert face.states.tolist() == [2, 1, 0]
    assert face.box.tolist() == [412.0, 96.5, 532.0, 246.5]


def test_boxes_example_is_read(tmp_path):
    boxes, predictions = blocks(ROOT / "docs" / "inference.md", "json")
    (tmp_path / "boxes.json").write_text(boxes)
    read = read_boxes(str(tmp_path / "boxes.json"))
    assert [face.score for face in read["a.jpg"]] == [None, 0.93]
    assert read["sub/b.jpg"] == []
    assert set(json.loads(predictions)["conventions"]) <= set(CONVENTIONS)


def documented_keys(page: Path) -> list[str]:
    """Code spans that look like keys: `section.key`, `section.key=value`, `key=value`, `group=name`."""
    sections = "|".join({name for kind in SPECS for name in get_type_hints(kind)})
    dotted = re.compile(rf"({sections})(\[\])?(\.[\w\[\]]+)+(=.*)?")
    spans = [span for span in code_spans(page) if not span.split("=")[0].endswith(FILE_ENDINGS)]
    spans = [span for span in spans if dotted.fullmatch(span) or re.fullmatch(r"[a-z_]+=[^ ]*", span)]
    return [span for span in spans if span.partition("=")[0] not in NO_KEYS]


def accepted(span: str) -> bool:
    """Whether a span is a group's name, a key, or a key with a value that some verb takes."""
    key, _, value = span.partition("=")
    if key in GROUPS:
        return not value or any(value in compose.offered_groups(kind).get(key, []) for kind in TRAINED)
    known = key in all_keys() or key.rpartition(".")[0] in OPEN
    if not known or value in ("", "..."):
        return known
    for kind in SPECS:
        with suppress(ConfigError):
            compose.load_spec(kind, [span])
            return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_keys_exist(page):
    assert [span for span in documented_keys(page) if not accepted(span)] == []


@pytest.mark.parametrize("kind", TRAINED, ids=lambda kind: kind.__name__)
def test_every_section_of_the_spec_is_documented(kind):
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    keys = list(compose._all_keys(kind))
    sections = {key.rpartition(".")[0] for key in keys}
    assert [key for key in keys if key not in sections and f"`{key}" not in text] == []
    data_page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for _, module in PROGRAMS.values():
        assert [name for name in get_type_hints(module.SourceConfig) if f"`{name}`" not in data_page] == []


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """GitHub's anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "link"), cases(links))
def test_link_resolves(page, link):
    if re.match(r"https?://|mailto:", link):
        return
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists(), f"{page.name} links to {link}"
    assert target.is_relative_to(ROOT)
    assert not anchor or anchor in anchors(target)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_commands_and_prose_name_exist(page):
    pattern = (
        r"\b((?:docs|configs|tests|datasets|training|fpenet_trainer|facenet_trainer)/[\w./-]+\.(?:py|sh|yaml|md))\b"
    )
    named = set(re.findall(pattern, page.read_text(encoding="utf-8")))
    assert [name for name in named if not (ROOT / name).exists()] == []


NAMED_TESTS = sorted({span for page in PAGES for span in code_spans(page) if re.match(r"tests/.*::", span)})


@pytest.mark.parametrize("name", NAMED_TESTS)
def test_tests_that_the_pages_name_exist(name):
    file, *parts = name.split("::")
    source = (ROOT / file).read_text(encoding="utf-8")
    kinds = ["class"] * (len(parts) - 1) + ["def"]
    assert all(re.search(rf"^ *{kind} {part}\b", source, re.MULTILINE) for kind, part in zip(kinds, parts, strict=True))


def test_make_targets_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    lines = [line for page in PAGES for line in shell_lines(page)]
    called = [words[1] for line in lines if (words := shlex.split(line, comments=True))[:1] == ["make"]]
    assert called
    assert set(called) <= set(targets)


def sweep_commands() -> Iterator[list[str]]:
    """The sweep's command for the first and the last value of every parameter, as W&B's agent fills it in."""
    sweep = yaml.safe_load(SWEEP.read_text(encoding="utf-8"))
    for end in (0, -1):
        values = {
            name: (ranges.get("values") or [ranges["min"], ranges["max"]])[end]
            for name, ranges in sweep["parameters"].items()
        }
        flags = [f"{name}={value}" for name, value in values.items()]
        words = [[word] if word != "${args_no_hyphens}" else flags for word in sweep["command"]]
        yield [word for group in words for word in group]


def test_sweep_trains(monkeypatch):
    """Every command it can give is one of `fpenet train`, in a folder of its own, tracked online."""
    monkeypatch.setenv("WANDB_RUN_ID", "abc123")
    for command in sweep_commands():
        assert command[:2] == ["fpenet", "train"]
        spec_file, multirun, overrides = _parse("fpenet", command[2:])
        assert (spec_file, multirun) == (None, False)
        spec = compose.load_spec(FpenetTrainSpec, overrides)
        assert spec.results_dir == "results/sweep/abc123"
        assert (spec.track.wandb, spec.track.wandb_mode) == (True, "online")
        assert spec.data.train


def test_sweep_is_no_group_and_is_shipped():
    assert SWEEP.parent == compose.group_home(FpenetTrainSpec)
    assert "sweep" not in compose.offered_groups(FpenetTrainSpec)
    sweep = yaml.safe_load(SWEEP.read_text(encoding="utf-8"))
    assert sweep["metric"] == {"name": "val/nme_interocular", "goal": "minimize"}


def test_python_block_imports_what_exists():
    found = [line for page in PAGES for b in blocks(page, "python") for line in b.splitlines() if "import" in line]
    assert found
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(found)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
