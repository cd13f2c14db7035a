"""`facenet infer` on real files: each find in every file of results, whatever the input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from faster_coco_eval import COCO, COCOeval_faster
from PIL import Image

from facetrain.cli import FACENET, main
from facetrain.configs.facenet.schema import FacenetInferSpec
from facetrain.datasets.image import read_image
from facetrain.errors import ConfigError, DataError, ModelFileError
from facetrain.facenet_trainer.infer import infer
from facetrain.facenet_trainer.infer_results import image_ids, label_names
from facetrain.fpenet_trainer.infer_boxes import read_boxes
from facetrain.fpenet_trainer.predictor import ZOO as FPENET_ZOO
from facetrain.tests.detectors import mark, marked, write_detector

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boxes from 10 px left and 12 above to 14 right and 16 below."""
    return write_detector(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def box(column: int, row: int) -> list[float]:
    """The box of a find in that cell: the definition of the grid, and the picture's edges."""
    x, y = 16 * column + 0.5, 16 * row + 0.5
    return [max(x - 10, 0), max(y - 12, 0), min(x + 14, 96), min(y + 16, 64)]


def spec(model: Path, source: Path | str, results: Path, **values: Any) -> FacenetInferSpec:
    return FacenetInferSpec(model=str(model), input=str(source), results_dir=str(results), device="cpu", **values)


def load(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """b.png with two finds, a/c.jpg with one, a/empty.png with none, a/d.png damaged."""
    folder = tmp_path / "in"
    (folder / "a").mkdir(parents=True)
    Image.fromarray(marked((1, 1), (4, 2))).save(folder / "b.png")
    Image.fromarray(marked((3, 3))).save(folder / "a" / "c.jpg", quality=95)
    Image.fromarray(marked()).save(folder / "a" / "empty.png")
    (folder / "a" / "d.png").write_bytes((folder / "b.png").read_bytes()[:100])
    return folder


FINDS = {"a/c.jpg": [box(3, 3)], "a/empty.png": [], "b.png": [box(1, 1), box(4, 2)]}


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_every_find_in_every_file(batch_size: int, model: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = infer(spec(model, pictures, out, batch_size=batch_size))
    assert (summary.pictures, summary.found) == (3, 3)
    result = load(out / "predictions.json")
    assert result["complete"] is True
    assert result["classes"] == ["face"]
    assert result["clustering"]["coverage_threshold"] == 0.5
    assert len(result["failures"]) == 1 and "d.png" in result["failures"][0]
    assert [entry["file"] for entry in result["predictions"]] == list(FINDS)
    for entry in result["predictions"]:
        wanted = FINDS[entry["file"]]
        assert (entry["width"], entry["height"]) == (96, 64)
        assert sorted(found["box"] for found in entry["detections"]) == wanted
        assert all(found["class"] == "face" and 0.99 < found["score"] <= 1 for found in entry["detections"])
        text = (out / "labels" / entry["file"]).with_suffix(".txt").read_text()
        lines = [line.split(" ") for line in text.splitlines()]
        assert len(lines) == len(wanted)
        for fields, found in zip(lines, entry["detections"], strict=True):
            assert len(fields) == 16
            assert fields[:4] == ["face", "0.00", "0", "0.00"] and fields[8:15] == ["0.00"] * 7
            assert fields[4:8] == [f"{edge:.3f}" for edge in found["box"]]
            assert fields[15] == f"{found['score']:.3f}"
        drawn = read_image(out / "pictures" / entry["file"], grey=False)
        original = read_image(pictures / entry["file"], grey=False)
        assert drawn.shape == original.shape
        assert (np.abs(drawn.astype(int) - original).max() > 100) == bool(wanted)
    assert sorted(path.name for path in out.iterdir()) == [
        "coco.json", "coco_images.json", "labels", "pictures", "predictions.json",
    ]  # fmt: skip


def test_the_drawn_box_stands_on_the_found_one(model: Path, pictures: Path, tmp_path: Path) -> None:
    infer(spec(model, pictures / "b.png", tmp_path / "out", colours={"face": [255, 240, 60]}, line_width=1))
    drawn = read_image(tmp_path / "out/pictures/b.png", grey=False).astype(int)
    yellow = (np.abs(drawn - (255, 240, 60)) < 30).all(axis=2)
    x1, y1, x2, y2 = np.rint(box(4, 2)).astype(int)
    for edge in (yellow[y1, x1:x2], yellow[y2 - 1, x1:x2], yellow[y1:y2, x1], yellow[y1:y2, x2 - 1]):
        assert edge.mean() > 0.9
    assert not yellow[y1 + 3 : y2 - 3, x1 + 3 : x2 - 3].any()


def test_coco_results_against_their_truth(model: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    infer(spec(model, pictures, out, draw=False))
    truth = load(out / "coco_images.json")
    ids = {image["file_name"]: image["id"] for image in truth["images"]}
    assert set(ids) == set(FINDS)
    for name, boxes in FINDS.items():
        for x1, y1, x2, y2 in boxes:
            sides = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            number = len(truth["annotations"]) + 1
            truth["annotations"].append({"id": number, "image_id": ids[name], "category_id": 1, **sides})
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    ground = COCO(str(tmp_path / "truth.json"))
    evaluation = COCOeval_faster(ground, ground.loadRes(str(out / "coco.json")), iouType="bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    assert np.asarray(evaluation.eval["precision"])[:, :, 0, 0, -1].min() == pytest.approx(1)


def test_nothing_found_at_all(model: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    infer(spec(model, pictures / "a" / "empty.png", out))
    assert load(out / "coco.json") == []
    assert (out / "labels" / "empty.txt").read_text() == ""
    ground = COCO(load(out / "coco_images.json"))
    assert ground.loadRes(str(out / "coco.json")).getAnnIds() == []


def test_results_are_boxes_for_fpenet(model: Path, pictures: Path, tmp_path: Path) -> None:
    infer(spec(model, pictures, tmp_path / "out", draw=False))
    for source, name in (("labels", "b.txt"), ("coco.json", "b.png")):
        found = read_boxes(str(tmp_path / "out" / source))[name]
        assert sorted(face.box.tolist() for face in found) == FINDS["b.png"]


def test_a_turned_and_larger_photo(model: Path, tmp_path: Path) -> None:
    """Finds come back in pixels of the upright picture, at its own size."""
    upright = cv2.resize(marked((1, 1)), (192, 128), interpolation=cv2.INTER_NEAREST)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    Image.fromarray(np.rot90(upright)).save(tmp_path / "photo.jpg", quality=95, exif=exif)
    infer(spec(model, tmp_path / "photo.jpg", tmp_path / "out"))
    (entry,) = load(tmp_path / "out/predictions.json")["predictions"]
    assert (entry["width"], entry["height"]) == (192, 128)
    assert [found["box"] for found in entry["detections"]] == [[2 * edge for edge in box(1, 1)]]
    assert read_image(tmp_path / "out/pictures/photo.jpg", grey=False).shape == (128, 192, 3)


def test_classes_have_names_and_colours(tmp_path: Path) -> None:
    model = write_detector(tmp_path / "two.safetensors", classes=("face", "traffic light"))
    picture = marked((1, 1))
    mark(picture, 4, 2, (0, 255, 0))
    Image.fromarray(picture).save(tmp_path / "p.png")
    out = tmp_path / "out"
    infer(spec(model, tmp_path / "p.png", out, names={"face": "person"}, colours={"traffic light": [250, 0, 250]}))
    result = load(out / "predictions.json")
    assert result["classes"] == ["person", "traffic light"]
    found = {found["class"]: found["box"] for found in result["predictions"][0]["detections"]}
    assert found == {"person": box(1, 1), "traffic light": box(4, 2)}
    words = {line.split()[0] for line in (out / "labels/p.txt").read_text().splitlines()}
    assert words == {"person", "traffic_light"}
    assert load(out / "coco_images.json")["categories"] == [
        {"id": 1, "name": "person"}, {"id": 2, "name": "traffic light"},
    ]  # fmt: skip
    rows = {row["category_id"]: row["bbox"][:2] for row in load(out / "coco.json")}
    assert rows == {1: box(1, 1)[:2], 2: box(4, 2)[:2]}
    drawn = read_image(out / "pictures/p.png", grey=False).astype(int)
    seen = {tuple(pixel) for pixel in drawn.reshape(-1, 3).tolist()}
    assert {(0, 170, 255), (250, 0, 250)} <= seen


def test_what_is_sure_enough_by_the_models_validation_is_written(tmp_path: Path) -> None:
    picture = marked((1, 1), colour=(255, 0, 0))
    mark(picture, 4, 2, (140, 0, 0))
    mark(picture, 1, 3, (0, 150, 0))
    Image.fromarray(picture).save(tmp_path / "p.png")
    first, second = (1 / (1 + np.exp(-20 * (level / 255 - 0.5))) for level in (140, 150))
    scores = {"f1_score_face": first + 0.01, "f1_score_hand": second - 0.01}  # a figure of each class
    model = write_detector(tmp_path / "m.safetensors", classes=("face", "hand"), metrics=scores)
    for name, least, classes in (("own", -1.0, ["face", "hand"]), ("all", 0.0, ["face", "hand", "face"])):
        infer(spec(model, tmp_path / "p.png", tmp_path / name, min_score=least, draw=False))
        found = load(tmp_path / name / "predictions.json")["predictions"][0]["detections"]
        assert [one["class"] for one in found] == classes
    infer(spec(model, tmp_path / "p.png", tmp_path / "sure", min_score=0.99, draw=False))
    assert len((tmp_path / "sure/labels/p.txt").read_text().splitlines()) == 1


def test_the_clusterings_thresholds_can_be_changed(tmp_path: Path) -> None:
    model = write_detector(tmp_path / "m.safetensors")
    picture = marked((1, 1))
    mark(picture, 4, 2, (140, 0, 0))
    Image.fromarray(picture).save(tmp_path / "p.png")
    score = 1 / (1 + np.exp(-20 * (140 / 255 - 0.5)))
    infer(spec(model, tmp_path / "p.png", tmp_path / "all", draw=False))
    assert [row["score"] for row in load(tmp_path / "all/coco.json")] == pytest.approx([1, score], abs=1e-3)
    arguments = ["infer", f"model={model}", f"input={tmp_path / 'p.png'}", f"results_dir={tmp_path / 'sure'}"]
    assert main("facenet", FACENET, [*arguments, "device=cpu", "clustering.nms_confidence_threshold=0.9"]) == 0
    assert [row["bbox"][:2] for row in load(tmp_path / "sure/coco.json")] == [box(1, 1)[:2]]
    assert len((tmp_path / "sure/labels/p.txt").read_text().splitlines()) == 1
    assert load(tmp_path / "sure/predictions.json")["clustering"]["nms_confidence_threshold"] == 0.9


def test_pictures_that_would_share_a_label_file(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, cells in {"x.png": [(1, 1)], "x.jpg": [], "y.png": [(4, 2)], "x.jpg.png": []}.items():
        Image.fromarray(marked(*cells)).save(tmp_path / "in" / name)
    infer(spec(model, tmp_path / "in", tmp_path / "out", draw=False))
    lines = {path.name: len(path.read_text().splitlines()) for path in (tmp_path / "out/labels").iterdir()}
    assert lines == {"x.png.txt": 1, "x.jpg.txt": 0, "y.txt": 1, "x.jpg.png.txt": 0}


def test_names_of_labels_and_numbers_of_pictures() -> None:
    assert label_names(["a/x.png", "x.png", "x.bmp"]) == {"a/x.png": "a/x", "x.png": "x.png", "x.bmp": "x.bmp"}
    assert image_ids(["b/000000000139.jpg", "000000000285.jpg"]) == {"b/000000000139.jpg": 139, "000000000285.jpg": 285}
    assert image_ids(["1.jpg", "01.jpg"]) == {"1.jpg": 1, "01.jpg": 2}
    assert image_ids(["7.jpg", "me.jpg"]) == {"7.jpg": 1, "me.jpg": 2}


def write_video(path: Path, frames: list[np.ndarray]) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 12.5, (96, 64))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def test_video(model: Path, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", [marked((column, 2)) for column in range(1, 5)] + [marked()])
    out = tmp_path / "out"
    infer(spec(model, clip, out, batch_size=2))
    entries = load(out / "predictions.json")["predictions"]
    assert [entry["frame"] for entry in entries] == [0, 1, 2, 3, 4]
    assert [[found["box"] for found in entry["detections"]] for entry in entries] == [
        *[[box(column, 2)] for column in range(1, 5)], [],
    ]  # fmt: skip
    assert sorted(path.name for path in (out / "labels").iterdir()) == [f"clip_{i:06}.txt" for i in range(5)]
    assert [row["image_id"] for row in load(out / "coco.json")] == [1, 2, 3, 4]
    drawn = cv2.VideoCapture(str(out / "video.mp4"))
    assert drawn.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    frames = [frame for _ in range(6) if (frame := drawn.read()[1]) is not None]
    assert len(frames) == 5
    changed = [np.abs(frame.astype(int)[..., 0]).max() > 100 for frame in frames]  # blue, which only the boxes have
    assert changed == [True] * 4 + [False]


@pytest.mark.parametrize(("source", "complete"), [("clip.mp4", False), ("camera:0", True)])
def test_ctrl_c_leaves_whole_files(
    source: str, complete: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera is played by a video; Ctrl-C comes at the fourth frame."""
    clip = write_video(tmp_path / "clip.mp4", [marked((1, 1))] * 6)

    class Interrupted:
        def __init__(self, _: str | int, capture: Any = cv2.VideoCapture) -> None:
            self.clip, self.frames = capture(str(clip)), 0
            self.isOpened, self.get, self.release = self.clip.isOpened, self.clip.get, self.clip.release

        def read(self) -> Any:
            self.frames += 1
            if self.frames > 3:
                raise KeyboardInterrupt
            return self.clip.read()

    monkeypatch.setattr(cv2, "VideoCapture", Interrupted)
    what = source if source.startswith("camera") else clip
    out = tmp_path / "out"
    arguments = ["infer", f"model={model}", f"input={what}", f"results_dir={out}", "batch_size=2", "device=cpu"]
    assert main("facenet", FACENET, arguments) == (0 if complete else 130)
    result = load(out / "predictions.json")
    assert result["complete"] is complete
    # A batch was full at the second frame; a camera's frames have not waited for one.
    assert [entry["frame"] for entry in result["predictions"]] == ([0, 1, 2] if complete else [0, 1])
    assert len(load(out / "coco.json")) == len(list((out / "labels").iterdir())) == len(result["predictions"])
    assert not list(out.glob(".*"))


def test_results_are_never_overwritten_unasked(model: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    infer(spec(model, pictures, out))
    (out / "notes.md").write_text("mine")
    with pytest.raises(ConfigError, match="overwrite=true"):
        infer(spec(model, pictures, out))
    infer(spec(model, pictures / "b.png", out, overwrite=True))
    assert [path.name for path in (out / "labels").iterdir()] == ["b.txt"]
    assert [path.name for path in (out / "pictures").iterdir()] == ["b.png"]
    assert (out / "notes.md").read_text() == "mine"


def test_a_data_sets_own_labels_are_no_results(model: Path, pictures: Path, tmp_path: Path) -> None:
    labels = tmp_path / "set" / "labels"
    labels.mkdir(parents=True)
    (labels / "b.txt").write_text("face 0 0 0 1 2 3 4 0 0 0 0 0 0 0\n")
    with pytest.raises(ConfigError, match="holds labels, which no earlier run wrote"):
        infer(spec(model, pictures, tmp_path / "set", overwrite=True))
    assert (labels / "b.txt").stat().st_size


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"input": ""}, ConfigError, "input is empty: give a picture"),
        ({"input": "gone.png"}, DataError, "input=gone.png: there is no such file"),
        ({"model": str(FPENET_ZOO)}, ModelFileError, "a fpenet model, not FaceNet: give a file that `facenet train`"),
        ({"model": "gone.safetensors"}, ModelFileError, "there is no model file gone.safetensors"),
        ({"clustering": {"dbscan_epsilon": 0.2}}, ConfigError, "'dbscan_epsilon'; did you mean dbscan_eps?"),
        ({"clustering": {"per_class": {"faec": {"dbscan_eps": 0.2}}}}, ConfigError, "faec: not a target class; did"),
        ({"input_size": {"width": 100}}, ConfigError, "input.width=100: the stride of the grid is 16"),
        ({"colours": {"face": [0, 0, 256]}}, ConfigError, r"colours.face=\[0, 0, 256\]: no colour; give three"),
        ({"colours": {"face": "blue"}}, ConfigError, "colours.face=blue: no colour"),
        ({"colours": {"car": [0, 0, 0]}}, ConfigError, "colours.car: the model has no such class; accepted: face"),
        ({"names": {"car": "auto"}}, ConfigError, "names.car: the model has no such class; accepted: face"),
    ],
)  # fmt: skip
def test_what_cannot_be_used(
    values: dict[str, Any], error: type, message: str, model: Path, pictures: Path, tmp_path: Path
) -> None:
    given = {"model": str(model), "input": str(pictures / "b.png"), "results_dir": str(tmp_path / "out")} | values
    with pytest.raises(error, match=message):
        infer(FacenetInferSpec(device="cpu", **given))
    assert not (tmp_path / "out").exists()


def test_the_only_picture_is_damaged(model: Path, pictures: Path, tmp_path: Path, capsys: Any) -> None:
    arguments = [f"model={model}", f"input={pictures / 'a' / 'd.png'}", f"results_dir={tmp_path / 'out'}"]
    assert main("facenet", FACENET, ["infer", *arguments, "device=cpu"]) == 2
    err = capsys.readouterr().err
    assert "d.png: no picture could be read" in err and "cannot be read" in err
    assert load(tmp_path / "out/predictions.json")["predictions"] == []


def test_weights_that_are_not_finite(pictures: Path, tmp_path: Path) -> None:
    from facetrain.facenet_trainer.pretrained import load_network
    from facetrain.training.model_file import save_model

    network, meta = load_network(str(write_detector(tmp_path / "m.safetensors")))
    torch.nn.init.constant_(network.output_cov.bias, float("nan"))
    save_model(tmp_path / "m.safetensors", network.state_dict(), meta)
    arguments = [f"model={tmp_path / 'm.safetensors'}", f"input={pictures}", f"results_dir={tmp_path / 'out'}"]
    assert main("facenet", FACENET, ["infer", *arguments, "device=cpu"]) == 1
    assert load(tmp_path / "out/predictions.json")["complete"] is False
