"""Triton: configurations equal to the graphs, an ensemble that finds what `fpenet infer` finds, clients."""

import inspect
import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from facetrain.configs.fpenet.schema import FpenetInferSpec
from facetrain.export.deploy.deployment import Exported, exported_in
from facetrain.export.deploy.triton import write_triton
from facetrain.export.engines.build import build_engine
from facetrain.export.engines.options import EngineOptions
from facetrain.export.engines.sidecar import read_sidecar, write_sidecar
from facetrain.facenet_trainer.predictor import Predictor as FacePredictor
from facetrain.fpenet_trainer.infer import infer
from facetrain.tests.export import triton_server
from facetrain.tests.export.deployed import export_faces, export_points, grid_model, point_model, scene
from facetrain.tests.export.triton_server import Server, read_config, run_client

BOX = {"crop_source": "box", "enlarge": 1.1, "shift_x": 0.05, "shift_y": -0.08}
LIT = {"algorithm": "nms", "coverage_threshold": 0.5, "nms_iou_threshold": 0.1, "minimum_bounding_box_height": 30.0}


def exported(export):
    return Exported(export.meta, export.info, export.forms)


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    return export_points(tmp_path_factory.mktemp("points"))


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return export_faces(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="module")
def repository(points, faces):
    """Both networks of the zoo."""
    write_triton(points.folder / "triton", exported(points), exported_in(faces.folder, "facenet"))
    return points.folder / "triton"


@pytest.fixture(scope="module")
def server(repository):
    return Server(repository)


def random_points(folder, crop=None, visibility_head=False, **config):
    return export_points(folder, point_model(folder.with_suffix(".m"), visibility_head=visibility_head), crop, **config)


def random_faces(folder, classes=("face",), clustering=None, **config):
    model = grid_model(folder.with_suffix(".m"), classes)
    return export_faces(folder, str(model), "letterbox", clustering=clustering or LIT, **config)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """made(build, **config): an export, made once."""
    known = {}

    def make(build, **config):
        key = build.__name__, json.dumps(config)
        if key not in known:
            known[key] = build(tmp_path_factory.mktemp("made") / "out", **config)
        return known[key]

    return make


KEYPOINTS = {
    "one look": {"crop": BOX, "visibility_head": True, "io_names": "plain"},
    "threes": {"batch": 3, "io_names": "tao-v3", "heatmaps": True},
    "default": {},
}
DETECTORS = {
    "decoded": {"decode": True},
    "twos": {"batch": 2, "io_names": "tao-v3", "name_suffix": "yes"},
    "with nms": {"nms": True, "classes": ("person", "face")},
    "dbscan": {"classes": ("person", "face"), "clustering": {"algorithm": "dbscan", "dbscan_min_weight": 3.0}},
}


# Configurations


@pytest.mark.parametrize(
    ("build", "config"),
    [
        *((random_points, config) for config in KEYPOINTS.values()),
        *((random_faces, config) for config in DETECTORS.values()),
    ],
)
def test_names_shapes_and_types_are_the_graphs(made, tmp_path, build, config):
    export = made(build, **config)
    write_triton(tmp_path / "triton", exported(export), batch=32)
    model = f"{export.meta.architecture['network']}_onnx"
    config = read_config(tmp_path / "triton" / model / "config.pbtxt")
    session = onnxruntime.InferenceSession(str(tmp_path / "triton" / model / "1/model.onnx"))
    for fields, tensors in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [field.name for field in fields] == [tensor.name for tensor in tensors]
        for field, tensor in zip(fields, tensors, strict=True):
            assert (field.data_type, tensor.type) == (triton_server.ENUMS["DataType"]["TYPE_FP32"], "tensor(float)")
            free = [-1 if isinstance(size, str) else size for size in tensor.shape]
            assert ([-1] if config.max_batch_size else []) + list(field.dims) == free
    assert config.HasField("dynamic_batching") == (config.max_batch_size > 0)


