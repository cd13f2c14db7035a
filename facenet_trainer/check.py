"""`facenet check`: what is wrong with a set of pictures with boxes, before training meets it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from .. import __version__
from ..checking.box_check import CheckedPictures, check_pictures
from ..checking.findings import ERROR, WARNING, Finding, count
from ..checking.fix import kept_sources, removed_samples, write_removed, write_spec
from ..checking.report import Checked, print_summary, write_json, write_page
from ..checking.sets import PARTS, count_rows
from ..configs.compose import to_plain
from ..configs.facenet.schema import FacenetCheckSpec, SourceConfig
from ..datasets.formats.write_coco import write_coco
from ..datasets.image import read_image
from ..datasets.preprocessing import cut
from ..datasets.sample import ByteArray, DetectionSample
from ..errors import ConfigError, DataError, DataFaults
from ..training.run_folder import clock, make_folder, refuse_results
from .draw import draw_boxes

RESULT = "check.json"
SIDE = 480  # pixels of the longer side of a picture in the report
CLOSE = 240  # pixels of the surroundings of a box
AROUND, LEAST = 4.0, 60.0  # side of these, as a multiple of the box's, and pixels of the picture at least


def check(spec: FacenetCheckSpec) -> None:
    """Reads the pictures of `spec.data` as training would and reports what is wrong with them.

    Writes check.json and report.html to `results_dir`, with `spec.fix` also cleaned lists; prints tables.

    Raises:
        DataFaults: there are errors; all files are written before.
        ConfigError: results stand in the way, or a key is wrong.
    """
    started = time.monotonic()
    folder = Path(spec.results_dir)
    refuse_results(folder, RESULT, spec.overwrite)
    if not (spec.data.train or spec.data.val or spec.data.test):
        raise ConfigError("data names no source; give data.train, or a group such as data=wider data.root=FOLDER")
    pictures = check_pictures(spec.data, spec.check)
    samples = pictures.read.samples
    rows = count_rows(
        pictures.read.parts, [s.source for s in samples], [len(s.boxes) for s in samples], pictures.findings
    )
    checked = Checked(
        "pictures",
        "boxes",
        rows,
        pictures.findings,
        pictures.notes,
        pictures.statistics,
        [("Pictures as they are labelled", "Drawn at random, with their boxes.", _shown(spec, samples))],
    )
    make_folder(folder)
    write_json(folder / RESULT, checked)
    facts = {
        "Pictures": f"{len(samples)} with {sum(len(s.boxes) for s in samples)} boxes to learn",
        "Classes": ", ".join(pictures.read.classes),
        "Written by": f"facetrain {__version__}",
        "Time": f"{clock(time.monotonic() - started)} h:mm:ss",
    }
    write_page(folder / "report.html", "Check of a set of pictures", facts, checked, spec.check.pictures,
               lambda finding: finding_picture(samples, finding))  # fmt: skip
    lines = [f"results: {folder}"]
    if spec.fix:
        lines.append(f"cleaned: {_fix(spec, pictures, folder)}")
    print_summary(checked, lines)
    if errors := count(pictures.findings, ERROR):
        warnings = count(pictures.findings, WARNING)
        raise DataFaults(f"{errors} errors and {warnings} warnings; {folder / 'report.html'} shows them")


def finding_picture(samples: Sequence[DetectionSample], finding: Finding) -> ByteArray | None:
    """The picture with its boxes, above what it is a duplicate of; around the box that the finding is about, if it is.

    None where the picture cannot be read."""
    if finding.box is not None and finding.sample is not None:
        return box_picture(samples[finding.sample], finding.box)
    shown = [labelled_picture(samples[i]) for i in (finding.sample, finding.other) if i is not None]
    pictures = [picture for picture in shown if picture is not None]
    if len(pictures) < 2:
        return pictures[0] if pictures else None
    width = max(picture.shape[1] for picture in pictures)
    return np.concatenate([np.pad(p, ((0, 4), (0, width - p.shape[1]), (0, 0))) for p in pictures])


def box_picture(sample: DetectionSample, box: tuple[float, ...]) -> ByteArray | None:
    """RGB [CLOSE, CLOSE, 3] of the surroundings of one box, which is orange; None where the picture cannot be read."""
    image = _rgb(sample)
    if image is None:
        return None
    x1, y1, x2, y2 = box
    side = max(AROUND * max(x2 - x1, y2 - y1), LEAST)
    left, top = (x1 + x2 - side) / 2, (y1 + y2 - side) / 2
    scale = CLOSE / side
    crop = cut(image, (left, top, side), CLOSE)
    moved = [(boxes - np.tile([left, top], 2)) * scale for boxes in (sample.boxes, sample.ignore, np.array([box]))]
    canvas = draw_boxes(crop, moved[0], regions=moved[1], width=1)
    return draw_boxes(canvas, moved[2], colours=[(255, 110, 0)], width=2)


def labelled_picture(sample: DetectionSample) -> ByteArray | None:
    """RGB, the longer side `SIDE` pixels, with boxes and ignore regions; None where the picture cannot be read."""
    image = _rgb(sample)
    if image is None:
        return None
    picture = Image.fromarray(image)
    scale = SIDE / max(picture.size)
    size = max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)
    small = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
    return draw_boxes(small, sample.boxes * scale, regions=sample.ignore * scale, width=1)


def _rgb(sample: DetectionSample) -> ByteArray | None:
    if not isinstance(sample.image, Path):
        assert isinstance(sample.image, np.ndarray)
        return sample.image if sample.image.ndim == 3 else np.repeat(sample.image[..., None], 3, axis=2)
    try:
        return read_image(sample.image, grey=False)
    except DataError:
        return None


def _shown(spec: FacenetCheckSpec, samples: Sequence[DetectionSample]) -> list[tuple[ByteArray, str]]:
    """Pictures drawn at random, with their names."""
    chosen = np.random.default_rng(0).permutation(len(samples))[: spec.check.pictures // 2]
    pictures = [(labelled_picture(samples[i]), f"{samples[i].source}/{samples[i].name}") for i in sorted(chosen)]
    return [(picture, name) for picture, name in pictures if picture is not None]


def _fix(spec: FacenetCheckSpec, pictures: CheckedPictures, folder: Path) -> Path:
    """Writes the cleaned lists, what was removed, and the spec that trains on them; returns the latter."""
    data, read = spec.data, pictures.read
    removed = removed_samples(pictures.findings, keep_duplicates=False)
    parts = [part if data.val or part != "val" else "train" for part in read.parts]
    sources: dict[str, list[SourceConfig]] = {part: [] for part in PARTS}
    for kept in kept_sources(read.samples, list(zip(parts, read.numbers, strict=True)), removed):
        source: SourceConfig = getattr(data, kept.part)[kept.number]
        if kept.images is None:  # drawn scenes, which no list can name
            sources[kept.part].append(source)
            continue
        path = kept.list_path(folder)
        write_coco(path, kept.samples, read.classes, kept.images)
        sources[kept.part].append(_cleaned(source, path, kept.images, kept.samples[0].source))
    write_removed(folder, pictures.findings, removed)
    cleaned = replace(
        data,
        root=str(Path(data.root).absolute()),
        class_mapping={name: name for name in read.classes},
        ignore=replace(data.ignore, marked=True),  # the lists mark the regions that were ignored, and no others
        train=sources["train"],
        val=sources["val"],
        test=sources["test"],
    )
    return write_spec(folder, {"data": to_plain(cleaned)}, "facenet")


def _cleaned(source: SourceConfig, path: Path, images: Path, name: str) -> SourceConfig:
    """The source that reads a cleaned list with the settings of the original."""
    return SourceConfig(
        format="coco",
        path=str(path.absolute()),
        images=str(images),
        name=name,
        weight=source.weight,
        validate=source.validate,
    )
