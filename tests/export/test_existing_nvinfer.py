"""A user's own nvinfer configuration: what the model decides is corrected, everything else stays as it was."""

import configparser
import json
from pathlib import Path

import pytest
import yaml

from facetrain.errors import ConfigError
from facetrain.export.deploy.deployment import Exported
from facetrain.export.deploy.existing_nvinfer import read_nvinfer, write_corrected
from facetrain.tests.export.deployed import export_faces, export_points, grid_model, point_model
from facetrain.tests.runs import facenet

# After NVIDIA's samples of DeepStream 6 (gridbox.md §9.5, fpenet.md §7.4).
PGIE = """# Our detector. Do not touch the thresholds!
[property]
gpu-id=0
net-scale-factor=0.0039215697906911373
tlt-model-key=nvidia_tlt
tlt-encoded-model=../models/facenet.etlt
labelfile-path=labels_facenet.txt
int8-calib-file=../models/facenet_cal.txt
model-engine-file=../models/facenet.etlt_b1_gpu0_int8.engine
infer-dims=3;416;736
uff-input-order=0
uff-input-blob-name=input_1
batch-size=4
process-mode=1
model-color-format=0
## 0=FP32, 1=INT8, 2=FP16
network-mode=2
num-detected-classes=1
interval=3
gie-unique-id=1
output-blob-names=output_bbox/BiasAdd;output_cov/Sigmoid
enable-dbscan=1

[class-attrs-all]
pre-cluster-threshold=0.2
group-threshold=1
eps=0.2
"""
SGIE = """[property]
gpu-id=0
net-scale-factor=0.00392
tlt-model-key=nvidia_tlt
tlt-encoded-model=faciallandmark.etlt
batch-size=32
network-mode=0
num-detected-classes=1
output-blob-names=softargmax;softargmax:1;conv_keypoints_m80
network-type=100
output-tensor-meta=1
process-mode=2
gie-unique-id=2
operate-on-gie-id=1
offsets=0.0
model-color-format=0
input-object-min-width=5
custom-lib-path=lib/ours.so
"""


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    return export_faces(folder, str(grid_model(folder / "g.safetensors")), "letterbox")


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    folder = tmp_path_factory.mktemp("points")
    return export_points(folder, point_model(folder / "p.safetensors", 80), io_names="tao-v3")


def corrected(export, text, tmp_path, network):
    path = tmp_path / "ours.txt"
    path.write_text(text)
    own = Exported(export.meta, export.info, export.forms)
    folder = export.folder / "deepstream"
    (file, difference), table = write_corrected(read_nvinfer(str(path), network), own, folder, 16, None)
    parser = configparser.ConfigParser(strict=True, interpolation=None, delimiters=("=",))
    parser.optionxform = str
    parser.read_string(file.read_text())
    return (
        file,
        difference.read_text(),
        {row[0]: row for row in table.rows},
        {n: dict(parser[n]) for n in parser.sections()},
    )


def test_a_detectors_of_deepstream_6(faces, tmp_path):
    file, difference, rows, now = corrected(faces, PGIE, tmp_path, "facenet")
    keys = now["property"]
    assert (file.parent / keys["onnx-file"]).resolve() == faces.forms["fp32"].resolve()
    assert not {"tlt-model-key", "tlt-encoded-model", "uff-input-order", "uff-input-blob-name", "enable-dbscan"} & set(
        keys
    )
    assert keys["output-blob-names"] == "output_bbox/BiasAdd:0;output_cov/Sigmoid:0"
    assert keys["infer-dims"] == "3;256;320"
    assert keys["network-mode"] == "0"  # the only form of this export
    assert keys["model-engine-file"].endswith("_b4_gpu0_fp32.engine")
    assert keys["maintain-aspect-ratio"] == keys["symmetric-padding"] == keys["scaling-filter"] == "1"
    assert keys["labelfile-path"] == "labels_facenet.txt"
    assert keys["cluster-mode"] == "1"
    kept = {"batch-size": "4", "interval": "3", "gie-unique-id": "1", "net-scale-factor": "0.0039215697906911373"}
    assert kept.items() <= keys.items() and not kept.keys() & rows.keys()
    assert now["class-attrs-all"] == {"pre-cluster-threshold": "0.2", "group-threshold": "1", "eps": "0.2"}
    assert file.read_text().startswith("# Our detector. Do not touch the thresholds!\n[property]\n")
    assert "## 0=FP32, 1=INT8, 2=FP16\nnetwork-mode=0" in file.read_text()
    assert {"-infer-dims=3;416;736", "+infer-dims=3;256;320", "-tlt-model-key=nvidia_tlt"} <= set(
        difference.splitlines()
    )
    assert rows["infer-dims"] == ["infer-dims", "3;416;736", "3;256;320", "the size of the network's input"]


def test_the_keypoint_networks(points, tmp_path):
    file, _, rows, now = corrected(points, SGIE, tmp_path, "fpenet")
    keys = now["property"]
    assert keys["net-scale-factor"] == "1.0" and keys["model-color-format"] == "2"
    assert keys["output-blob-names"] == "softargmax;softargmax:1"
    assert keys["batch-size"] == "32" and keys["model-engine-file"].endswith("_b32_gpu0_fp32.engine")
    assert (file.parent / keys["custom-lib-path"]).resolve() == (tmp_path / "lib" / "ours.so").resolve()
    assert {"net-scale-factor", "model-color-format", "output-blob-names", "tlt-encoded-model"} <= rows.keys()
    assert not {"network-type", "output-tensor-meta", "process-mode", "offsets", "infer-dims"} & rows.keys()


