"""Clients: each a single file, put together from a predict.py and what only a client needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .deployment import Exported, crop_facts
from .standalone import TEMPLATES, predict_source


def network_client(export: Exported) -> dict[str, bytes | str]:
    """What asks for one network as predict.py runs it."""
    name = f"{export.network}_client"
    facts: dict[str, Any] = {
        "model": f"{export.network}_onnx",
        "input": export.info.input,
        "outputs": export.info.outputs,
    }
    if export.network == "facenet":
        facts |= detector_facts(export)
    else:
        facts |= {"preprocessing": crop_facts(export.meta), "batch": max(export.info.batch, 1)}
    client = client_source(f"client_{export.network}.py", predict_source(export.meta, export.info))
    return {f"{name}.py": client, f"{name}.json": as_json(facts)}


def detector_facts(export: Exported) -> dict[str, Any]:
    """What predict.py's functions read in the two parts of a detector's metadata."""
    meta, classes = export.meta, export.meta.architecture["classes"]
    scores = {key: meta.metrics[key] for key in (f"f1_score_{name}" for name in classes) if key in meta.metrics}
    return {
        "preprocessing": meta.preprocessing,
        "config": {"clustering": meta.config["clustering"]},
        "architecture": {"classes": list(classes)},
        "metrics": scores,
        "decode": export.info.decode,
        "batch": max(export.info.batch, 1),
    }


def client_source(name: str, script: str, functions: str = "def ") -> str:
    """A client in one file: the template behind the functions of a predict.py that begin so, and those of server.py."""
    heads, shared = [], []
    for text in (script, template("server.py")):
        head, *parts = text.split("\n\n\n")
        heads.append(head)
        shared += [part for part in parts if part.startswith(("def ask", functions)) and "def main(" not in part]
    head, *own = template(name).split("\n\n\n")
    doc, _, _ = head.rpartition('"""')
    lines = {line for text in (*heads, head) for line in text.splitlines() if line.startswith(("import ", "from "))}
    lines -= {line for line in lines if line.startswith(("from predict ", "from server "))}
    foreign = {line for line in lines if "numpy" in line or "tritonclient" in line}
    imports = "\n".join([*sorted(lines - foreign, key=_plain_first), "", *sorted(foreign, key=_plain_first)])
    return "\n\n\n".join([f'{doc}"""\n\n{imports}', *shared, *own])


def _plain_first(line: str) -> tuple[bool, str]:
    return line.startswith("from "), line


def template(name: str) -> str:
    """A template's text."""
    return (TEMPLATES / "triton" / name).read_text(encoding="utf-8")


def as_json(facts: Mapping[str, Any]) -> str:
    """The text of a file of facts."""
    return json.dumps(facts, indent=2) + "\n"
