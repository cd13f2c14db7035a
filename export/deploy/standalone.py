"""predict.py: what runs an exported graph with numpy and ONNX Runtime alone.

A script is put together from `templates/standalone`: its network's own part, how pictures are read and resized, and of
the ways to cluster the one that the model's settings name.
"""

from __future__ import annotations

import ast
from pathlib import Path

from ...training.model_file import ModelMeta, write_atomic
from ..metadata import GraphInfo

TEMPLATES = Path(__file__).with_name("templates")
PARTS = ("picture", "clustering")
NEEDS = {"nms": ("overlaps", "nms"), "dbscan": ("overlaps", "merged", "dbscan"),
         "hybrid": ("overlaps", "merged", "nms", "hybrid")}  # fmt: skip


def write_predict_script(path: Path, meta: ModelMeta, info: GraphInfo) -> Path:
    """Writes the script of a network; it takes the network's first .onnx beside it when none is named."""
    write_atomic(path, predict_source(meta, info).encode())
    return path


def predict_source(meta: ModelMeta, info: GraphInfo) -> str:
    """The script's text."""
    network = meta.architecture["network"]
    text = (TEMPLATES / "standalone" / f"{network}.py").read_text(encoding="utf-8")
    names = ["read", "luma", "resized"]
    if network == "facenet":
        kind = next(iter(info.outputs))  # bbox, boxes or detections
        algorithm = meta.config["clustering"]["algorithm"] if kind != "detections" else "nms"
        names += [f"{kind}_cells", *NEEDS[algorithm]]
        text = text.replace("= cells(", f"= {kind}_cells(").replace("= choose(", f"= {algorithm}(")
    head, _, own = text.partition("\n\n\n")
    doc, _, imports = head.rpartition('"""')
    functions = _functions()
    return "\n\n\n".join([f'{doc}"""\n\n{_imports(imports)}', *(functions[name] for name in names), own])


def _imports(own: str) -> str:
    """The import lines of a script: its own, and those of the functions that it takes over."""
    shared = (TEMPLATES / "standalone" / "picture.py").read_text(encoding="utf-8")
    lines = {line for line in f"{own}\n{shared}".splitlines() if line.startswith("import ")}
    standard = sorted(lines - {"import numpy as np"})
    return "\n".join([*standard, "from pathlib import Path", "", "import numpy as np"])


def _functions() -> dict[str, str]:
    """The source of every function that scripts share."""
    found = {}
    for part in PARTS:
        text = (TEMPLATES / "standalone" / f"{part}.py").read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef):
                found[node.name] = ast.get_source_segment(text, node) or ""
    return found
