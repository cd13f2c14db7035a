"""From TAO to DeepStream: their spec, records and weights, evaluated, pruned, trained again, exported into their own
pipeline. No key of the spec is edited by hand; what makes the run small stands on the command lines."""

import csv
import json

import pytest

from facetrain.tests.export.test_existing_nvinfer import PGIE, SGIE
from facetrain.tests.facenet_runs import HEIGHT, WIDTH
from facetrain.tests.runs import facenet, fpenet
from facetrain.tests.tao.specs import FACENET
from facetrain.tests.tao.test_records_spec import SMALL, detection_records, keypoint_spec

keras_models = pytest.importorskip("facetrain.tests.tao.keras_models", reason="the weights are Keras'")
pytest.importorskip("tensorrt_rtx", reason="engines need tensorrt-rtx")
pytestmark = pytest.mark.usefixtures("one_thread")


def test_facenet(pictures, tmp_path, capsys):
    stems = sorted(path.stem for path in pictures.glob("*.txt"))
    for fold, part in enumerate((stems[:4], stems[4:])):
        detection_records(pictures, tmp_path / "tfrecords", part, fold)
    weights = tmp_path / "models" / "facenet.hdf5"
    weights.parent.mkdir()
    network = keras_models.gridbox((2, 2, 2, 2), True, channels=lambda full: full // 8)  # of pictures of 96 x 64
    keras_models.save(network, weights)
    text = (
        FACENET.replace("/data/facenet/tfrecords/training/kitti_train-*", str(tmp_path / "tfrecords/kitti_train-*"))
        .replace("/data/facenet/training", str(pictures))
        .replace("/models/facenet/model.tlt", str(weights))
        .replace("output_image_width: 736 output_image_height: 416",
                 f"output_image_width: {WIDTH} output_image_height: {HEIGHT}")
        .replace("batch_size_per_gpu: 32", "batch_size_per_gpu: 4")
    )  # fmt: skip
    begin, end = text.index("  validation_data_source"), text.index("  image_extension")
    spec = tmp_path / "detectnet_v2_spec.txt"
    spec.write_text(text[:begin] + "  validation_fold: 0\n" + text[end:])
    theirs = tmp_path / "config_infer_primary_facenet.txt"
    theirs.write_text(PGIE)

    def run(verb, name, *arguments):
        assert facenet(verb, *arguments, "-r", str(tmp_path / name)) == 0, verb
        return tmp_path / name

    run("import-weights", "models/facenet", f"weights={weights}")
    imported = tmp_path / "models/facenet/imported.safetensors"
    measured = run("evaluate", "measured", "-e", str(spec), f"model={imported}", "device=cpu", "pictures=0")
    assert json.loads((measured / "metrics.json").read_text())["metrics"]["pictures"] == 4
    assert run("train", "first", "-e", str(spec), *SMALL)
    pruned = run("prune", "pruned", f"model={tmp_path / 'first/best.safetensors'}", "prune.threshold=0.3",
                 "prune.min_filters=2", "prune.granularity=1", "report=false")  # fmt: skip
    again = run("train", "again", "-e", str(spec), *SMALL, "train.epochs=2",
                f"model.pretrained={pruned / 'pruned.safetensors'}")  # fmt: skip
    exported = run("export", "exported", f"model={again / 'best.safetensors'}", f"deepstream.config={theirs}",
                   "export.precisions=[fp32,fp16]", "export.engine=tensorrt_rtx", "gate.inputs=2")  # fmt: skip
    corrected = (exported / "deepstream" / f"corrected_{theirs.name}").read_text()
    assert "onnx-file=../facenet_fp16.onnx" in corrected and "tlt-" not in corrected
    assert f"infer-dims=3;{HEIGHT};{WIDTH}" in corrected and "pre-cluster-threshold=0.2" in corrected
    assert "NOT VERIFIED: facenet.engine, facenet_fp16.engine" in capsys.readouterr().out


def test_fpenet(tmp_path, capsys):
    weights = tmp_path / "models" / "fpenet.hdf5"
    weights.parent.mkdir()
    network = keras_models.fpenet(3, False, False, 10, beta=0.1, side=32, width=lambda: 8)  # FpeNet_public
    keras_models.save(network, weights)
    spec = tmp_path / "experiment_spec.yaml"
    text = keypoint_spec(tmp_path).replace("/models/fpenet/model.tlt", str(weights))
    spec.write_text(text.replace("{channel: 1, height: 80, width: 80}", "{channel: 1, height: 32, width: 32}"))
    theirs = tmp_path / "faciallandmark_sgie_config.txt"
    theirs.write_text(SGIE)
    small = (*SMALL, "train.batch_size=4")

    def run(verb, name, *arguments):
        assert fpenet(verb, *arguments, "-r", str(tmp_path / name)) == 0, verb
        return tmp_path / name

    run("import-weights", "models/fpenet", f"weights={weights}", "beta=0.1")
    imported = tmp_path / "models/fpenet/imported.safetensors"
    measured = run("evaluate", "measured", "-e", str(spec), f"model={imported}", "device=cpu", "pictures=0")
    with open(measured / "kpi_testing_error_per_point.csv", newline="") as file:
        assert [row["num_samples_non_occluded"] for row in csv.DictReader(file)] == ["12"] * 10
    first = run("train", "first", "-e", str(spec), *small)
    assert "from " + str(imported) in capsys.readouterr().out
    pruned = run("prune", "pruned", f"model={first / 'best.safetensors'}", "prune.threshold=0.5",
                 "prune.min_filters=2", "prune.granularity=1", "report=false")  # fmt: skip
    again = run("train", "again", "-e", str(spec), *small, "train.epochs=2",
                f"train.pretrained={pruned / 'pruned.safetensors'}")  # fmt: skip
    exported = run("export", "exported", f"model={again / 'best.safetensors'}", f"deepstream.config={theirs}",
                   "export.io_names=tao-v3", "export.precisions=[fp32,fp16]", "export.engine=tensorrt_rtx",
                   "gate.inputs=2")  # fmt: skip
    corrected = (exported / "deepstream" / f"corrected_{theirs.name}").read_text()
    assert "onnx-file=../fpenet.onnx" in corrected and "tlt-" not in corrected  # theirs asks for FP32
    assert "net-scale-factor=1.0" in corrected and "model-color-format=2" in corrected
    assert "output-blob-names=softargmax;softargmax:1\n" in corrected
