"""What becomes of a key of TAO's: rules, the ranges that TAO checks, and how rules are applied."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from .account import FIXED, INVERTED, NONE, RENAMED, SAME, Conversion, plain
from .values import Given

Check = Callable[[Any], str]  # what is accepted, where a value is not; else nothing


@dataclass(frozen=True)
class Rule:
    """What becomes of one key.

    Attributes:
        kind: see `account`; "" is `SAME` or `RENAMED`, as the names say.
        keys: ours; several where one of TAO's does the work of two.
        note: what changed, or why there is no counterpart.
        check: TAO's range.
        make: TAO's value to ours; None as its result means that the key says nothing.
    """

    kind: str
    keys: tuple[str, ...]
    note: str
    check: Check
    make: Callable[[Any], Any]


def to(
    *keys: str, check: Check | None = None, make: Callable[[Any], Any] = lambda value: value, note: str = ""
) -> Rule:
    """The same thing under our key."""
    return Rule("", keys, note, check or anything, make)


def fixed(key: str, note: str, *, check: Check | None = None, make: Callable[[Any], Any] = lambda value: value) -> Rule:
    """Our key for it, without a defect of TAO's."""
    return Rule(FIXED, (key,), note, check or anything, make)


def inverted(key: str, note: str, *, check: Check | None = None, make: Callable[[Any], Any]) -> Rule:
    """Our key means the opposite."""
    return Rule(INVERTED, (key,), note, check or anything, make)


def nothing(note: str, *, check: Check | None = None) -> Rule:
    """No counterpart, and why."""
    return Rule(NONE, (), note, check or anything, lambda value: value)


def apply(
    rules: Mapping[str, Rule],
    given: Sequence[Given],
    conversion: Conversion,
    other_class: Callable[[Given], str] = lambda item: "",
) -> list[Given]:
    """Adds what the rules make of the values, and returns those that no rule is for, in their order.

    Args:
        other_class: see `Conversion.add_of_class`.

    Raises ConfigError with file, line and key for a value outside TAO's range.
    """
    left = []
    for item in given:
        rule = rules.get(general(item.key))
        if rule is None:
            left.append(item)
            continue
        if accepted := rule.check(item.value):
            shown = plain(item.value)  # as YAML has it: "120" in quotes is not 120
            raise ConfigError(f"{conversion.file}:{item.line}: {item.key}={shown} is not accepted [{accepted}]")
        value = rule.make(item.value)
        if not rule.keys:
            conversion.add(NONE, item, note=rule.note)
        for key in rule.keys:
            if value is None:
                conversion.add(NONE, item, note=rule.note or "says nothing")
            else:
                named_alike = item.key.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]
                kind = rule.kind or (SAME if named_alike else RENAMED)
                conversion.add_of_class(other_class(item), kind, item, key, value, rule.note)
    return left


def general(key: str) -> str:
    """A path with empty brackets: `a[face].b[0]` is `a[].b[]`."""
    return re.sub(r"\[[^\]]*\]", "[]", key)


def bracket(key: str) -> str:
    """What stands in a path's first brackets."""
    found = re.search(r"\[([^\]]*)\]", key)
    return found[1] if found else ""


def anything(value: Any) -> str:
    return ""


def number(low: float, high: float = math.inf, *, above: bool = False, below: bool = False) -> Check:
    """A number from low to high; `above` and `below` leave the limits themselves out."""

    def check(value: Any) -> str:
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        good = good and (low < value if above else low <= value) and (value < high if below else value <= high)
        if good:
            return ""
        least = f"a number {'above' if above else 'from'} {low:g}"
        return least if high == math.inf else f"{least} {'and below' if below else 'to'} {high:g}"

    return check


def whole(low: int, high: int | None = None) -> Check:
    """A whole number from low to high."""

    def check(value: Any) -> str:
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value
        if good and (high is None or value <= high):
            return ""
        return f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"

    return check


def multiple_of_16(value: Any) -> str:
    return whole(16)(value) or ("" if value % 16 == 0 else "a multiple of 16")


def truth(value: Any) -> str:
    return "" if isinstance(value, bool) else "true or false"


def text(value: Any) -> str:
    return "" if isinstance(value, str) else "text"


def optional(check: Check) -> Check:
    """The same, or nothing at all."""
    return lambda value: "" if value is None else check(value)


def word(*words: Any) -> Check:
    """One of these."""
    return lambda value: "" if value in words else " | ".join(map(str, words))


def share(value: Any) -> str:
    """A probability."""
    return number(0, 1)(value)


def near(expected: float) -> Check:
    """Only this value, as precisely as TAO keeps it."""
    return lambda value: "" if math.isclose(value, expected, rel_tol=1e-6) else f"{expected:g}"
