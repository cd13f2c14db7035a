"""FaceNet's sources as a spec names them: classes are mapped or ignored; mistakes are named with their remedy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facetrain.configs.facenet.schema import DataConfig, IgnoreConfig, SourceConfig
from facetrain.configs.schema import SplitConfig
from facetrain.datasets.detection_sources import read_detection_sets, read_pictures
from facetrain.datasets.source_files import count_reasons
from facetrain.errors import ConfigError, DataError

NONE = SplitConfig(fraction=0)


def put(root: Path, name: str, *lines: str, labels: str = "labels") -> None:
    """A picture in `images` and its KITTI label in `labels`; a line is 'class x1 y1 x2 y2'."""
    for folder in (root / labels, root / "images"):
        folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 80)).save(root / "images" / f"{name}.png")
    text = "".join("{} 0 1 0 {} {} {} {} 0 0 0 0 0 0 0\n".format(*line.split()) for line in lines)
    (root / labels / f"{name}.txt").write_text(text)


def kitti(path: str = "labels", **more: Any) -> SourceConfig:
    return SourceConfig(format="kitti", path=path, images="images", **more)


def spec(root: Path, **more: Any) -> DataConfig:
    return DataConfig(**({"root": str(root), "train": [kitti()], "split": NONE} | more))


def test_classes_are_mapped_many_to_one_whatever_their_case(tmp_path: Path) -> None:
    put(tmp_path, "a", "FACE 1 2 30 40", "Head 5 6 30 40", "hand 7 8 30 40", "DontCare 0 0 9 9", "car 1 1 50 50")
    mapping = {"Hand": "hand", "face": "face", "HEAD": "face"}
    sets = read_detection_sets(spec(tmp_path, class_mapping=mapping, train=[kitti(weight=0.5, name="mine")]))
    (sample,) = sets.train
    assert sets.classes == ("hand", "face")
    assert sample.labels.tolist() == [1, 1, 0] and sample.labels.dtype == np.int64
    assert sample.boxes.tolist() == [[1, 2, 30, 40], [5, 6, 30, 40], [7, 8, 30, 40]]
    assert sample.boxes.dtype == sample.ignore.dtype == np.float32
    assert sample.ignore.tolist() == [[0, 0, 9, 9]]
    assert {name: values.tolist() for name, values in sample.attributes.items()} == {
        "truncation": [0, 0, 0],
        "occlusion": [1, 1, 1],
    }
    assert (sample.name, sample.source, sample.weight, sample.size) == ("a.png", "mine", 0.5, (100, 80))
    assert len(sets.notes) == 1 and "'car' 1 times (nearest: " in sets.notes[0]


def test_names_without_a_meaning_are_reported_once_with_the_nearest(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        put(tmp_path, name, "face 1 2 30 40", "Faces 1 2 30 40", "haed 1 2 9 9", "haed 1 2 9 9")
        put(tmp_path, "v" + name, "head 1 2 30 40", "Faces 1 2 9 9", labels="val")
    data = spec(tmp_path, class_mapping={"face": "face", "head": "face"}, val=[kitti("val")])
    (note,) = read_detection_sets(data).notes
    assert "'Faces' 6 times (nearest: 'face'), 'haed' 6 times (nearest: 'head')" in note


def test_a_class_that_no_training_box_has_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "a", "Fase 1 2 30 40", "Car 1 2 9 9", "Fase 1 2 9 9")
    put(tmp_path, "f", "face 1 2 30 40", labels="faces")
    put(tmp_path, "n", labels="none")
    words = r"data\.train: no box is of target class 'face'.* takes 'face'.* have 'Fase' 2 times, 'Car' 1 times"
    with pytest.raises(DataError, match=words):
        read_detection_sets(spec(tmp_path))
    with pytest.raises(DataError, match=r"target class 'helmet'.*takes 'face', 'hat'.*'face' 1 times"):
        read_detection_sets(spec(tmp_path, train=[kitti("faces")], class_mapping={"face": "face", "hat": "helmet"}))
    with pytest.raises(DataError, match=r"data\.val: no box .*the labels have no boxes at all"):
        read_detection_sets(spec(tmp_path, train=[kitti("faces")], val=[kitti("none")]))
    sets = read_detection_sets(spec(tmp_path, train=[kitti("faces"), kitti("none")]))
    assert [sample.boxes.shape for sample in sets.train] == [(1, 4), (0, 4)]
    assert sets.train[1].attributes == {} and sets.train[1].ignore.shape == (0, 4)


def test_ignored_classes_and_marked_boxes(tmp_path: Path) -> None:
    text = "a.png\n3\n1 2 30 40 0 0 0 0 0 0\n5 6 7 8 0 0 0 1 0 0\n9 9 0 9 0 0 0 1 0 0\n"
    Image.new("RGB", (100, 80)).save(tmp_path / "a.png")
    (tmp_path / "wider.txt").write_text(text)
    source = SourceConfig(format="wider", path="wider.txt")
    sets = read_detection_sets(spec(tmp_path, train=[source]))
    assert (len(sets.train[0].boxes), sets.train[0].ignore.tolist()) == (1, [[5, 6, 12, 14]])
    assert sets.train[0].source == "wider" and count_reasons(sets.rejections) == "1 box without area"
    sets = read_detection_sets(spec(tmp_path, train=[source], ignore=IgnoreConfig(marked=False)))
    assert (len(sets.train[0].boxes), len(sets.train[0].ignore)) == (2, 0)
    put(tmp_path, "k", "face 1 2 30 40", "Crowd 1 2 60 70", "dontcare 5 5 9 9")
    sets = read_detection_sets(spec(tmp_path, ignore=IgnoreConfig(classes=["CROWD"])))
    assert sets.train[0].ignore.tolist() == [[1, 2, 60, 70]]
    assert "'dontcare' 1 times" in sets.notes[0]


def test_a_label_says_nothing_of_some_boxes(tmp_path: Path) -> None:
    put(tmp_path, "a", "face 1 2 30 40")
    with (tmp_path / "labels" / "a.txt").open("a") as file:
        file.write("face -1 -1 -10 5 6 30 40 0 0 0 0 0 0 0\n")
    (sample,) = read_detection_sets(spec(tmp_path)).train
    np.testing.assert_array_equal(sample.attributes["occlusion"], [1, np.nan])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"class_mapping": {}}, r"data\.class_mapping is empty"),
        ({"class_mapping": {"Face": "a", "face": "b"}}, r"'face' has two target classes"),
        ({"class_mapping": {"face": "Face", "head": "face"}}, "differ in case only"),
        ({"class_mapping": {"face": "face", "DontCare": "face"}}, r"'DontCare' is in data\.ignore\.classes too"),
        ({"split": SplitConfig(by="subject")}, r"data\.split\.by=subject: nothing has a subject.*give a pattern"),
        ({"split": SplitConfig(fraction=0.1)}, r"leaves nothing for training"),
        ({"train": [kitti("")]}, r"data\.train\[0\]\.path is empty.*15 columns"),
    ],
)
def test_specs_that_cannot_work(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    put(tmp_path, "a", "face 1 2 30 40")
    with pytest.raises(ConfigError, match=words):
        read_detection_sets(spec(tmp_path, **more))


def test_paths_that_are_not_there(tmp_path: Path) -> None:
    put(tmp_path, "a", "face 1 2 30 40")
    with pytest.raises(DataError, match=r"data\.val\[1\]\.path=label.*nearest in .*: labels"):
        read_pictures(kitti("label"), tmp_path, "data.val[1]")
    with pytest.raises(DataError, match=r"images=pics"):
        read_pictures(SourceConfig(format="kitti", path="labels", images="pics"), tmp_path)
    with pytest.raises(DataError, match=r"is a folder; format=wider expects"):
        read_pictures(SourceConfig(format="wider", path="labels"), tmp_path)
    with pytest.raises(DataError, match=r"a\.txt is a file; format=voc expects"):
        read_pictures(SourceConfig(format="voc", path="labels/a.txt"), tmp_path)


def test_a_source_without_a_usable_picture(tmp_path: Path) -> None:
    for name in "abcde":
        put(tmp_path, name, "face 1 2 30 40")
        (tmp_path / "images" / f"{name}.png").unlink()
    put(tmp_path, "z")
    (tmp_path / "labels" / "z.txt").write_text("face 0 0 0 1 2 3 4\n")
    with pytest.raises(DataError) as error:
        read_pictures(kitti(), tmp_path, "data.train[0]")
    message = str(error.value)
    assert "data.train[0].path=labels: no usable picture in" in message
    assert "6 rejected: 5 image missing, 1 broken label" in message and "a.txt" in message


def test_count_is_a_reproducible_draw(tmp_path: Path) -> None:
    for i in range(9):
        put(tmp_path, str(i), "face 1 2 30 40")

    def drawn(**more: Any) -> list[str]:
        return [picture.name for picture in read_pictures(kitti(**more), tmp_path)[0]]

    first = drawn(count=4, seed=1)
    assert len(first) == 4 and first == sorted(first) == drawn(count=4, seed=1)
    assert first != drawn(count=4, seed=2)
    assert len(drawn(count=100)) == len(drawn()) == 9


def test_a_validation_part_is_taken_from_the_training_pictures(tmp_path: Path) -> None:
    for i in range(10):
        put(tmp_path, str(i), "face 1 2 30 40")
    sets = read_detection_sets(spec(tmp_path, split=SplitConfig(fraction=0.2, seed=1)))
    assert (len(sets.train), len(sets.val)) == (8, 2)
    again = read_detection_sets(spec(tmp_path, split=SplitConfig(fraction=0.2, seed=1)))
    assert [sample.name for sample in sets.val] == [sample.name for sample in again.val]
    (tmp_path / "held_out.txt").write_text("3\n7.png\n")
    sets = read_detection_sets(spec(tmp_path, split=SplitConfig(by="list", list="held_out.txt")))
    assert [sample.name for sample in sets.val] == ["3.png", "7.png"]


def test_pictures_that_are_held_out_too_leave_training(tmp_path: Path) -> None:
    for i in range(6):
        put(tmp_path, str(i), "face 1 2 30 40")
    sets = read_detection_sets(spec(tmp_path, val=[kitti(count=2, name="v")], test=[kitti(count=1, seed=9)]))
    held_out = {sample.name for sample in (*sets.val, *sets.test)}
    assert {sample.name for sample in sets.train} == {f"{i}.png" for i in range(6)} - held_out
    assert count_reasons(sets.rejections) == f"{len(held_out)} duplicate"
    assert sets.notes == [f"{len(held_out)} training pictures left out, as they are in data.val or data.test too"]
    found = {rejection.file: rejection.detail for rejection in sets.rejections}
    assert found[f"labels/{sets.val[1].name}"].startswith("of the held-out picture ")


def test_folds_by_the_subject_in_a_name(tmp_path: Path) -> None:
    for person, frames in (("ann", 3), ("ben", 2), ("cy", 1)):
        for frame in range(frames):
            put(tmp_path, f"{person}_{frame}", "face 1 2 30 40")
    held_out = []
    for fold in range(2):
        split = SplitConfig(by="subject", pattern="^([a-z]+)_", folds=2, fold=fold, fraction=0)
        sets = read_detection_sets(spec(tmp_path, split=split))
        assert len(sets.train) + len(sets.val) == 6
        held_out.append({sample.name.split("_")[0] for sample in sets.val})
    assert held_out == [{"ann", "cy"}, {"ben"}]


def test_a_file_in_two_sources_is_not_on_both_sides(tmp_path: Path) -> None:
    for i in range(6):
        put(tmp_path, str(i), "face 1 2 30 40")
        put(tmp_path, str(i), "face 1 2 30 40", labels="again")
    both = [kitti(), kitti("again", validate=False)]
    sets = read_detection_sets(spec(tmp_path, train=both, split=SplitConfig(fraction=0.5)))
    assert len(sets.val) == 3 and len(sets.train) == 6
    assert not {sample.name for sample in sets.val} & {sample.name for sample in sets.train}
    assert count_reasons(sets.rejections) == "3 duplicate"


def test_drawn_scenes_need_no_path() -> None:
    data = DataConfig(train=[SourceConfig(count=3, seed=5)], split=NONE)
    sets = read_detection_sets(data)
    assert [sample.name for sample in sets.train] == ["scene-5-0", "scene-5-1", "scene-5-2"]
    assert {sample.source for sample in sets.train} == {"scenes"}
    assert sum(len(sample.boxes) for sample in sets.train) > 0
    assert sets.classes == ("face",) and sets.notes == [] and sets.rejections == []


def test_the_real_faces(shared_data: Path) -> None:
    parts = {part: [SourceConfig(format="wider", path=f"wider_face_{part}_bbx_gt.txt")] for part in ("train", "val")}
    sets = read_detection_sets(DataConfig(root=str(shared_data / "wider"), **parts))
    for part, pictures, faces, ignored in (("train", 1239, 6572, 18), ("val", 394, 5082, 205)):
        samples = getattr(sets, part)
        assert len(samples) == pictures
        assert sum(len(sample.boxes) for sample in samples) == faces
        assert sum(len(sample.ignore) for sample in samples) == ignored
    assert count_reasons(sets.rejections) == "2 box without area" and sets.notes == []
