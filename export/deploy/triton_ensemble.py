"""The ensemble `faces`: the detector, the keypoint network, and between them steps in Triton's Python backend."""

from __future__ import annotations

from collections.abc import Mapping

from .deployment import Exported, crop_facts, face_class, output_shapes
from .standalone import predict_source
from .triton_client import as_json, client_source, detector_facts, template
from .triton_config import Dims, Message, rendered, tensors

MOST_FACES = 64  # of a picture, where the keypoint network takes any number
STEPS = ("prepare", "crop", "recrop", "place")


def ensemble_files(detector: Exported, keypoints: Exported) -> dict[str, bytes | str]:
    """The ensemble `faces`, its steps in Python and its client."""
    looks = 2 if crop_facts(keypoints.meta)["beyond_points"] else 1
    code = {
        "model.py": template("model.py"),
        "facenet_predict.py": predict_source(detector.meta, detector.info),
        "fpenet_predict.py": predict_source(keypoints.meta, keypoints.info),
        "faces.json": as_json(
            {
                "detector": detector_facts(detector),
                "crop": crop_facts(keypoints.meta),
                "face": detector.meta.architecture["classes"][face_class(detector.meta)],
                "fill": max(keypoints.info.batch, 1),
            }
        ),
    }
    files: dict[str, bytes | str] = {
        "faces/config.pbtxt": _faces_config(detector, keypoints, looks),
        "faces/1/README.txt": "Triton wants a version's folder of an ensemble too.\n",
        "faces_client.py": client_source("client_faces.py", code["fpenet_predict.py"], "def read("),
    }
    for step, (given, found) in _steps(detector, keypoints, looks).items():
        files[f"faces_{step}/config.pbtxt"] = _step_config(step, given, found, keypoints)
        files |= {f"faces_{step}/1/{name}": text for name, text in code.items()}
    return files


def _steps(detector: Exported, keypoints: Exported, looks: int) -> dict[str, tuple[Dims, Dims]]:
    """The inputs and outputs of each step in Python."""
    size, points = keypoints.info.input_shape[1], output_shapes(keypoints)
    picture: Dims = {"picture": ("UINT8", [-1, -1, 3])}
    cells: Dims = {
        f"facenet_{role}": ("FP32", shape if role == "detections" else [-1, *shape])
        for role, shape in output_shapes(detector).items()
    }
    cut: Dims = {"squares": ("FP64", [-1, 3]), "crops": ("FP32", [-1, 1, size, size])}
    boxes: Dims = {"boxes": ("FP32", [-1, 4]), "scores": ("FP32", [-1]), "found": ("INT32", [1])}
    roles = [role for role in points if role != "heatmaps"]
    steps: dict[str, tuple[Dims, Dims]] = {
        "prepare": (picture, {"images": ("FP32", [-1, *detector.info.input_shape])}),
        "crop": ({**picture, **cells}, {**boxes, **cut}),
    }
    if looks == 2:
        first: Dims = {"first_points": ("FP32", [-1, *points["points"]]), "first_squares": ("FP64", [-1, 3])}
        steps["recrop"] = {**picture, **first}, cut
    placed: Dims = {f"fpenet_{role}": ("FP32", [-1, *points[role]]) for role in roles}
    steps["place"] = (
        {"face_boxes": boxes["boxes"], "squares": cut["squares"], **placed},
        {role: ("FP32", [-1, *points[role]]) for role in roles},
    )
    return steps


def _step_config(step: str, given: Dims, found: Dims, keypoints: Exported) -> str:
    parameters = {"step": step}
    head = [f"A step of the ensemble `faces`: see {step} in 1/model.py."]
    if step == "crop":
        parameters["most"] = str(keypoints.info.batch or MOST_FACES)
        head.append("`most`: faces of a picture; no more than the keypoint network takes at a time.")
    message = {
        "name": f"faces_{step}",
        "backend": "python",
        "max_batch_size": 0,
        "input": tensors(given),
        "output": tensors(found),
        "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
        "parameters": [{"key": key, "value": {"string_value": value}} for key, value in parameters.items()],
    }
    return rendered(head, message)


def _faces_config(detector: Exported, keypoints: Exported, looks: int) -> str:
    """The ensemble: which tensor of which step is which of another."""
    steps = _steps(detector, keypoints, looks)
    cells = {name: f"facenet_{role}" for role, name in detector.info.outputs.items()}
    points = {name: f"fpenet_{role}" for role, name in keypoints.info.outputs.items() if role != "heatmaps"}
    first = {"squares": "first_squares", "crops": "first_crops"} if looks == 2 else {}
    renamed = {("crop", name): ensemble for name, ensemble in first.items()} | {("place", "face_boxes"): "boxes"}

    def in_python(step: str) -> Message:
        given, found = ({name: renamed.get((step, name), name) for name in names} for names in steps[step])
        return _step(f"faces_{step}", given, found)

    def network(export: Exported, given: str, found: Mapping[str, str]) -> Message:
        return _step(f"{export.network}_onnx", {export.info.input: given}, found)

    chain = [in_python("prepare"), network(detector, "images", cells), in_python("crop")]
    if looks == 2:
        name = keypoints.info.outputs["points"]
        chain += [network(keypoints, "first_crops", {name: "first_points"}), in_python("recrop")]
    chain += [network(keypoints, "crops", points), in_python("place")]
    outputs = {**{name: steps["crop"][1][name] for name in ("boxes", "scores", "found")}, **steps["place"][1]}
    head = [
        "The faces of a picture, RGB bytes, and their keypoints: boxes in pixel edges, the most confident first, and",
        "points in pixels. `found`: how many faces there are, be it more than `most` in faces_crop/config.pbtxt.",
        *(["Faces are looked at twice, the second time in squares around the first points."] if looks == 2 else []),
        "For engines put facenet_tensorrt and fpenet_tensorrt for facenet_onnx and fpenet_onnx; then `most` must not",
        "exceed the max_batch_size of fpenet_tensorrt.",
    ]
    message = {
        "name": "faces",
        "platform": "ensemble",
        "max_batch_size": 0,
        "input": tensors(steps["prepare"][0]),
        "output": tensors(outputs),
        "ensemble_scheduling": {"step": chain},
    }
    return rendered(head, message)


def _step(model: str, given: Mapping[str, str], found: Mapping[str, str]) -> Message:
    return {"model_name": model, "model_version": -1, "input_map": _entries(given), "output_map": _entries(found)}


def _entries(names: Mapping[str, str]) -> list[Message]:
    return [{"key": key, "value": value} for key, value in names.items()]
