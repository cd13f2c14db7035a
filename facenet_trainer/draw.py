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
        width: of the lines, pixels; 0: by the size of the picture.
    """
    canvas = np.ascontiguousarray(image).copy()
    line = width or max(1, round(max(canvas.shape[:2]) / 400))
    for region in _rounded(regions):
        cv2.rectangle(canvas, region[:2], region[2:], IGNORED, max(1, line // 2), cv2.LINE_AA)
    for box in _rounded(truth):
        cv2.rectangle(canvas, box[:2], box[2:], _EDGE, line + 1, cv2.LINE_AA)
        cv2.rectangle(canvas, box[:2], box[2:], TRUTH, max(1, line // 2), cv2.LINE_AA)
    for i, box in enumerate(_rounded(boxes)):
        colour = colours[i] if colours else FOUND
        cv2.rectangle(canvas, box[:2], box[2:], _EDGE, line + 2, cv2.LINE_AA)
        cv2.rectangle(canvas, box[:2], box[2:], colour, line, cv2.LINE_AA)
        words = [*(names[i : i + 1] if names else []), *([] if scores is None else [f"{scores[i]:.2f}"])]
        if words and box[2] - box[0] >= 24 * line:
            _write(canvas, " ".join(words), box[0], box[1] - 2 * line, 0.4 * line, colour)
    return canvas


def _rounded(boxes: NDArray[np.floating] | None) -> list[tuple[int, int, int, int]]:
    """Boxes as OpenCV takes them; those that are not finite are left out."""
    if boxes is None:
        return []
    known = boxes[np.isfinite(boxes).all(axis=1)]
    # Beyond this OpenCV's 32-bit arithmetic overflows; nothing that far away can be seen.
    return [tuple(int(edge) for edge in box) for box in np.rint(np.clip(known, -30000, 30000))]  # type: ignore[misc]


def _write(canvas: ByteArray, text: str, x: int, y: int, scale: float, colour: tuple[int, int, int]) -> None:
    y = max(y, round(26 * scale))
    for thickness, shade in ((max(2, round(5 * scale)), _EDGE), (max(1, round(2 * scale)), colour)):
        cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, shade, thickness, cv2.LINE_AA)
