"""Sequences over other sequences, so that samples which are made on demand stay so."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TypeVar, overload

Item = TypeVar("Item")


class View(Sequence[Item]):
    """What both views have in common: slices are lists."""

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self._item(i) for i in range(*index.indices(len(self)))]
        i = index + len(self) if index < 0 else index
        if not 0 <= i < len(self):
            raise IndexError(index)
        return self._item(i)

    def _item(self, index: int) -> Item:
        raise NotImplementedError


class Joined(View[Item]):
    """Sequences one after the other."""

    def __init__(self, parts: Sequence[Sequence[Item]]) -> None:
        self.parts = parts
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _item(self, index: int) -> Item:
        number = bisect_right(self._ends, index)
        return self.parts[number][index - (self._ends[number - 1] if number else 0)]


class Picked(View[Item]):
    """The items of a sequence at some places."""

    def __init__(self, items: Sequence[Item], places: Sequence[int]) -> None:
        self.items, self.places = items, places

    def __len__(self) -> int:
        return len(self.places)

    def _item(self, index: int) -> Item:
        return self.items[self.places[index]]


def parts_of(items: Sequence[Item]) -> Sequence[Sequence[Item]]:
    """What was joined; the sequence itself where nothing was."""
    return items.parts if isinstance(items, Joined) else [items]


def joined(parts: Sequence[Sequence[Item]]) -> Sequence[Item]:
    """The parts as one sequence; a list where they hold nothing or are one list."""
    filled = [part for part in parts if len(part)]
    if not filled:
        return []
    return filled[0] if len(filled) == 1 else Joined(filled)


def picked(items: Sequence[Item], wanted: Callable[[Item], bool]) -> Sequence[Item]:
    """The items that are wanted: a list of a list, else a view."""

    def of(part: Sequence[Item]) -> Sequence[Item]:
        if isinstance(part, list):
            return [item for item in part if wanted(item)]
        return Picked(part, [place for place, item in enumerate(part) if wanted(item)])

    return joined([of(part) for part in parts_of(items)])
