"""nvinfer's configurations of the two networks, for DeepStream 7 and 8.

Keys and values are those of NVIDIA's samples (fpenet §7.4, gridbox §9.5), in the form for ONNX files.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .deployment import Exported, face_class

TAO_DECODE = {"stride": 16, "scale": 35.0, "offset": 0.5}  # in the code of DeepStream's own parser
MODES = {"fp32": (0, "fp32"), "fp16": (2, "fp16"), "int8": (1, "int8"), "int8_fp16": (1, "int8")}
CLUSTER_MODES = {"dbscan": 1, "nms": 2, "hybrid": 3}
LABELS = "labels_facenet.txt"
TENSORRT_8_OPSET = 17  # the last that TensorRT 8.6 reads

Line = str | tuple[str, Any]  # a comment, or a key and its value


def detector_config(own: Exported, precision: str, folder: Path) -> str:
    """nvinfer's configuration of the detector."""
    p, classes = own.meta.preprocessing, own.meta.architecture["classes"]
    head, keys, batch = graph_keys(own, precision, folder, 1)
    properties: list[Line] = [
        ("gpu-id", 0),
        ("net-scale-factor", "0.0039215697906911373"),
        ("offsets", "0;0;0"),
        ("model-color-format", 0),
        *(["WARNING: the model was trained on grey pictures, and nvinfer gives it colour"] if p["grayscale"] else []),
        *keys,
        ("labelfile-path", LABELS),
        ("infer-dims", ";".join(map(str, own.info.input_shape))),
        ("batch-size", batch),
        ("process-mode", 1),
        ("network-type", 0),
        ("num-detected-classes", len(classes)),
        ("interval", 0),
        ("gie-unique-id", 1),
        ("output-blob-names", ";".join(own.info.outputs.values())),
        *_resize_keys(p),
        *_cluster_mode(own),
        *_parser_keys(own),
    ]
    return rendered(
        [f"FaceNet ({precision}) as primary detector, for DeepStream 7 and 8.", *head],
        {"property": properties, **_thresholds(own)},
    )


def _parser_keys(own: Exported) -> list[Line]:
    """Ours where DeepStream's own parser would read the tensors wrongly, or knows one class only."""
    keys = [("parse-bbox-func-name", "NvDsInferParseCustomFacetrainGridBox"), ("custom-lib-path", "./libfacetrain.so")]
    if own.info.decode != TAO_DECODE:
        return [
            f"WARNING: DeepStream's own parser takes {_listed(TAO_DECODE)} for granted; this model has",
            f"{_listed(own.info.decode)}. Run `make` here for ours",
            *keys,
        ]
    if len(own.meta.architecture["classes"]) > 1:
        return ["Run `make` here first", *keys]
    return ["DeepStream's own parser reads this model. Ours, after `make`:", *(f"{key}={value}" for key, value in keys)]


def _resize_keys(p: dict[str, Any]) -> list[Line]:
    keep = 0 if p["resize"] == "stretch" else 1
    centred = 1 if p["resize"] in ("letterbox", "fit") else 0
    notes = {
        "fit": ["The model has seen smaller pictures in their own size; DeepStream enlarges them"],
        "pad_crop": [
            "The model has seen pictures in their own size, cut off right and below. DeepStream scales them: have",
            f"nvstreammux give out {p['width']} x {p['height']} to come near",
        ],
    }
    return [
        *notes.get(p["resize"], []),
        ("maintain-aspect-ratio", keep),
        ("symmetric-padding", centred),
        "bilinear; the default takes the nearest pixel",
        ("scaling-filter", 1),
    ]


def _cluster_mode(own: Exported) -> list[Line]:
    algorithm = own.meta.config["clustering"]["algorithm"]
    if algorithm == "nms":
        return [("cluster-mode", 2)]
    note = "The model's eps and weights are not DeepStream's: its DBSCAN has the values of NVIDIA's samples"
    return [note, ("cluster-mode", CLUSTER_MODES[algorithm])]


def _thresholds(own: Exported) -> dict[str, list[Line]]:
    """The sections of all classes and of each class."""
    clustering = own.meta.config["clustering"]
    classes = own.meta.architecture["classes"]
    sections: dict[str, list[Line]] = {}
    for number, name in enumerate(classes):
        c = clustering | clustering["per_class"].get(name, {})
        lines: list[Line] = []
        if c["algorithm"] == "nms":
            # The confidence of the best F1, as `facenet infer` has it.
            least = max(c["coverage_threshold"], c["nms_confidence_threshold"],
                        own.meta.metrics.get(f"f1_score_{name}", 0.0))  # fmt: skip
            lines += [("pre-cluster-threshold", round(least, 4)), ("nms-iou-threshold", c["nms_iou_threshold"])]
        else:
            lines += [("pre-cluster-threshold", 0.2), ("eps", 0.7), ("minBoxes", 3), ("dbscan-min-score", 0.5)]
            lines += [("nms-iou-threshold", c["nms_iou_threshold"])] if c["algorithm"] == "hybrid" else []
        size = round(c["minimum_bounding_box_height"])
        lines += [("detected-min-w", size), ("detected-min-h", size)]
        sections["class-attrs-all" if len(classes) == 1 else f"class-attrs-{number}"] = lines
    return sections


