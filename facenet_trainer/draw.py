"""Boxes drawn on pictures."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..datasets.sample import ByteArray

# RGB, as in the pictures of keypoints: blue for what was found, yellow for the truth.
FOUND = (0, 170, 255)
TRUTH = (255, 240, 60)
IGNORED = (150, 150, 150)
_EDGE = (0, 0, 0)


def draw_boxes(
    image: ByteArray,
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating] | None = None,
    truth: NDArray[np.floating] | None = None,
    regions: NDArray[np.floating] | None = None,
    *,
    names: list[str] | None = None,
    colours: list[tuple[int, int, int]] | None = None,
    width: int = 0,
) -> ByteArray:
    """A copy of the picture [H, W, 3] uint8 RGB with boxes drawn.

    Args:
        boxes: [N, 4] detections, blue, in pixels of `image`.
        scores: [N] confidences, written above boxes that are large enough.
        truth: [G, 4] labelled boxes, yellow and thinner.
        regions: [M, 4] ignore regions, grey.
        names: [N] text before each confidence.
        colours: [N] RGB instead of blue.
        width: of the lines, pixels; 0: by the size of the picture, and thinner around small boxes.
    """
    canvas = np.ascontiguousarray(image).copy()
    usual = max(1, round(max(canvas.shape[:2]) / 400))
    for region in _rounded(regions):
        cv2.rectangle(canvas, region[:2], region[2:], IGNORED, max(1, (width or usual) // 2))
    for box in _rounded(truth):
        line = width or _line(box, usual)
        cv2.rectangle(canvas, box[:2], box[2:], _EDGE, line + 1)
        cv2.rectangle(canvas, box[:2], box[2:], TRUTH, max(1, line // 2))
    known = _finite(boxes)
    texts = []
    for i, box in zip(np.flatnonzero(known), _rounded(boxes), strict=True):
        colour, line = colours[i] if colours else FOUND, width or _line(box, usual)
        cv2.rectangle(canvas, box[:2], box[2:], _EDGE, line + max(1, min(2, line)))
        cv2.rectangle(canvas, box[:2], box[2:], colour, line)
        words = [*(names[i : i + 1] if names else []), *([] if scores is None else [f"{scores[i]:.2f}"])]
        texts.append((" ".join(words), box, line, colour))
    for text, box, line, colour in reversed(texts):  # over all lines, and the most confident, the first, on top
        _label(canvas, text, box, line, max(0.4, 0.3 * usual), colour)
    return canvas


def _line(box: tuple[int, int, int, int], usual: int) -> int:
    """The width of a box's lines: in a crowd, thick ones would hide the faces."""
    return max(1, min(usual, min(box[2] - box[0], box[3] - box[1]) // 20))


def _finite(boxes: NDArray[np.floating]) -> NDArray[np.bool_]:
    return np.isfinite(boxes).all(axis=1)


def _rounded(boxes: NDArray[np.floating] | None) -> list[tuple[int, int, int, int]]:
    """Boxes as OpenCV takes them; those that are not finite are left out."""
    if boxes is None:
        return []
    # An edge at x lies between the pixels x - 1 and x. Beyond 30000 OpenCV's 32-bit arithmetic overflows; nothing that
    # far away can be seen.
    pixels = np.rint(np.clip(boxes[_finite(boxes)], -30000, 30000)) - (0, 0, 1, 1)
    return [tuple(int(edge) for edge in box) for box in pixels]  # type: ignore[misc]


def _label(
    canvas: ByteArray,
    text: str,
    box: tuple[int, int, int, int],
    line: int,
    scale: float,
    colour: tuple[int, int, int],
) -> None:
    """Writes above a box, or in it at the picture's top, on a ground of its colour; not where it would hide others."""
    thickness = max(1, round(1.5 * scale))
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    if not text or width > box[2] - box[0]:
        return
    margin = max(2, round(4 * scale))
    left = max(min(box[0] - line // 2, canvas.shape[1] - width - 2 * margin), 0)
    bottom = max(box[1] - line // 2, height + below + margin)
    top = bottom - height - below - margin
    cv2.rectangle(canvas, (left, top), (left + width + 2 * margin, bottom), colour, -1)
    shade = _EDGE if np.dot(colour, (0.299, 0.587, 0.114)) > 110 else (255, 255, 255)
    place = (left + margin, bottom - below)
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, shade, thickness, cv2.LINE_AA)
