"""The console commands on TAO's specs: import-spec, and every verb's -e; and runs of seconds from each spec."""

import json
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from facetrain.configs import compose
from facetrain.configs.facenet import schema as facenet_schema
from facetrain.configs.fpenet import schema as fpenet_schema
from facetrain.tao.spec_file import convert_spec, import_files, recognise
from facetrain.tests.facenet_runs import HEIGHT, WIDTH
from facetrain.tests.runs import TEN, facenet, fpenet, leave_out_reports
from facetrain.tests.tao.specs import (
    FACENET,
    FACENET_CONVERT,
    FACENET_INFERENCE,
    FACENET_QAT,
    FACENET_RETRAIN,
    FPENET_CONVERT,
    FPENET_DEFAULT,
    FPENET_TEN,
    MODEL_CARD,
)
from facetrain.training.model_file import load_model

pytestmark = pytest.mark.usefixtures("one_thread")

SCHEMAS = {
    "train": {"fpenet": fpenet_schema.FpenetTrainSpec, "facenet": facenet_schema.FacenetTrainSpec},
    "infer": {"facenet": facenet_schema.FacenetInferSpec},
}
READS_RECORDS = "detectnet_tfrecords" in compose.fields(facenet_schema.SourceConfig)[0].metadata["choices"]
needs_records = pytest.mark.skipif(not READS_RECORDS, reason="TFRecords are not read here")
WITHOUT_RECORDS = [
    ("facenet", MODEL_CARD), ("facenet", FACENET_CONVERT), ("facenet", FACENET_INFERENCE), ("fpenet", FPENET_CONVERT)
]  # fmt: skip
WITH_RECORDS = [
    ("facenet", FACENET), ("facenet", FACENET_RETRAIN), ("facenet", FACENET_QAT), ("fpenet", FPENET_TEN),
    ("fpenet", FPENET_DEFAULT),
]  # fmt: skip
SPECS = [*WITHOUT_RECORDS, *(pytest.param(*case, marks=needs_records) for case in WITH_RECORDS)]
RUN = {"fpenet": fpenet, "facenet": facenet}
ONE_EPOCH = ("train.device=cpu", "train.epochs=1", "data.workers=0", "track.pictures=0", "track.tensorboard=false")


@pytest.fixture
def spec(tmp_path: Path):
    """Writes a spec file."""

    def write(text: str, name: str = "tao_spec.txt") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(("program", "text"), SPECS)
@pytest.mark.parametrize("compat", ["facetrain", "tao"])
def test_what_is_written_is_a_spec_with_the_same_values(program, text, compat, spec, tmp_path, capsys):
    if compat == "tao" and text == FACENET_CONVERT and not READS_RECORDS:
        pytest.skip("TAO's split is not here")
    output = tmp_path / "ours.yaml"
    file = spec(text)
    assert RUN[program]("import-spec", f"spec={file}", f"output={output}", f"compat={compat}") == 0
    said = capsys.readouterr().out
    assert "no counterpart" in said and str(output) in said
    verb = output.read_text().splitlines()[0].split()[2]
    schema = SCHEMAS[verb][program]
    loaded = compose.load_spec(schema, [], str(output))
    conversion = convert_spec(text, str(file), program, compat)
    assert loaded == compose.load_content(schema, conversion.nested())
    plain = compose.to_plain(loaded)
    for key, value in conversion.values.items():
        place = plain
        for part in key.split("."):
            place = place[part]
        if key.startswith("data.") and isinstance(value, list):
            place = [{name: item[name] for name in wanted} for item, wanted in zip(place, value, strict=True)]
        assert place == value, key


@pytest.mark.parametrize(("program", "text"), WITHOUT_RECORDS)
def test_it_is_printed_where_no_file_is_named(program, text, spec, capsys):
    assert RUN[program]("import-spec", "-e", str(spec(text))) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)
    assert "# Keys without a counterpart:" in printed


