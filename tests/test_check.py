"""The verb `check`: planted faults are found, clean samples left alone, and what is cleaned trains."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from facetrain.datasets.drawn.scenes import draw_scenes
from facetrain.datasets.drawn.synthetic import draw_faces
from facetrain.datasets.formats.fpenet_json import read_fpenet_json
from facetrain.tests import planted
from facetrain.tests.runs import SMALL, facenet, fpenet

FACES, HELD_OUT, PICTURES = 140, 40, 120
SPEC = ("data.train=[{format: pts, path: train}]", "data.test=[{format: pts, path: test}]", "model.num_keypoints=68")
KITTI = "data.train=[{format: kitti, path: labels, images: pictures}]"
MOST_FALSE = 0.05  # share of the clean samples


def check_faces(root: Path, results: Path, *more: str) -> tuple[int, dict]:
    """Exit code, and what check.json says."""
    code = fpenet("check", *SPEC, f"data.root={root}", f"results_dir={results}", *more)
    return code, json.loads((results / "check.json").read_text())


def check_pictures(root: Path, results: Path, *more: str) -> tuple[int, dict]:
    code = facenet("check", KITTI, f"data.root={root}", f"results_dir={results}", *more)
    return code, json.loads((results / "check.json").read_text())


def drawn_set(root: Path) -> Path:
    """Drawn faces as two folders of pictures with .pts files."""
    for part, count, seed in (("train", FACES, 11), ("test", HELD_OUT, 12)):
        (root / part).mkdir(parents=True)
        for i, face in enumerate(draw_faces(count, seed, 68)):
            Image.fromarray(face.image).convert("RGB").save(root / part / f"{part}{i:03}.jpg", quality=95)
            planted.write_pts(root / part / f"{part}{i:03}.pts", face.points)
    return root


def real_set(shared: Path, root: Path) -> Path:
    """Faces of HELEN and LFPW drawn at random, as the same two folders."""
    rng = np.random.default_rng(3)
    for part, count in (("train", FACES), ("test", HELD_OUT)):
        (root / part).mkdir(parents=True)
        labels = sorted((shared / "300w").glob(f"*/{part}/*.pts"))
        for number in rng.permutation(len(labels))[:count]:
            for file in (labels[number], labels[number].with_suffix(".jpg")):
                shutil.copy(file, root / part / f"{part}_{file.name}")
    return root


def drawn_pictures(root: Path) -> Path:
    (root / "pictures").mkdir(parents=True)
    (root / "labels").mkdir()
    for i, scene in enumerate(draw_scenes(PICTURES + 20, seed=4)):
        width, height = scene.size
        # No box over the edge, which is a finding of its own.
        boxes = [tuple(np.clip(box.box, 0, [width, height, width, height])) for box in scene.boxes]
        if boxes:
            Image.fromarray(scene.image).save(root / "pictures" / f"{i:03}.jpg", quality=90)
            planted.write_kitti(root / "labels" / f"{i:03}.txt", boxes)
    return root


def real_pictures(shared: Path, root: Path) -> Path:
    """Pictures of WIDER FACE drawn at random, with KITTI labels."""
    (root / "pictures").mkdir(parents=True)
    (root / "labels").mkdir()
    blocks = (shared / "wider" / "wider_face_train_bbx_gt.txt").read_text().split("\n")
    starts = [i for i, line in enumerate(blocks) if line.endswith(".jpg")]
    for start in np.random.default_rng(5).permutation(starts)[:PICTURES]:
        rows = [list(map(int, row.split()[:4])) for row in blocks[start + 2 : start + 2 + int(blocks[start + 1])]]
        stem = Path(blocks[start]).stem
        shutil.copy(shared / "wider" / "WIDER_train" / "images" / blocks[start], root / "pictures" / f"{stem}.jpg")
        planted.write_kitti(root / "labels" / f"{stem}.txt", [(x, y, x + w, y + h) for x, y, w, h in rows])
    return root


@pytest.fixture(params=["drawn", "real"])
def faces_root(request, tmp_path):
    root = tmp_path / "set"
    return drawn_set(root) if request.param == "drawn" else real_set(request.getfixturevalue("shared_data"), root)


@pytest.fixture(params=["drawn", "real"])
def pictures_root(request, tmp_path):
    root = tmp_path / "set"
    if request.param == "drawn":
        return drawn_pictures(root)
    return real_pictures(request.getfixturevalue("shared_data"), root)


def test_20_faults_of_10_kinds_among_faces(faces_root, tmp_path):
    faults = planted.plant_in_faces(faces_root / "train", faces_root / "test")
    code, report = check_faces(faces_root, tmp_path / "results", "check.pictures=2")
    assert code == 1
    assert planted.unfound(faults, report["findings"]) == []
    alarms = planted.false_alarms(faults, report["findings"])
    assert len(alarms) <= MOST_FALSE * (FACES + HELD_OUT - len(faults)), alarms


def test_20_faults_of_10_kinds_among_pictures(pictures_root, tmp_path):
    faults = planted.plant_in_pictures(pictures_root / "pictures", pictures_root / "labels")
    code, report = check_pictures(pictures_root, tmp_path / "results", "check.pictures=2")
    assert code == 1
    found = report["findings"]
    for finding in found:  # of files; the other findings name the label
        finding["file"] = finding["file"].replace("/pictures/", "/labels/")
    assert planted.unfound(faults, found) == []
    alarms = planted.false_alarms(faults, found)
    assert len(alarms) <= MOST_FALSE * (PICTURES - len(faults)), alarms


def test_clean_faces_pass(tmp_path, capsys):
    root = drawn_set(tmp_path / "set")
    code, report = check_faces(root, tmp_path / "results")
    assert code == 0
    assert report["errors"] == 0
    assert {(row["split"], row["samples"]) for row in report["counts"]} == {("train", 126), ("val", 14), ("test", 40)}
    assert report["statistics"]["yaw"]["train"]["count"] == 126
    assert "0 errors" in capsys.readouterr().out


def test_findings_name_the_file_and_line(tmp_path, capsys):
    root = drawn_set(tmp_path / "set")
    planted.break_label(root / "train" / "train007.jpg")
    code, report = check_faces(root, tmp_path / "results")
    (finding,) = [one for one in report["findings"] if one["severity"] == "error"]
    assert code == 1
    assert (finding["file"], finding["line"]) == (str(root / "train" / "train007.pts"), 4)
    out, err = capsys.readouterr()
    assert "train007.pts:4: broken label" in out
    assert err.startswith("fpenet: 1 errors")


def test_a_source_that_training_stops_at_is_one_finding(tmp_path):
    root = drawn_set(tmp_path / "set")
    code, report = check_faces(root, tmp_path / "results", "data.val=[{format: pts, path: nowhere}]")
    assert code == 1
    assert [one["kind"] for one in report["findings"] if one["severity"] == "error"] == ["source unusable"]
    assert sum(row["samples"] for row in report["counts"]) == FACES + HELD_OUT


def test_labels_of_another_layout_are_told_of(tmp_path):
    """All 68 points in the reverse order: no face differs from the others, but none is one of the layout."""
    root = drawn_set(tmp_path / "set")
    for label in root.glob("*/*.pts"):
        planted.write_pts(label, planted.read_points(label)[::-1])
    code, report = check_faces(root, tmp_path / "results")
    assert code == 1
    (finding,) = [one for one in report["findings"] if one["severity"] == "error"]
    assert finding["kind"] == "wrong order" and "another one" in finding["detail"]


def test_cleaned_faces_train_and_the_originals_stay(tmp_path):
    root = drawn_set(tmp_path / "set")
    faults = planted.plant_in_faces(root / "train", root / "test")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    results = tmp_path / "results"
    assert check_faces(root, results, "--fix", "check.pictures=0")[0] == 1
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    cleaned = results / "cleaned" / "cleaned.yaml"
    again = tmp_path / "again"
    assert fpenet("check", "-e", str(cleaned), f"results_dir={again}") == 0
    report = json.loads((again / "check.json").read_text())
    # Gone: 2 unreadable, 2 collapsed, 2 mirrored, 2 wrong order, 2 broken, 2 that the test part has too.
    wanted = {kind for _, kind in faults} - {"wrongly named", "transparency", "16 bits", "turned by EXIF"}
    gone = sum(kind in wanted for _, kind in faults)
    assert sum(row["samples"] for row in report["counts"]) == FACES + HELD_OUT + 2 - gone
    with open(results / "cleaned" / "removed.csv", newline="") as file:
        removed = list(csv.DictReader(file))
    assert {(Path(row["file"]).stem, row["reason"]) for row in removed} == {f for f in faults if f[1] in wanted}
    train = ("train.epochs=1", f"results_dir={tmp_path / 'run'}", "overwrite=true")
    small = [word for word in SMALL if not word.startswith(("model.num_keypoints", "train.epochs"))]
    assert fpenet("train", "-e", str(cleaned), *small, *train) == 0


def test_cleaned_faces_keep_their_points(tmp_path):
    root = drawn_set(tmp_path / "set")
    assert check_faces(root, tmp_path / "results", "fix=true", "check.pictures=0")[0] == 0
    spec = yaml.safe_load((tmp_path / "results" / "cleaned" / "cleaned.yaml").read_text())
    from facetrain.configs.fpenet.schema import SourceConfig

    source = SourceConfig(**spec["data"]["train"][0])
    samples, rejections = read_fpenet_json(source, Path(spec["data"]["root"]), 68)
    assert rejections == [] and len(samples) == FACES
    for sample in samples:
        label = root / "train" / Path(sample.name).with_suffix(".pts").name
        assert np.allclose(sample.points, planted.read_points(label), atol=1e-3)


def test_cleaned_pictures_pass(tmp_path):
    root = drawn_pictures(tmp_path / "set")
    planted.plant_in_pictures(root / "pictures", root / "labels")
    results = tmp_path / "results"
    assert check_pictures(root, results, "--fix", "check.pictures=0")[0] == 1
    code = facenet("check", "-e", str(results / "cleaned" / "cleaned.yaml"), f"results_dir={tmp_path / 'again'}")
    report = json.loads((tmp_path / "again" / "check.json").read_text())
    assert (code, report["errors"]) == (0, 0)
    assert "duplicate" not in report["kinds"]


def test_persons_in_two_splits(tmp_path):
    root = tmp_path / "set"
    drawn_set(root)
    pattern = "'^[a-z]+(\\d\\d)'"  # train000 to train009 are one person, and test000 to test009 the same
    parts = [f"data.{part}=[{{format: pts, path: {part}, subject_pattern: {pattern}}}]" for part in ("train", "test")]
    parts.append("data.split.by=subject")
    code, report = check_faces(root, tmp_path / "results", *parts, "fix=true")
    shared = [one for one in report["findings"] if one["kind"] == "subject in two splits"]
    assert code == 1
    assert len(shared) == 4  # of the 14 persons in training four are in the test part too
    spec = tmp_path / "results" / "cleaned" / "cleaned.yaml"
    assert fpenet("check", "-e", str(spec), f"results_dir={tmp_path / 'again'}") == 0


def test_what_training_drops_before_its_split_is_in_no_split(tmp_path):
    """Two files of one photograph: whatever part the first is drawn into, neither face nor person leaks."""
    root = drawn_set(tmp_path / "set")
    for number in range(30):
        planted.repeat_encoded(root / "train" / f"train{number:03}.jpg", root / "train")
    person = "data.train=[{format: pts, path: train, subject_pattern: '(\\d+)'}]"
    code, report = check_faces(root, tmp_path / "results", person, "data.split.by=subject", "data.split.fraction=0.5")
    assert (code, report["errors"]) == (0, 0)
    assert report["kinds"]["duplicate"]["count"] == 30


def test_results_are_not_overwritten(tmp_path, capsys):
    root = drawn_set(tmp_path / "set")
    check_faces(root, tmp_path / "results", "check.pictures=0")
    assert fpenet("check", *SPEC, f"data.root={root}", f"results_dir={tmp_path / 'results'}") == 2
    assert "overwrite=true" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["check"], ["check", "check.alike=2"], ["train", "--fix"]])
def test_wrong_commands_are_refused(arguments, capsys):
    assert fpenet(*arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
