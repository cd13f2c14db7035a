"""A user's own nvinfer configuration, from TAO's days or later, made to fit an export."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import ConfigError
from ...training.model_file import TITLES, write_atomic
from ...training.report import Row, Table
from .deployment import Exported
from .nvinfer import MODES, detector_config, graph_keys, keypoints_config

KEY = "deepstream.config"
PROPERTY = "property"
FORMS = {"0": ("fp32",), "1": ("int8", "int8_fp16"), "2": ("fp16",)}  # of network-mode
TENSORS = {"facenet": ("output_bbox", "output_cov"), "fpenet": ("softargmax", "conv_keypoints")}
PATHS = ("labelfile-path", "custom-lib-path", "mean-file")  # start from the configuration's folder
# What TensorRT 10 and the ONNX form of nvinfer's keys have no use for.
GONE = {
    **dict.fromkeys(("tlt-encoded-model", "tlt-model-key"), "encrypted models: DeepStream 8 reads ONNX only"),
    **dict.fromkeys(("uff-file", "uff-input-dims", "uff-input-blob-name", "uff-input-order"), "TensorRT reads no UFF"),
    **dict.fromkeys(("model-file", "proto-file"), "TensorRT reads no Caffe"),
    "input-dims": "infer-dims has taken its place",
    "enable-dbscan": "cluster-mode has taken its place",
}
# What the model decides, and what nvinfer takes where the key is lacking; None: nothing is assumed.
DECIDED: dict[str, tuple[str | None, str]] = {
    "onnx-file": (None, "the exported graph"),
    "model-engine-file": (None, "the engine that is made of it"),
    "int8-calib-file": (None, "with it nvinfer turns INT8 on; the scales lie in the graph"),
    "network-mode": ("0", "the precision of the graph"),
    "net-scale-factor": ("1", "the factor that the network's input wants"),
    "offsets": ("0", "what the network's input wants subtracted"),
    "model-color-format": ("0", "the colours that the network was trained on"),
    "infer-dims": (None, "the size of the network's input"),
    "output-blob-names": (None, "the graph's outputs"),
    "network-type": ("0", "what nvinfer makes of the outputs"),
    "output-tensor-meta": ("0", "the outputs are read behind nvinfer"),
    "process-mode": ("1", "whole frames for a detector, objects for keypoints"),
    "num-detected-classes": (None, "the model's classes"),
    "labelfile-path": (None, "the model's classes"),
    "maintain-aspect-ratio": ("0", "how pictures were resized in training"),
    "symmetric-padding": ("0", "how pictures were resized in training"),
    "scaling-filter": ("0", "bilinear, as in training"),
    "parse-bbox-func-name": (None, "DeepStream's own parser would read this model wrongly"),
    "custom-lib-path": (None, "`make` builds it here"),
}
OPTIONAL = ("infer-dims", "int8-calib-file")  # an ONNX graph says them itself; corrected where they are


@dataclass(frozen=True)
class NvinferFile:
    """A configuration: its path, and its lines as they are."""

    path: Path
    lines: list[str]

    def values(self) -> dict[str, str]:
        """The keys of [property]."""
        return {key: value for _, section, key, value in self.entries() if section == PROPERTY}

    def entries(self) -> Iterator[tuple[int, str, str, str]]:
        """Position of the line, section, key and value of every key."""
        section = ""
        for position, line in enumerate(self.lines):
            text = line.strip()
            if header := re.fullmatch(r"\[(.+)\]", text):
                section = header[1]
            elif text and text[0] not in "#;" and "=" in text:
                key, _, value = text.partition("=")
                yield position, section, key.strip(), value.strip()


def read_nvinfer(name: str, network: str) -> NvinferFile:
    """A user's configuration of a network.

    Raises ConfigError when it cannot be read, is none of nvinfer's, or that of the other network.
    """
    path = Path(name)
    try:
        file = NvinferFile(path, path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{KEY}={name}: it cannot be read ({error})") from None
    values = file.values()
    if not values:
        raise ConfigError(
            f"{KEY}={name}: it has no [property] section with keys, so that it is no configuration of nvinfer's; give "
            "the file that config-file-path of your nvinfer element names, in its text form"
        )
    outputs = values.get("output-blob-names", "")
    for other, words in TENSORS.items():
        if other != network and any(word in outputs for word in words):
            raise ConfigError(
                f"{KEY}={name}: its outputs {outputs} are those of {TITLES[other]}; give it to `{other} export`"
            )
    return file


def write_corrected(
    theirs: NvinferFile, own: Exported, folder: Path, batch: int, partner: Exported | None
) -> tuple[list[Path], Table]:
    """Writes the configuration with what the model wants, comments and all else kept, and a diff, to a folder.

    Returns both files, and a table of what was changed and why.
    """
    theirs_before, lines = theirs.values(), list(theirs.lines)
    wanted = _wanted(theirs_before, own, folder, batch, partner)
    rows: list[Row] = []
    drop: set[int] = set()
    last = 0
    for position, section, key, value in theirs.entries():
        if section != PROPERTY:
            continue
        last = position
        if key in GONE:
            drop.add(position)
            rows.append([key, value, "", GONE[key]])
        elif key in wanted and not _same(value, wanted[key]):
            lines[position] = f"{key}={wanted[key]}"
            rows.append([key, value, wanted[key], DECIDED[key][1] if key in DECIDED else "the graph's batch is fixed"])
        elif key in PATHS and key not in wanted and not value.startswith("/"):
            lines[position] = f"{key}={os.path.relpath(theirs.path.parent / value, folder)}"
    added = []
    for key, value in wanted.items():
        assumed, why = DECIDED.get(key, (None, "the graph's batch is fixed"))
        lacking = key not in theirs_before and key not in OPTIONAL
        if lacking and (assumed is None or not _same(assumed, value)):
            added.append(f"{key}={value}")
            rows.append([key, "", value, why])
    if theirs_before.get("enable-dbscan") == "1" and "cluster-mode" not in theirs_before:
        added.append("cluster-mode=1")
        rows.append(["cluster-mode", "", "1", "DBSCAN, as enable-dbscan said"])
    kept = [line for position, line in enumerate(lines) if position not in drop]
    end = last + 1 - sum(position <= last for position in drop)
    text = "\n".join([*kept[:end], *added, *kept[end:]]) + "\n"
    path = folder / f"corrected_{theirs.path.name}"
    difference = difflib.unified_diff(
        [f"{line}\n" for line in theirs.lines], text.splitlines(keepends=True), theirs.path.name, path.name
    )
    write_atomic(path, text.encode())
    write_atomic(path.with_name(f"{path.name}.diff"), "".join(difference).encode())
    caption = f"{theirs.path.name} and this model: {path.name} has what the model wants, all else is as it was"
    rows = rows or [["", "", "", "nothing: it fits"]]
    return [path, path.with_name(f"{path.name}.diff")], Table(["key", "yours", "now", "why"], rows, caption)


def _wanted(
    values: dict[str, str], own: Exported, folder: Path, batch: int, partner: Exported | None
) -> dict[str, str]:
    """The keys that the model decides, with the values that our own configuration has."""
    forms = FORMS.get(values.get("network-mode", "0"), ())
    form = own.best(*forms, *MODES)
    asked = int(values["batch-size"]) if values.get("batch-size", "").isdigit() else batch
    _, keys, possible = graph_keys(own, form, folder, asked)
    if own.network == "facenet":
        text = detector_config(own, form, folder)
    else:
        text = keypoints_config(own, form, folder, asked, partner)
    ours = NvinferFile(folder, text.splitlines()).values() | {key: str(value) for key, value in _pairs(keys)}
    wanted = {key: value for key, value in ours.items() if key in DECIDED}
    if own.network == "fpenet":
        wanted["maintain-aspect-ratio"] = "0"  # an object's box is stretched
    if possible != asked:
        wanted["batch-size"] = str(possible)
    return wanted


def _pairs(lines: list) -> Iterator[tuple[str, object]]:
    return (line for line in lines if not isinstance(line, str))


def _same(one: str, other: str) -> bool:
    """Whether two values mean the same: numbers to a thousandth, one for all channels, empty places left out."""
    parts = [[part.strip() for part in value.split(";") if part.strip()] for value in (one, other)]
    try:
        numbers = [[float(part) for part in value] for value in parts]
    except ValueError:
        return parts[0] == parts[1]
    length = max(map(len, numbers))
    if not all(len(value) in (1, length) for value in numbers):
        return False
    wide = [value * (length // len(value)) for value in numbers]
    return all(abs(a - b) <= 1e-3 * max(abs(a), abs(b)) for a, b in zip(*wide, strict=True))