def test_the_command_takes_its_time_for_nothing_heavy(spec):
    begin = time.monotonic()
    command = [sys.executable, "-m", "facetrain", "facenet", "import-spec", f"spec={spec(MODEL_CARD)}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "bbox_scale: 35.0" in done.stdout
    assert time.monotonic() - begin < 5


def test_a_file_is_not_written_over(spec, tmp_path, capsys):
    output = tmp_path / "ours.yaml"
    output.write_text("mine")
    arguments = ("import-spec", f"spec={spec(MODEL_CARD)}", f"output={output}")
    assert facenet(*arguments) == 2
    assert "overwrite=true" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert facenet(*arguments, "overwrite=true") == 0
    assert "bbox_scale" in output.read_text()


@pytest.mark.parametrize(
    ("program", "text", "what"),
    [
        ("fpenet", MODEL_CARD, "use `facenet`"),
        ("facenet", FPENET_CONVERT, "use `fpenet`"),
        ("facenet", "model:\n  num_layers: 18\n", "no spec of TAO's"),
        ("facenet", "", "no spec of TAO's"),
        ("facenet", "model_config {\n\n  layers: 18\n}", ":3: there is no field 'layers'"),
        (
            "fpenet",
            "__class_name__: FpeNetTrainer\nnum_epochs: 4\n",
            ":2: unknown key num_epochs; did you mean num_epoch?",
        ),
        ("fpenet", "__class_name__: FpeNetTrainer\n? [a]\n: b\n- c", ":4: this is not YAML"),
    ],
)
def test_what_is_wrong_is_one_line(program, text, what, spec, capsys):
    assert RUN[program]("import-spec", f"spec={spec(text)}") == 2
    message = capsys.readouterr().err
    assert what in message and message.count("\n") == 1


def test_files_that_are_none(tmp_path, capsys):
    assert facenet("import-spec") == 2
    assert "spec=" in capsys.readouterr().err
    assert facenet("import-spec", f"spec={tmp_path / 'nothing'}") == 2
    assert "No such file" in capsys.readouterr().err
    (tmp_path / "model.tlt").write_bytes(bytes(range(256)))
    assert facenet("import-spec", f"spec={tmp_path / 'model.tlt'}") == 2
    assert "not text" in capsys.readouterr().err
    assert fpenet("train", "-e", str(tmp_path / "model.tlt")) == 2
    assert "not text" in capsys.readouterr().err


@pytest.mark.parametrize(("run", "text"), [(facenet, FACENET), (fpenet, FPENET_TEN)])
def test_files_of_windows_editors(run, text, tmp_path, capsys):
    printed = []
    for name, content in (("plain", text.encode()), ("windows", b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())):
        (tmp_path / name).mkdir()
        file = tmp_path / name / "spec.txt"
        file.write_bytes(content)
        assert run("import-spec", f"spec={file}") == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_aliases_of_aliases_are_no_spec(spec, capsys):
    names = "abcdefghijklmnopqrstu"
    lines = [f"{name}: &{name} {{x: *{last}, y: *{last}}}" for last, name in pairwise(names)]
    bomb = "\n".join(["__class_name__: FpeNetTrainer", "a: &a {x: 1, y: 2}", *lines])
    begin = time.monotonic()
    assert fpenet("import-spec", f"spec={spec(bomb)}") == 2
    assert time.monotonic() - begin < 5
    assert "no spec of TAO's" in capsys.readouterr().err


def test_our_own_specs_are_not_taken_for_taos():
    for schema in (fpenet_schema.FpenetTrainSpec, facenet_schema.FacenetTrainSpec):
        assert recognise("\n".join(compose.commented(schema))) == ""
        for path in compose.group_home(schema).glob("*/*.yaml"):
            assert recognise(path.read_text()) == ""
    assert recognise("model: {variant: public}\ndata: {train: []}") == ""


def train(program: str, file: Path, folder: Path, *overrides: str, code: int = 0) -> Path:
    assert RUN[program]("train", "-e", str(file), f"results_dir={folder}", *ONE_EPOCH, *overrides) == code
    return folder


@pytest.fixture
def detector_run(pictures, narrow) -> list[str]:
    """What makes a run of seconds of FaceNet's specs."""
    return [
        f"data.root={pictures}", "data.train=[{format: kitti, path: .}]", "data.val=[]", f"model.pretrained={narrow}",
        f"input.width={WIDTH}", f"input.height={HEIGHT}", "train.batch_size=4",
    ]  # fmt: skip


@pytest.mark.parametrize("text", [FACENET, FACENET_RETRAIN, FACENET_QAT])
def test_facenet_trains_from_each_spec(text, spec, detector_run, tmp_path, monkeypatch, capsys):
    leave_out_reports(monkeypatch.setattr)
    file = spec(text, "detectnet_v2_spec.txt")
    folder = train("facenet", file, tmp_path / "run", *detector_run, "compat=facetrain")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["augment"]["zoom_max"] == pytest.approx(1.428571) and config["train"]["learning_rate"] == 5e-5
    assert config["imported_from"] == str(file)
    assert "is a spec of TAO's" in capsys.readouterr().out
    assert (folder / "tao_spec.txt").read_text() == text
    account = json.loads((folder / "imported_spec.json").read_text())
    assert {"kind": "inverted", "tao_value": "0.7"}.items() <= next(
        entry for entry in account["entries"] if entry.get("tao", "").endswith("zoom_min")
    ).items()
    assert "augmentation_config.spatial_augmentation.zoom_min, line" in (folder / "imported_spec.yaml").read_text()
    assert load_model(folder / "best.safetensors")[1].config["loss"]["coverage_foreground_weight"] == 0.05


def face_run(faces: Path, points: int, count: int = 12) -> list[str]:
    """What makes a run of seconds of FPENet's specs."""
    rows = f"model.source_points={TEN}" if points == 10 else "model.source_points=[]"
    return [
        f"data.root={faces}", f"data.train=[{{format: pts, path: ., count: {count}}}]", "data.val=[]", "data.test=[]",
        f"model.num_keypoints={points}", rows, "model.width=8", "model.input_size=32", "train.batch_size=4",
        "train.pretrained=''",
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "points"), [(FPENET_TEN, 10), (FPENET_DEFAULT, 68)])
@pytest.mark.parametrize("compat", ["facetrain", "tao"])
def test_fpenet_trains_from_each_spec(text, points, compat, spec, faces, tmp_path, monkeypatch):
    leave_out_reports(monkeypatch.setattr)
    file = spec(text, "experiment_spec.yaml")
    folder = train("fpenet", file, tmp_path / "run", *face_run(faces, points), f"compat={compat}",
                   "data.split.fraction=0.2")  # fmt: skip
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["compat"] == compat and config["seed"] == 35
    assert config["loss"]["reduction"] == {"facetrain": "mean", "tao": "tao"}[compat]
    assert config["crop"]["enlarge"] == {"facetrain": 1.25, "tao": 1.0}[compat]
    assert config["loss"]["elt"]["mode"] == {"facetrain": "labels", "tao": "off"}[compat]
    assert (folder / "tao_spec.yaml").read_text() == text
    assert (folder / "best.safetensors").exists()


