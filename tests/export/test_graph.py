"""Exported graphs: the originals' names and shapes, in every family, and a file that tells all of itself."""

import json
from dataclasses import asdict, replace

import numpy as np
import onnx
import pytest
import torch

from facetrain.configs.facenet.schema import FacenetExportConfig
from facetrain.configs.fpenet.schema import FpenetExportConfig
from facetrain.errors import ExportError, ModelFileError
from facetrain.export.graph import export_graph
from facetrain.export.metadata import entries_of, read_onnx, understood
from facetrain.export.runtime import OnnxRuntime, open_runtime
from facetrain.facenet_trainer.graph import GridBoxGraph
from facetrain.facenet_trainer.graph import graph_info as grid_info
from facetrain.fpenet_trainer.graph import FpenetGraph
from facetrain.fpenet_trainer.graph import graph_info as point_info
from facetrain.fpenet_trainer.network import RecombinatorNet
from facetrain.tests.export_graphs import exported, grid_model, point_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("graphs")


def shapes(values):
    return [(v.name, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]) for v in values]


# fpenet.md §7.3: the families of NVIDIA's deployable_v1.0 / v2.0 and v3.0.
POINT_FAMILIES = {
    "tao": (
        "input_face_images:0",
        ["softargmax/strided_slice:0", "softargmax/strided_slice_1:0", "conv_keypoints_m80:0"],
    ),
    "tao-v3": ("input_face_images", ["softargmax", "softargmax:1", "conv_keypoints_m80"]),
    "plain": ("images", ["points", "confidence", "heatmaps"]),
}


@pytest.mark.parametrize("family", POINT_FAMILIES)
def test_names_and_shapes_of_the_keypoint_network(folder, family):
    network, meta, path = point_model(folder)
    config = FpenetExportConfig(io_names=family, heatmaps=True)
    model = exported(FpenetGraph(network, True), meta, point_info(network, meta, path, config), folder / "p.onnx")
    name, outputs = POINT_FAMILIES[family]
    assert shapes(model.graph.input) == [(name, ["batch", 1, 80, 80])]
    dims = [["batch", 80, 2], ["batch", 80], ["batch", 80, 80, 80]]
    assert shapes(model.graph.output) == list(zip(outputs, dims, strict=True))
    assert {v.type.tensor_type.elem_type for v in [*model.graph.input, *model.graph.output]} == {onnx.TensorProto.FLOAT}


def test_without_maps_the_app_reads_two_tensors(folder):
    network, meta, path = point_model(folder)
    info = point_info(network, meta, path, FpenetExportConfig(io_names="tao-v3"))
    model = exported(FpenetGraph(network), meta, info, folder / "p.onnx")
    assert [output.name for output in model.graph.output] == ["softargmax", "softargmax:1"]


# gridbox.md §9.3: TAO 5's ONNX, and the .etlt's names before it.
GRID_FAMILIES = {
    "tao": ("input_1:0", ["output_bbox/BiasAdd:0", "output_cov/Sigmoid:0"]),
    "tao-v3": ("input_1", ["output_bbox/BiasAdd", "output_cov/Sigmoid"]),
    "plain": ("images", ["bbox", "coverage"]),
}


@pytest.mark.parametrize("family", GRID_FAMILIES)
def test_names_and_shapes_of_the_detector(folder, family):
    network, meta, path = grid_model(folder)
    info = grid_info(network, meta, path, FacenetExportConfig(io_names=family))
    model = exported(GridBoxGraph(network), meta, info, folder / "g.onnx")
    name, outputs = GRID_FAMILIES[family]
    assert shapes(model.graph.input) == [(name, ["batch", 3, 416, 736])]
    dims = [["batch", 4, 26, 46], ["batch", 1, 26, 46]]
    assert shapes(model.graph.output) == list(zip(outputs, dims, strict=True))


@pytest.mark.parametrize(
    ("family", "suffix", "names"),
    [
        ("tao", "no", ["input_face_images", "softargmax/strided_slice", "softargmax/strided_slice_1"]),
        ("tao-v3", "yes", ["input_face_images:0", "softargmax:0", "softargmax:1"]),
        ("plain", "yes", ["images", "points", "confidence"]),
    ],
)
def test_with_and_without_the_output_number(folder, family, suffix, names):
    network, meta, path = point_model(folder)
    info = point_info(network, meta, path, FpenetExportConfig(io_names=family, name_suffix=suffix))
    assert [info.input, *info.outputs.values()] == names


@pytest.mark.parametrize("k", [10, 68, 104])
def test_the_maps_are_named_after_the_number_of_points(folder, k):
    network, meta, path = point_model(folder, k) if k != 10 else ten_points(folder)
    info = point_info(network, meta, path, FpenetExportConfig(io_names="tao-v3", heatmaps=True))
    assert info.outputs["heatmaps"] == f"conv_keypoints_m{k}"


def ten_points(folder):
    network, meta, path = point_model(folder, 68)
    ten = RecombinatorNet(replace(network.architecture, num_keypoints=10))
    return ten, replace(meta, architecture=ten.architecture.to_dict()), path


def test_visibility_is_one_more_output(folder):
    network, meta, path = point_model(folder, visibility_head=True)
    info = point_info(network, meta, path)
    model = exported(FpenetGraph(network), meta, info, folder / "v.onnx")
    assert shapes(model.graph.output)[2] == ("visibility:0", ["batch", 80])
    images = 255 * torch.rand(3, 1, 80, 80)
    seen = OnnxRuntime(folder / "v.onnx", CPU).run(images)["visibility"]
    assert torch.allclose(seen, network(images).visibility.sigmoid(), atol=1e-5)


