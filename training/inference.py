"""What the verb `infer` does for either network: a folder that is safe to write to, batches of pictures in bounded
memory, and files that are whole whenever the run ends.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import cv2
from PIL import Image
from rich.console import Console
from rich.progress import track

from ..datasets.inputs import Inputs, Picture
from ..datasets.sample import ByteArray
from ..errors import ConfigError, DataError
from .run_folder import make_folder

log = logging.getLogger(__name__)

PREDICTIONS = "predictions.json"
DRAWN = ("pictures", "video.mp4")
HELD_BYTES = 2**28  # of decoded pictures that may wait for a batch to fill
Item = TypeVar("Item")


@dataclass
class InferSummary:
    """What was done.

    Attributes:
        pictures: pictures or frames read.
        found: faces, or whatever `noun` says, on them.
        failures: what went wrong, one message each.
    """

    results_dir: Path
    noun: str = "faces"
    pictures: int = 0
    found: int = 0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"{self.found} {self.noun} on {self.pictures} pictures: {self.results_dir / PREDICTIONS}"
        return text + (f" ({len(self.failures)} failures, listed there)" if self.failures else "")

    def tell(self, source: str) -> None:
        """Prints it, and what went wrong. Raises DataError when not one picture of `source` could be read."""
        if not self.pictures:
            first = f": {self.failures[-1]}" if self.failures else ""
            raise DataError(f"input={source}: no picture could be read{first}")
        for failure in self.failures[:10]:
            log.warning("%s", failure)
        print(self)


class Results(AbstractContextManager[Any], Protocol):
    """The files of a run, which are whole once it is left.

    Attributes:
        complete: True once the input has been read to its end.
    """

    summary: InferSummary
    complete: bool


Writer = TypeVar("Writer", bound=Results)


@contextmanager
def to_the_end(results: Writer, kind: str, source: str) -> Iterator[Writer]:
    """Writes whole files whatever ends the run, and tells what was done; Ctrl-C is the ordinary end of a camera.

    Args:
        kind: of the inputs.
        source: the spec's `input`.

    Raises DataError when not one picture could be read.
    """
    with results:
        try:
            yield results
        except KeyboardInterrupt:
            if kind != "camera":
                raise
        results.complete = True
    results.summary.tell(source)


def prepare_results(folder: Path, source: str, overwrite: bool, own: Sequence[str]) -> None:
    """Makes an empty place for the results; nothing but an earlier run's own files is ever deleted.

    Args:
        source: the spec's `input`, which must not lie in the folder.
        own: names of the files and folders that a run writes besides predictions.json.

    Raises:
        ConfigError: the folder is in use.
    """
    if Path(source).exists() and Path(source).resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"results_dir={folder} holds the input {source}; name another folder")
    if folder.is_file():
        raise ConfigError(f"results_dir={folder} is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise ConfigError(f"results_dir={folder} is not empty: name another folder, or overwrite=true")
        _delete(folder, own)
    make_folder(folder)


def _delete(folder: Path, own: Sequence[str]) -> None:
    marks = [folder / PREDICTIONS, part_of(folder / PREDICTIONS)]
    there = [name for name in own if (folder / name).exists()]
    if there and not any(mark.exists() for mark in marks):  # `labels` of a data set, say
        raise ConfigError(f"results_dir={folder} holds {there[0]}, which no earlier run wrote; name another folder")
    for path in [*marks, *(folder / name for name in there)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def watched(inputs: Inputs) -> Iterator[Picture]:
    """The pictures, with a progress bar on a terminal."""
    console = Console(stderr=True)
    hidden = not console.is_terminal
    yield from track(inputs, "infer", inputs.count or None, console=console, transient=True, disable=hidden)


def batches(
    items: Iterable[Item], kind: str, batch_size: int, load: Callable[[Item], tuple[int, int]]
) -> Iterator[list[Item]]:
    """Groups pictures so that they fill a batch, in bounded memory; a camera's frames do not wait.

    Args:
        kind: of the inputs.
        load: how many of the network's inputs an item stands for, and how many bytes it holds.
    """
    batch: list[Item] = []
    inputs = held = 0
    for item in items:
        batch.append(item)
        more_inputs, more_bytes = load(item)
        inputs, held = inputs + more_inputs, held + more_bytes
        if kind == "camera" or inputs >= batch_size or held >= HELD_BYTES:
            yield batch
            batch, inputs, held = [], 0, 0
    if batch:
        yield batch


def part_of(path: Path) -> Path:
    """What a file is called until it is whole."""
    return path.with_name(f".{path.name}.part")


class GrowingJson:
    """A JSON file with one list that is written row by row; it takes its name when it is closed, and is whole then."""

    def __init__(self, path: Path, head: dict[str, Any] | None = None, rows: str = "") -> None:
        """Opens the file.

        Args:
            head: what the file's object holds before the list; None: the file is the list.
            rows: name of the list in that object.
        """
        self.path = path
        self._file = part_of(path).open("w", encoding="utf-8")
        self._separator = "\n"
        self._bare = head is None
        start = "" if head is None else json.dumps(head, indent=1)[:-2] + f",\n {json.dumps(rows)}: "
        self._file.write(start + "[")

    def write(self, row: Any) -> None:
        """One more row of the list."""
        self._file.write(f"{self._separator}  {json.dumps(row)}")
        self._separator = ",\n"

    def close(self, tail: dict[str, Any] | None = None) -> None:
        """Ends the file; `tail` is what its object holds behind the list."""
        end = "".join(f",\n {json.dumps(key)}: {json.dumps(value, indent=1)}" for key, value in (tail or {}).items())
        self._file.write("\n ]" + ("\n" if self._bare else f"{end}\n}}\n"))
        self._file.close()
        os.replace(part_of(self.path), self.path)


class DrawnResults:
    """The pictures of a run with what was found drawn on them, in `pictures/` under their own names, or a video."""

    def __init__(self, folder: Path, fps: float) -> None:
        self.folder, self.fps = folder, fps
        self._video: cv2.VideoWriter | None = None

    def write(self, picture: Picture, canvas: ByteArray) -> None:
        """One picture or frame, drawn on: [H, W, 3] RGB. Raises ConfigError where videos cannot be written."""
        if picture.frame is None:
            path = self.folder / "pictures" / picture.name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(canvas).save(path, quality=92)
            return
        if self._video is None:
            height, width = canvas.shape[:2]
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._video = cv2.VideoWriter(str(self.folder / "video.mp4"), code, self.fps, (width, height))
            if not self._video.isOpened():
                raise ConfigError("this OpenCV cannot write mp4 videos: take draw=false")
        self._video.write(cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        if self._video:
            self._video.release()
