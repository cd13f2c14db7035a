"""WIDER FACE's text, as published and broken."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facetrain.configs.facenet.schema import SourceConfig
from facetrain.datasets.formats.wider import read_wider
from facetrain.errors import DataError

PLAIN = "10 20 30 40 0 0 0 0 0 0 \n"


def read(root: Path, text: str, file: str = "wider_face_train_bbx_gt.txt", folder: str = "WIDER_train/images", **more):
    for name in ("0--Parade/a.jpg", "0--Parade/b.jpg", "1--Hands/c.jpg"):
        path = root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 80)).save(path)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(text)
    return read_wider(SourceConfig(format="wider", path=file, **more), root)


def test_boxes_attributes_and_invalid(tmp_path: Path) -> None:
    text = f"0--Parade/a.jpg\n2\n{PLAIN}-4 5 20 10 2 1 1 1 2 1 \n1--Hands/c.jpg\n1\n{PLAIN}"
    (first, second), rejections = read(tmp_path, text)
    assert rejections == []
    assert (first.name, first.size, len(second.boxes)) == ("0--Parade/a.jpg", (100, 80), 1)
    plain, odd = first.boxes
    assert (plain.name, plain.box, plain.line, plain.marked) == ("face", (10, 20, 40, 60), 3, False)
    assert (odd.box, odd.marked) == ((-4, 5, 16, 15), True)
    assert odd.attributes == {"blur": 2, "expression": 1, "illumination": 1, "occlusion": 2, "pose": 1}


def test_a_picture_of_no_faces_with_and_without_its_dummy_line(tmp_path: Path) -> None:
    text = f"0--Parade/a.jpg\n0\n0 0 0 0 0 0 0 0 0 0 \n0--Parade/b.jpg\n0\n1--Hands/c.jpg\n1\n{PLAIN}"
    pictures, rejections = read(tmp_path, text)
    assert rejections == []
    assert [len(picture.boxes) for picture in pictures] == [0, 0, 1]


@pytest.mark.parametrize(
    ("body", "line", "words"),
    [
        ("one\n" + PLAIN, 2, "number of faces, found 'one'"),
        (f"3\n{PLAIN}{PLAIN}", 2, "3 faces are announced, 2 lines follow"),
        (f"0\n{PLAIN}", 2, "0 faces are announced, 1 lines follow"),
        (f"2\n{PLAIN}10 20 30 40 0 0\n", 4, "6 numbers, expected 10"),
        (f"2\n{PLAIN}10 20 wide 40 0 0 0 0 0 0\n", 4, "found 'wide'"),
        ("", 1, "number of faces"),
    ],
)
def test_a_broken_picture_is_left_out_and_the_next_is_read(tmp_path: Path, body: str, line: int, words: str) -> None:
    pictures, (rejection,) = read(tmp_path, f"0--Parade/a.jpg\n{body}1--Hands/c.jpg\n1\n{PLAIN}")
    assert [picture.name for picture in pictures] == ["1--Hands/c.jpg"]
    assert (rejection.reason, rejection.line) == ("broken label", line)
    assert words in rejection.detail


def test_boxes_that_cannot_be_used_go_alone(tmp_path: Path) -> None:
    rows = "0 0 0 0", "10 20 -3 40", "100 20 30 40", "nan 20 30 40"
    text = "0--Parade/a.jpg\n5\n" + "".join(f"{row} 0 0 0 0 0 0\n" for row in rows) + PLAIN
    (picture,), rejections = read(tmp_path, text)
    assert [box.line for box in picture.boxes] == [7]
    assert [(rejection.line, rejection.reason) for rejection in rejections] == [
        (3, "box without area"),
        (4, "box inverted"),
        (5, "box outside the picture"),
        (6, "box not finite"),
    ]


def test_pictures_are_found_from_the_label_file(tmp_path: Path) -> None:
    text = f"0--Parade/a.jpg\n1\n{PLAIN}"
    split = "wider_face_split/wider_face_val_bbx_gt.txt"  # as the archives unpack
    assert len(read(tmp_path / "official", text, split, "WIDER_val/images")[0]) == 1
    assert len(read(tmp_path / "beside", text, folder="images")[0]) == 1
    pictures, rejections = read(tmp_path / "named", text, folder="elsewhere")
    assert (pictures, [rejection.reason for rejection in rejections]) == ([], ["image missing"])
    assert len(read(tmp_path / "named", text, folder="elsewhere", images="elsewhere")[0]) == 1


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no line names a picture.*expected WIDER FACE's text"):
        read(tmp_path, "a b c\n1 2 3\n")
    with pytest.raises(DataError, match="cannot be read"):
        read_wider(SourceConfig(format="wider", path="absent.txt"), tmp_path)


def test_the_real_files(shared_data: Path) -> None:
    counts = {}
    for part in ("train", "val"):
        source = SourceConfig(format="wider", path=f"wider/wider_face_{part}_bbx_gt.txt")
        pictures, rejections = read_wider(source, shared_data)
        boxes = [box for picture in pictures for box in picture.boxes]
        heights = np.array([box.box[3] - box.box[1] for box in boxes if not box.marked])
        counts[part] = (len(pictures), len(heights), sum(box.marked for box in boxes), len(rejections))
    assert counts == {"train": (1239, 6572, 18, 0), "val": (394, 5082, 205, 2)}
    assert [rejection.line for rejection in rejections] == [332, 460]
    assert {rejection.reason for rejection in rejections} == {"box without area"}
    assert (heights >= 20).sum() == 1761
