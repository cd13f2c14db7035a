"""Keypoint schemes: the built-in tables are the original's, custom files are checked, subsets stay consistent."""

import json
from pathlib import Path

import pytest

from facetrain.errors import ConfigError
from facetrain.fpenet_trainer.schemes import Scheme, load_scheme

# The reference's flip permutation, written out: new[i] = old[FLIP[i]].
FLIP = [
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65,
    74, 73, 72, 75, 70, 69, 68, 71, 78, 79, 76, 77,
    91, 92, 93, 100, 99, 98, 97, 96, 95, 94, 101, 80, 81, 82, 89, 88, 87, 86, 85, 84, 83, 90, 103, 102,
]  # fmt: skip
TEN = [0, 8, 16, 19, 24, 33, 38, 44, 48, 54]  # the original tutorial's ten points


@pytest.mark.parametrize("k", [68, 80, 104])
def test_built_in_flip_is_the_references_and_undoes_itself(k):
    flip = load_scheme("", k).flip
    assert flip == tuple(FLIP[:k])
    assert [flip[i] for i in flip] == list(range(k))


@pytest.mark.parametrize("k", [68, 80, 104])
def test_built_in_regions(k):
    scheme = load_scheme("", k)
    expected = {
        "all": range(k),
        "eyes": range(36, 48),
        "nose": range(27, 36),
        "mouth": range(48, 68),
        "eyebrows": range(17, 27),
        "chin": range(17),
        "hp": [8, 17, 21, 22, 26, 31, 35, 36, 39, 42, 45, 48, 54, 57],
        "face": range(36) if k == 68 else [*range(36), *range(76, 80)],
    }
    if k >= 80:
        expected |= {"pupil": range(68, 76), "ears": range(76, 80)}
    if k == 104:
        expected["extra_eye"] = range(80, 104)
    assert {name: list(points) for name, points in scheme.regions.items()} == {n: list(p) for n, p in expected.items()}
    assert scheme.eye_corners == (36, 45)
    assert scheme.eyes == (tuple(range(36, 42)), tuple(range(42, 48)))
    assert len(set(scheme.names)) == len(scheme.names) == k


def test_names_and_flip_agree_on_sides():
    scheme = load_scheme("", 104)
    for i, partner in enumerate(scheme.flip):
        side = scheme.names[i].split("_")[0]
        if side in ("left", "right"):
            assert scheme.names[partner].startswith({"left": "right", "right": "left"}[side])


def test_other_numbers_of_points_have_no_parts_and_no_mirror():
    scheme = load_scheme("", 10)
    assert (scheme.num_keypoints, scheme.flip, scheme.eye_corners, scheme.eyes) == (10, None, None, None)
    assert scheme.regions == {"all": tuple(range(10))}


@pytest.mark.parametrize("k", [68, 80, 104, 10])
def test_survives_the_model_file(k):
    scheme = load_scheme("", k)
    assert Scheme.from_dict(json.loads(json.dumps(scheme.to_dict()))) == scheme


def test_subset_maps_regions_and_keeps_a_closed_flip():
    # Outer eye corners and mouth corners of iBUG, mouth first.
    scheme = load_scheme("", 4, [54, 48, 45, 36])
    assert scheme.regions["mouth"] == (1, 0)
    assert scheme.regions["eyes"] == (3, 2)
    assert "chin" not in scheme.regions
    assert scheme.flip == (1, 0, 3, 2)
    assert scheme.eye_corners == (3, 2)
    assert scheme.eyes is None  # half an eye contour has no centre


def test_subset_that_is_not_closed_has_no_mirror():
    scheme = load_scheme("", 10, TEN)  # 38 is there, its partner 43 is not
    assert scheme.flip is None
    assert scheme.regions["mouth"] == (8, 9)
    assert scheme.regions["chin"] == (0, 1, 2)
    assert scheme.regions["all"] == tuple(range(10))
    assert scheme.names[9] == load_scheme("", 68).names[54]


def test_subset_of_eyes_keeps_their_contours():
    scheme = load_scheme("", 12, range(36, 48))
    assert scheme.eyes == ((0, 1, 2, 3, 4, 5), (6, 7, 8, 9, 10, 11))


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([0, 1], "lists 2 points, 2 of them different, but model.num_keypoints is 3"),
        ([0, 1, 1], "lists 3 points, 2 of them different"),
        ([0, 1, 104], "104 is not a point of 0..103"),
        ([0, 1, -1], "-1 is not a point of 0..103"),
    ],
)
def test_wrong_source_points(points, message):
    with pytest.raises(ConfigError, match=message):
        load_scheme("", 3, points)


