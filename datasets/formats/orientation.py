"""Labels of a picture that its EXIF tag turns: made on the picture as it is stored, or as it is shown?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ..image import stored_size
from .labelled import BrokenLabel

Edges = NDArray[np.float64]
Size = tuple[int, int]

# x and y of the upright picture from those (x, y, width - x, height - y) of the stored one, by the tag's value.
_TURNS = {5: (1, 0), 6: (3, 0), 7: (3, 2), 8: (1, 2)}


def to_upright(edges: Edges, path: Path, said: Size, line: int | None = None) -> Edges:
    """Positions [N, 2] in the upright picture, which all of facetrain works on.

    Args:
        edges: (x, y), in pixels from the top-left corner of a picture of the size `said`.
        path: the picture.
        said: (width, height) of the picture that was labelled: the upright one, or the stored one that a tag turns by
            90 degrees. A turn by 180 degrees does not show in the size; labels are then taken to be upright ones.

    Raises BrokenLabel at `line` when `said` is neither. Where the picture cannot be read, which whoever opens it next
    will say, nothing is changed.
    """
    try:
        size, stored, tag = sizes(path)
    except DataError:
        return edges
    if said == size:
        return edges
    if said != stored or tag not in _TURNS:
        raise BrokenLabel("the label says {} x {}, {} has {} x {} pixels".format(*said, path, *size), line)
    x, y = edges.T
    sides = (x, y, said[0] - x, said[1] - y)
    return np.stack([sides[side] for side in _TURNS[tag]], axis=1)


def sizes(path: Path) -> tuple[Size, Size, int]:
    """(width, height) of the upright and of the stored picture, and the EXIF tag. Raises DataError as `image_size`."""
    stored, tag = stored_size(path)
    return (stored[::-1] if tag >= 5 else stored), stored, tag
