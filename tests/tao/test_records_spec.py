"""TAO's training specs on TAO's own TFRecords, without a key changed but those that make the run small."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from facetrain.datasets.drawn.synthetic import draw_faces
from facetrain.tests.facenet_runs import HEIGHT, WIDTH
from facetrain.tests.runs import TEN, facenet, fpenet, leave_out_reports
from facetrain.tests.tao.specs import FACENET, FPENET_TEN

records = pytest.importorskip("facetrain.tests.datasets.records", reason="TFRecords are not read here")
pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = ("train.device=cpu", "train.epochs=1", "data.workers=0", "track.pictures=0", "track.tensorboard=false")


def detection_records(pictures: Path, folder: Path, stems: list[str], fold: int) -> None:
    """One fold as `detectnet_v2 dataset_convert` writes it."""
    examples = []
    for stem in stems:
        boxes = [line.split()[4:8] for line in (pictures / f"{stem}.txt").read_text().splitlines()]
        sides = np.array(boxes, float).T
        examples.append(records.example({
            "frame/id": [stem.encode()], "frame/width": [WIDTH], "frame/height": [HEIGHT],
            "target/object_class": [b"face"] * len(boxes), "target/truncation": [0.0] * len(boxes),
            "target/occlusion": [0] * len(boxes),
            **{f"target/coordinates_{name}": list(map(float, side))
               for name, side in zip(("x1", "y1", "x2", "y2"), sides, strict=True)},
        }))  # fmt: skip
    folder.mkdir(exist_ok=True)
    records.write_records(folder / f"kitti_train-fold-{fold:03d}-of-002-shard-00000-of-00001", *examples)


@pytest.mark.parametrize("compat", ["facetrain", "tao"])
def test_facenet(compat, pictures, narrow, tmp_path, monkeypatch, capsys):
    leave_out_reports(monkeypatch.setattr)
    stems = sorted(path.stem for path in pictures.glob("*.txt"))
    for fold, part in enumerate((stems[:4], stems[4:])):
        detection_records(pictures, tmp_path / "tfrecords", part, fold)
    text = (
        FACENET.replace("/data/facenet/tfrecords/training/kitti_train-*", str(tmp_path / "tfrecords/kitti_train-*"))
        .replace("/data/facenet/training", str(pictures))
        .replace("/models/facenet/model.tlt", str(narrow))
    )
    begin, end = text.index("  validation_data_source"), text.index("  image_extension")
    spec = tmp_path / "detectnet_v2_spec.txt"
    spec.write_text(text[:begin] + "  validation_fold: 0\n" + text[end:])
    size = (f"input.width={WIDTH}", f"input.height={HEIGHT}", "train.batch_size=4")
    out = tmp_path / "run"
    assert facenet("train", "-e", str(spec), "-r", str(out), f"compat={compat}", *SMALL, *size) == 0
    assert f"pictures: {len(stems) - 4} to train on" in capsys.readouterr().out
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["input"]["resize"] == {"facetrain": "letterbox", "tao": "pad_crop"}[compat]
    measured = tmp_path / "measured"
    model = f"model={out / 'best.safetensors'}"
    small = ("device=cpu", "pictures=0", f"input_size.width={WIDTH}", f"input_size.height={HEIGHT}")
    assert facenet("evaluate", "-e", str(spec), "-r", str(measured), model, *small) == 0
    assert "4 pictures" in capsys.readouterr().out


def keypoint_spec(folder: Path, absolute: bool = False) -> str:
    """The notebook's spec with the records of 12 drawn faces of ten points, as `fpenet dataset_convert` writes them.

    Args:
        absolute: the records name whole paths and the spec no root_path, not names below that path.
    """
    images = folder / "images"
    images.mkdir()
    examples = []
    for index, face in enumerate(draw_faces(12, seed=5, num_keypoints=68)):
        name = f"{index:02}.png"
        Image.fromarray(face.image).save(images / name)
        points = face.points[TEN]
        low, side = points.min(axis=0), int(np.ceil(np.ptp(points, axis=0).max()))
        examples.append(records.example({f"train/{key}": value for key, value in {
            "image_frame_name": [(str(images / name) if absolute else name).encode()],
            "image_frame_width": [face.image.shape[1]], "image_frame_height": [face.image.shape[0]],
            "facebbx_x": [int(low[0])], "facebbx_y": [int(low[1])], "facebbx_w": [side], "facebbx_h": [side],
            "landmarks": [float(value) for value in points.ravel()], "landmarks_occ": [0] * 10,
        }.items()}))  # fmt: skip
    set_folder = folder / "tfrecords" / "afw_10" / "FpeTfRecords"
    set_folder.mkdir(parents=True)
    records.write_records(set_folder / "data.tfrecords", *examples)
    text = FPENET_TEN.replace("/data/tfrecords", str(folder / "tfrecords"))
    return text.replace("    root_path:\n", "    root_path:\n" if absolute else f"    root_path: {images}/\n")


@pytest.mark.parametrize("compat", ["facetrain", "tao"])
@pytest.mark.parametrize("absolute", [False, True])
def test_fpenet(compat, absolute, tmp_path, monkeypatch, capsys):
    """Names of pictures start from root_path, or are whole paths where there is none."""
    leave_out_reports(monkeypatch.setattr)
    spec = tmp_path / "experiment_spec.yaml"
    spec.write_text(keypoint_spec(tmp_path, absolute).replace("/models/fpenet/model.tlt", ""))
    small = ("model.width=8", "model.input_size=32", "train.batch_size=4")
    out = tmp_path / "run"
    assert fpenet("train", "-e", str(spec), "-r", str(out), f"compat={compat}", *SMALL, *small) == 0
    counts = {
        "facetrain": "11 to train on, 1 to validate on, 0 to test",
        "tao": "12 to train on, 12 to validate on, 12",
    }
    assert f"faces: {counts[compat]}" in capsys.readouterr().out
