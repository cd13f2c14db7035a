"""`fpenet check`: what is wrong with a set of faces, before training meets it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import __version__
from ..checking.face_check import CheckedFaces, check_faces
from ..checking.findings import ERROR, WARNING, Finding, count
from ..checking.fix import kept_sources, removed_samples, write_removed, write_spec
from ..checking.layout import Layout, template_rows
from ..checking.report import Checked, print_summary, write_json, write_page
from ..checking.sets import PARTS, count_rows
from ..configs.compose import to_plain
from ..configs.fpenet.schema import DataConfig, FpenetCheckSpec, SourceConfig
from ..datasets.formats.write_fpenet_json import write_fpenet_json
from ..datasets.image import read_image
from ..datasets.preprocessing import Preprocessing, cut, to_crop
from ..datasets.sample import ByteArray, FaceSample
from ..errors import ConfigError, DataError, DataFaults
from ..training.run_folder import clock, make_folder, refuse_results
from .draw import draw_points
from .schemes import load_scheme

RESULT = "check.json"
SHOWN = 224  # pixels of a face in the report
AROUND = 1.7  # of the longer side of its points, so that points astray are seen


def check(spec: FpenetCheckSpec) -> None:
    """Reads the faces of `spec.data` as training would and reports what is wrong with them.

    Writes check.json and report.html to `results_dir`, with `spec.fix` also cleaned lists; prints tables.

    Raises:
        DataFaults: there are errors; all files are written before.
        ConfigError: results stand in the way, or a key is wrong.
    """
    started = time.monotonic()
    folder = Path(spec.results_dir)
    refuse_results(folder, RESULT, spec.overwrite)
    if not (spec.data.train or spec.data.val or spec.data.test):
        raise ConfigError("data names no source; give data.train, or a group such as data=pts data.root=FOLDER")
    faces = check_faces(
        spec.data, spec.model.num_keypoints, list(spec.model.source_points), _preprocessing(spec), _layout(spec),
        spec.check,
    )  # fmt: skip
    checked = _checked(spec, faces)
    make_folder(folder)
    write_json(folder / RESULT, checked)
    facts = {
        "Faces": str(len(faces.read.samples)),
        "Points": str(spec.model.num_keypoints),
        "Written by": f"facetrain {__version__}",
        "Time": f"{clock(time.monotonic() - started)} h:mm:ss",
    }
    write_page(folder / "report.html", "Check of a set of faces", facts, checked, spec.check.pictures,
               lambda finding: finding_picture(faces, finding))  # fmt: skip
    lines = [f"results: {folder}"]
    if spec.fix:
        lines.append(f"cleaned: {_fix(spec, faces, folder)}")
    print_summary(checked, lines)
    if errors := count(faces.findings, ERROR):
        warnings = count(faces.findings, WARNING)
        raise DataFaults(f"{errors} errors and {warnings} warnings; {folder / 'report.html'} shows them")


def _preprocessing(spec: FpenetCheckSpec) -> Preprocessing:
    crop = spec.crop
    return Preprocessing(crop_source=crop.source, enlarge=crop.enlarge, shift_x=crop.shift_x, shift_y=crop.shift_y)


def _layout(spec: FpenetCheckSpec) -> Layout:
    model = spec.model
    scheme = load_scheme(model.scheme, model.num_keypoints, model.source_points)
    template = template_rows(model.num_keypoints, model.source_points, bool(model.scheme))
    return Layout(scheme.names, scheme.flip, scheme.eye_corners, template)


def _checked(spec: FpenetCheckSpec, faces: CheckedFaces) -> Checked:
    samples = faces.read.samples
    rows = count_rows(
        faces.read.parts, [s.source for s in samples], [int((s.states > 0).sum()) for s in samples], faces.findings
    )
    order = [i for i in np.argsort(-np.nan_to_num(faces.worst, nan=-1.0), kind="stable") if np.isfinite(faces.worst[i])]
    shown = []
    for i in order[: spec.check.pictures]:
        picture = face_picture(samples[i])
        if picture is not None:
            shown.append((picture, f"{samples[i].source}/{samples[i].name}: {faces.worst[i]:.1%}"))
    caption = (
        "The faces that fit the set's own shape model least, faults or not, with the distance of their worst point "
        "from where it was to be expected, in percent of the face's size."
    )
    worst = [("Faces that fit least", caption, shown)]
    return Checked("faces", "points", rows, faces.findings, faces.notes, faces.statistics, worst)


def finding_picture(faces: CheckedFaces, finding: Finding) -> ByteArray | None:
    """The face, beside what it is a duplicate of; None where the picture cannot be read."""
    samples = faces.read.samples
    shown = [face_picture(samples[i]) for i in (finding.sample, finding.other) if i is not None]
    pictures = [picture for picture in shown if picture is not None]
    return np.concatenate(pictures, axis=1) if pictures else None


def face_picture(sample: FaceSample) -> ByteArray | None:
    """RGB [SHOWN, SHOWN, 3] of the face with its points; None where the picture cannot be read."""
    image = _rgb(sample)
    if image is None:
        return None
    square = Preprocessing(enlarge=AROUND).square(sample.points, sample.box)
    if square is None or square[2] > 20 * max(image.shape[:2]):
        square = (0.0, 0.0, float(max(image.shape[:2])))
    return draw_points(cut(image, square, SHOWN), to_crop(sample.points, square, SHOWN), sample.states)


def _rgb(sample: FaceSample) -> ByteArray | None:
    if isinstance(sample.image, Path):
        try:
            return read_image(sample.image, grey=False)
        except DataError:
            return None
    assert isinstance(sample.image, np.ndarray)
    return sample.image if sample.image.ndim == 3 else np.repeat(sample.image[..., None], 3, axis=2)


def _fix(spec: FpenetCheckSpec, faces: CheckedFaces, folder: Path) -> Path:
    """Writes the cleaned lists, what was removed, and the spec that trains on them; returns the latter."""
    data, samples = spec.data, faces.read.samples
    removed = removed_samples(faces.findings, not data.drop_duplicates)
    by_subject = _subjects(faces, removed, bool(data.val))
    places = list(zip(_spec_parts(faces, data), faces.read.numbers, strict=True))
    sources: dict[str, list[SourceConfig]] = {part: [] for part in PARTS}
    for kept in kept_sources(samples, places, removed):
        source: SourceConfig = getattr(data, kept.part)[kept.number]
        if kept.images is None:  # drawn faces, which no list can name
            sources[kept.part].append(source)
            continue
        path = kept.list_path(folder)
        write_fpenet_json(path, kept.samples, kept.images)
        sources[kept.part].append(_cleaned(source, path, kept.images, kept.samples[0].source))
    write_removed(folder, faces.findings, removed)
    split = replace(data.split, by="subject") if by_subject else data.split
    cleaned = replace(
        data, root=str(Path(data.root).absolute()), split=split, train=sources["train"], val=sources["val"],
        test=sources["test"],
    )  # fmt: skip
    spec_of_data = {"data": to_plain(cleaned), "crop": to_plain(spec.crop), "model": to_plain(spec.model)}
    return write_spec(folder, spec_of_data, "fpenet")


def _spec_parts(faces: CheckedFaces, data: DataConfig) -> list[str]:
    """The part of the spec that each face came from: held-out faces are among the training sources."""
    return [part if data.val or part != "val" else "train" for part in faces.read.parts]


def _subjects(faces: CheckedFaces, removed: dict[int, Finding], own_val: bool) -> bool:
    """Removes all faces of persons that another split has, but for those that training itself would hold out; whether
    there are such, so that a split by subject is called for."""
    called_for = False
    for finding in faces.findings:
        if finding.kind != "subject in two splits" or finding.sample is None or finding.other is None:
            continue
        if not own_val and {finding.part, faces.read.parts[finding.other]} == {"train", "val"}:
            called_for = True
            if removed.get(finding.sample) is finding:
                del removed[finding.sample]
            continue
        subject = faces.read.samples[finding.sample].subject
        for i, sample in enumerate(faces.read.samples):
            if sample.subject == subject and faces.read.parts[i] == finding.part:
                removed.setdefault(i, replace(finding, sample=i, file=sample.label or sample.name, line=sample.line))
    return called_for


def _cleaned(source: SourceConfig, path: Path, images: Path, name: str) -> SourceConfig:
    """The source that reads a cleaned list with the settings of the original."""
    return SourceConfig(
        format="fpenet_json",
        path=str(path.absolute()),
        image_root=str(images),
        name=name,
        labelled=source.labelled,
        weight=source.weight,
        validate=source.validate,
        mask_occluded=source.mask_occluded,
        min_visible_fraction=source.min_visible_fraction,
        subject_pattern=source.subject_pattern,
    )
