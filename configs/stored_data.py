"""Which data `evaluate` measures on: the spec's, or those that the model file says it was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol, TypeVar, get_args, get_type_hints

from ..errors import ConfigError
from .schema import SplitConfig


class Sources(Protocol):
    """What the data sections of all trainers have."""

    root: str
    train: list[Any]
    val: list[Any]
    test: list[Any]
    split: SplitConfig


Data = TypeVar("Data", bound=Sources)


def evaluated_data(data: Data, split: str, trained_with: Mapping[str, Any]) -> Data:
    """The data section cut down to what a split needs, so that nothing else is read.

    Without sources in the spec these are the model's own, and with them all that the model file says of its data; what
    the spec says goes over it, such as a `data.root` where they lie today. Sources that the spec names for training
    only, as data=pts does, are all measured when the split is test.

    Args:
        data: the spec's section.
        split: "train", "val" or "test".
        trained_with: the data section in the model file's training config; keys of another version are passed over.

    Raises:
        ConfigError: there are no sources for this split.
    """
    if data.train and not (data.val or data.test) and split == "test":
        data = _with(data, test=data.train)
    if not (data.train or data.val or data.test):
        data = _over(_rebuilt(type(data), trained_with), data, type(data)())
    if not {"test": data.test, "val": data.val or data.train, "train": data.train}[split]:
        held_out = ", or take split=val, the part of data.train that was held out" if data.train else ""
        raise ConfigError(
            f"data.{split} names no source, neither in the spec nor in the model file: give data.{split}{held_out}"
        )
    if split == "test":
        return _with(data, train=[], val=[])
    if split == "val" and data.val:
        return _with(data, train=[], test=[])
    return data


def exported_data(data: Data, split: str, trained_with: Mapping[str, Any]) -> Data:
    """The data section that `export` measures a split of and calibrates on the training samples of, where there are
    any. Raises ConfigError as `evaluated_data` does.
    """
    measured = evaluated_data(data, split, trained_with)
    try:
        return _with(measured, train=evaluated_data(data, "train", trained_with).train)
    except ConfigError:
        return measured


def _with(data: Data, **changes: Any) -> Data:
    return replace(data, **changes)  # type: ignore[type-var]


def _over(stored: Any, given: Any, default: Any) -> Any:
    """The stored section with every key of the given one that is not at its default."""
    changes = {}
    for name in (item.name for item in fields(given)):
        parts = [getattr(section, name) for section in (stored, given, default)]
        if is_dataclass(parts[1]):
            changes[name] = _over(*parts)
        elif parts[1] != parts[2]:
            changes[name] = parts[1]
    return _with(stored, **changes)


def _rebuilt(cls: Any, values: Mapping[str, Any]) -> Any:
    """A section from plain values, its own sections and lists of them too; unknown keys are passed over."""
    hints = get_type_hints(cls)
    return cls(**{name: _value(hints[name], value) for name, value in values.items() if name in hints})


def _value(kind: Any, value: Any) -> Any:
    if is_dataclass(kind):
        return _rebuilt(kind, value)
    inner = get_args(kind)
    if inner and is_dataclass(inner[-1]) and isinstance(value, list):
        return [_rebuilt(inner[-1], item) for item in value]
    return value
