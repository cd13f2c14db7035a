"""Files for DeepStream 7 and 8: nvinfer's configurations, and what makes boxes and points of the networks' tensors."""

from __future__ import annotations

import json
from pathlib import Path

from ...training.model_file import write_atomic
from ..metadata import GraphInfo
from .deployment import Exported, crop_facts, output_shapes
from .nvinfer import LABELS, Line, detector_config, graph_keys, keypoints_config, rendered
from .standalone import TEMPLATES

PREFERRED = ("fp16", "fp32", "int8", "int8_fp16")
STATIC = {
    "facenet": ("gridbox_parser.cpp", "Makefile"),
    "fpenet": ("fpenet_points.cpp", "fpenet_points.h", "fpenet_probe.py", "Makefile"),
}


def deployable(info: GraphInfo) -> bool:
    """Whether nvinfer can use a graph; it cannot use a detector's that decodes boxes itself."""
    return "points" in info.outputs or "bbox" in info.outputs


def write_deepstream(folder: Path, own: Exported, partner: Exported | None = None, batch: int = 16) -> list[Path]:
    """Writes the files of a network, and with its partner those of the two-stage pipeline, to a folder of its own.

    Args:
        batch: faces that FPENet's engine takes at a time, where the graph leaves it open.

    Returns the files. A detector whose graph nvinfer cannot use is left out (`deployable`).
    """
    exports = {export.network: export for export in (own, partner) if export is not None and deployable(export.info)}
    texts: dict[str, str] = {}
    for network, export in exports.items():
        for name in STATIC[network]:
            texts[name] = (TEMPLATES / "deepstream" / name).read_text(encoding="utf-8")
        write = _detector_files if network == "facenet" else _keypoint_files
        texts |= write(export, folder, batch, exports.get("facenet"))
    if "facenet" in exports:
        texts["deepstream_app.txt"] = _app(exports, batch)
    for name, text in texts.items():
        write_atomic(folder / name, text.encode())
    return [folder / name for name in sorted(texts)]


def config_name(network: str, precision: str) -> str:
    """The file of nvinfer's configuration."""
    return f"config_infer_{'primary' if network == 'facenet' else 'secondary'}_{network}_{precision}.txt"


def _detector_files(own: Exported, folder: Path, batch: int, _: Exported | None) -> dict[str, str]:
    names = own.info.outputs
    decode = own.info.decode
    files = {config_name("facenet", form): detector_config(own, form, folder) for form in own.graphs}
    files[LABELS] = "".join(f"{name}\n" for name in own.meta.architecture["classes"])
    files["gridbox_model.h"] = f"""// The detector's constants: made from {own.info.source["file"]}.
#pragma once

namespace gridbox {{
constexpr const char *kBboxLayer = {json.dumps(names["bbox"])};
constexpr const char *kCoverageLayer = {json.dumps(names["coverage"])};
constexpr unsigned int kStride = {int(decode["stride"])};  // pixels of the input that a cell spans
constexpr float kScale = {float(decode["scale"])!r}f;       // pixels that a distance of 1 stands for
constexpr float kOffset = {float(decode["offset"])!r}f;      // where in a cell distances begin, pixels
}}  // namespace gridbox
"""
    return files


def _keypoint_files(own: Exported, folder: Path, batch: int, detector: Exported | None) -> dict[str, str]:
    names, k, size = own.info.outputs, own.meta.architecture["num_keypoints"], own.info.input_shape[1]
    files = {config_name("fpenet", form): keypoints_config(own, form, folder, batch, detector) for form in own.graphs}
    shapes = {role: shape for role, shape in output_shapes(own).items() if role != "heatmaps"}
    outputs = {role: {"name": names[role], "shape": shape} for role, shape in shapes.items()}
    files["fpenet_probe.json"] = json.dumps({"crop": crop_facts(own.meta), "outputs": outputs}, indent=2) + "\n"
    files["fpenet_model.h"] = f"""// The keypoint network's layout: made from {own.info.source["file"]}.
#pragma once

namespace fpenet {{
constexpr const char *kPointsLayer = {json.dumps(names["points"])};
constexpr const char *kConfidenceLayer = {json.dumps(names["confidence"])};
constexpr const char *kVisibilityLayer = {json.dumps(names.get("visibility", ""))};  // empty: there is none
constexpr unsigned int kPoints = {k};
constexpr float kSize = {float(size)!r}f;  // side of the network's input, pixels
}}  // namespace fpenet
"""
    return files


def _app(exports: dict[str, Exported], batch: int) -> str:
    """The configuration of deepstream-app."""
    detector = config_name("facenet", exports["facenet"].best(*PREFERRED))
    about = ["deepstream-app -c deepstream_app.txt"]
    sections: dict[str, list[Line]] = {
        "application": [("enable-perf-measurement", 1), ("perf-measurement-interval-sec", 5)],
        "source0": [
            ("enable", 1),
            ("type", 3),
            ("uri", "file:///opt/nvidia/deepstream/deepstream/samples/streams/sample_1080p_h264.mp4"),
            ("num-sources", 1),
            ("gpu-id", 0),
        ],
        "streammux": [("batch-size", 1), ("batched-push-timeout", 40000), ("width", 1920), ("height", 1080)],
        "sink0": ["2: a window; 1: none", ("enable", 1), ("type", 2), ("sync", 0)],
        "osd": [("enable", 1), ("border-width", 2), ("text-size", 12)],
        "primary-gie": [("enable", 1), ("gpu-id", 0), ("batch-size", 1), ("gie-unique-id", 1),
                        ("config-file", detector)],
    }  # fmt: skip
    if "fpenet" in exports:
        keypoints = exports["fpenet"]
        form = keypoints.best(*PREFERRED)
        _, _, batch = graph_keys(keypoints, form, Path("."), batch)
        name = config_name("fpenet", form)
        about += [
            "runs both networks, but neither squares the boxes as FPENet wants them nor draws its points. This does:",
            f"  python3 fpenet_probe.py file:///video.mp4 {detector} {name}",
        ]
        sections["secondary-gie0"] = [("enable", 1), ("gpu-id", 0), ("batch-size", batch), ("gie-unique-id", 2),
                                      ("operate-on-gie-id", 1), ("config-file", name)]  # fmt: skip
    return rendered(about, sections)
