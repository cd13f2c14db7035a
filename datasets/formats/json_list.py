"""A JSON list, entry by entry, that knows on which line of the file everything stands."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DataError
from .labelled import read_text

_SPACE, _BETWEEN = re.compile(r"[ \t\r\n]*"), re.compile(r"[ \t\r\n]*([,\]])[ \t\r\n]*")  # JSON's white space


@dataclass(frozen=True)
class JsonEntry:
    """One value of the list."""

    value: Any
    file: JsonList
    start: int
    end: int

    def line(self, key: str = "", nth: int = 0) -> int:
        """The line that the entry begins on, or that `key` stands on for the nth time (from 0) within it."""
        position = self.start
        if key:
            found = re.finditer(re.escape(json.dumps(key)) + r"\s*:", self.file.text[self.start : self.end])
            for count, match in enumerate(found):
                if count == nth:
                    position += match.start()
                    break
        return self.file.line(position)


class JsonList:
    """A file that holds a list. Raises DataError with file, line and column where it is not valid JSON."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = read_text(path)
        self._breaks = [match.start() for match in re.finditer("\n", self.text)]

    def __iter__(self) -> Iterator[JsonEntry]:
        decoder = json.JSONDecoder()
        position = self._skip_space(0)
        if self.text[position : position + 1] != "[":
            raise self._broken("expected a list: [{...}, ...]", position)
        position = self._skip_space(position + 1)
        closed = self.text[position : position + 1] == "]"
        if closed:
            position = self._skip_space(position + 1)
        while not closed:
            try:
                value, end = decoder.raw_decode(self.text, position)
            except json.JSONDecodeError as error:
                raise self._broken(error.msg, error.pos) from None
            except (ValueError, RecursionError) as error:  # a number of thousands of digits, lists a thousand deep
                raise self._broken(str(error), position) from None
            yield JsonEntry(value, self, position, end)
            between = _BETWEEN.match(self.text, end)
            if between is None:
                raise self._broken("expected ',' or ']'", self._skip_space(end))
            position, closed = between.end(), between[1] == "]"
        if position < len(self.text):
            raise self._broken("expected nothing after the list", position)

    def line(self, position: int) -> int:
        return bisect_left(self._breaks, position) + 1

    def _skip_space(self, position: int) -> int:
        found = _SPACE.match(self.text, position)
        return found.end() if found else position

    def _broken(self, what: str, position: int) -> DataError:
        line = self.line(position)
        column = position - (self._breaks[line - 2] if line > 1 else -1)
        return DataError(f"{self.path}:{line}:{column}: not a valid label file: {what}")