def test_how_many_at_a_time(made, points, tmp_path):
    for given, found in ((8, 64), (128, 128)):
        write_triton(tmp_path, exported(points), batch=given)
        assert read_config(tmp_path / "fpenet_onnx/config.pbtxt").max_batch_size == found
        assert read_config(tmp_path / "fpenet_tensorrt.pbtxt").max_batch_size == given
    write_triton(tmp_path, exported(made(random_points, **KEYPOINTS["threes"])))
    assert read_config(tmp_path / "fpenet_onnx/config.pbtxt").max_batch_size == 0
    assert "no more and no fewer" in (tmp_path / "fpenet_onnx/config.pbtxt").read_text()


def test_the_form_that_each_backend_gets(points, tmp_path):
    graph = points.forms["fp32"].read_bytes()
    forms = {form: tmp_path / f"fpenet_{form}.onnx" for form in ("int8", "fp16", "fp32")}
    for form, path in forms.items():
        path.write_bytes(graph + b"\x82\x01\x00" * len(form))  # a field that no reader knows
    write_triton(tmp_path / "triton", Exported(points.meta, points.info, forms))
    assert (tmp_path / "triton/fpenet_onnx/1/model.onnx").read_bytes() == forms["fp32"].read_bytes()
    assert "--onnx=../fpenet_fp16.onnx " in (tmp_path / "triton/fpenet_tensorrt.pbtxt").read_text()


def test_an_engine_that_is_yet_to_be_built(repository, points):
    """Triton does not start with a model that lacks its file, so this one is not among the models yet."""
    assert not (repository / "fpenet_tensorrt").exists()
    text = (repository / "fpenet_tensorrt.pbtxt").read_text()
    assert "trtexec --onnx=../fpenet.onnx --stronglyTyped --saveEngine=fpenet_tensorrt/1/model.plan" in text
    assert r"--maxShapes=\'input_face_images:0\':16x1x80x80" in text
    config, onnx = (read_config(repository / name) for name in ("fpenet_tensorrt.pbtxt", "fpenet_onnx/config.pbtxt"))
    assert (config.name, config.backend) == ("fpenet_tensorrt", "tensorrt")
    assert list(config.input) == list(onnx.input) and list(config.output) == list(onnx.output)


def test_an_engine_that_is_there(made, tmp_path):
    export = made(random_points)
    shutil.copy(export.forms["fp32"], tmp_path)
    export = export._replace(forms={"fp32": tmp_path / "fpenet.onnx"})
    path = export.forms["fp32"].with_suffix(".engine")
    build_engine(export.forms["fp32"], path, EngineOptions("tensorrt_rtx", max_batch=8), export.meta, export.info)
    write_triton(tmp_path / "triton", exported(export))
    assert not (tmp_path / "triton/fpenet_tensorrt").exists()  # Triton does not read TensorRT-RTX's
    sidecar = read_sidecar(path)
    write_sidecar(path, replace(sidecar, engine=replace(sidecar.engine, flavour="tensorrt")))
    write_triton(tmp_path / "triton", exported(export))
    config = tmp_path / "triton/fpenet_tensorrt/config.pbtxt"
    assert read_config(config).max_batch_size == 8
    assert "The engine was built by TensorRT " in config.read_text()
    assert (tmp_path / "triton/fpenet_tensorrt/1/model.plan").read_bytes() == path.read_bytes()
    assert not (tmp_path / "triton/fpenet_tensorrt.pbtxt").exists()


def test_an_earlier_export_is_cleared(points, faces, tmp_path):
    write_triton(tmp_path, exported(faces), exported(points))
    (tmp_path / "of_the_user/1").mkdir(parents=True)
    again = write_triton(tmp_path, exported(faces))
    found = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert found == set(again)
    assert (tmp_path / "of_the_user/1").is_dir()
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"facenet_onnx", "of_the_user"}


