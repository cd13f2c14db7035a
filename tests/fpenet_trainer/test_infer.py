"""`fpenet infer` on real files: every face, at the right place, whatever the input and the boxes' format."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from facetrain.configs.fpenet.schema import FpenetInferSpec
from facetrain.datasets.image import read_image
from facetrain.datasets.inputs import open_inputs
from facetrain.datasets.preprocessing import Preprocessing
from facetrain.errors import ConfigError, DataError
from facetrain.fpenet_trainer.infer import infer
from facetrain.fpenet_trainer.infer_boxes import FaceBoxes, read_boxes
from facetrain.fpenet_trainer.network import Architecture, RecombinatorNet
from facetrain.fpenet_trainer.predictor import Predictor
from facetrain.fpenet_trainer.schemes import load_scheme
from facetrain.training.model_file import ModelMeta, save_model

K = 5
SIZE = 48
# The square of the box (x1, y1, x2, y2) is its centre -+ 0.75 of its longer side, 0.1 of that side further down.
PREPROCESSING = Preprocessing(size=SIZE, crop_source="points", enlarge=1.5, shift_y=0.1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained, and sharp enough for its points to depend on the picture."""
    torch.manual_seed(0)
    network = RecombinatorNet(Architecture(num_keypoints=K, width=8, beta=20.0, visibility_head=True))
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    scheme = load_scheme("", K, [])
    meta = ModelMeta(network.architecture.to_dict(), scheme.to_dict(), PREPROCESSING.to_dict())
    save_model(path, network.state_dict(), meta)
    return path


def noise(seed: int, width: int, height: int) -> np.ndarray:
    """[height, width, 3] smooth colours, so that every crop is another picture."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def spec(model: Path, source: Path | str, results: Path, **values: Any) -> FpenetInferSpec:
    return FpenetInferSpec(model=str(model), input=str(source), results_dir=str(results), device="cpu", **values)


def predictions(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "predictions.json").read_text())


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """b.png, a/c.jpg and a/d.png; the last one is damaged."""
    folder = tmp_path / "in"
    (folder / "a").mkdir(parents=True)
    Image.fromarray(noise(1, 160, 120)).save(folder / "b.png")
    Image.fromarray(noise(2, 90, 131)).save(folder / "a" / "c.jpg", quality=95)
    (folder / "a" / "d.png").write_bytes((folder / "b.png").read_bytes()[:900])
    return folder


BOXES = {"b.png": [[20, 30, 80, 70, 0.75], [100, 10, 150, 70], [-20, 90, 30, 140]], "a/c.jpg": [[10.5, 20.25, 50, 60]]}


def by_hand(model: Path, image: Path, box: list[float]) -> np.ndarray:
    """The points of one face, by the definition of the square and the crop, without infer's code."""
    x1, y1, x2, y2 = box[:4]
    longer = max(x2 - x1, y2 - y1)
    side = 1.5 * longer
    left, top = (x1 + x2) / 2 - side / 2, (y1 + y2) / 2 + 0.1 * longer - side / 2
    grey = Image.fromarray(read_image(image, grey=True))
    wide = Image.new("L", (grey.width + 400, grey.height + 400))
    wide.paste(grey, (200, 200))
    area = (left + 200, top + 200, left + side + 200, top + side + 200)
    crop = np.array(wide.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=area))
    points = Predictor.load(str(model), "cpu").predict(crop[None]).points[0]
    return (points + 0.5) * side / SIZE + (left, top) - 0.5


