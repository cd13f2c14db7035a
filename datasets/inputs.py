"""The pictures that the verb `infer` looks at, one at a time: files, a video, a camera."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from ..errors import ConfigError, DataError
from .image import IMAGE_SUFFIXES, luma, read_image
from .sample import ByteArray

USUAL_FPS = 25.0  # where the source does not say

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """A picture, or a frame of a video.

    Attributes:
        name: path below the input folder, or the name of the file or camera.
        frame: number of the frame from 0; None for a picture.
        image: [H, W, 3] uint8 RGB.
    """

    name: str
    frame: int | None
    image: ByteArray

    @property
    def label(self) -> str:
        """The picture in messages and in lists of results."""
        return self.name if self.frame is None else f"{self.name}:{self.frame}"

    def grey(self) -> ByteArray:
        """[H, W] luma, by the conversion that `read_image` makes."""
        return luma(self.image)


@dataclass
class Inputs:
    """Where the pictures come from. `failures` fills while they are read, one message each.

    Attributes:
        kind: "pictures", "video" or "camera".
        names: the pictures' paths below `root`; one name for a video or a camera.
        fps: frames a second of the source; 0 for pictures.
        count: pictures or frames to expect; 0 if unknown.
        max_frames: where to stop a video or camera; 0: at its end.
    """

    kind: str
    root: Path
    names: list[str]
    capture: cv2.VideoCapture | None = None
    fps: float = 0.0
    count: int = 0
    max_frames: int = 0
    failures: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Picture]:
        return self._pictures() if self.capture is None else self._frames(self.capture)

    def _pictures(self) -> Iterator[Picture]:
        for name in self.names:
            try:
                yield Picture(name, None, read_image(self.root / name, grey=False))
            except DataError as error:
                self.failures.append(str(error))

    def _frames(self, capture: cv2.VideoCapture) -> Iterator[Picture]:
        number = 0
        try:
            while (not self.max_frames or number < self.max_frames) and (read := capture.read())[0]:
                yield Picture(self.names[0], number, cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
                number += 1
        finally:
            capture.release()
        if self.kind == "video" and number < self.count:
            log.warning("%s announces %d frames, %d can be read", self.names[0], self.count, number)


def open_inputs(source: str, max_frames: int = 0) -> Inputs:
    """A picture, a folder of pictures (with its sub-folders, sorted), a video, or `camera:N`.

    Of a video or camera, at most `max_frames` frames are read (0: all).

    Raises:
        ConfigError: no input is named, or the camera's number is none.
        DataError: there is nothing at the path, no picture in the folder, or the video or camera cannot be opened.
    """
    if not source:
        raise ConfigError("input is empty: give a picture, a folder of pictures, a video file, or camera:N")
    if source.startswith("camera:"):
        number = source.removeprefix("camera:")
        if not number.isdecimal():
            raise ConfigError(f"input={source}: a camera is named by its number, such as camera:0")
        return _open_capture("camera", int(number), Path(source), max_frames)
    path = Path(source)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if not found:
            raise DataError(f"input={source}: no picture ({', '.join(IMAGE_SUFFIXES)}) in this folder or below it")
        return Inputs("pictures", path, [p.relative_to(path).as_posix() for p in found], count=len(found))
    if not path.is_file():
        raise DataError(f"input={source}: there is no such file or folder")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return Inputs("pictures", path.parent, [path.name], count=1)
    return _open_capture("video", source, path, max_frames)


def _open_capture(kind: str, source: str | int, path: Path, max_frames: int) -> Inputs:
    capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        what = "a video that OpenCV can read" if kind == "video" else "a camera of this machine"
        raise DataError(f"input={path}: neither a picture ({', '.join(IMAGE_SUFFIXES)}) nor {what}")
    fps = _positive(capture.get(cv2.CAP_PROP_FPS)) or USUAL_FPS
    frames = int(_positive(capture.get(cv2.CAP_PROP_FRAME_COUNT))) if kind == "video" else max_frames
    count = min(frames, max_frames) if max_frames else frames
    return Inputs(kind, path.parent, [path.name], capture, fps, count, max_frames)


def _positive(value: float) -> float:
    """The value; 0 for what OpenCV gives where it does not know."""
    return value if math.isfinite(value) and value > 0 else 0.0
