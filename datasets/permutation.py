"""A shuffled order of any length that is never held: place -> number, computed for the places that are asked for.

A Feistel network with keyed rounds permutes the smallest 4^h numbers that hold all n; a result of n or more goes round
again until it is below n ("cycle walking", Black and Rogaway, Ciphers with Arbitrary Finite Domains, 2002), at most
four times on average. The round function is the finaliser of SplitMix64 (Steele, Lea and Flood 2014).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDS = 8  # Luby and Rackoff need 4 with ideal rounds; small halves need more to mix


class Permutation:
    """The numbers 0 to n - 1 in an order that depends on the key alone.

    Args:
        n: at least 0, below 2^62.
        key: whole numbers from 0 on.
    """

    def __init__(self, n: int, key: tuple[int, ...]) -> None:
        self.n = n
        self._half = max((max(n - 1, 1).bit_length() + 1) // 2, 1)
        self._keys = np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64)

    def __call__(self, places: NDArray[np.int64] | range) -> NDArray[np.int64]:
        """[M] the numbers at places [M], each from 0 to n - 1."""
        result = self._mixed(np.asarray(places, np.uint64))
        while (outside := result >= self.n).any():
            result[outside] = self._mixed(result[outside])
        return result.astype(np.int64)

    def _mixed(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        half, mask = np.uint64(self._half), np.uint64((1 << self._half) - 1)
        left, right = values >> half, values & mask
        for key in self._keys:
            left, right = right, left ^ (_hashed(right ^ key) & mask)
        return (left << half) | right


def _hashed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
