"""predict.py gives what facetrain gives, with numpy and ONNX Runtime alone."""

import ast
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from facetrain.datasets.drawn.synthetic import draw_face
from facetrain.datasets.image import luma, read_image
from facetrain.datasets.preprocessing import Preprocessing, cut, to_image
from facetrain.export.deploy.standalone import write_predict_script
from facetrain.facenet_trainer.predictor import Predictor as FacePredictor
from facetrain.fpenet_trainer.predictor import Predictor as PointPredictor
from facetrain.tests.export.deployed import export_faces, export_points, grid_model, point_model, scene

ALONE = "import sys, runpy; [sys.modules.__setitem__(m, None) for m in {blocked}]; sys.argv = sys.argv[1:]; \
runpy.run_path(sys.argv[0], run_name='__main__')"
FOREIGN = ["facetrain", "torch", "torchvision", "cv2", "onnx", "scipy"]


def run(script, *arguments, cwd, blocked=(*FOREIGN, "PIL")):
    """The process, from another folder, without the modules that a bare Python would not have."""
    command = [sys.executable, "-I", "-c", ALONE.format(blocked=list(blocked)), str(script), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100)


def predicted(script, *arguments, **options):
    result = run(script, *arguments, **options)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def lines_of_code(source):
    """Lines that are neither empty nor in a docstring."""
    tree = ast.parse(source)
    documented = [node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.FunctionDef))]
    said = {
        line
        for node in documented
        if ast.get_docstring(node)
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    return sum(bool(line.strip()) and number not in said for number, line in enumerate(source.splitlines(), 1))


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    export = export_points(tmp_path_factory.mktemp("points"))
    write_predict_script(export.folder / "predict.py", export.meta, export.info)
    return export


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    export = export_faces(tmp_path_factory.mktemp("faces"))
    write_predict_script(export.folder / "predict.py", export.meta, export.info)
    return export


def points_of(onnx, picture, box):
    """What facetrain's own predictor gives for one face: points in the picture, confidence."""
    predictor = PointPredictor.load(str(onnx), "cpu")
    p = predictor.preprocessing
    square = p.square(None, np.array(box, np.float32))
    found = predictor.predict(cut(luma(picture), square, p.size)[None])
    return to_image(found.points[0], square, p.size), found


@pytest.mark.parametrize("suffix", [".npy", ".ppm", ".png"])
def test_points(points, tmp_path, suffix):
    picture, box = scene(0), [100.3, 50.8, 190.1, 160.4]
    path = tmp_path / f"picture{suffix}"
    np.save(path, picture) if suffix == ".npy" else Image.fromarray(picture).save(path)
    blocked = FOREIGN if suffix == ".png" else (*FOREIGN, "PIL")
    found = predicted(points.folder / "predict.py", path, *box, cwd=tmp_path, blocked=blocked)
    expected, all_of_it = points_of(points.forms["fp32"], picture, box)
    assert np.abs(np.array(found["points"]) - expected).max() < 0.05
    assert np.abs(np.array(found["confidence"]) - all_of_it.confidence[0]).max() < 1e-3


@pytest.mark.parametrize("box", [None, [-30, -20, 40, 60], [260, 200, 330, 260], [120.2, 60.1, 132.6, 75.9]])
def test_the_whole_picture_borders_and_small_faces(points, tmp_path, box):
    picture = draw_face(1, 4, 68).image if box is None else luma(scene(1))
    Image.fromarray(picture).save(tmp_path / "grey.pgm")
    found = predicted(points.folder / "predict.py", tmp_path / "grey.pgm", *(box or ()), cwd=tmp_path)
    whole = [0, 0, picture.shape[1], picture.shape[0]]
    assert np.abs(np.array(found["points"]) - points_of(points.forms["fp32"], picture, box or whole)[0]).max() < 0.05


def test_another_crop_a_fixed_batch_and_visibility(tmp_path):
    crop = {"crop_source": "box", "enlarge": 1.1, "shift_x": 0.05, "shift_y": -0.08}
    model = point_model(tmp_path / "m.safetensors", visibility_head=True)
    export = export_points(tmp_path / "out", model, crop, batch=2, heatmaps=True, io_names="tao-v3")
    script = write_predict_script(tmp_path / "out/predict.py", export.meta, export.info)
    np.save(tmp_path / "p.npy", scene(2))
    box = [20.0, 30.0, 140.0, 90.0]
    found = predicted(script, export.forms["fp32"], tmp_path / "p.npy", *box, cwd=tmp_path)
    expected, all_of_it = points_of(export.forms["fp32"], scene(2), box)
    assert list(found) == ["points", "confidence", "visibility"]
    assert np.abs(np.array(found["points"]) - expected).max() < 0.05
    assert np.abs(np.array(found["visibility"]) - all_of_it.visibility[0]).max() < 1e-3


def boxes_of(onnx, picture, least=-1.0):
    """What facetrain's own predictor finds."""
    predictor = FacePredictor.load(str(onnx), "cpu")
    (found,) = predictor.predict([picture])
    return predictor.confident(found, least), predictor.classes


def assert_same(found, expected, classes):
    assert len(expected.scores) > 0
    assert [face["class"] for face in found] == [classes[label] for label in expected.labels]
    assert np.abs(np.array([face["box"] for face in found]) - expected.boxes).max() < 0.5
    assert np.abs(np.array([face["score"] for face in found]) - expected.scores).max() < 1e-3


@pytest.mark.parametrize("index", [6, 9])
def test_faces(faces, tmp_path, index):
    Image.fromarray(scene(index)).save(tmp_path / "picture.ppm")
    found = predicted(faces.folder / "predict.py", tmp_path / "picture.ppm", cwd=tmp_path)
    assert_same(found, *boxes_of(faces.forms["fp32"], scene(index)))
    every = predicted(faces.folder / "predict.py", tmp_path / "picture.ppm", 0.1, cwd=tmp_path)
    assert_same(every, *boxes_of(faces.forms["fp32"], scene(index), 0.1))
    assert len(every) > len(found)


PER_CLASS = {"per_class": {"person": {"coverage_threshold": 0.5, "nms_iou_threshold": 0.5, "dbscan_min_weight": 3.0}}}


@pytest.mark.parametrize(
    ("resize", "grey", "clustering", "export"),
    [
        ("letterbox", False, {"algorithm": "nms", **PER_CLASS}, {}),
        ("stretch", True, {"algorithm": "dbscan"}, {"io_names": "tao-v3"}),
        ("pad_crop", False, {"algorithm": "dbscan", "confidence": "mean_cov", **PER_CLASS}, {"decode": True}),
        ("letterbox", False, {"algorithm": "hybrid", "dbscan_confidence_threshold": 1.0}, {"batch": 2}),
        ("fit", False, {"algorithm": "nms", "minimum_bounding_box_height": 40.0}, {"nms": True}),
    ],
)
def test_every_way_to_resize_and_to_cluster(tmp_path, resize, grey, clustering, export):
    model = grid_model(tmp_path / "m.safetensors", ("face", "person"), grey, bbox_scale=30.0, bbox_offset=0.25)
    export = export_faces(tmp_path / "out", str(model), resize, clustering=clustering, **export)
    script = write_predict_script(tmp_path / "out/predict.py", export.meta, export.info)
    for shape in ((400, 200), (150, 270)):
        picture = scene(3, *shape)
        np.save(tmp_path / "p.npy", picture)
        assert_same(predicted(script, tmp_path / "p.npy", cwd=tmp_path), *boxes_of(export.forms["fp32"], picture))


def test_pictures_are_read_as_facetrain_reads_them(points, tmp_path):
    """Transparency, palettes and the EXIF tag for turning; and comments in a PPM file's head."""
    read = load(points.folder / "predict.py")["read"]
    picture = Image.fromarray(scene(0))
    veiled = picture.copy()
    veiled.putalpha(Image.linear_gradient("L").resize(picture.size))
    veiled.save(tmp_path / "veiled.png")
    picture.convert("P").save(tmp_path / "palette.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    for name in ("veiled.png", "palette.png", "turned.jpg"):
        np.testing.assert_array_equal(read(str(tmp_path / name)), read_image(tmp_path / name, grey=False))
    head = b"P6 # a comment\n# another 9 9\n300\n240 255\n"
    (tmp_path / "commented.ppm").write_bytes(head + scene(0).tobytes())
    np.testing.assert_array_equal(read(str(tmp_path / "commented.ppm")), scene(0))


def load(script):
    """The script's functions."""
    found = {"__name__": "predict", "__file__": str(script)}
    exec(compile(script.read_text(), str(script), "exec"), found)
    return found


def test_resizing_is_pillows_within_rounding(points):
    script = load(points.folder / "predict.py")
    rng = np.random.default_rng(0)
    for _ in range(30):
        height, width, high, wide = rng.integers(3, 300, 4).tolist()
        picture = rng.integers(0, 256, (height, width, 3), np.uint8)
        x, y = rng.uniform(0, width / 2), rng.uniform(0, height / 2)
        box = (x, y, rng.uniform(x + 1, width), rng.uniform(y + 1, height))
        ours = script["resized"](picture, wide, high, box)
        pillows = np.asarray(Image.fromarray(picture).resize((wide, high), Image.Resampling.BILINEAR, box=box))
        assert np.abs(ours.astype(int) - pillows).max() <= 1
        np.testing.assert_array_equal(script["luma"](picture), luma(picture))


def test_crops_are_facetrains(points):
    script, grey = load(points.folder / "predict.py"), luma(scene(4))
    p = Preprocessing(enlarge=1.4, shift_x=0.1, shift_y=-0.2)
    for box in ([10, 20, 70, 50], [-400, -400, -300, -300], [250, 100, 700, 600], [100, 100, 100.5, 102]):
        square = p.square(None, np.array(box, np.float32))
        np.testing.assert_allclose(script["square"](box, p.to_dict()), square, atol=1e-9)
        crop = script["cut"](grey, square, p.size)[0]
        assert np.abs(crop - cut(grey, square, p.size)).max() <= 1


def test_a_hundred_lines(points, faces):
    assert len((points.folder / "predict.py").read_text().splitlines()) <= 100
    assert lines_of_code((faces.folder / "predict.py").read_text()) <= 100


def test_what_it_says_when_it_cannot(points, tmp_path):
    script = points.folder / "predict.py"
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    without = run(script, tmp_path / "picture.png", cwd=tmp_path)
    assert without.returncode == 1 and "pip install pillow" in without.stderr
    usage = run(script, "picture.png", "1", "2", cwd=tmp_path)
    assert usage.returncode == 1 and "python predict.py [model.onnx] picture [x1 y1 x2 y2]" in usage.stderr


def test_the_first_graph_beside_it_is_taken(faces, tmp_path):
    """facenet.onnx before facenet_fp16.onnx, and that where there is no other."""
    script = write_predict_script(tmp_path / "predict.py", faces.meta, faces.info)
    (tmp_path / "facenet_fp16.onnx").write_bytes(faces.forms["fp32"].read_bytes())
    np.save(tmp_path / "p.npy", scene(9))
    assert predicted(script, "p.npy", cwd=tmp_path) == predicted(faces.folder / "predict.py", "p.npy", cwd=tmp_path)