YAML = """# Ours, since DeepStream 6.2
property:
    gpu-id: 0
    net-scale-factor: 0.00392156862  # 1/255
    onnx-file: "../models/old.onnx"
    labelfile-path: 'labels.txt'
    infer-dims: 3;416;736   # c;h;w
    batch-size: 4
    network-mode: 2
    num-detected-classes: 3
    output-blob-names: output_bbox/BiasAdd;output_cov/Sigmoid
    tlt-model-key: nvidia_tlt

class-attrs-all:
    pre-cluster-threshold: 0.2   # by trial
"""


def test_the_form_in_yaml(faces, tmp_path):
    path = tmp_path / "theirs.yml"
    path.write_text(YAML)
    own = Exported(faces.meta, faces.info, faces.forms)
    folder = faces.folder / "deepstream"
    (file, difference), table = write_corrected(read_nvinfer(str(path), "facenet"), own, folder, 16, None)
    assert file.name == "corrected_theirs.yml"
    now = yaml.safe_load(file.read_text())
    keys = now["property"]
    assert (folder / keys["onnx-file"]).resolve() == faces.forms["fp32"].resolve()
    assert (keys["network-mode"], keys["num-detected-classes"], keys["batch-size"]) == (0, 1, 4)
    assert keys["output-blob-names"] == "output_bbox/BiasAdd:0;output_cov/Sigmoid:0" and "tlt-model-key" not in keys
    assert keys["maintain-aspect-ratio"] == 1 and keys["net-scale-factor"] == 0.00392156862
    assert now["class-attrs-all"] == {"pre-cluster-threshold": 0.2}
    text = file.read_text()
    assert text.startswith("# Ours, since DeepStream 6.2\nproperty:\n    gpu-id: 0\n")
    assert "    infer-dims: 3;256;320   # c;h;w\n" in text and "# by trial" in text
    assert {"-    tlt-model-key: nvidia_tlt", "+    scaling-filter: 1"} <= set(difference.read_text().splitlines())
    again = folder / "again.yml"
    again.write_text(text)
    _, table = write_corrected(read_nvinfer(str(again), "facenet"), own, folder, 16, None)
    assert [row[0] for row in table.rows] == ["cluster-mode"]  # which stays


def test_another_clustering_is_told_of(faces, tmp_path):
    *_, rows, now = corrected(faces, PGIE.replace("enable-dbscan=1\n", ""), tmp_path, "facenet")
    assert rows["cluster-mode"][:3] == ["cluster-mode", "0", "0"] and "dbscan, which is 1" in rows["cluster-mode"][3]
    assert "cluster-mode" not in now["property"]


def test_one_that_fits_is_left_alone(points, tmp_path):
    file, *_ = corrected(points, SGIE, tmp_path, "fpenet")
    again = points.folder / "deepstream" / "again.txt"
    again.write_text(file.read_text())
    own = Exported(points.meta, points.info, points.forms)
    (other, difference), table = write_corrected(read_nvinfer(str(again), "fpenet"), own, again.parent, 16, None)
    assert table.rows == [["", "", "", "nothing: it fits"]]
    assert difference.read_text() == "" and other.read_text() == file.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("property: {gpu-id: 0}\n", "theirs.yaml:1: gpu-id is to be one value in a line of its own"),
        ("property:\n  a: [1\n", "it is not YAML"),
        ("property:\n  infer-dims:\n  - 3\n", "theirs.yaml:2: infer-dims is to be one value"),
        ("[property]\ngpu-id=0\n", "it is not YAML"),
        ("primary:\n  gpu-id: 0\n", "it has no property: section"),
    ],
)
def test_yaml_that_is_none(text, message, tmp_path):
    path = tmp_path / "theirs.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"deepstream\.config") as caught:
        read_nvinfer(str(path), "facenet")
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SGIE, "are those of FPENet; give it to `fpenet export`"),
        ("model: 3\n", "has no [property] section"),
        ("[property]\n# batch-size=3\n", "has no [property] section with keys"),
        (b"\xff\xfe\x00", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_what_is_none_is_refused_before_anything_is_measured(text, message, tmp_path, capsys):
    path = tmp_path / "theirs.txt"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=r"deepstream\.config"):
        read_nvinfer(str(path), "facenet")
    assert (
        facenet("export", f"deepstream.config={path}", f"results_dir={tmp_path / 'out'}", "export.precisions=[fp32]")
        == 2
    )
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path, capsys):
    path = tmp_path / "theirs.txt"
    path.write_text(PGIE)
    folder = tmp_path / "out"
    model = grid_model(tmp_path / "g.safetensors")
    settings = ("export.precisions=[fp32]", "export.deployment=false", "gate.inputs=2", f"deepstream.config={path}")
    assert facenet("export", f"model={model}", f"results_dir={folder}", *settings) == 0
    assert "theirs.txt and this model" in capsys.readouterr().out.replace("\n", " ")
    listed = json.loads((folder / "gate.json").read_text())["files"]
    assert {
        "deepstream/corrected_theirs.txt",
        "deepstream/corrected_theirs.txt.diff",
        "deepstream/labels_facenet.txt",
    } <= set(listed)
    assert "Your nvinfer configuration" in (folder / "report.html").read_text(encoding="utf-8")
    assert Path(path).read_text() == PGIE