def test_every_face_of_every_picture_at_its_place(model: Path, pictures: Path, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps(BOXES))
    summary = infer(spec(model, pictures, tmp_path / "out", boxes=str(boxes), batch_size=3, result_txt=True))
    result = predictions(tmp_path / "out")
    assert result["complete"] is True
    assert [entry["file"] for entry in result["predictions"]] == ["a/c.jpg", "b.png"]
    assert (summary.pictures, summary.found) == (2, 4)
    assert len(result["failures"]) == 1 and "d.png" in result["failures"][0]

    lines = (tmp_path / "out" / "result.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["a/c.jpg", "b.png", "b.png", "b.png"]
    found = []
    for entry in result["predictions"]:
        with Image.open(pictures / entry["file"]) as image:
            assert (entry["width"], entry["height"]) == image.size
        for face, box in zip(entry["faces"], BOXES[entry["file"]], strict=True):
            assert face["box"] == box[:4]
            assert face.get("score") == (box[4] if len(box) > 4 else None)
            expected = by_hand(model, pictures / entry["file"], box)
            np.testing.assert_allclose(face["points"], expected, atol=0.05)
            assert len(face["confidence"]) == len(face["visibility"]) == K
            assert all(0 <= value <= 1 for value in face["confidence"] + face["visibility"])
            found.append(np.array(face["points"]))
    numbers = [np.array(line.split()[1:], float).reshape(K, 2) for line in lines]
    np.testing.assert_allclose(numbers, found, atol=1e-3)

    drawn, original = (read_image(folder / "b.png", grey=False) for folder in (tmp_path / "out/pictures", pictures))
    assert drawn.shape == original.shape
    x, y = np.round(found[1][0]).astype(int)  # inside the picture, so it shows
    assert not np.array_equal(drawn[y, x], original[y, x])
    assert (tmp_path / "out/pictures/a/c.jpg").is_file()


def test_without_boxes_the_whole_picture_is_one_face(model: Path, pictures: Path, tmp_path: Path) -> None:
    infer(spec(model, pictures / "b.png", tmp_path / "out", draw=False))
    (entry,) = predictions(tmp_path / "out")["predictions"]
    assert entry["file"] == "b.png"
    assert [face["box"] for face in entry["faces"]] == [[0, 0, 160, 120]]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["predictions.json"]


def fpenet_json(folder: Path) -> Path:
    def chunk(box: list[float], kind: str) -> dict[str, Any]:
        x1, y1, x2, y2 = box[:4]
        sides = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
        return {"class": "FaceBbox", **{f"face_{kind}_bbox{side}": str(value) for side, value in sides.items()}}

    faces = {"tight": BOXES["b.png"][0], "outer": BOXES["b.png"][1]}
    entry = {"filename": "b.png", "class": "image", "annotations": [chunk(box, kind) for kind, box in faces.items()]}
    path = folder / "labels.json"
    path.write_text(json.dumps([entry]))
    return path


def coco_results(folder: Path) -> Path:
    rows = [
        {"file_name": "/elsewhere/b.png", "category_id": 1, "bbox": [20, 30, 60, 40], "score": 0.75},
        {"file_name": "/elsewhere/b.png", "category_id": 1, "bbox": [100, 10, 50, 60], "score": 0.5},
    ]
    path = folder / "coco.json"
    path.write_text(json.dumps(rows))
    return path


def coco_dataset(folder: Path) -> Path:
    images = [{"id": 7, "file_name": "b.png"}]
    annotations = [{"image_id": 7, "bbox": [20, 30, 60, 40]}, {"image_id": 7, "bbox": [100, 10, 50, 60]}]
    path = folder / "data_set.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def kitti(folder: Path) -> Path:
    labels = folder / "kitti"
    labels.mkdir()
    rows = ["face 0 0 0 20 30 80 70 0 0 0 0 0 0 0 0.75", "DontCare -1 -1 -10 0 0 9 9 -1 -1 -1 -1000 -1000 -1000 -10"]
    rows.append("face 0 0 0 100 10 150 70 0 0 0 0 0 0 0")
    (labels / "b.txt").write_text("\n".join(rows) + "\n")
    return labels


@pytest.mark.parametrize("write", [fpenet_json, coco_results, coco_dataset, kitti])
def test_boxes_in_every_format(write: Any, model: Path, pictures: Path, tmp_path: Path) -> None:
    infer(spec(model, pictures / "b.png", tmp_path / "out", boxes=str(write(tmp_path)), draw=False))
    result = predictions(tmp_path / "out")
    (entry,) = result["predictions"]
    assert [face["box"] for face in entry["faces"]] == [[20, 30, 80, 70], [100, 10, 150, 70]]
    assert not result["failures"]


def test_coco_numbers_are_file_names(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "numbered"
    folder.mkdir()
    (folder / "000000000042.png").write_bytes((pictures / "b.png").read_bytes())
    (tmp_path / "coco.json").write_text(json.dumps([{"image_id": 42, "bbox": [1, 2, 3, 4], "score": 1}]))
    inputs = open_inputs(str(folder))
    (picture,) = list(inputs)
    (face,) = FaceBoxes(str(tmp_path / "coco.json"), inputs).of(picture)
    assert face.box.tolist() == [1, 2, 4, 6]


def test_names_that_fit_several_pictures_or_none_are_reported(model: Path, tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        Image.fromarray(noise(3, 40, 40)).save(tmp_path / "in" / folder / "f.png")
    names = ["f.png", "/old/disk/y/f.png", "gone.png"]
    (tmp_path / "boxes.json").write_text(json.dumps({name: [[5, 5, 30, 30]] for name in names}))
    boxes = str(tmp_path / "boxes.json")
    infer(spec(model, tmp_path / "in", tmp_path / "out", boxes=boxes, draw=False))
    result = predictions(tmp_path / "out")
    assert {entry["file"]: len(entry["faces"]) for entry in result["predictions"]} == {"x/f.png": 0, "y/f.png": 1}
    assert [failure.split(": ")[1] for failure in result["failures"]] == ["f.png", "gone.png"]


def test_a_box_in_other_units_is_reported_and_the_others_go_on(model: Path, pictures: Path, tmp_path: Path) -> None:
    rows = [[0, 0, 1e7, 1e7], [500, 500, 600, 600], [20, 30, 80, 70]]
    (tmp_path / "boxes.json").write_text(json.dumps({"b.png": rows}))
    summary = infer(spec(model, pictures / "b.png", tmp_path / "out", boxes=str(tmp_path / "boxes.json"), draw=False))
    assert summary.found == 1
    assert len(summary.failures) == 2 and all("b.png" in failure for failure in summary.failures)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"b.png": [[1, 2, 3]]}', "no box"),
        ('{"b.png": [[9, 9, 3, 20]]}', "x1 < x2"),
        ('{"b.png": 3}', "accepted"),
        ('[{"bbox": [1, 2, 3, 4]}]', "entry 0: needs image_id or file_name"),
        ("{", "not JSON"),
    ],
)
def test_a_broken_box_is_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_boxes(str(tmp_path / "boxes.json"))


