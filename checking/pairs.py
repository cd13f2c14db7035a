"""Pictures, or faces, that are one photograph: also re-encoded, in another size, or mirrored.

Small grey copies of one mean and length are compared: their product is a correlation. Copies that correlate by more
than c are closer than sqrt(2 - 2 c), and so are their 8 x 8 block means, in which far fewer numbers are compared with
all others. No pair is missed, and each that is near enough there is looked at in full.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..datasets.duplicates import SIDE
from ..datasets.sample import ByteArray, FloatArray

BLOCKS = 8  # a side
CELLS = 64_000_000  # of the matrix of products at a time, bytes
NEAREST = 32  # candidates of one copy that are looked at; a film of one face has thousands
FLAT = 3.0  # grey values, standard deviation: a picture with less shows nothing
CHUNK = 4096
# Of a copy without its block means. Pictures that are merely alike in their large forms (a dark floor below a bright
# wall, a face from the front) share nothing there; one photograph does, even out of a strong JPEG compression.
DETAIL = 0.6


@dataclass(frozen=True)
class Pair:
    """Copies `one` < `other`, how much they correlate, and whether one of them is mirrored."""

    one: int
    other: int
    alike: float
    mirrored: bool


def find_pairs(copies: ByteArray, alike: float, *, detail: float = DETAIL) -> list[Pair]:
    """All pairs of [N, SIDE * SIDE] bytes that correlate by more than `alike` in all and by more than `detail` in what
    is finer than block means; in the order of their positions. Flat copies have no pair."""
    blocks, usable = _blocks(copies)
    found: dict[tuple[int, int], Pair] = {}
    for mirrored in (False, True):
        for chunk in _batched(_candidates(blocks, usable, alike, mirrored)):
            one, other = np.array(chunk).T
            for pair in _verified(copies, one, other, mirrored, alike, detail):
                earlier = found.get((pair.one, pair.other))
                if earlier is None or earlier.alike < pair.alike:
                    found[pair.one, pair.other] = pair
    return [found[key] for key in sorted(found)]


def originals(pairs: Sequence[Pair], order: NDArray[np.int64], parts: Sequence[str]) -> dict[int, Pair]:
    """For each copy that repeats an earlier one, the pair of the two; the earlier one is of another part, or does not
    repeat anything itself.

    Args:
        order: [N] the earlier of two has the smaller number.
        parts: of each copy.
    """
    of: dict[int, list[Pair]] = {}
    for pair in pairs:
        late = pair.one if order[pair.one] > order[pair.other] else pair.other
        of.setdefault(late, []).append(pair)
    result: dict[int, Pair] = {}
    for late in sorted(of, key=lambda position: order[position]):
        others = {partner(pair, late): pair for pair in of[late]}
        kept = [other for other in others if other not in result or parts[other] != parts[late]]
        if kept:
            result[late] = others[min(kept, key=lambda other: order[other])]
    return result


def partner(pair: Pair, position: int) -> int:
    """The other one of a pair."""
    return pair.other if pair.one == position else pair.one


def _blocks(copies: ByteArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """[N, 64] block means of copies of mean 0 and length 1, scaled so that products carry over; and which count."""
    n = len(copies)
    blocks, usable = np.zeros((n, BLOCKS * BLOCKS), np.float32), np.zeros(n, np.bool_)
    for start in range(0, n, CHUNK):
        flat = copies[start : start + CHUNK].astype(np.float32)
        usable[start : start + CHUNK] = flat.std(axis=1) > FLAT
        blocks[start : start + CHUNK] = _means(_unit(flat))
    return blocks, usable


def _means(flat: FloatArray) -> FloatArray:
    """[N, 1024] to its projection on block means [N, 64]."""
    step = SIDE // BLOCKS
    return flat.reshape(-1, BLOCKS, step, BLOCKS, step).sum(axis=(2, 4)).reshape(len(flat), -1) / step


def _candidates(
    blocks: FloatArray, usable: NDArray[np.bool_], alike: float, mirrored: bool
) -> Iterator[tuple[int, int]]:
    """Pairs whose block means are near enough."""
    n = len(blocks)
    others = blocks.reshape(n, BLOCKS, BLOCKS)[:, :, ::-1].reshape(blocks.shape) if mirrored else blocks
    length = (blocks**2).sum(axis=1)
    rows = max(1, CELLS // 4 // max(n, 1))
    for start in range(0, n, rows):
        end = min(start + rows, n)
        far = length[start:end, None] + length[None, :end] - 2 * (blocks[start:end] @ others[:end].T)
        near = (far < 2 - 2 * alike + 1e-5) & usable[start:end, None] & usable[None, :end]
        near &= np.arange(end)[None, :] < np.arange(start, end)[:, None]
        for row in np.flatnonzero(near.any(axis=1)):
            columns = np.flatnonzero(near[row])
            if len(columns) > NEAREST:
                columns = columns[np.argpartition(far[row, columns], NEAREST)[:NEAREST]]
            yield from ((int(column), int(row) + start) for column in columns)


def _verified(
    copies: ByteArray, one: NDArray, other: NDArray, mirrored: bool, alike: float, detail: float
) -> Iterator[Pair]:
    a, b = copies[one].astype(np.float32), copies[other].astype(np.float32)
    if mirrored:
        b = b.reshape(-1, SIDE, SIDE)[:, :, ::-1].reshape(len(b), -1)
    whole = (_unit(a) * _unit(b)).sum(axis=1)
    fine = (_unit(_fine(a)) * _unit(_fine(b))).sum(axis=1)
    for i in np.flatnonzero((whole > alike) & (fine > detail)):
        yield Pair(int(one[i]), int(other[i]), float(whole[i]), mirrored)


def _fine(flat: FloatArray) -> FloatArray:
    """Copies without their block means."""
    step = SIDE // BLOCKS
    parts = flat.reshape(-1, BLOCKS, step, BLOCKS, step)
    return (parts - parts.mean(axis=(2, 4), keepdims=True)).reshape(len(flat), -1)


def _unit(flat: FloatArray) -> FloatArray:
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _batched(pairs: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    batch: list[tuple[int, int]] = []
    for pair in pairs:
        batch.append(pair)
        if len(batch) == CHUNK:
            yield batch
            batch = []
    if batch:
        yield batch