GOOD = """
num_keypoints: 5
names: [right_eye, left_eye, nose, right_mouth, left_mouth]
regions:
  eyes: 0-1
  lips: [3, 4]
  pupil: 0
part_of: {pupil: eyes}
flip: [[0, 1], [3, 4]]
eye_corners: [0, 1]
"""


def write(folder: Path, text: str) -> str:
    path = folder / "scheme.yaml"
    path.write_text(text)
    return str(path)


def test_custom_scheme(tmp_path):
    scheme = load_scheme(write(tmp_path, GOOD), 5)
    assert scheme.names == ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth")
    assert scheme.regions == {"all": (0, 1, 2, 3, 4), "eyes": (0, 1), "lips": (3, 4), "pupil": (0,)}
    assert scheme.flip == (1, 0, 2, 4, 3)
    assert scheme.part_of == {"pupil": "eyes"}
    assert Scheme.from_dict(json.loads(json.dumps(scheme.to_dict()))) == scheme


def test_custom_flip_as_a_full_table(tmp_path):
    text = GOOD.replace("[[0, 1], [3, 4]]", "[1, 0, 2, 4, 3]")
    assert load_scheme(write(tmp_path, text), 5).flip == (1, 0, 2, 4, 3)


def test_subset_of_a_custom_scheme(tmp_path):
    scheme = load_scheme(write(tmp_path, GOOD), 2, [4, 3])
    assert scheme.names == ("left_mouth", "right_mouth")
    assert scheme.flip == (1, 0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[3, 4]\n", "[3, 5]\n", "regions.lips: 5 is not a point or a range of points within 0-4"),
        ("0-1", "0-7", "regions.eyes: '0-7' is not a point"),
        ("0-1", "[]", "regions.eyes has no points"),
        ("[[0, 1], [3, 4]]", "[[0, 9]]", "flip: 9 is not a point"),
        ("[[0, 1], [3, 4]]", "[[0, 1], [1, 2]]", "point 1 is in two pairs"),
        ("[[0, 1], [3, 4]]", "[1, 2, 0, 3, 4]", "no involution at point 0: it goes to 1, which goes to 2"),
        ("[[0, 1], [3, 4]]", "[1, 0, 2, 4]", "flip has 4 entries for 5 points"),
        ("[[0, 1], [3, 4]]", "[1, 0, 2, 4, 5]", "no involution at point 3: it goes to 4, which goes to 5"),
        ("[[0, 1], [3, 4]]", "[[0, 1, 2]]", r"\[0, 1, 2\] is not a pair"),
        ("[[0, 1], [3, 4]]", "[['0-2', 3]]", "is not a pair"),
        ("[[0, 1], [3, 4]]", "7", "flip is a list, not 7"),
        (", left_mouth]", "]", "4 names for 5 points"),
        ("[right_eye, left_eye, nose, right_mouth, left_mouth]", "nose", "names is a list of 5, or a mapping"),
        ("flip:", "mirror:", "unknown key 'mirror'; a keypoint scheme has .*flip"),
        ("pupil: eyes", "pupil: eye", "part_of names 'eye', which is not among regions"),
        ("eye_corners: [0, 1]", "eye_corners: [0]", "eye_corners two points"),
        ("num_keypoints: 5", "num_keypoints: five", "num_keypoints of at least 1"),
        ("num_keypoints: 5", "num_keypoints: [5", "is not YAML"),
    ],
)
def test_wrong_custom_scheme_is_named(tmp_path, old, new, message):
    assert old in GOOD
    with pytest.raises(ConfigError, match=message) as caught:
        load_scheme(write(tmp_path, GOOD.replace(old, new)), 5)
    assert "scheme.yaml" in str(caught.value)


def test_custom_scheme_of_another_k(tmp_path):
    with pytest.raises(ConfigError, match=r"model.num_keypoints is 80 but .* describes 5 points"):
        load_scheme(write(tmp_path, GOOD), 80)


def test_missing_scheme_file(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere.yaml"):
        load_scheme(str(tmp_path / "nowhere.yaml"), 5)