# The ensemble


def inferred(points, picture, folder, **spec):
    """The faces that `fpenet infer` finds."""
    folder.mkdir()
    Image.fromarray(picture).save(folder / "picture.png")
    paths = {"input": str(folder / "picture.png"), "results_dir": str(folder / "out")}
    infer(FpenetInferSpec(model=str(points.forms["fp32"]), draw=False, device="cpu", **paths, **spec))
    (found,) = json.loads((folder / "out/predictions.json").read_text())["predictions"]
    return found["faces"]


def cascade(points, faces, picture, folder):
    """The same, with the detector."""
    return inferred(points, picture, folder, detector=str(faces.forms["fp32"]))


def assert_same(found, expected):
    assert found["found"].tolist() == [len(expected)]
    expected = expected[: len(found["boxes"])]
    for name, key, near in (("boxes", "box", 0.5), ("points", "points", 0.05), ("scores", "score", 1e-3)):
        assert np.abs(found[name] - np.array([face[key] for face in expected])).max() < near
    assert np.abs(found["confidence"] - np.array([face["confidence"] for face in expected])).max() < 2e-3


@pytest.mark.parametrize("index", [6, 9])
def test_the_ensemble_finds_what_infer_finds(server, points, faces, tmp_path, index):
    expected = cascade(points, faces, scene(index), tmp_path / "infer")
    assert expected
    assert_same(server.infer("faces", {"picture": scene(index)}), expected)