def test_a_broken_kitti_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("face 0 0 0 1 2 3 4 0 0 0 0 0 0 0\nface 1 2 3 4\n")
    with pytest.raises(DataError, match=r"b\.txt:2: 5 columns"):
        read_boxes(str(tmp_path))


def test_results_are_never_overwritten_unasked(model: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    infer(spec(model, pictures / "b.png", out))
    (out / "notes.md").write_text("mine")
    with pytest.raises(ConfigError, match="overwrite=true"):
        infer(spec(model, pictures / "b.png", out))
    infer(spec(model, pictures / "a", out, overwrite=True))
    assert [entry["file"] for entry in predictions(out)["predictions"]] == ["c.jpg"]
    assert sorted(path.name for path in (out / "pictures").iterdir()) == ["c.jpg"]
    assert (out / "notes.md").read_text() == "mine"
    with pytest.raises(ConfigError, match="holds the input"):
        infer(spec(model, out / "pictures", out, overwrite=True))


def test_inputs_that_cannot_be_used(model: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    for source in (pictures / "a" / "d.png", tmp_path / "empty", tmp_path / "text.mp4", tmp_path / "gone.png"):
        with pytest.raises(DataError, match=source.name):
            infer(spec(model, source, tmp_path / "out", overwrite=True))
    for source in ("", "camera:front"):
        with pytest.raises(ConfigError, match="camera:"):
            infer(spec(model, source, tmp_path / "out"))


def write_video(path: Path, frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 12.5, (96, 64))
    for index in range(frames):
        writer.write(noise(index, 96, 64))
    writer.release()


def test_video(model: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    write_video(clip, 9)
    boxes = {"0": [[10, 10, 40, 40]], "clip_000002.jpg": [[10, 10, 40, 40], [50, 20, 80, 60]]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    out = tmp_path / "out"
    infer(spec(model, clip, out, boxes=str(tmp_path / "boxes.json"), result_txt=True))
    result = predictions(out)
    assert [entry["frame"] for entry in result["predictions"]] == list(range(9))
    assert [len(entry["faces"]) for entry in result["predictions"]] == [1, 0, 2, 0, 0, 0, 0, 0, 0]
    names = [line.split()[0] for line in (out / "result.txt").read_text().splitlines()]
    assert names == ["clip.mp4:0", "clip.mp4:2", "clip.mp4:2"]
    drawn = cv2.VideoCapture(str(out / "video.mp4"))
    assert drawn.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    frames = [frame for _ in range(10) if (frame := drawn.read()[1]) is not None]
    assert len(frames) == 9 and frames[0].shape == (64, 96, 3)
    # Red and blue are where they were: the frame is the source's but for two rounds of compression.
    source = cv2.VideoCapture(str(clip)).read()[1].astype(float)
    assert np.abs(frames[0] - source).mean() < 0.5 * np.abs(frames[0][..., ::-1] - source).mean()


def test_max_frames(model: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 9)
    summary = infer(spec(model, tmp_path / "clip.mp4", tmp_path / "out", max_frames=4, draw=False))
    assert summary.pictures == len(predictions(tmp_path / "out")["predictions"]) == 4


@pytest.mark.parametrize(("source", "code"), [("video", 130), ("camera", 0)])
def test_ctrl_c_leaves_whole_files(source: str, code: int, model: Path, tmp_path: Path) -> None:
    """A camera is played by a video without end; everything behind `cv2.VideoCapture` is as it is."""
    write_video(tmp_path / "clip.mp4", 5)
    script = """
import sys
import cv2
from facetrain.configs.fpenet.schema import FpenetInferSpec
from facetrain.fpenet_trainer.infer import infer
class Endless:
    def __init__(self, source, capture=cv2.VideoCapture):
        self.clip = capture(sys.argv[1])
        self.isOpened, self.get, self.release = self.clip.isOpened, self.clip.get, self.clip.release
    def read(self):
        self.clip.set(cv2.CAP_PROP_POS_FRAMES, 0)
        return self.clip.read()
cv2.VideoCapture = Endless
source = sys.argv[1] if sys.argv[4] == "video" else "camera:0"
try:
    print(infer(FpenetInferSpec(model=sys.argv[2], input=source, results_dir=sys.argv[3], device="cpu", batch_size=2)))
except KeyboardInterrupt:
    sys.exit(130)
"""
    out = tmp_path / "out"
    command = [sys.executable, "-c", script, str(tmp_path / "clip.mp4"), str(model), str(out), source]
    process = subprocess.Popen(command)
    part = out / ".predictions.json.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 8192) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == code
    result = predictions(out)
    assert result["complete"] is (source == "camera")
    frames = [entry["frame"] for entry in result["predictions"]]
    assert frames == list(range(len(frames))) and len(frames) > 3
    video = cv2.VideoCapture(str(out / "video.mp4"))
    assert abs(video.get(cv2.CAP_PROP_FRAME_COUNT) - len(frames)) <= 1
