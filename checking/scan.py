"""Every picture of a set opened once, in a pool of processes: what its file is, and small grey copies to compare.

No picture is kept. Of each, and of each face in it, a copy of 32 x 32 grey bytes goes to a temporary file that is
mapped into memory, so that a set of any size needs a few hundred bytes of memory a picture.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..datasets.duplicates import SIDE
from ..datasets.image import PictureHead, examine, luma
from ..datasets.preprocessing import Square, cut
from ..datasets.sample import ByteArray
from ..errors import DataError

FINE = 4.0  # pixels of the picture to one of a small copy, at least: a JPEG is not decoded finer than it takes
FEWEST = 200  # pictures that starting processes pays for
BATCH = 16  # pictures a message between processes

_tasks: Sequence[Task] = ()  # of this process, where it is one of the pool


@dataclass(frozen=True)
class Task:
    """A picture to look at, and the squares of the faces in it, pixels of the full picture; `size` (width, height)
    where it is known."""

    image: Path | ByteArray
    squares: tuple[Square, ...] = ()
    size: tuple[int, int] | None = None

    @property
    def scale(self) -> float:
        """How much smaller the picture may be decoded."""
        sides = [side for *_, side in self.squares] or list(self.size or [])
        return min(FINE * SIDE / max(min(sides), 1.0), 1.0) if sides else 1.0


@dataclass(frozen=True)
class Seen:
    """What was seen of a picture.

    Attributes:
        head: what its file is; None for one that was drawn in memory or cannot be read.
        fault: why it cannot be read; "" where it can.
        size: (width, height), upright; (0, 0) where it cannot be read.
        light: mean grey value.
        small: [32, 32] the whole picture.
        faces: [n, 32, 32] its squares.
    """

    head: PictureHead | None
    fault: str
    size: tuple[int, int]
    light: float
    small: ByteArray
    faces: ByteArray


@dataclass
class Scan:
    """What was seen of all pictures, by the position of the task.

    Attributes:
        heads, faults, sizes: as in `Seen`.
        light: [N] mean grey values, NaN where the picture cannot be read.
        small: [N, 1024] bytes, the pictures.
        faces: [F, 1024] bytes, the faces of all pictures in order.
    """

    heads: list[PictureHead | None]
    faults: list[str]
    sizes: list[tuple[int, int]]
    light: np.ndarray
    small: ByteArray
    faces: ByteArray


def scan(tasks: Sequence[Task], workers: int) -> Scan:
    """Looks at every picture, in so many processes; 0: one a core."""
    n, total = len(tasks), sum(len(task.squares) for task in tasks)
    result = Scan([], [], [], np.full(n, np.nan, np.float32), _on_disk(n), _on_disk(total))
    at = 0
    for i, seen in enumerate(_all_seen(tasks, workers or os.cpu_count() or 1)):
        result.heads.append(seen.head)
        result.faults.append(seen.fault)
        result.sizes.append(seen.size)
        if not seen.fault:
            result.light[i] = seen.light
        result.small[i] = seen.small.reshape(-1)
        result.faces[at : at + len(seen.faces)] = seen.faces.reshape(len(seen.faces), SIDE * SIDE)
        at += len(seen.faces)
    return result


def look(task: Task) -> Seen:
    """One picture."""
    none = np.zeros((SIDE, SIDE), np.uint8)
    try:
        head, grey = _opened(task)
    except DataError as error:
        faces = np.zeros((len(task.squares), SIDE, SIDE), np.uint8)
        return Seen(None, str(error), (0, 0), 0.0, none, faces)
    size = (grey.shape[1], grey.shape[0]) if head is None else head.size
    small = np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    scale = grey.shape[1] / size[0]
    crops = [cut(grey, (x * scale, y * scale, side * scale), SIDE) for x, y, side in task.squares]
    return Seen(head, "", size, float(small.mean()), small, np.array(crops, np.uint8).reshape(-1, SIDE, SIDE))


def _opened(task: Task) -> tuple[PictureHead | None, ByteArray]:
    if isinstance(task.image, Path):
        return examine(task.image, task.scale)
    return None, luma(task.image)


def _all_seen(tasks: Sequence[Task], workers: int) -> Iterator[Seen]:
    if workers == 1 or len(tasks) < FEWEST:
        yield from map(look, tasks)
        return
    # Forked processes share the list; where there is no fork they get a copy.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    with ProcessPoolExecutor(workers, context, _start, (tasks,)) as pool:
        yield from pool.map(_look_at, range(len(tasks)), chunksize=BATCH)


def _start(tasks: Sequence[Task]) -> None:
    global _tasks
    _tasks = tasks


def _look_at(position: int) -> Seen:
    return look(_tasks[position])


def _on_disk(rows: int) -> ByteArray:
    """[rows, 1024] bytes in a file that is gone when nobody maps it any more."""
    if not rows:
        return np.zeros((0, SIDE * SIDE), np.uint8)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.uint8, "w+", shape=(rows, SIDE * SIDE))
