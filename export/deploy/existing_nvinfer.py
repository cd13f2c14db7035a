"""A user's own nvinfer configuration, from TAO's days or later, made to fit an export."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from ...errors import ConfigError
from ...training.model_file import TITLES, write_atomic
from ...training.report import Row, Table
from .deployment import Exported
from .nvinfer import CLUSTER_MODES, MODES, detector_config, graph_keys, keypoints_config

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
class Entry:
    """A key of a configuration: its line from 0, its section, and the columns that its value stands in."""

    line: int
    section: str
    key: str
    value: str
    start: int
    end: int


@dataclass(frozen=True)
class NvinferFile:
    """A configuration: its path, whose suffix tells its form, and its lines as they are."""

    path: Path
    lines: list[str]

    @property
    def is_yaml(self) -> bool:
        return self.path.suffix.lower() in (".yml", ".yaml")

    def values(self) -> dict[str, str]:
        """The keys of the section `property`."""
        return {entry.key: entry.value for entry in self.entries() if entry.section == PROPERTY}

    def entries(self) -> Iterator[Entry]:
        """Every key. Raises ConfigError where a YAML file is not laid out line by line."""
        yield from self._yaml_entries() if self.is_yaml else self._ini_entries()

    def _ini_entries(self) -> Iterator[Entry]:
        section = ""
        for number, line in enumerate(self.lines):
            text = line.strip()
            if header := re.fullmatch(r"\[(.+)\]", text):
                section = header[1]
            elif text and text[0] not in "#;" and "=" in text:
                key, _, value = line.partition("=")
                start = len(line) - len(value.lstrip())
                yield Entry(number, section, key.strip(), value.strip(), start, len(line))

    def _yaml_entries(self) -> Iterator[Entry]:
        try:
            root = yaml.compose("\n".join(self.lines), Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise ConfigError(f"{KEY}={self.path}: it is not YAML ({str(error).replace(chr(10), ' ')})") from None
        for name, section in root.value if isinstance(root, yaml.MappingNode) else []:
            for key, value in section.value if isinstance(section, yaml.MappingNode) else []:
                begin, end = value.start_mark, value.end_mark
                if section.flow_style or not isinstance(value, yaml.ScalarNode) or begin.line != end.line:
                    raise ConfigError(
                        f"{KEY}={self.path}:{key.start_mark.line + 1}: {key.value} is to be one value in a line of "
                        "its own, as `key: value`"
                    )
                yield Entry(begin.line, str(name.value), str(key.value), value.value, begin.column, end.column)

    def written(self, key: str, value: str) -> str:
        """The line of a key that is new."""
        if not self.is_yaml:
            return f"{key}={value}"
        first = next(entry for entry in self.entries() if entry.section == PROPERTY)
        indent = re.match(r"\s*", self.lines[first.line])
        return f"{indent[0] if indent else '  '}{key}: {value}"


def read_nvinfer(name: str, network: str) -> NvinferFile:
    """A user's configuration of a network, in nvinfer's text form or in YAML.

    Raises ConfigError when it cannot be read, is none of nvinfer's, or that of the other network.
    """
    path = Path(name)
    try:
        file = NvinferFile(path, path.read_text(encoding="utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{KEY}={name}: it cannot be read ({error})") from None
    values = file.values()
    if not values:
        section = f"{PROPERTY}:" if file.is_yaml else f"[{PROPERTY}]"
        raise ConfigError(
            f"{KEY}={name}: it has no {section} section with keys, so that it is no configuration of nvinfer's; give "
            "the file that config-file-path of your nvinfer element names (.yml and .yaml are read as YAML)"
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
    for entry in theirs.entries():
        if entry.section != PROPERTY:
            continue
        key, value, line = entry.key, entry.value, theirs.lines[entry.line]
        before, after = line[: entry.start], line[entry.end :]
        last = entry.line
        if key in GONE:
            drop.add(entry.line)
            rows.append([key, value, "", GONE[key]])
        elif key in wanted and not _same(value, wanted[key]):
            lines[entry.line] = before + wanted[key] + after
            rows.append([key, value, wanted[key], DECIDED[key][1] if key in DECIDED else "the graph's batch is fixed"])
        elif key in PATHS and key not in wanted and not value.startswith("/"):
            lines[entry.line] = before + os.path.relpath(theirs.path.parent / value, folder) + after
    added = []
    for key, value in wanted.items():
        assumed, why = DECIDED.get(key, (None, "the graph's batch is fixed"))
        lacking = key not in theirs_before and key not in OPTIONAL
        if lacking and (assumed is None or not _same(assumed, value)):
            added.append(theirs.written(key, value))
            rows.append([key, "", value, why])
    if theirs_before.get("enable-dbscan") == "1" and "cluster-mode" not in theirs_before:
        added.append(theirs.written("cluster-mode", "1"))
        rows.append(["cluster-mode", "", "1", "DBSCAN, as enable-dbscan said"])
    rows += _clustering(theirs_before, own)
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


def _clustering(values: dict[str, str], own: Exported) -> list[Row]:
    """Where a detector's boxes are joined in another way than they were when the model was measured: a row that says
    so. Thresholds belong to the application, and stay."""
    if own.network != "facenet":
        return []
    algorithm = own.meta.config["clustering"]["algorithm"]
    theirs = values.get("cluster-mode", "1" if values.get("enable-dbscan") == "1" else "0")
    ours = str(CLUSTER_MODES[algorithm])
    why = f"kept, with its thresholds; the model was measured with {algorithm}, which is {ours}: look at our own file"
    return [] if theirs == ours else [["cluster-mode", theirs, theirs, why]]


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
