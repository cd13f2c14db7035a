"""The same photograph twice: in training it tilts the weights, across a split it flatters the result."""

from __future__ import annotations

import numpy as np

from .crops import crop_faces
from .preprocessing import Preprocessing
from .sample import FaceSample, FloatArray, Rejection

# Looked at by eye on 300-W: at a correlation of 0.95 and more of 32 x 32 crops, nearly all pairs are one photograph
# (other encodings, sizes, frames and labels included); the rest are shots of one person in the same second. Different
# persons stay below 0.92. Of video frames in a row about one in eight is dropped.
SIDE = 32
ALIKE = 0.95
ROWS = 1024  # of the matrix of correlations at a time, to bound the memory


def drop_duplicates(
    train: list[FaceSample], held_out: list[FaceSample], preprocessing: Preprocessing
) -> tuple[list[FaceSample], list[Rejection]]:
    """The training faces that repeat neither a held-out face nor an earlier training face, and the others."""
    faces = [*held_out, *train]
    originals = _originals(signatures(faces, preprocessing), len(held_out))
    rejections = []
    for index, original in sorted(originals.items()):
        source, name = faces[index].source, faces[index].name
        where = "held-out" if original < len(held_out) else "training"
        detail = f"of the {where} face {faces[original].source}/{faces[original].name}"
        rejections.append(Rejection(f"{source}/{name}", None, "duplicate", detail))
    kept = [face for index, face in enumerate(faces) if index >= len(held_out) and index not in originals]
    return kept, rejections


def signatures(faces: list[FaceSample], preprocessing: Preprocessing) -> FloatArray:
    """[N, SIDE * SIDE] float32 of length 1, whose products are correlations of crops; 0 where there is no crop."""
    squares = [preprocessing.square(face.points, face.box) for face in faces]
    placed = [(face, square) for face, square in zip(faces, squares, strict=True) if square is not None]
    crops, _ = crop_faces(placed, SIDE)
    flat = crops.reshape(len(placed), SIDE * SIDE).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    result = np.zeros((len(faces), SIDE * SIDE), np.float32)
    result[[square is not None for square in squares]] = flat
    return result


def _originals(marks: FloatArray, first: int) -> dict[int, int]:
    """For each row from `first` on that repeats an earlier row which is not itself left out: that row."""
    originals: dict[int, int] = {}
    for start in range(first, len(marks), ROWS):
        end = min(start + ROWS, len(marks))
        alike = marks[start:end] @ marks[:end].T > ALIKE
        for row, column in zip(*np.nonzero(alike), strict=True):
            index, other = int(row) + start, int(column)
            if other < index and other not in originals:
                originals.setdefault(index, other)
    return originals
