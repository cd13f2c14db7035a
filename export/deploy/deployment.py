"""What deployment files are written from: the export of one network, and at wish that of its partner."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import ConfigError, ModelFileError
from ...training.model_file import TITLES, ModelMeta
from ..engines.sidecar import read_sidecar, sidecar_path
from ..metadata import GraphInfo, entries_of, read_onnx, understood

# How far detectors' boxes, which take in the forehead, reach beyond the box of the 68 points: x1, y1, x2, y2 in shares
# of the points' box. The same relation as that of `fpenet infer detector=...`.
BEYOND_POINTS = (0.027, -0.362, -0.007, -0.010)


@dataclass(frozen=True)
class Exported:
    """The export of a network.

    Attributes:
        meta, info: what its files say; `info` is that of any form.
        graphs: precision -> .onnx file.
    """

    meta: ModelMeta
    info: GraphInfo
    graphs: dict[str, Path] = field(default_factory=dict)

    @property
    def network(self) -> str:
        return self.meta.architecture["network"]

    def best(self, *precisions: str) -> str:
        """The first of these precisions that there is a graph of, else any."""
        return next((name for name in precisions if name in self.graphs), next(iter(self.graphs)))

    def opset(self, precision: str) -> int:
        """Of a form's operators."""
        return understood(entries_of(read_onnx(self.graphs[precision])), self.graphs[precision])[1].opset

    def calibration(self, precision: str) -> Path | None:
        """The calibration cache beside a graph."""
        path = self.graphs[precision].with_name(f"{self.network}_calibration.txt")
        return path if path.is_file() else None

    def engine(self, precision: str) -> tuple[Path, int] | None:
        """The TensorRT engine beside a graph and the largest batch that it takes; None: there is no such engine.

        One of TensorRT-RTX does not count: neither DeepStream nor Triton reads it.
        """
        path = self.graphs[precision].with_suffix(".engine")
        if not (path.is_file() and sidecar_path(path).is_file()):
            return None
        facts = read_sidecar(path).engine
        return (path, facts.batches[1]) if facts.flavour == "tensorrt" else None


def exported_in(folder: Path, network: str) -> Exported:
    """The graphs that lie in an export folder.

    Raises:
        ConfigError: it holds none of that network.
        ModelFileError: one of them cannot be read.
    """
    found: Exported | None = None
    for path in sorted(folder.glob("*.onnx")):
        try:
            meta, info = understood(entries_of(read_onnx(path)), path)
        except ModelFileError:
            if path.name.startswith(network):
                raise
            continue  # someone else's
        if meta.architecture["network"] == network:
            found = found or Exported(meta, info)
            found.graphs[info.precision] = path
    if found is None:
        raise ConfigError(
            f"export.partner={folder}: no {TITLES[network]} graph lies there; give the folder that `{network} export` "
            "wrote"
        )
    return found


def output_shapes(export: Exported) -> dict[str, list[int]]:
    """What an output is -> its shape for one input; -1: any number. `detections` has no batch."""
    _, height, width = export.info.input_shape
    if export.network == "fpenet":
        k = export.meta.architecture["num_keypoints"]
        shapes = {"points": [k, 2], "confidence": [k], "heatmaps": [k, height, width], "visibility": [k]}
    else:
        c, stride = len(export.meta.architecture["classes"]), int(export.info.decode["stride"])
        h, w = height // stride, width // stride
        shapes = {"bbox": [4 * c, h, w], "coverage": [c, h, w], "boxes": [c, h * w, 4], "scores": [c, h * w],
                  "detections": [-1, 7]}  # fmt: skip
    return {role: shapes[role] for role in export.info.outputs}


def crop_facts(meta: ModelMeta) -> dict[str, Any]:
    """How a face is cut out around a detector's box, for scripts; `beyond_points` is null where the network was
    trained on boxes."""
    keys = ("size", "enlarge", "shift_x", "shift_y")
    by_points = meta.preprocessing["crop_source"] == "points"
    return {key: meta.preprocessing[key] for key in keys} | {"beyond_points": BEYOND_POINTS if by_points else None}


def face_class(meta: ModelMeta) -> int:
    """Which of a detector's classes faces are."""
    classes = list(meta.architecture["classes"])
    return classes.index("face") if "face" in classes else 0
