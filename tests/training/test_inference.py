"""What both verbs `infer` stand on: batches in bounded memory, and a results folder that is safe to write to."""

import json

import pytest

from facetrain.errors import ConfigError
from facetrain.training import inference
from facetrain.training.inference import GrowingJson, batches, prepare_results


def groups(items, kind="pictures", size=4):
    return [[name for name, *_ in batch] for batch in batches(items, kind, size, lambda item: item[1:])]


def test_batches_are_full_and_nothing_is_left_out():
    faces = [("a", 1, 10), ("b", 0, 10), ("c", 3, 10), ("d", 9, 10), ("e", 2, 10)]
    assert groups(faces) == [["a", "b", "c"], ["d"], ["e"]]
    assert groups([]) == []


def test_pictures_without_faces_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(inference, "HELD_BYTES", 25)
    assert groups([(str(i), 0, 10) for i in range(7)]) == [["0", "1", "2"], ["3", "4", "5"], ["6"]]


def test_a_cameras_frames_do_not_wait():
    assert groups([("0", 0, 1), ("1", 2, 1)], kind="camera") == [["0"], ["1"]]


def test_batches_ask_for_no_picture_before_its_turn():
    read = []
    pictures = (read.append(i) or (str(i), 1, 1) for i in range(9))
    next(batches(pictures, "video", 3, lambda item: item[1:]))
    assert read == [0, 1, 2]


@pytest.mark.parametrize("rows", [[], [{"a": 1}], [[1.5], None, "\u00e9"]])
def test_growing_json_takes_its_name_when_it_is_whole(tmp_path, rows):
    bare, named = GrowingJson(tmp_path / "bare.json"), GrowingJson(tmp_path / "named.json", {"head": [1]}, "rows")
    for row in rows:
        bare.write(row)
        named.write(row)
    assert not (tmp_path / "bare.json").exists()
    bare.close()
    named.close({"tail": {"x": []}})
    assert json.loads((tmp_path / "bare.json").read_text()) == rows
    assert json.loads((tmp_path / "named.json").read_text()) == {"head": [1], "rows": rows, "tail": {"x": []}}
    assert len(list(tmp_path.iterdir())) == 2


def test_an_earlier_runs_files_go_and_others_stay(tmp_path):
    for name in ("labels/a.txt", "pictures/a.jpg", "predictions.json", "notes.md", "labels.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    with pytest.raises(ConfigError, match="is not empty"):
        prepare_results(tmp_path, "elsewhere.png", False, ("labels", "pictures"))
    prepare_results(tmp_path, "elsewhere.png", True, ("labels", "pictures"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.csv", "notes.md"]


def test_what_no_run_wrote_is_never_deleted(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(ConfigError, match="holds pictures, which no earlier run wrote; name another folder"):
        prepare_results(tmp_path, "elsewhere.png", True, ("labels", "pictures"))
    assert (tmp_path / "pictures").is_dir()


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is a file; name a folder"):
        prepare_results(tmp_path / "file", "elsewhere.png", True, ())
    (tmp_path / "in").mkdir()
    with pytest.raises(ConfigError, match="holds the input"):
        prepare_results(tmp_path, str(tmp_path / "in"), True, ())