def test_the_graph_computes_what_the_network_computes(folder):
    network, meta, path = grid_model(folder)
    exported(GridBoxGraph(network), meta, grid_info(network, meta, path), folder / "g.onnx")
    images = torch.rand(3, 3, 416, 736)  # not the batch that it was exported with
    found = OnnxRuntime(folder / "g.onnx", CPU).run(images)
    with torch.no_grad():
        output = network(images)
    assert output.bbox.std() > 0.01
    assert torch.allclose(found["bbox"], output.bbox, atol=1e-4)
    assert torch.allclose(found["coverage"], output.coverage_logits.sigmoid(), atol=1e-5)


def test_decoded_boxes_are_those_of_every_cell(folder):
    network, meta, path = grid_model(folder, bbox_scale=20.0, bbox_offset=0.25)
    info = grid_info(network, meta, path, FacenetExportConfig(decode=True))
    exported(GridBoxGraph(network, True), meta, info, folder / "d.onnx")
    images = torch.rand(2, 3, 416, 736)
    found = OnnxRuntime(folder / "d.onnx", CPU).run(images)
    with torch.no_grad():
        output = network(images)
    assert output.bbox.std() > 0.01
    left, top, right, bottom = (20 * output.bbox[1, :, 5, 7]).tolist()  # row 5, column 7
    assert min(left, top, right, bottom) > 0
    box = [16 * 7 + 0.25 - left, 16 * 5 + 0.25 - top, 16 * 7 + 0.25 + right, 16 * 5 + 0.25 + bottom]
    assert found["boxes"][1, 0, 5 * 46 + 7].tolist() == pytest.approx(box, abs=1e-3)
    assert found["scores"].shape == (2, 1, 26 * 46)


@pytest.mark.parametrize("opset", [17, 18, 20, 21])
def test_the_opset_is_the_one_that_was_asked_for(folder, opset):
    network, meta, path = point_model(folder)
    model = exported(
        FpenetGraph(network), meta, point_info(network, meta, path, FpenetExportConfig(opset=opset)), folder / "o.onnx"
    )
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert understood(entries_of(model), path)[1].opset == opset


def test_a_fixed_batch_takes_any_number_of_inputs_all_the_same(folder):
    network, meta, path = point_model(folder)
    info = point_info(network, meta, path, FpenetExportConfig(batch=4))
    model = exported(FpenetGraph(network), meta, info, folder / "s.onnx")
    assert shapes(model.graph.input)[0][1] == [4, 1, 80, 80]
    images = 255 * torch.rand(6, 1, 80, 80)
    with torch.no_grad():
        expected = network(images).points
    assert torch.allclose(OnnxRuntime(folder / "s.onnx", CPU).run(images)["points"], expected, atol=1e-3)


def test_the_file_is_whole_and_tells_all_of_itself(folder):
    network, meta, path = point_model(folder)
    info = point_info(network, meta, path)
    model = exported(FpenetGraph(network), meta, info, folder / "p.onnx")
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    said, layout = understood(entries_of(model), path)
    assert json.dumps(asdict(said)) == json.dumps(asdict(meta))
    assert layout == info
    assert layout.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert layout.source["file"] == path.name and len(layout.source["sha256"]) == 64
    assert layout.decode == {"beta": 1.0}


def test_layers_are_named_as_in_the_network(folder):
    network, meta, path = grid_model(folder)
    model = exported(GridBoxGraph(network), meta, grid_info(network, meta, path), folder / "g.onnx")
    names = [node.name for node in model.graph.node if node.op_type in ("Conv", "Add")]
    assert {"conv1", "block_1a.conv_1", "block_1a.conv_shortcut", "block_4b.add", "output_bbox"} <= set(names)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert np.abs(weights["block_1a.conv_1.weight"] - network.block_1a.conv_1.weight.detach().numpy()).max() > 1e-3


def test_files_that_are_not_ours(folder):
    network, meta, path = point_model(folder)
    exported(FpenetGraph(network), meta, point_info(network, meta, path), folder / "p.onnx")
    with pytest.raises(ModelFileError, match="holds a fpenet model, not FaceNet"):
        open_runtime(folder / "p.onnx", "facenet", "cpu")
    stranger = read_onnx(folder / "p.onnx")
    del stranger.metadata_props[:]
    onnx.save(stranger, str(folder / "stranger.onnx"))
    with pytest.raises(ModelFileError, match="was not exported by facetrain"):
        open_runtime(folder / "stranger.onnx", "fpenet", "cpu")
    (folder / "torn.onnx").write_bytes((folder / "p.onnx").read_bytes()[:5000])
    with pytest.raises(ModelFileError, match=r"torn\.onnx"):
        open_runtime(folder / "torn.onnx", "fpenet", "cpu")
    with pytest.raises(ModelFileError, match="there is no ONNX file"):
        open_runtime(folder / "absent.onnx", "fpenet", "cpu")


def test_an_opset_that_cannot_be_written(folder):
    network, meta, path = point_model(folder)
    info = replace(point_info(network, meta, path), opset=9)
    with pytest.raises(ExportError, match=r"export.opset=9: PyTorch .* cannot write this graph with it"):
        export_graph(FpenetGraph(network), torch.rand(2, 1, 80, 80), meta, info)
