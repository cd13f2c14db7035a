"""The pictures with most mistakes, drawn for the report."""

from __future__ import annotations

import numpy as np

from ..datasets.sample import ByteArray
from ..training.report import Pictures
from .boxes import Floats
from .detection_results import FoundPictures
from .draw import draw_boxes

SIDE = 736  # pixels of the longer side: what a column of the report can show
MOST_ENLARGED = 4.0
COLUMN = 24.0  # rem: two pictures side by side


def worst_pictures(found: FoundPictures, min_scores: Floats, count: int) -> Pictures:
    """The `count` pictures with most misses and false positives by detections of at least these confidences [C].

    Pictures without a mistake are left out.
    """
    missed, wrong = found.results.mistakes(min_scores)
    order = [i for i in np.argsort(-(missed + wrong), kind="stable")[:count] if missed[i] + wrong[i]]
    shown = [(drawn(found, i, min_scores), _words(found.samples[i].name, missed[i], wrong[i])) for i in order]
    caption = (
        f"The {len(shown)} pictures with most mistakes (misses and false positives together) at the confidence where "
        "F1 is best. Blue: found, with its confidence; yellow: labelled; grey: ignored."
    )
    return Pictures(shown, caption, COLUMN)


def _words(name: str, missed: int, wrong: int) -> str:
    return f"{name}: {missed} missed, {wrong} false"


def drawn(found: FoundPictures, index: int, min_scores: Floats) -> ByteArray:
    """RGB picture `index`, its longer side `SIDE` pixels unless that enlarges it too much, with its boxes."""
    from PIL import Image

    picture = Image.fromarray(found.picture(index)).convert("RGB")
    scale = min(SIDE / max(picture.size), MOST_ENLARGED)
    size = max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)
    image = np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
    labelled, detections = found.results.labelled, found.results.found
    ours = labelled.picture == index
    ignored = np.concatenate(
        [labelled.regions[labelled.region_picture == index], labelled.boxes[ours & ~found.results.counted]]
    )
    taken = (detections.picture == index) & found.results.confident(min_scores)
    names = [found.results.classes[label] for label in detections.labels[taken]]
    return draw_boxes(
        image,
        detections.boxes[taken] * scale,
        detections.scores[taken],
        labelled.boxes[ours & found.results.counted] * scale,
        ignored * scale,
        names=names if len(found.results.classes) > 1 else None,
        width=1,
    )
