"""The verb `convert`: what is trained on its results is what is trained on the files it read, to the last bit."""

import json
import os
import random
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facetrain.configs.compose import load_spec
from facetrain.configs.facenet.schema import FacenetTrainSpec
from facetrain.configs.fpenet.schema import DataConfig, FpenetTrainSpec, SourceConfig
from facetrain.datasets.detection_sources import read_detection_sets
from facetrain.datasets.preprocessing import Preprocessing
from facetrain.datasets.sources import read_sets
from facetrain.datasets.store.pictures import read_picture
from facetrain.datasets.store.store import INDEX
from facetrain.tests import facenet_runs, runs
from facetrain.tests.runs import SMALL, Runner, facenet, fpenet, furthest, weights

LAYOUT = ("model.num_keypoints=68", "model.input_size=32")


@pytest.fixture(autouse=True)
def no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    runs.leave_out_reports(monkeypatch.setattr)


def convert_arguments(faces: Path, folder: Path, *overrides: str) -> list[str]:
    return ["convert", "data=pts", f"data.root={faces}", f"results_dir={folder}", *LAYOUT, *overrides]


@pytest.fixture(scope="module")
def store(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("convert") / "store"
    assert fpenet(*convert_arguments(faces, folder)) == 0
    return folder


def same_runs(one: Path, other: Path) -> None:
    """The same weights, and the same figures at every step and validation."""
    for name in ("last.safetensors", "best.safetensors"):
        assert furthest(weights(one / name), weights(other / name)) == 0
    assert runs.json_lines(one / "metrics.jsonl") == runs.json_lines(other / "metrics.jsonl")


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def raw(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the files themselves."""
    with pytest.MonkeyPatch.context() as patch:
        runs.leave_out_reports(patch.setattr)
        return runs.train(faces, tmp_path_factory.mktemp("raw"))


def test_faces_of_a_store_train_the_same_weights(store: Path, raw: Path, tmp_path: Path) -> None:
    arguments = ["train", "-e", str(store / "data.yaml"), f"results_dir={tmp_path / 'stored'}", *SMALL]
    assert fpenet(*arguments, "data.workers=1") == 0
    same_runs(raw, tmp_path / "stored")


def test_two_processes_read_their_parts_of_a_store(faces: Path, store: Path, tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    source = f"data.root={store}", "data.train=[{format: store, path: train}]", "data.val=[{format: store, path: val}]"
    for name, data in (("raw", ("data=pts", f"data.root={faces}")), ("stored", source)):
        arguments = ["train", *data, f"results_dir={tmp_path / name}", *SMALL, "train.batch_size=2", "data.workers=1"]
        assert runner.together(arguments) == [0, 0], runner.output
    same_runs(tmp_path / "raw", tmp_path / "stored")


def test_pictures_of_a_store_train_the_same_weights(pictures: Path, narrow: Path, tmp_path: Path) -> None:
    raw = facenet_runs.train(pictures, narrow, tmp_path / "raw")
    source = "data.train=[{format: kitti, path: .}]"
    assert facenet("convert", source, f"data.root={pictures}", f"results_dir={tmp_path / 'store'}") == 0
    assert facenet("train", "-e", str(tmp_path / "store" / "data.yaml"), f"results_dir={tmp_path / 'stored'}",
                   f"model.pretrained={narrow}", *facenet_runs.SMALL, "data.workers=1") == 0  # fmt: skip
    same_runs(raw, tmp_path / "stored")


@pytest.mark.parametrize("to", ["coco", "kitti", "store"])
def test_pictures_in_another_format_are_the_same(pictures: Path, tmp_path: Path, to: str) -> None:
    source = "data.train=[{format: kitti, path: ., name: painted, weight: 1.5}]"
    common = [source, f"data.root={pictures}"]
    assert facenet("convert", *common, f"results_dir={tmp_path}", f"convert.to={to}") == 0
    assert facenet("convert", *common, f"results_dir={tmp_path}", f"convert.to={to}", "overwrite=true") == 0
    wanted = read_detection_sets(load_spec(FacenetTrainSpec, common).data)
    found = read_detection_sets(load_spec(FacenetTrainSpec, [], str(tmp_path / "data.yaml")).data)
    for part in ("train", "val"):
        assert len(getattr(found, part)) == len(getattr(wanted, part)) > 0
        for one, other in zip(getattr(wanted, part), getattr(found, part), strict=True):
            assert (one.name, one.weight, one.source) == (other.name, other.weight, "painted")
            np.testing.assert_array_equal(one.boxes, other.boxes)
            np.testing.assert_array_equal(read_picture(one), read_picture(other))


def test_everything_that_is_said_of_a_face_is_kept(tmp_path: Path) -> None:
    """Two sources with settings of their own, drawn faces, missing points; as a store and as label files."""
    sources = (
        "data.train=[{format: synthetic, count: 6, seed: 1, name: drawn, weight: 0.5, mask_occluded: false}, "
        "{format: synthetic, count: 4, seed: 2, labelled: false, validate: false, name: unlabelled}]"
    )
    common = [sources, "data.split.fraction=0.3", "model.num_keypoints=80", "model.input_size=48"]
    wanted = faces_of(load_spec(FpenetTrainSpec, common).data)
    for to in ("store", "fpenet_json", "coco"):
        assert fpenet("convert", *common, f"convert.to={to}", f"results_dir={tmp_path / to}") == 0
        found = faces_of(load_spec(FpenetTrainSpec, [], str(tmp_path / to / "data.yaml")).data)
        assert found.keys() == wanted.keys()
        for key, one in wanted.items():
            other = found[key]
            for name in ("labelled", "weight", "validate", "mask_occluded"):
                assert getattr(one, name) == getattr(other, name)
            np.testing.assert_array_equal(one.states, other.states)
            np.testing.assert_array_equal(one.box, other.box)
            assert to != "store" or (one.name, one.subject) == (other.name, other.subject)


def faces_of(data: DataConfig) -> dict:
    """The faces by part, source and points."""
    sets = read_sets(data, 80, [], Preprocessing(size=48))
    return {
        (part, face.source, face.points.tobytes()): face for part in ("train", "val") for face in getattr(sets, part)
    }


def test_evaluation_of_a_store_is_that_of_the_files(faces: Path, raw: Path, tmp_path: Path) -> None:
    source = f"{{format: pts, path: {faces}}}"
    assert fpenet("convert", f"data.test=[{source}]", f"results_dir={tmp_path / 'store'}", *LAYOUT) == 0
    figures = []
    stored = f"{{format: store, path: {tmp_path / 'store' / 'test'}}}"
    for name, test in (("raw", source), ("stored", stored)):
        arguments = [f"model={raw / 'best.safetensors'}", f"data.test=[{test}]", f"results_dir={tmp_path / name}"]
        assert fpenet("evaluate", *arguments, "device=cpu", "pictures=2") == 0
        figures.append(json.loads((tmp_path / name / "metrics.json").read_text())["metrics"])
    assert figures[0] == figures[1]


def test_killed_at_any_moment_convert_ends_with_the_same_bytes(faces: Path, tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    assert runner.run(convert_arguments(faces, tmp_path / "whole"), small_shards) == 0
    rng = random.Random(3)
    arguments = convert_arguments(faces, tmp_path / "store")
    kills = 0
    for _ in range(4):
        process = runner.start(arguments, small_shards, 0.05)
        deadline = time.monotonic() + 60
        while not (tmp_path / "store" / "train").exists() and process.exitcode is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.join(rng.uniform(0, 0.4))
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
    assert kills >= 2
    assert runner.run(arguments, small_shards) == 0
    found, expected = content(tmp_path / "store"), content(tmp_path / "whole")
    assert len(found) > 10
    assert found.keys() == expected.keys()
    assert all(found[name] == expected[name] for name in expected if name != "data.yaml")  # which names its folder


def small_shards(seconds: float = 0) -> None:
    """Makes shards so small that a kill leaves some, and every sample take a while."""
    from facetrain.datasets.store.faces import FaceCodec
    from facetrain.datasets.store.writer import StoreWriter

    StoreWriter.__init__.__kwdefaults__["shard_bytes"] = 10_000
    encode = FaceCodec.encode

    def slow(self, sample):
        time.sleep(seconds)
        return encode(self, sample)

    FaceCodec.encode = slow


def test_a_flipped_byte_is_found_on_request_and_in_training(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, data in content(store).items():
        (tmp_path / "store" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "store" / name).write_bytes(data)
    assert fpenet("convert", f"results_dir={tmp_path / 'store'}", "convert.verify=true") == 0
    assert "records in 1 shards are as they were written" in capsys.readouterr().out
    shard = tmp_path / "store" / "train" / "00000.shard"
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    assert fpenet("convert", f"results_dir={tmp_path / 'store'}", "convert.verify=true") == 2
    assert "train/00000.shard: damaged: the checksum of record 0 is wrong" in capsys.readouterr().err
    source = f"data.train=[{{format: store, path: {tmp_path / 'store' / 'train'}}}]"
    assert fpenet("train", source, f"results_dir={tmp_path / 'run'}", *SMALL) == 2
    assert "train/00000.shard: damaged: the checksum of record 0 is wrong" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.input_size=48", "model.input_size=48: the store .* was made with 32"),
        ("crop.enlarge=1.5", r"crop\.enlarge=1\.5: the store .* was made with 1\.25"),
        ("crop.source=box", "crop.source=box: the store .* was made with points"),
        ("model.num_keypoints=80", "model.num_keypoints=80: the store .* was made with 68"),
    ],
)
def test_a_store_for_other_crops_is_refused(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, says: str
) -> None:
    arguments = ["train", "-e", str(store / "data.yaml"), f"results_dir={tmp_path}", *SMALL, override]
    assert fpenet(*arguments) == 2
    message = capsys.readouterr().err
    assert re.search(says, message), message


def test_what_a_store_cannot_do(
    store: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: str) -> str:
        assert fpenet(*arguments) == 2
        return capsys.readouterr().err

    train = ["train", f"data.root={store}", f"results_dir={tmp_path / 'run'}", *SMALL]
    said = refused(*train, "data.train=[{format: store, path: train, weight: 0.5}]")
    assert "data.train[0].weight=0.5: that is settled when a store is made" in said
    said = refused(*train, "data.train=[{format: store, path: tran}]")
    assert "data.train[0].path=tran" in said and "nearest" in said and "train" in said
    said = refused(*train, "data.train=[{format: store}]")
    assert "data.train[0].path is empty" in said
    said = refused(*train, "data.train=[{format: store, path: val}]", "train.batch_size=2")
    assert "only what convert made of data.train can be augmented" in said
    source = "data.train=[{format: kitti, path: .}]"
    assert facenet("convert", source, f"data.root={pictures}", f"results_dir={tmp_path / 'pictures'}") == 0
    said = refused(*train, f"data.train=[{{format: store, path: {tmp_path / 'pictures' / 'train'}}}]")
    assert "is a store of pictures, not of faces" in said
    arguments = ["train", "-e", str(tmp_path / "pictures" / "data.yaml"), f"results_dir={tmp_path / 'run'}"]
    assert facenet(*arguments, "data.class_mapping={person: person}", *facenet_runs.SMALL) == 2
    assert "data.class_mapping=['person']" in capsys.readouterr().err


def test_a_store_without_validation_says_so(store: Path) -> None:
    sets = read_sets(
        DataConfig(train=[SourceConfig(format="store", path=str(store / "train"))]), 68, [], Preprocessing(size=32)
    )
    assert len(sets.val) == 0
    assert "of stores nothing is held out" in sets.notes[0]


def test_what_is_left_out_is_written_down(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in sorted(faces.iterdir())[:12]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    broken = tmp_path / "03.jpg"  # of which the reader of labels looks at the head only
    with Image.open(tmp_path / "03.png") as image:
        image.save(broken)
    (tmp_path / "03.png").unlink()
    broken.write_bytes(broken.read_bytes()[:-1500])
    arguments = convert_arguments(tmp_path, tmp_path / "store", "data.split.fraction=0", "data.drop_duplicates=false")
    for _ in range(2):  # and once more when it is complete already
        assert fpenet(*arguments) == 0
        assert "1 x picture unreadable" in capsys.readouterr().out
        assert "03.jpg: picture unreadable" in (tmp_path / "store" / "rejected.txt").read_text()
    assert json.loads((tmp_path / "store" / "train" / INDEX).read_text())["store"]["shards"][0]["records"] == 5


def test_a_full_disk_says_so_and_with_room_it_goes_on(
    faces: Path, store: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ballast = runs.fill(small_disk, 40_000)
    arguments = convert_arguments(faces, small_disk / "store")
    assert fpenet(*arguments) == 1
    said = capsys.readouterr().err
    assert "cannot write" in said and "No space left" in said and "run the same command again to go on" in said
    ballast.unlink()
    assert fpenet(*arguments) == 0
    found = content(small_disk / "store")
    assert all(found[name] == data for name, data in content(store).items() if name != "data.yaml")


def test_sets_added_one_after_the_other(faces: Path, tmp_path: Path) -> None:
    one = convert_arguments(faces, tmp_path / "store", "data.train=[{format: synthetic, count: 5, seed: 1}]")
    two = convert_arguments(faces, tmp_path / "store", "data.train=[{format: synthetic, count: 4, seed: 2}]")
    assert fpenet(*one, "data.split.fraction=0") == 0
    assert fpenet(*two, "data.split.fraction=0") == 2  # it would be lost
    assert fpenet(*two, "data.split.fraction=0", "convert.append=true") == 0
    sets = read_sets(
        DataConfig(train=[SourceConfig(format="store", path=str(tmp_path / "store" / "train"))]), 68, [],
        Preprocessing(size=32),
    )  # fmt: skip
    assert [face.name for face in sets.train] == [f"drawn-{s}-{i}" for s, n in ((1, 5), (2, 4)) for i in range(n)]


def test_pictures_are_shrunk_on_request_with_their_boxes(tmp_path: Path) -> None:
    image = np.zeros((60, 120, 3), np.uint8)
    image[20:40, 30:90] = 255
    Image.fromarray(image).save(tmp_path / "0.png")
    (tmp_path / "0.txt").write_text(facenet_runs.kitti_line((30, 20, 90, 40)) + "\n")
    arguments = ["data.train=[{format: kitti, path: .}]", f"data.root={tmp_path}", "data.split.fraction=0"]
    assert facenet("convert", *arguments, f"results_dir={tmp_path / 'out'}", "convert.longest_side=40") == 0
    (sample,) = read_detection_sets(load_spec(FacenetTrainSpec, [], str(tmp_path / "out" / "data.yaml")).data).train
    assert sample.size == (40, 20)
    small = read_picture(sample)
    assert small.shape == (20, 40, 3)
    (x1, y1, x2, y2) = sample.boxes[0]
    np.testing.assert_allclose((x1, y1, x2, y2), (10, 20 / 3, 30, 40 / 3), atol=1e-5)
    assert small[8:12, 11:29].min() == 255 and small[:5].max() == 0
