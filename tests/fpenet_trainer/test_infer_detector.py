"""`fpenet infer detector=...`: faces found by FaceNet, points found on them by FPENet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from facetrain.cli import FPENET, main
from facetrain.configs.fpenet.schema import FpenetInferSpec
from facetrain.datasets.drawn.synthetic import draw_faces
from facetrain.datasets.image import read_image
from facetrain.datasets.preprocessing import Preprocessing
from facetrain.errors import ConfigError, ModelFileError
from facetrain.fpenet_trainer.draw import BOX
from facetrain.fpenet_trainer.infer import _same_face, infer
from facetrain.fpenet_trainer.infer_detector import points_box
from facetrain.fpenet_trainer.network import Architecture, RecombinatorNet
from facetrain.fpenet_trainer.predictor import ZOO
from facetrain.fpenet_trainer.schemes import load_scheme
from facetrain.tests.detectors import mark, marked, write_detector
from facetrain.training.model_file import ModelMeta, save_model

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 320  # of the photo
CORNER = (70, 90)  # of the drawn face in it


def spec(source: Path | str, detector: Path | str, results: Path, **values: Any) -> FpenetInferSpec:
    paths = {"input": str(source), "detector": str(detector), "results_dir": str(results)}
    return FpenetInferSpec(device="cpu", **paths, **values)


def load(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "predictions.json").read_text())


def wider_box(points: np.ndarray) -> list[float]:
    """The box that WIDER's labellers would draw, by the relation that was measured."""
    (ax, ay), (bx, by) = points.min(axis=0), points.max(axis=0)
    w, h = bx - ax, by - ay
    return [ax + 0.027 * w, ay - 0.362 * h, bx - 0.007 * w, by - 0.010 * h]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A drawn face on grey, with a mark that the detectors find at the top left, and its points."""
    face = list(draw_faces(3, seed=2, num_keypoints=68))[2]
    picture = np.full((SIDE, SIDE, 3), 120, np.uint8)
    height, width = face.image.shape[:2]
    picture[CORNER[1] : CORNER[1] + height, CORNER[0] : CORNER[0] + width] = face.image[..., None]
    mark(picture, 1, 1)
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(picture).save(path)
    return path, face.points + CORNER


def detector_of(box: list[float], path: Path, **values: Any) -> Path:
    """A detector that finds this box in the photo."""
    x1, y1, x2, y2 = box
    return write_detector(path, (16.5 - x1, 16.5 - y1, x2 - 16.5, y2 - 16.5), size=(SIDE, SIDE), **values)


def nme(found: list[list[float]], truth: np.ndarray) -> float:
    distance = np.linalg.norm(truth[36] - truth[45])
    return float(np.linalg.norm(np.array(found) - truth, axis=1).mean() / distance)


def test_the_relation_is_inverted() -> None:
    points = np.array([[103.5, 48.0], [171.25, 130.0]])
    expected = [*points[0], *points[1]]
    np.testing.assert_allclose(points_box(np.array(wider_box(points))), expected, atol=1e-4)
    assert points_box(np.zeros(4)).tolist() == [0, 0, 0, 0]


def test_box_score_and_points_together(photo: Any, tmp_path: Path) -> None:
    picture, truth = photo
    box = wider_box(truth)
    out = tmp_path / "out"
    summary = infer(spec(picture, detector_of(box, tmp_path / "d.safetensors"), out, result_txt=True))
    assert (summary.pictures, summary.found) == (1, 1)
    result = load(out)
    assert result["detector"] == str(tmp_path / "d.safetensors")
    (entry,) = result["predictions"]
    (face,) = entry["faces"]
    np.testing.assert_allclose(face["box"], box, atol=0.01)
    assert face["score"] == pytest.approx(1, abs=1e-3)
    assert len(face["points"]) == len(face["confidence"]) == 68
    assert nme(face["points"], truth) < 0.05
    assert (out / "result.txt").read_text().count("\n") == 1

    drawn, original = (read_image(path, grey=False).astype(int) for path in (out / "pictures/photo.png", picture))
    x1, y1, x2, y2 = np.rint(box).astype(int)
    for edge in (drawn[y2 - 1, x1:x2], drawn[y1:y2, x1], drawn[y1:y2, x2 - 1]):
        assert (np.abs(edge - BOX) < 20).all(axis=1).mean() > 0.7  # points lie on parts of it
    x, y = np.rint(face["points"][30]).astype(int)
    assert np.abs(drawn[y, x] - original[y, x]).max() > 50


def test_a_second_look_mends_a_box_that_is_off(photo: Any, tmp_path: Path) -> None:
    """A box shifted by a tenth and enlarged by a sixth; the same box from a file is looked at once."""
    picture, truth = photo
    x1, y1, x2, y2 = wider_box(truth)
    width, height = x2 - x1, y2 - y1
    off = [x1 + 0.02 * width, y1 + 0.02 * height, x2 + 0.22 * width, y2 + 0.16 * height]
    infer(spec(picture, detector_of(off, tmp_path / "d.safetensors"), tmp_path / "two"))
    (tmp_path / "boxes.json").write_text(json.dumps({"photo.png": [points_box(np.array(off)).tolist()]}))
    infer(spec(picture, "", tmp_path / "one", boxes=str(tmp_path / "boxes.json")))
    two, one = (load(tmp_path / name)["predictions"][0]["faces"][0]["points"] for name in ("two", "one"))
    assert nme(two, truth) < 0.05
    assert nme(two, truth) < 0.8 * nme(one, truth)


def test_the_second_square_must_be_of_the_same_face() -> None:
    first = (100.0, 100.0, 80.0)
    assert _same_face(first, (90.0, 110.0, 100.0))
    assert not _same_face(first, (90.0, 110.0, 20.0))
    assert not _same_face(first, (20.0, 20.0, 300.0))
    assert not _same_face(first, (150.0, 100.0, 80.0))


def test_a_model_of_boxes_takes_them_as_they_are(photo: Any, tmp_path: Path) -> None:
    """Trained with crop.source=box: no conversion and one look, as with the same box from a file."""
    torch.manual_seed(0)
    network = RecombinatorNet(Architecture(num_keypoints=5, width=8, beta=20.0))
    preprocessing = Preprocessing(size=48, crop_source="box", enlarge=1.1)
    meta = ModelMeta(network.architecture.to_dict(), load_scheme("", 5, []).to_dict(), preprocessing.to_dict())
    model = tmp_path / "box.safetensors"
    save_model(model, network.state_dict(), meta)
    picture, truth = photo
    box = wider_box(truth)
    infer(spec(picture, detector_of(box, tmp_path / "d.safetensors"), tmp_path / "a", model=str(model)))
    (tmp_path / "boxes.json").write_text(json.dumps({"photo.png": [box]}))
    infer(spec(picture, "", tmp_path / "b", model=str(model), boxes=str(tmp_path / "boxes.json")))
    found, given = (load(tmp_path / name)["predictions"][0]["faces"][0] for name in "ab")
    np.testing.assert_allclose(found["points"], given["points"], atol=0.05)


def test_several_faces_on_some_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for i, cells in enumerate([[(1, 1), (4, 2)], [], [(3, 2)]] * 3):  # more pictures than one batch of the detector
        Image.fromarray(marked(*cells)).save(folder / f"{i:02}.png")
    detector = write_detector(tmp_path / "d.safetensors")
    summary = infer(spec(folder, detector, tmp_path / "out", batch_size=2))
    assert (summary.pictures, summary.found) == (9, 9)
    entries = load(tmp_path / "out")["predictions"]
    assert [entry["file"] for entry in entries] == [f"{i:02}.png" for i in range(9)]
    assert [len(entry["faces"]) for entry in entries] == [2, 0, 1] * 3
    assert [face["box"][:2] for face in entries[2]["faces"]] == [[38.5, 20.5]]


def test_of_several_classes_faces_count(tmp_path: Path) -> None:
    picture = marked((1, 1))
    mark(picture, 4, 2, (0, 255, 0))
    Image.fromarray(picture).save(tmp_path / "p.png")
    detector = write_detector(tmp_path / "d.safetensors", classes=("person", "face"))
    infer(spec(tmp_path / "p.png", detector, tmp_path / "out", draw=False))
    (face,) = load(tmp_path / "out")["predictions"][0]["faces"]
    assert face["box"][:2] == [54.5, 20.5]
    other = write_detector(tmp_path / "e.safetensors", classes=("person", "car"))
    with pytest.raises(ModelFileError, match="finds person, car; a detector of faces has one class, or one that is"):
        infer(spec(tmp_path / "p.png", other, tmp_path / "out2"))


def test_video(tmp_path: Path, capsys: Any) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64))
    for column in (1, 2, 3):
        writer.write(cv2.cvtColor(marked((column, 2)), cv2.COLOR_RGB2BGR))
    writer.release()
    infer(spec(tmp_path / "clip.mp4", write_detector(tmp_path / "d.safetensors"), tmp_path / "out"))
    assert "faces are not tracked" in capsys.readouterr().out
    entries = load(tmp_path / "out")["predictions"]
    assert [(entry["frame"], entry["faces"][0]["box"][0]) for entry in entries] == [(0, 6.5), (1, 22.5), (2, 38.5)]
    drawn = cv2.VideoCapture(str(tmp_path / "out" / "video.mp4"))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_the_detectors_settings_can_be_changed(tmp_path: Path) -> None:
    picture = marked((1, 1))
    mark(picture, 4, 2, (140, 0, 0))
    Image.fromarray(picture).save(tmp_path / "p.png")
    detector = write_detector(tmp_path / "d.safetensors")
    arguments = ["infer", f"input={tmp_path / 'p.png'}", f"detector={detector}", "device=cpu", "draw=false"]
    sure = (["detector_clustering.nms_confidence_threshold=0.9"], ["detector_min_score=0.9"])
    for name, extra, count in (("all", [], 2), ("sure", sure[0], 1), ("too", sure[1], 1)):
        assert main("fpenet", FPENET, [*arguments, f"results_dir={tmp_path / name}", *extra]) == 0
        assert len(load(tmp_path / name)["predictions"][0]["faces"]) == count
    # On an input of twice the size, the same boxes cover half as much of the picture.
    sizes = ["detector_input_size.width=192", "detector_input_size.height=128"]
    assert main("fpenet", FPENET, [*arguments, f"results_dir={tmp_path / 'large'}", *sizes]) == 0
    box = load(tmp_path / "large")["predictions"][0]["faces"][0]["box"]
    np.testing.assert_allclose([box[2] - box[0], box[3] - box[1]], [12, 14], atol=0.01)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"boxes": "boxes.json"}, ConfigError, "boxes=boxes.json and detector=.* both say where"),
        ({"detector": str(ZOO)}, ModelFileError, "detector=.* holds a fpenet model, not FaceNet: give"),
        ({"model": "DETECTOR"}, ModelFileError, "holds a facenet model, not FPENet: give a file that `fpenet train`"),
        ({"detector": "gone.safetensors"}, ModelFileError, "detector=gone.safetensors: there is no model file"),
        ({"detector_clustering": {"eps": 0.1}}, ConfigError, "detector=.*: clustering: unknown key 'eps'"),
        ({"detector_input_size": {"width": 90}}, ConfigError, "detector=.*: .*input.width=90: the stride of the grid"),
        ({"input": ""}, ConfigError, "input is empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_used(values: dict[str, Any], error: type, message: str, tmp_path: Path) -> None:
    Image.fromarray(marked((1, 1))).save(tmp_path / "p.png")
    detector = str(write_detector(tmp_path / "d.safetensors"))
    given = {"input": str(tmp_path / "p.png"), "detector": detector, "results_dir": str(tmp_path / "out")} | values
    if given.get("model") == "DETECTOR":
        given["model"] = detector
    with pytest.raises(error, match=message):
        infer(FpenetInferSpec(device="cpu", **given))
    assert not (tmp_path / "out").exists()
