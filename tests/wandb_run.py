"""Reads what W&B has written offline, by its own means and none of the network's."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def offline_records(path: Path) -> Iterator[Any]:
    """The records of an offline run: the framing of LevelDB's log (7-byte chunk heads in blocks of 32 KiB), inside it
    W&B's own protocol buffers.
    """
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # its process writes the last records a little after `finish`
    data, position, record = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:  # no chunk head fits: the block is padded
            position += 32768 - position % 32768
            continue
        length, kind = struct.unpack("<HB", data[position + 4 : position + 7])
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            message = wandb_internal_pb2.Record()
            message.ParseFromString(record)
            record = b""
            yield message


@dataclass
class OfflineRun:
    """What one offline run holds: W&B's own records of the run and of its artifact, the config by key, and everything
    that was logged by step and then name (nested names joined with "/")."""

    file: Path
    run: Any = None
    artifact: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)


def read_offline_run(run_dir: Path) -> OfflineRun:
    """The only offline run in a run folder."""
    (file,) = run_dir.glob("wandb/offline-run-*/run-*.wandb")
    found = OfflineRun(file)
    for record in offline_records(file):
        if record.HasField("run"):
            found.run = record.run
            found.config = {update.key: json.loads(update.value_json) for update in record.run.config.update}
        if record.HasField("history"):
            row = found.history.setdefault(record.history.step.num, {})
            row |= {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        if record.HasField("summary"):
            items = record.summary.update
            found.summary |= {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
        if record.HasField("artifact"):
            found.artifact = record.artifact
        if record.request.HasField("log_artifact"):
            found.artifact = record.request.log_artifact.artifact
    return found
