"""The detector that comes with facetrain: what its file promises, and what it finds as it is."""

import json
from pathlib import Path

from PIL import Image

from facetrain.cli import FACENET, FPENET, main
from facetrain.configs.facenet.schema import DataConfig, IgnoreConfig, MetricsConfig, SourceConfig
from facetrain.datasets.detection_sources import read_detection_sets
from facetrain.datasets.drawn.scenes import draw_scene
from facetrain.facenet_trainer.detection_results import predict_pictures
from facetrain.facenet_trainer.predictor import Predictor
from facetrain.facenet_trainer.pretrained import ZOO

FULL = 11_550_853  # parameters and statistics of the unpruned network
CARD = ZOO.with_name("README.md")


def test_the_file_is_small_and_the_network_a_quarter():
    assert ZOO.stat().st_size < 6e6
    predictor = Predictor.load("zoo", "cpu")
    count = predictor.runtime.info.parameters
    assert count <= FULL / 4
    assert f"{count:,}" in CARD.read_text(encoding="utf-8")
    assert predictor.architecture.pruned
    assert (predictor.preprocessing.width, predictor.preprocessing.height) == (736, 736)
    assert 0.3 < predictor.meta.metrics["f1_score_face"] < 0.8  # where `infer` cuts


def test_the_file_names_no_folder():
    paths = [value for value in json.dumps(Predictor.load("zoo", "cpu").meta.config).split('"') if value[:1] == "/"]
    assert paths == []


def test_the_cascade_on_a_drawn_scene(tmp_path: Path):
    scene = draw_scene(2000, 11)
    Image.fromarray(scene.image).save(tmp_path / "scene.png")
    words = ["infer", "detector=zoo", f"input={tmp_path / 'scene.png'}", f"results_dir={tmp_path / 'out'}"]
    assert main("fpenet", FPENET, [*words, "device=cpu"]) == 0
    (picture,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    large = [box.box for box in scene.boxes if box.box[3] - box.box[1] >= 40 and not box.attributes["truncation"]]
    assert large
    for x1, y1, x2, y2 in large:
        within = [face["points"] for face in picture["faces"] if x1 < centre(face["box"])[0] < x2
                  and y1 < centre(face["box"])[1] < y2]  # fmt: skip
        assert len(within) == 1  # each clear face is found once
        margin = 0.2 * (x2 - x1)
        assert sum(x1 - margin < x < x2 + margin and y1 < y < y2 + margin for x, y in within[0]) >= 60  # of 68 points


def centre(box: list[float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def test_real_faces(shared_data: Path, tmp_path: Path):
    """A part of what the model card says: 40 of WIDER's validation pictures, and close faces that are not enlarged."""
    source = SourceConfig(format="wider", path="wider_face_val_bbx_gt.txt", count=40, seed=1)
    samples = read_detection_sets(DataConfig(root=str(shared_data / "wider"), test=[source])).test
    found = predict_pictures(Predictor.load("zoo", "cpu"), samples, IgnoreConfig(), MetricsConfig())
    assert found.results.summary()["ap_20px"] > 0.75
    portraits = sorted((shared_data / "300w" / "helen" / "test").glob("*.jpg"))[:10]
    (tmp_path / "in").mkdir()
    for portrait in portraits:
        (tmp_path / "in" / portrait.name).symlink_to(portrait)
    words = ["infer", "model=zoo", f"input={tmp_path / 'in'}", f"results_dir={tmp_path / 'out'}", "device=cpu"]
    assert main("facenet", FACENET, [*words, "draw=false"]) == 0
    pictures = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    sizes = [max((d["box"][3] - d["box"][1] for d in picture["detections"]), default=0) for picture in pictures]
    assert sum(size > 100 for size in sizes) >= 9  # the face of 144 px, once and whole