def test_weights_that_are_not_imported_yet_are_named_with_the_command_that_does_it(spec, pictures, tmp_path, capsys):
    run = ["data.train=[{format: kitti, path: .}]", f"data.root={pictures}"]
    train("facenet", spec(MODEL_CARD), tmp_path / "run", *run, code=2)
    said = capsys.readouterr()
    assert "facenet import-weights weights=/models/facenet/model.tlt results_dir=/models/facenet/model\n" in said.out
    assert "/models/facenet/model/imported.safetensors" in said.err


def test_an_override_goes_over_a_spec_of_taos(spec, detector_run, tmp_path, monkeypatch):
    leave_out_reports(monkeypatch.setattr)
    folder = train("facenet", spec(MODEL_CARD), tmp_path / "run", *detector_run, "model.bbox_scale=30",
                   "train.precision=bf16")  # fmt: skip
    assert yaml.safe_load((folder / "config.yaml").read_text())["train"]["precision"] == "bf16"


def test_a_run_is_repeated_from_its_config_without_the_file_it_came_from(spec, detector_run, tmp_path, monkeypatch):
    leave_out_reports(monkeypatch.setattr)
    file = spec(MODEL_CARD)
    folder = train("facenet", file, tmp_path / "run", *detector_run)
    file.unlink()
    again = train("facenet", folder / "config.yaml", tmp_path / "again")
    assert yaml.safe_load((again / "config.yaml").read_text())["imported_from"] == str(file)
    assert (folder / "tao_spec.txt").exists() and not (again / "tao_spec.txt").exists()


def test_other_verbs_take_what_they_have_keys_for(spec, narrow, pictures, tmp_path, capsys):
    file = spec(FACENET)
    arguments = ["evaluate", "-e", str(file), f"model={narrow}", f"results_dir={tmp_path / 'out'}", "device=cpu"]
    sources = [f"data.root={pictures}", "data.train=[]", "data.val=[{format: kitti, path: .}]", "pictures=0"]
    size = [f"input_size.width={WIDTH}", f"input_size.height={HEIGHT}"]
    assert facenet(*arguments, *sources, *size) == 0
    said = capsys.readouterr().out
    assert "not for this verb: " in said and "train.epochs" in said and "metrics" not in said.split("not for")[1]


@pytest.mark.parametrize("key", ['"s3cret"', '"s3" "cret"'])
def test_a_key_for_wandb_is_in_no_kept_file(key, spec):
    file = spec(f"training_config {{ visualizer {{ wandb_config {{ project: 'p' key: {key} }} }} }}")
    kept = import_files(str(file), "facenet", "facetrain")
    assert b"project" in kept["imported_spec.json"]
    assert not any(b"s3cret" in content or b'"s3"' in content for content in kept.values())


def test_nor_in_a_message(spec, capsys):
    file = spec('training_config { visualizer { wandb_config { key: "s3cret" mode: "online" } } }')
    assert facenet("import-spec", f"spec={file}") == 2
    assert "s3cret" not in capsys.readouterr().err


def test_an_inference_spec_is_no_training_spec(spec, capsys):
    file = spec(FACENET_INFERENCE)
    assert facenet("train", "-e", str(file)) == 2
    assert f"`facenet infer -e {file}`" in capsys.readouterr().err


def test_inference_runs_from_its_spec(spec, narrow, pictures, tmp_path):
    file = spec(FACENET_INFERENCE.replace("/runs/retrain/weights/detector.hdf5", str(narrow)))
    size = [f"input_size.width={WIDTH}", f"input_size.height={HEIGHT}"]
    out = tmp_path / "out"
    assert facenet("inference", "-e", str(file), f"input={pictures}", f"results_dir={out}", "device=cpu", *size) == 0
    assert (out / "labels").is_dir()
