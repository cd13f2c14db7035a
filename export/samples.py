"""The samples that an export is checked and calibrated on: the spec's, or those that the model was trained with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from ..configs.stored_data import Sources
from ..errors import ConfigError, DataError

log = logging.getLogger(__name__)

Sets = TypeVar("Sets")
Item = TypeVar("Item")


def sets_or_none(given: Sources, split: str, example: str, read: Callable[[], Sets]) -> Sets | None:
    """What `read` gives; None, and a warning, where the spec names no data and the model's own are not to be had.

    Args:
        given: the spec's data section.
        example: of what to give.

    Raises ConfigError and DataError as `read` does, when the spec names the data, and when the split is empty.
    """
    try:
        sets = read()
        if not getattr(sets, split):
            raise ConfigError(f"split={split}: the data hold nothing for it; give data.{split}")
        return sets
    except (ConfigError, DataError) as error:
        if given.train or given.val or given.test:
            raise
        log.warning(
            "the KPI is not measured: the data that the model was trained with cannot be read (%s). Give data, such "
            "as %s",
            error,
            example,
        )
        return None


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """So many of them, spread evenly; 0: all."""
    if not 0 < count < len(items):
        return list(items)
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, count)]
