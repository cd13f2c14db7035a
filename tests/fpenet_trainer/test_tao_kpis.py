"""TAO's KPI files of FPENet to the digit, worked out by hand (fpenet §6), by the console command.

The network puts every point into the middle of the crop, which is the middle of the labelled points. All points of the
first face are 30 pixels from there, all of the second one 12: whatever both faces show has a mean error of 21.
"""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from facetrain.tests.fpenet_trainer.test_evaluate import zero_model
from facetrain.tests.runs import fpenet

pytestmark = pytest.mark.usefixtures("one_thread")

MIDDLE, RADII = 60, (30, 12)
UNSEEN_EYES = range(36, 42)  # of the twelve points of the eyes, visible in no face


def label(number, radius, k):
    """A face whose points lie left, right, above and below of the middle in turn. Point 0 is visible in the first face
    only; as in TAO's notebook, points beyond 68 are occluded and have the coordinates of the first."""
    around = [(-radius, 0), (radius, 0), (0, -radius), (0, radius)]
    points = {}
    for i in range(k):
        x, y = around[i % 4 if i < 68 else 0]
        points |= {f"P{i + 1}x": MIDDLE + x, f"P{i + 1}y": MIDDLE + y}
        if i in UNSEEN_EYES or i >= 68 or (i == 0 and number == 1):
            points[f"P{i + 1}occluded"] = True
    return {"filename": f"{number}.png", "class": "image",
            "annotations": [{"class": "FiducialPoints", "tool-version": "1", **points}]}  # fmt: skip


def tables(tmp_path, k, *arguments):
    """The two tables, by their first column, and the JSON."""
    for number in range(2):
        Image.fromarray(np.zeros((120, 120), np.uint8)).save(tmp_path / f"{number}.png")
    faces = [label(number, radius, k) for number, radius in enumerate(RADII)]
    (tmp_path / "faces.json").write_text(json.dumps(faces))
    model = zero_model(tmp_path / "model.safetensors", k)
    results = tmp_path / "results"
    code = fpenet("evaluate", f"model={model}", f"data.root={tmp_path}", "device=cpu", "pictures=0",
                  "data.test=[{format: fpenet_json, path: faces.json}]", "-r", str(results), *arguments)  # fmt: skip
    assert code == 0
    found = []
    for name in ("point", "region"):
        with open(results / f"kpi_testing_error_per_{name}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        found.append({row[f"Error per {name}"]: list(row.values())[1:] for row in rows})
    return *found, json.loads((results / "kpi_testing_all_data.json").read_text())


@pytest.mark.parametrize("k", [68, 80, 104])
def test_every_row(k, tmp_path):
    points, regions, faces = tables(tmp_path, k, "compat=tao")
    about = pytest.approx
    seen = [float(value) for value in points["1"][:3]]
    assert seen == about([21, 21, 2], abs=1e-4)
    assert [float(value) for value in points["0"][:3]] == about([21, 30, 1], abs=1e-4)
    for i in [*UNSEEN_EYES, *range(68, k)]:
        assert [float(points[str(i)][0]), *points[str(i)][1:3]] == [about(21, abs=1e-4), "0.0", "-1"]

    rows = {name: [float(value) for value in row[:2]] for name, row in regions.items()}
    visible = 30 + (68 - 1 - 6) * 21  # the sum over the points; those of no face count as 0
    expected = {"All": visible / k, "Eyes": 6 * 21 / 12, "Nose": 21, "Mouth": 21, "Eyebrows": 21,
                "Chin": (30 + 16 * 21) / 17, "HP": (14 - 2) * 21 / 14}  # fmt: skip
    expected |= {"Pupil": 0, "Ears": 0} if k > 68 else {}
    assert list(rows)[: len(expected)] == list(expected)  # TAO's rows in its order; it has "All" alone with 104 points
    assert {name: rows[name][0] for name in expected} == about(dict.fromkeys(expected, 21), abs=1e-4)
    assert {name: rows[name][1] for name in expected} == about(expected, abs=1e-4)

    assert [face["face_box"][2] for face in faces] == about(
        [75, 30]
    )  # 1.25 times the extent: errors are not in its pixels
    assert faces[1]["gt_occlusions"][:2] == [0, 1] and faces[1]["gt_occlusions"][36:42] == [0] * 6


def test_without_it_points_of_no_face_are_left_out(tmp_path):
    points, regions, _ = tables(tmp_path, 80)
    assert points["36"][1:3] == ["nan", "-1"] and regions["Pupil"][1] == "nan"
    assert float(regions["Eyes"][1]) == pytest.approx(21, abs=1e-4)
    assert float(regions["All"][1]) == pytest.approx((30 + 61 * 21) / 62, abs=1e-4)


def test_the_quirk_alone(tmp_path):
    _, regions, _ = tables(tmp_path, 68, "unseen_points=zero")
    assert float(regions["Eyes"][1]) == pytest.approx(10.5, abs=1e-4)