def test_without_pillow(repository, points, faces, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    server = Server(repository)
    monkeypatch.undo()
    assert_same(server.infer("faces", {"picture": scene(6)}), cascade(points, faces, scene(6), tmp_path / "infer"))


def test_a_picture_without_faces(server):
    found = server.infer("faces", {"picture": np.zeros((50, 70, 3), np.uint8)})
    shapes = {name: values.shape for name, values in found.items()}
    assert shapes == {
        "boxes": (0, 4), "scores": (0,), "found": (1,), "points": (0, 68, 2), "confidence": (0, 68),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("keypoints", "detector"),
    [("one look", "decoded"), ("threes", "twos"), ("default", "with nms"), ("default", "dbscan")],
)
def test_every_kind_of_graph(made, tmp_path, keypoints, detector):
    points, faces = made(random_points, **KEYPOINTS[keypoints]), made(random_faces, **DETECTORS[detector])
    write_triton(tmp_path / "triton", exported(faces), exported(points))
    server = Server(tmp_path / "triton")
    assert ("faces_recrop" in server.configs) == (keypoints != "one look")
    found = server.infer("faces", {"picture": scene(6)})
    expected = cascade(points, faces, scene(6), tmp_path / "infer")
    assert len(expected) > 3
    assert_same(found, expected)
    assert len(found["boxes"]) == (3 if keypoints == "threes" else len(expected))
    if keypoints == "one look":
        visibility = np.array([face["visibility"] for face in expected])
        assert np.abs(found["visibility"] - visibility).max() < 2e-3


# Clients


def printed(capsys):
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("grey", [False, True])
def test_the_client_of_the_ensemble(repository, server, points, faces, tmp_path, capsys, grey):
    picture = np.array(Image.fromarray(scene(6)).convert("L")) if grey else scene(6)
    expected = cascade(points, faces, picture, tmp_path / "infer")
    capsys.readouterr()
    run_client(repository / "faces_client.py", server, tmp_path / "infer/picture.png")
    found = printed(capsys)
    assert [list(face) for face in found] == [["box", "score", "points", "confidence"]] * len(expected)
    for face, wanted in zip(found, expected, strict=True):
        assert np.abs(np.array(face["points"]) - wanted["points"]).max() < 0.05
        assert np.abs(np.array(face["box"]) - wanted["box"]).max() < 0.5


def test_more_faces_than_the_ensemble_takes(made, tmp_path, capsys):
    points, faces = made(random_points), made(random_faces, **DETECTORS["decoded"])
    write_triton(tmp_path / "triton", exported(points), exported(faces))
    config = tmp_path / "triton/faces_crop/config.pbtxt"
    config.write_text(config.read_text().replace('"64"', '"2"'))
    np.save(tmp_path / "p.npy", scene(6))
    expected = cascade(points, faces, scene(6), tmp_path / "infer")
    capsys.readouterr()
    run_client(tmp_path / "triton/faces_client.py", Server(tmp_path / "triton"), tmp_path / "p.npy")
    said = capsys.readouterr()
    assert len(json.loads(said.out)) == 2
    assert f"{len(expected) - 2} more faces are left out: see `most`" in said.err


def test_the_client_of_the_detector(repository, server, faces, tmp_path, capsys):
    Image.fromarray(scene(9)).save(tmp_path / "p.ppm")
    predictor = FacePredictor.load(str(faces.forms["fp32"]), "cpu")
    (everything,) = predictor.predict([scene(9)])
    for least in ((), (0.1,)):
        run_client(repository / "facenet_client.py", server, tmp_path / "p.ppm", *least)
        found, expected = printed(capsys), predictor.confident(everything, *(least or (-1.0,)))
        assert len(found) == len(expected.scores) > 0
        assert np.abs(np.array([face["box"] for face in found]) - expected.boxes).max() < 0.5
        assert np.abs(np.array([face["score"] for face in found]) - expected.scores).max() < 1e-3
        assert {face["class"] for face in found} == {"face"}


@pytest.mark.parametrize("kind", ["default", "threes"])
def test_the_client_of_the_keypoint_network(made, tmp_path, capsys, kind):
    """On a box that is the face's own, as boxes=... of `fpenet infer` are."""
    export = made(random_points, **KEYPOINTS[kind])
    write_triton(tmp_path / "triton", exported(export))
    np.save(tmp_path / "p.npy", scene(0))
    box = [100.25, 50.75, 190.5, 160.5]
    run_client(tmp_path / "triton/fpenet_client.py", Server(tmp_path / "triton"), tmp_path / "p.npy", *box)
    found = printed(capsys)
    (tmp_path / "boxes.json").write_text(json.dumps({"picture.png": [box]}))
    (expected,) = inferred(export, scene(0), tmp_path / "infer", boxes=str(tmp_path / "boxes.json"))
    assert list(found) == ["points", "confidence"]
    assert np.abs(np.array(found["points"]) - expected["points"]).max() < 0.05
    assert np.abs(np.array(found["confidence"]) - expected["confidence"]).max() < 2e-3


@pytest.mark.parametrize("name", ["faces", "facenet", "fpenet"])
def test_a_client_says_how_it_is_called(repository, server, name):
    with pytest.raises(SystemExit, match=f"python {name}_client.py picture"):
        run_client(repository / f"{name}_client.py", server)


def test_clients_leave_no_folder_that_triton_would_take_for_a_model(repository, server):
    assert {path.name for path in repository.iterdir() if path.is_dir()} == set(server.configs)


def test_the_stand_in_is_called_as_tritonclient_is():
    http = pytest.importorskip("tritonclient.http", reason="needs `pip install tritonclient[http]`")
    from tritonclient.utils import np_to_triton_dtype

    ours = triton_server.client_modules(None)["tritonclient.http"]
    for owner, method in (("InferInput", "__init__"), ("InferInput", "set_data_from_numpy"),
                          ("InferenceServerClient", "__init__"), ("InferenceServerClient", "infer")):  # fmt: skip
        stood_in, real = (
            list(inspect.signature(getattr(getattr(module, owner), method)).parameters) for module in (ours, http)
        )
        assert real[: len(stood_in)] == stood_in
    for name, dtype in triton_server.DTYPES.items():
        assert np_to_triton_dtype(np.dtype(dtype)) == name
