"""Faces from tables: which columns are what, and what a broken line gets."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facetrain.configs.fpenet.schema import SourceConfig
from facetrain.datasets.formats.face_csv import read_face_csv
from facetrain.errors import ConfigError, DataError

POINTS = [[20, 20], [60.5, 20], [40, 60]]


def read(folder: Path, text: str, **settings):
    Image.new("L", (100, 90)).save(folder / "a.png")
    (folder / "faces.csv").write_text(text, encoding="utf-8", newline="")
    return read_face_csv(SourceConfig(format="csv", path="faces.csv", **settings), folder)


@pytest.mark.parametrize(
    "text",
    [
        "image,x1,y1,x2,y2,x3,y3\na.png,20,20,60.5,20,40,60\n",
        "\ufeffimage;x1;y1;x2;y2;x3;y3\r\na.png;20;20;60.5;20;40;60\r\n",
        "filename\tx0\tx1\tx2\ty0\ty1\ty2\nimages/../a.png\t20\t60.5\t40\t20\t20\t60\n",
        "x_0, x_1, x_2, y_0, y_1, y_2, path\n20, 60.5, 40, 20, 20, 60, a.png\n",
        'image_name,scale,original_0_x,original_0_y,original_1_x,original_1_y,original_2_x,original_2_y\n"a.png",1.2,'
        "20,20,60.5,20,40,60\n",
        "\n\nIMAGE|P1x|P1y|P2x|P2y|P3x|P3y\n\na.png|20|20|6.05e1|20|40|60",
    ],
)
def test_names_and_delimiters_that_are_common(tmp_path: Path, text: str) -> None:
    (tmp_path / "images").mkdir()
    (face,), rejections = read(tmp_path, text)
    assert rejections == []
    np.testing.assert_allclose(face.points, POINTS)
    assert face.states.tolist() == [2, 2, 2]
    lines = text.splitlines()
    assert face.line == 1 + max(n for n, line in enumerate(lines) if line.strip())


def test_states_box_and_subject(tmp_path: Path) -> None:
    header = "image,subject,x1,y1,v1,x2,y2,v2,x3,y3,v3,x4,y4,v4,x_min,y_min,x_max,y_max\n"
    faces, rejections = read(
        tmp_path, header + "a.png,ann,20,20,2,60,20,1,7,7,0,,,2,10,10,70,80\na.png,,20,20,,60,20,,30,40,,30,60,,,,,\n"
    )
    assert rejections == []
    assert faces[0].states.tolist() == [2, 1, 0, 0]
    assert np.isnan(faces[0].points[2:]).all()
    assert faces[0].box is not None and faces[0].box.tolist() == [10, 10, 70, 80]
    assert [face.subject for face in faces] == ["ann", None]
    assert (faces[1].box, faces[1].line) == (None, 3)


def test_columns_of_other_names(tmp_path: Path) -> None:
    text = "photo,lmx_1_,lmy_1_,lmx_2_,lmy_2_\na.png,20,20,60,20\n"
    (face,), _ = read(tmp_path, text, columns={"image": "photo", "x": "lmx_{}_", "y": "lmy_{}_"})
    assert face.points.tolist() == [[20, 20], [60, 20]]
    with pytest.raises(DataError, match=r"faces\.csv:1: no column 'pic', which columns\.image names; .*'photo'"):
        read(tmp_path, text, columns={"image": "pic", "x": "lmx_{}_", "y": "lmy_{}_"})
    with pytest.raises(ConfigError, match=r"columns: unknown key 'picture'; expected image, x, y"):
        read(tmp_path, text, columns={"picture": "photo"})
    with pytest.raises(ConfigError, match=r"columns\.x=lmx: write \{\} where the number"):
        read(tmp_path, text, columns={"x": "lmx"})


def test_tables_that_count_from_1(tmp_path: Path) -> None:
    text = "image,x1,y1,x2,y2,x_min,y_min,x_max,y_max\na.png,1,1,60,20,1,1,100,90\n"
    (face,), _ = read(tmp_path, text, first_pixel=1)
    assert face.points.tolist() == [[0, 0], [59, 19]]
    assert face.box is not None and face.box.tolist() == [0, 0, 99, 89]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("picture,x1,y1", "no columns for the picture and for x and y"),
        ("image,x1,y1,x2", "no columns for the picture and for x and y"),
        ("image,x2,y2", "no columns for the picture and for x and y"),
        ("image,x1,y1,x1", "two columns of the header have the same name"),
        ("image,x1,y1,x2,y2,v1", "1 columns of v for 2 points"),
        ("image,x1,y1,x_min,y_min", "2 of the box's four columns"),
        ("", "the header has nothing"),
        ('image,"x1,y1\na,1,2', "not a table of columns"),
    ],
)
def test_headers_that_do_not_do(tmp_path: Path, header: str, words: str) -> None:
    with pytest.raises(DataError, match=r"faces\.csv:1: ") as error:
        read(tmp_path, header + "\n")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("a.png,20,20,60", "4 columns, the header has 5"),
        ("a.png,20,20,60,", "y of point 2 is ''"),
        ("a.png,20,inf,60,20", "y of point 1 is 'inf'"),
        (",20,20,60,20", "the picture is ''"),
        ("b\0.png,20,20,60,20", "the picture is 'b\\x00.png'"),
    ],
)
def test_a_broken_line_goes_alone(tmp_path: Path, line: str, detail: str) -> None:
    (face,), (rejection,) = read(tmp_path, f"image,x1,y1,x2,y2\n{line}\na.png,20,20,60,20\n")
    assert face.line == 3
    assert (rejection.line, rejection.reason) == (2, "broken label")
    assert detail in rejection.detail
