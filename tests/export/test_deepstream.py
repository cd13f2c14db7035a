"""DeepStream's files: the keys of NVIDIA's samples, and parsers and probes that read tensors as facetrain does."""

import configparser
import ctypes
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch

from facetrain.datasets.preprocessing import Preprocessing
from facetrain.errors import ConfigError
from facetrain.export.deploy.deepstream import write_deepstream
from facetrain.export.deploy.deployment import BEYOND_POINTS, Exported, exported_in
from facetrain.facenet_trainer.network import decode_boxes
from facetrain.fpenet_trainer.infer_detector import WIDER_BEYOND_POINTS, points_box
from facetrain.tests.export.deployed import export_faces, export_points, grid_model, point_model

STUBS = Path(__file__).with_name("deepstream_stubs")
NARROW = {"algorithm": "nms", "coverage_threshold": 0.3}


def exported(export):
    return Exported(export.meta, export.info, export.forms)


def read_config(path):
    parser = configparser.ConfigParser(strict=True, interpolation=None, delimiters=("=",))
    parser.optionxform = str
    parser.read_string(path.read_text())
    return {name: dict(parser[name]) for name in parser.sections()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("deepstream")


@pytest.fixture(scope="module")
def points(folder):
    return export_points(folder / "fpenet", point_model(folder / "p.safetensors", 80), io_names="tao-v3")


@pytest.fixture(scope="module")
def faces(folder):
    return export_faces(folder / "facenet", str(grid_model(folder / "g.safetensors")), "letterbox", clustering=NARROW)


@pytest.fixture(scope="module")
def two_classes(folder):
    model = grid_model(folder / "c.safetensors", ("person", "face"), bbox_scale=20.0, bbox_offset=0.25)
    return export_faces(folder / "two", str(model), "stretch", clustering={"algorithm": "dbscan"})


@pytest.fixture(scope="module")
def both(points, faces):
    """The files of FPENet with its partner."""
    write_deepstream(points.folder / "deepstream", exported(points), exported_in(faces.folder, "facenet"), 32)
    return points.folder / "deepstream"


# The sheets: fpenet.md §7.4 and gridbox.md §9.5, in the form for ONNX.
SGIE = {
    "gpu-id": "0", "net-scale-factor": "1.0", "offsets": "0.0", "model-color-format": "2",
    "onnx-file": "../fpenet.onnx", "model-engine-file": "../fpenet.onnx_b32_gpu0_fp32.engine", "network-mode": "0",
    "infer-dims": "1;80;80", "batch-size": "32", "process-mode": "2", "network-type": "100",
    "output-tensor-meta": "1", "num-detected-classes": "1", "output-blob-names": "softargmax;softargmax:1",
    "gie-unique-id": "2", "operate-on-gie-id": "1", "input-object-min-width": "5", "input-object-min-height": "5",
    "scaling-filter": "1",
}  # fmt: skip
PGIE = {
    "gpu-id": "0", "net-scale-factor": "0.0039215697906911373", "offsets": "0;0;0", "model-color-format": "0",
    "onnx-file": "../../facenet/facenet.onnx",
    "model-engine-file": "../../facenet/facenet.onnx_b1_gpu0_fp32.engine", "network-mode": "0",
    "labelfile-path": "labels_facenet.txt", "infer-dims": "3;256;320", "batch-size": "1", "process-mode": "1",
    "network-type": "0", "num-detected-classes": "1", "interval": "0", "gie-unique-id": "1",
    "output-blob-names": "output_bbox/BiasAdd:0;output_cov/Sigmoid:0", "maintain-aspect-ratio": "1",
    "symmetric-padding": "1", "scaling-filter": "1", "cluster-mode": "2",
}  # fmt: skip


def test_the_keys_of_the_samples(both):
    sgie = read_config(both / "config_infer_secondary_fpenet_fp32.txt")
    assert sgie == {"property": SGIE, "class-attrs-all": {"pre-cluster-threshold": "0.0"}}
    pgie = read_config(both / "config_infer_primary_facenet_fp32.txt")
    assert pgie["property"] == PGIE
    assert pgie["class-attrs-all"] == {
        "pre-cluster-threshold": "0.3", "nms-iou-threshold": "0.3", "detected-min-w": "4", "detected-min-h": "4",
    }  # fmt: skip
    assert (both / "labels_facenet.txt").read_text() == "face\n"
    for name in (SGIE["onnx-file"], PGIE["onnx-file"]):
        assert (both / name).is_file()


def test_the_app_runs_both(both):
    app = read_config(both / "deepstream_app.txt")
    for section, unique in (("primary-gie", "1"), ("secondary-gie0", "2")):
        config = read_config(both / app[section]["config-file"])["property"]
        assert app[section]["gie-unique-id"] == config["gie-unique-id"] == unique
        assert app[section]["batch-size"] == config["batch-size"]
    assert app["secondary-gie0"]["operate-on-gie-id"] == "1"


@pytest.mark.parametrize(
    ("form", "mode", "word"), [("fp16", "2", "fp16"), ("int8", "1", "int8"), ("int8_fp16", "1", "int8")]
)
def test_each_form_has_its_mode(points, tmp_path, form, mode, word):
    graph = tmp_path / f"fpenet_{form}.onnx"
    shutil.copy(points.forms["fp32"], graph)
    export = Exported(points.meta, points.info, {form: graph})
    name = f"config_infer_secondary_fpenet_{form}.txt"
    write_deepstream(tmp_path / "deepstream", export)
    config = read_config(tmp_path / "deepstream" / name)["property"]
    assert config["network-mode"] == mode
    assert config["model-engine-file"] == f"../fpenet_{form}.onnx_b16_gpu0_{word}.engine"
    assert "int8-calib-file" not in config  # there is none
    (tmp_path / "fpenet_calibration.txt").write_text("")
    write_deepstream(tmp_path / "deepstream", export)
    config = read_config(tmp_path / "deepstream" / name)["property"]
    assert config.get("int8-calib-file") == ("../fpenet_calibration.txt" if word == "int8" else None)


def test_a_fixed_batch_is_the_batch(tmp_path):
    export = export_points(tmp_path, point_model(tmp_path / "p.safetensors"), batch=4)
    write_deepstream(tmp_path / "deepstream", exported(export), batch=32)
    text = (tmp_path / "deepstream/config_infer_secondary_fpenet_fp32.txt").read_text()
    assert "\nbatch-size=4\n" in text and "Shapes" not in text


def test_constants_that_deepstreams_own_parser_does_not_know(two_classes, tmp_path):
    write_deepstream(tmp_path, exported(two_classes))
    path = tmp_path / "config_infer_primary_facenet_fp32.txt"
    config = read_config(path)
    assert "WARNING: DeepStream's own parser takes stride 16, scale 35, offset 0.5 for granted" in path.read_text()
    assert config["property"]["parse-bbox-func-name"] == "NvDsInferParseCustomFacetrainGridBox"
    assert config["property"]["cluster-mode"] == "1" and config["property"]["maintain-aspect-ratio"] == "0"
    assert list(config) == ["property", "class-attrs-0", "class-attrs-1"]
    assert config["class-attrs-1"]["eps"] == "0.7"
    assert (tmp_path / "labels_facenet.txt").read_text() == "person\nface\n"
    assert "secondary-gie0" not in read_config(tmp_path / "deepstream_app.txt")


def test_the_class_that_is_called_face_goes_to_fpenet(points, two_classes, tmp_path):
    write_deepstream(tmp_path, exported(points), exported(two_classes))
    config = read_config(tmp_path / "config_infer_secondary_fpenet_fp32.txt")
    assert config["property"]["operate-on-class-ids"] == "1"


def test_decoded_graphs_are_left_out(points, tmp_path):
    decoded = export_faces(tmp_path / "out", str(grid_model(tmp_path / "g.safetensors")), decode=True)
    assert write_deepstream(tmp_path / "deepstream", exported(decoded)) == []
    names = {path.name for path in write_deepstream(tmp_path / "deepstream", exported(points), exported(decoded))}
    assert "deepstream_app.txt" not in names and "fpenet_probe.py" in names


def test_a_partner_that_is_not_there(points, tmp_path):
    with pytest.raises(ConfigError, match="no FaceNet graph lies there; give the folder that `facenet export` wrote"):
        exported_in(points.folder, "facenet")


def test_the_forehead_is_the_same_everywhere():
    assert BEYOND_POINTS == WIDER_BEYOND_POINTS


# C++


@pytest.fixture(scope="module")
def compile_against_stubs():
    if shutil.which("g++") is None:
        pytest.skip("there is no g++ to compile DeepStream's sources with")

    def compiled(folder, *sources):
        flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{STUBS}", f"-I{folder}"]
        program = folder / "program"
        subprocess.run(["g++", *flags, *map(str, sources), "-o", str(program)], check=True, timeout=120)
        return program

    return compiled


def answer(program, *tensors):
    """The rows of numbers that a program prints of float32 tensors given as files."""
    files = []
    for i, tensor in enumerate(tensors):
        files.append(program.parent / f"tensor{i}.bin")
        np.ascontiguousarray(tensor, np.float32).tofile(files[-1])
    result = subprocess.run([program, *files], check=True, capture_output=True, text=True, timeout=60)
    return np.array([line.split() for line in result.stdout.splitlines()], float)


READ = r"""
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

static std::vector<float> read(const char *path, std::size_t count) {
    std::vector<float> values(count);
    std::ifstream(path, std::ios::binary).read(reinterpret_cast<char *>(values.data()), 4 * count);
    return values;
}
"""
BOXES = (
    READ
    + r"""
#include "gridbox_model.h"
#include "nvdsinfer_custom_impl.h"

extern "C" bool NvDsInferParseCustomFacetrainGridBox(std::vector<NvDsInferLayerInfo> const &,
    NvDsInferNetworkInfo const &, NvDsInferParseDetectionParams const &, std::vector<NvDsInferObjectDetectionInfo> &);

int main(int, char **files) {
    auto bbox = read(files[1], 4 * CLASSES * 16 * 20), coverage = read(files[2], CLASSES * 16 * 20);
    NvDsInferLayerInfo first{}, second{};
    first.dataType = second.dataType = FLOAT;
    first.inferDims = {3, {CLASSES, 16, 20}, CLASSES * 320};
    second.inferDims = {3, {4 * CLASSES, 16, 20}, 4 * CLASSES * 320};
    first.layerName = gridbox::kCoverageLayer;
    second.layerName = gridbox::kBboxLayer;
    first.buffer = coverage.data();
    second.buffer = bbox.data();
    NvDsInferParseDetectionParams parameters{CLASSES, {THRESHOLDS}, {}};
    std::vector<NvDsInferObjectDetectionInfo> objects;
    if (!NvDsInferParseCustomFacetrainGridBox({first, second}, {320, 256, 3}, parameters, objects)) return 1;
    for (auto const &object : objects)
        std::printf("%u %.9g %.9g %.9g %.9g %.9g\n", object.classId, object.left, object.top,
                    object.left + object.width, object.top + object.height, object.detectionConfidence);
    second.layerName = "another";
    return NvDsInferParseCustomFacetrainGridBox({first, second}, {320, 256, 3}, parameters, objects) ? 2 : 0;
}
"""
)


@pytest.mark.parametrize(("name", "thresholds"), [("faces", [0.3]), ("two_classes", [0.5, 0.2])])
def test_boxes_in_cpp(request, tmp_path, compile_against_stubs, name, thresholds):
    export = request.getfixturevalue(name)
    write_deepstream(tmp_path, exported(export))
    main = BOXES.replace("CLASSES", str(len(thresholds))).replace("THRESHOLDS", ", ".join(f"{t}f" for t in thresholds))
    (tmp_path / "main.cpp").write_text(main)
    program = compile_against_stubs(tmp_path, tmp_path / "main.cpp", tmp_path / "gridbox_parser.cpp")
    images = np.random.default_rng(4).random((1, 3, 256, 320), np.float32)
    session = onnxruntime.InferenceSession(str(export.forms["fp32"]), providers=["CPUExecutionProvider"])
    names = export.info.outputs
    bbox, coverage = session.run([names["bbox"], names["coverage"]], {export.info.input: images})
    rows = answer(program, bbox, coverage)

    decode = export.info.decode
    boxes = decode_boxes(
        torch.from_numpy(bbox), decode["stride"], decode["scale"], decode["offset"], (320, 256)
    )[0].numpy()  # fmt: skip
    scores = coverage[0].reshape(len(thresholds), -1)
    kept = (scores >= np.array(thresholds)[:, None]) & (boxes[..., 2:] > boxes[..., :2]).all(axis=2)
    assert len(rows) == kept.sum() > 20
    np.testing.assert_array_equal(rows[:, 0], np.nonzero(kept)[0])
    np.testing.assert_allclose(rows[:, 1:5], boxes[kept], atol=1e-3)
    np.testing.assert_allclose(rows[:, 5], scores[kept], atol=1e-6)


POINTS = (
    READ
    + r"""
#include "fpenet_model.h"
#include "fpenet_points.h"

int main(int, char **files) {
    const unsigned int k = fpenet::kPoints;
    auto place = read(files[1], 2 * k), confidence = read(files[2], k), visibility = read(files[3], k);
    NvDsInferLayerInfo layers[3] = {};
    layers[0].inferDims = {1, {k}, k};
    layers[1].inferDims = {2, {k, 2}, 2 * k};
    layers[2].inferDims = {1, {k}, k};
    layers[0].layerName = fpenet::kConfidenceLayer;
    layers[1].layerName = fpenet::kPointsLayer;
    layers[2].layerName = fpenet::kVisibilityLayer;
    void *buffers[3] = {confidence.data(), place.data(), visibility.data()};
    NvDsInferTensorMeta tensors{};
    tensors.num_output_layers = fpenet::kVisibilityLayer[0] ? 3 : 2;
    tensors.output_layers_info = layers;
    tensors.out_buf_ptrs_host = buffers;
    std::vector<FacetrainPoint> points;
    if (!facetrain_points(tensors, NvOSD_RectParams{RECT}, points)) return 1;
    for (auto const &p : points) std::printf("%.9g %.9g %.9g %.9g\n", p.x, p.y, p.confidence, p.visibility);
    layers[1].layerName = "another";
    return facetrain_points(tensors, NvOSD_RectParams{RECT}, points) || !points.empty() ? 2 : 0;
}
"""
)


def probe_in(folder):
    spec = importlib.util.spec_from_file_location("fpenet_probe", folder / "fpenet_probe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("visibility", [False, True])
@pytest.mark.parametrize("rectangle", [(101.7, 40.2, 91.0, 91.9), (0.0, 6.0, 60.0, 80.0)])
def test_points_in_cpp(tmp_path, compile_against_stubs, rectangle, visibility):
    model = point_model(tmp_path / "p.safetensors", visibility_head=visibility)
    export = export_points(tmp_path / "out", model)
    write_deepstream(tmp_path / "out", exported(export))
    main = tmp_path / "out/main.cpp"
    main.write_text(POINTS.replace("RECT", ", ".join(f"{value}f" for value in rectangle)))
    program = compile_against_stubs(tmp_path / "out", main, tmp_path / "out/fpenet_points.cpp")
    session = onnxruntime.InferenceSession(str(export.forms["fp32"]), providers=["CPUExecutionProvider"])
    crop = 255 * np.random.default_rng(5).random((1, 1, 80, 80), np.float32)
    values = dict(zip(export.info.outputs, session.run(None, {export.info.input: crop}), strict=True))
    seen = values.get("visibility", np.ones((1, 68), np.float32))
    rows = answer(program, values["points"], values["confidence"], seen)

    in_frame = probe_in(tmp_path / "out").to_frame(values["points"][0], rectangle, 80)
    np.testing.assert_allclose(rows[:, :2], in_frame, atol=1e-3)
    np.testing.assert_allclose(rows[:, 2], values["confidence"][0], atol=1e-6)
    np.testing.assert_allclose(rows[:, 3], seen[0], atol=1e-6)


def test_make_builds_one_library_of_both(both, tmp_path):
    if shutil.which("make") is None or shutil.which("g++") is None:
        pytest.skip("there is no make or g++ to compile DeepStream's sources with")
    shutil.copytree(both, tmp_path / "sources")
    subprocess.run(["make", f"INCLUDES=-I{STUBS}"], cwd=tmp_path / "sources", check=True, timeout=120)
    library = ctypes.CDLL(str(tmp_path / "sources/libfacetrain.so"))
    assert library.NvDsInferParseCustomFacetrainGridBox


# The probe in Python


def test_the_probe_is_read_without_deepstream(both):
    command = [sys.executable, "-c", "import sys; sys.modules['pyds'] = sys.modules['gi'] = None; import fpenet_probe"]
    subprocess.run(command, cwd=both, check=True, timeout=60)


def test_what_nvinfer_cuts(both):
    """Corners rounded up, sizes down, to even numbers."""
    probe = probe_in(both)
    assert probe.seen(101.7, 40.2, 91.0, 91.9) == (102, 40, 90, 90)
    assert probe.seen(100.0, 42.0, 80.0, 82.0) == (100, 42, 80, 82)
    # The middle of the rectangle is that of the input, and the first pixel's centre is (0, 0).
    np.testing.assert_allclose(
        probe.to_frame(np.array([[39.5, 39.5]]), (100.0, 42.0, 80.0, 160.0), 80), [[139.5, 121.5]]
    )
    np.testing.assert_allclose(probe.to_frame(np.array([[0.0, 79.0]]), (0.0, 0.0, 80.0, 80.0), 80), [[0, 79]])


@pytest.mark.parametrize("source", ["points", "box"])
def test_the_square_is_the_preprocessings(folder, source):
    crop = {"crop_source": source, "enlarge": 1.4, "shift_x": 0.1, "shift_y": -0.05}
    export = export_points(folder / source, point_model(folder / "s.safetensors"), crop)
    write_deepstream(folder / source, exported(export))
    probe, box = probe_in(folder / source), np.array([30.0, 50.0, 110.0, 170.0], np.float32)
    facts = json.loads((folder / source / "fpenet_probe.json").read_text())["crop"]
    wanted = points_box(box) if source == "points" else box
    expected = Preprocessing.from_dict(export.meta.preprocessing).square(None, wanted)
    np.testing.assert_allclose(probe.square(box.tolist(), facts), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ((100.2, 60.9, 81.0), (100, 60, 80)),
        ((-20.0, 100.0, 60.0), (0, 100, 60)),
        ((50.0, -8.5, 40.0), (50, 0, 40)),
        ((600.0, 470.0, 50.0), (590, 430, 50)),
        ((630.0, 10.0, 51.0), (588, 10, 52)),
        ((-50.0, -60.0, 700.0), (0, 0, 480)),
        ((900.0, -900.0, 10.0), (630, 0, 10)),
    ],
)
def test_squares_at_all_borders_stay_square_and_inside(both, wanted, expected):
    left, top, side = probe_in(both).inside(wanted, 640, 480)
    assert (left, top, side) == expected
    assert probe_in(both).seen(left, top, side, side) == (left, top, side, side)
    assert left >= 0 and top >= 0 and left + side <= 640 and top + side <= 480


def test_odd_frames(both):
    left, top, side = probe_in(both).inside((300.0, 200.0, 90.0), 321, 241)
    assert left % 2 == top % 2 == side % 2 == 0 and left + side <= 321 and top + side <= 241


class Pyds:
    """As much of pyds as the probe touches, over plain objects; what it casts is there already."""

    class _Kind:
        @staticmethod
        def cast(data):
            return data

    NvDsFrameMeta = NvDsObjectMeta = NvDsUserMeta = NvDsInferTensorMeta = _Kind
    NvDsMetaType = SimpleNamespace(NVDSINFER_TENSOR_OUTPUT_META=12)

    def __init__(self):
        self.displays = []

    @staticmethod
    def listed(items):
        result = None
        for item in reversed(items):
            result = SimpleNamespace(data=item, next=result)
        return result

    @staticmethod
    def get_nvds_LayerInfo(meta, i):
        return meta.layers[i]

    @staticmethod
    def get_ptr(buffer):
        return buffer

    def nvds_acquire_display_meta_from_pool(self, _):
        circles = [SimpleNamespace(circle_color=SimpleNamespace(set=lambda *_: None)) for _ in range(16)]
        return SimpleNamespace(circle_params=circles)

    def nvds_add_display_meta_to_frame(self, _, display):
        self.displays.append(display)


def test_a_frame_passes_both_probes(both, points, monkeypatch):
    """A face's tensors become points in the frame; its box is the detector's again afterwards."""
    pyds = Pyds()
    monkeypatch.setitem(sys.modules, "pyds", pyds)
    rng = np.random.default_rng(6)
    crop_points, confidence = rng.uniform(5, 70, (80, 2)).astype(np.float32), rng.random(80).astype(np.float32)
    layers = [
        SimpleNamespace(layerName=name, buffer=values.ctypes.data_as(ctypes.c_void_p).value)
        for name, values in (("softargmax:1", confidence), ("softargmax", crop_points))
    ]
    tensors = SimpleNamespace(unique_id=2, num_output_layers=2, layers=layers)
    user = SimpleNamespace(base_meta=SimpleNamespace(meta_type=12), user_meta_data=tensors)
    box = (200.0, 100.0, 90.0, 120.0)  # left, top, width, height

    def face(users):
        rect, before = (
            SimpleNamespace(**dict(zip(("left", "top", "width", "height"), box, strict=True))) for _ in "12"
        )
        bbox = SimpleNamespace(org_bbox_coords=before)
        return SimpleNamespace(
            class_id=0, rect_params=rect, detector_bbox_info=bbox, obj_user_meta_list=pyds.listed(users)
        )

    faces = [face([user]), face([])]  # nvinfer has passed over the second
    frame = SimpleNamespace(obj_meta_list=pyds.listed(faces), pipeline_width=640, pipeline_height=480)
    batch = SimpleNamespace(frame_meta_list=pyds.listed([frame]))
    found = []
    probes = probe_in(both).Probes(lambda frame, face, points, confidence: found.append((face, points, confidence)))
    probes.before(batch)
    rect = vars(faces[0].rect_params).copy()
    square = Preprocessing.from_dict(points.meta.preprocessing).square(
        None, points_box(np.array([200, 100, 290, 220], np.float32))
    )
    assert np.abs(np.array([rect["left"], rect["top"], rect["width"]]) - square).max() <= 2
    assert rect["width"] == rect["height"]
    probes.after(batch)
    ((whose, in_frame, sure),) = found
    assert whose is faces[0]
    corner = np.array([rect["left"], rect["top"]])
    np.testing.assert_allclose(in_frame, (crop_points + 0.5) * rect["width"] / 80 + corner - 0.5, atol=1e-3)
    np.testing.assert_array_equal(sure, confidence)
    for each in faces:
        assert tuple(vars(each.rect_params).values()) == box
    drawn = [(c.xc, c.yc) for display in pyds.displays for c in display.circle_params[: display.num_circles]]
    np.testing.assert_allclose(drawn, in_frame, atol=0.51)