def keypoints_config(own: Exported, precision: str, folder: Path, batch: int, detector: Exported | None) -> str:
    """nvinfer's configuration of FPENet."""
    head, keys, batch = graph_keys(own, precision, folder, batch)
    several = detector is not None and len(detector.meta.architecture["classes"]) > 1
    properties: list[Line] = [
        ("gpu-id", 0),
        ("net-scale-factor", 1.0),
        ("offsets", 0.0),
        ("model-color-format", 2),
        *keys,
        ("infer-dims", ";".join(map(str, own.info.input_shape))),
        ("batch-size", batch),
        ("process-mode", 2),
        ("network-type", 100),
        ("output-tensor-meta", 1),
        ("num-detected-classes", 1),
        ("output-blob-names", ";".join(own.info.outputs.values())),
        ("gie-unique-id", 2),
        ("operate-on-gie-id", 1),
        *([("operate-on-class-ids", face_class(detector.meta))] if several and detector else []),
        ("input-object-min-width", 5),
        ("input-object-min-height", 5),
        "bilinear; the default takes the nearest pixel",
        ("scaling-filter", 1),
    ]
    about = [
        f"FPENet ({precision}) on the faces that a primary detector finds, for DeepStream 7 and 8.",
        "nvinfer stretches an object's box to the input. fpenet_probe.py makes the boxes the squares that this model",
        "wants, and the tensors points; fpenet_points.cpp does the latter in C++.",
    ]
    return rendered([*about, *head], {"property": properties, "class-attrs-all": [("pre-cluster-threshold", 0.0)]})


def graph_keys(own: Exported, precision: str, folder: Path, batch: int) -> tuple[list[str], list[Line], int]:
    """What the head says of the engine, the keys of graph and engine, and the batch."""
    mode, word = MODES[precision]
    batch = own.info.batch or batch
    graph = os.path.relpath(own.graphs[precision], folder)
    built = own.engine(precision)
    if built is not None:
        engine, batch, notes = os.path.relpath(built[0], folder), min(batch, built[1]), []
    else:
        engine = f"{graph}_b{batch}_gpu0_{word}.engine"  # what nvinfer calls the one that it builds itself
        notes = _engine_notes(own, precision, graph, engine, batch)
    keys: list[Line] = [("onnx-file", graph), ("model-engine-file", engine)]
    if word == "int8":
        cache = own.calibration(precision)
        if cache is None:
            keys.append(
                "No calibration cache lies beside the graph, without which nvinfer builds FP16: build it before"
            )
        else:
            keys.append("With this nvinfer turns INT8 on; TensorRT then goes by the scales in the graph")
            keys.append(("int8-calib-file", os.path.relpath(cache, folder)))
    return notes, [*keys, ("network-mode", mode)], batch


def _engine_notes(own: Exported, precision: str, graph: str, engine: str, batch: int) -> list[str]:
    """How the engine comes about."""
    size = "x".join(map(str, own.info.input_shape))
    batches = {} if own.info.batch else {"min": 1, "opt": batch, "max": batch}
    shapes = "".join(f" --{name}Shapes=\\'{own.info.input}\\':{count}x{size}" for name, count in batches.items())
    notes = [
        "nvinfer builds the engine at the first start, and may compute in half precision what the graph has in float.",
        "TensorRT 10 (DeepStream 7.1 and 8) keeps to the graph when the engine is built beforehand, in this folder:",
        f"  trtexec --onnx={graph} --stronglyTyped --saveEngine={engine}{shapes}",
    ]
    if own.opset(precision) > TENSORRT_8_OPSET:
        notes.append("TensorRT 8.6 (DeepStream 7.0) does not read this graph's operators: take another form there.")
    return notes


def rendered(head: Sequence[str], sections: dict[str, list[Line]]) -> str:
    """The text of a configuration: comments, then sections of keys."""
    lines = [f"# {line}" for line in head]
    for name, content in sections.items():
        lines += ["", f"[{name}]"]
        lines += [f"# {line}" if isinstance(line, str) else f"{line[0]}={line[1]}" for line in content]
    return "\n".join(lines) + "\n"


def _listed(decode: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in decode.items())
