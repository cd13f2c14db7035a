"""All that is checked of a set of faces, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..configs.check_schema import FaceCheckConfig
from ..configs.fpenet.schema import DataConfig
from ..datasets.image import luma, read_image
from ..datasets.preprocessing import Preprocessing
from ..datasets.sample import ByteArray, FaceSample, PointState
from .duplicates import duplicate_findings, reading_order, shared_subjects
from .faces import Faces, check_points
from .findings import Finding
from .label_noise import label_difference
from .layout import Layout
from .pairs import Pair, find_pairs, originals, partner
from .pictures import scan_findings
from .pose import head_pose
from .read_faces import ReadFaces, hold_out, read_faces
from .report import Statistic
from .scan import Scan, Task, scan
from .sets import PARTS

MEASURED = 1000  # pairs of labels that are compared
ANGLES = ("roll", "yaw", "pitch")


@dataclass(frozen=True)
class CheckedFaces:
    """What was found.

    Attributes:
        read: the faces, each with its part.
        findings: of reading and of all checks.
        notes: sentences worth showing.
        statistics: sizes, poses, occlusion and light.
        worst: [N] how far each face's worst point is out of place, NaN where there is no telling.
    """

    read: ReadFaces
    findings: list[Finding]
    notes: list[str]
    statistics: list[Statistic]
    worst: np.ndarray


class _Pictures:
    """The pictures of a set, each once, and the crops of its faces.

    Attributes:
        faces: positions of the samples of each picture.
        tasks: the pictures as `scan` takes them.
        crops: position of the sample of each of the scan's faces.
    """

    def __init__(self, samples: Sequence[FaceSample], preprocessing: Preprocessing) -> None:
        by_picture: dict[str | int, list[int]] = {}
        for i, sample in enumerate(samples):
            key = str(sample.image) if isinstance(sample.image, Path) else id(sample.image)
            by_picture.setdefault(key, []).append(i)
        self.faces = list(by_picture.values())
        self.tasks: list[Task] = []
        self.crops: list[int] = []
        for members in self.faces:
            squares = [(i, preprocessing.square(samples[i].points, samples[i].box)) for i in members]
            placed = [(i, square) for i, square in squares if square is not None]
            image = samples[members[0]].image
            assert isinstance(image, (Path, np.ndarray))  # `read_faces` refuses stores
            self.tasks.append(Task(image, tuple(square for _, square in placed)))
            self.crops += [i for i, _ in placed]


def check_faces(
    data: DataConfig,
    num_keypoints: int,
    source_points: list[int],
    preprocessing: Preprocessing,
    layout: Layout,
    config: FaceCheckConfig,
) -> CheckedFaces:
    """Reads the faces of a spec and checks them. Raises ConfigError for a wrong key."""
    read = read_faces(data, num_keypoints, source_points, layout.names)
    samples = read.samples
    pictures = _Pictures(samples, preprocessing)
    seen = scan(pictures.tasks, config.workers)
    pairs = _face_pairs(seen, pictures, config.alike)
    same_crop = [pair for pair in pairs if not pair.mirrored]
    given = list(read.parts)
    repetitions = originals(same_crop, reading_order(given), given)
    dropped = {i: partner(pair, i) for i, pair in repetitions.items() if given[i] == "train"}
    hold_out(read, data, set(dropped) if data.drop_duplicates else set())
    faces = Faces(samples, read.parts, _of_faces(seen.sizes, pictures, len(samples)))
    findings = [*read.findings, *_file_findings(seen, pictures, faces)]
    points, worst = check_points(faces, layout, config.out_of_place)
    names = [f"{sample.source}/{sample.name}" for sample in samples]
    whole = _picture_pairs(seen, pictures, pairs, config.alike)
    parts = _parts_of_repeated(read.parts, given, dropped if data.drop_duplicates else {})
    repeated = duplicate_findings(pairs, parts, names, faces.finding, "face")
    known = {finding.sample for finding in repeated}
    others = duplicate_findings(whole, parts, names, faces.finding, "picture")
    repeated += [finding for finding in others if finding.sample not in known]
    noise, notes = _label_noise(faces, repeated, preprocessing, layout, config.label_noise)
    findings += [*points, *repeated, *noise, *shared_subjects(samples, parts, faces.finding)]
    if not np.isfinite(worst).any() and samples:
        notes.append("too few faces, or points, for a mean shape: the order of points was not checked")
    light = np.full(len(samples), np.nan)
    for row, i in enumerate(pictures.crops):
        light[i] = seen.faces[row].mean()
    return CheckedFaces(read, findings, notes, _statistics(read, layout, light), worst)


def _parts_of_repeated(parts: Sequence[str], given: Sequence[str], dropped: Mapping[int, int]) -> list[str]:
    """The parts of all faces, but for those that training leaves out as repetitions of a training face: these are no
    leak into a part that is held out afterwards, so they are of that face's part."""
    result = list(parts)
    for i in sorted(dropped):
        if given[dropped[i]] == "train":
            result[i] = parts[dropped[i]]
    return result


def _face_pairs(seen: Scan, pictures: _Pictures, alike: float) -> list[Pair]:
    """Pairs of samples whose crops are alike."""
    crops = pictures.crops
    return [
        Pair(crops[pair.one], crops[pair.other], pair.alike, pair.mirrored) for pair in find_pairs(seen.faces, alike)
    ]


def _picture_pairs(seen: Scan, pictures: _Pictures, known: Sequence[Pair], alike: float) -> list[Pair]:
    """Pairs of first samples of pictures that are alike as a whole although no two of their faces are: one of them is
    labelled otherwise."""
    of_picture = {i: number for number, members in enumerate(pictures.faces) for i in members}
    told = {tuple(sorted((of_picture[pair.one], of_picture[pair.other]))) for pair in known}
    return [
        Pair(pictures.faces[pair.one][0], pictures.faces[pair.other][0], pair.alike, pair.mirrored)
        for pair in find_pairs(seen.small, alike)
        if (pair.one, pair.other) not in told
    ]


def _of_faces(sizes: Sequence[tuple[int, int]], pictures: _Pictures, count: int) -> list[tuple[int, int]]:
    result = [(0, 0)] * count
    for size, members in zip(sizes, pictures.faces, strict=True):
        for i in members:
            result[i] = size
    return result


def _file_findings(seen: Scan, pictures: _Pictures, faces: Faces) -> list[Finding]:
    """Of files; an unreadable one takes all its faces with it."""
    paths = [task.image if isinstance(task.image, Path) else None for task in pictures.tasks]

    def found(number: int, kind: str, detail: str) -> Finding:
        first = pictures.faces[number][0]
        return Finding(kind, faces.parts[first], faces.samples[first].source, str(paths[number]), None, detail, first)

    findings = scan_findings(seen, paths, found)
    for number, members in enumerate(pictures.faces):
        if seen.faults[number]:
            findings += [faces.finding("picture unreadable", i, seen.faults[number]) for i in members[1:]]
    return findings


def _label_noise(
    faces: Faces, repeated: Sequence[Finding], preprocessing: Preprocessing, layout: Layout, limit: float
) -> tuple[list[Finding], list[str]]:
    """Findings of duplicates whose labels differ by more than `limit` percent, and how far all of them differ."""
    findings, differences = [], []
    for finding in repeated[:MEASURED]:
        one, other = finding.sample, finding.other
        assert one is not None and other is not None
        placed = []
        for i in (one, other):
            sample = faces.samples[i]
            square = preprocessing.square(sample.points, sample.box)
            if square is None or not sample.states.any() or not faces.sizes[i][0]:
                break
            placed.append((sample, grey_picture(sample), square))
        if len(placed) < 2:
            continue
        difference = label_difference(placed[0], placed[1], layout, ", mirrored" in finding.detail)
        if np.isfinite(difference):
            differences.append(difference)
            if difference > limit:
                detail = f"by {difference:.1f} % of the inter-ocular distance from {faces.samples[other].name}"
                findings.append(faces.finding("labels disagree", one, detail, difference, other))
    if not differences:
        return findings, []
    middle, high = np.percentile(differences, [50, 95])
    note = (
        f"{len(differences)} photographs are labelled twice: their labels differ by {middle:.1f} % of the inter-ocular "
        f"distance in the median, by {high:.1f} % in one of twenty"
    )
    return findings, [note]


def grey_picture(sample: FaceSample) -> ByteArray:
    """[H, W]."""
    if isinstance(sample.image, Path):
        return read_image(sample.image, grey=True)
    assert isinstance(sample.image, np.ndarray)
    return luma(sample.image)


def _statistics(read: ReadFaces, layout: Layout, light: np.ndarray) -> list[Statistic]:
    samples, parts = read.samples, np.array(read.parts)
    sizes = np.array([_size(sample) for sample in samples])
    occluded = np.array([100 * _occluded(sample) for sample in samples])

    def split(values: np.ndarray) -> dict[str, np.ndarray]:
        return {part: values[parts == part] for part in PARTS if (parts == part).any()}

    statistics = [
        Statistic("face_size", "size of the face, pixels", split(sizes),
                  "Longer side of the box of its points, pixels of the picture.", log=True),
        Statistic("occluded", "occluded points, %", split(occluded),
                  "Share of a face's labelled points that are occluded or outside the picture."),
        Statistic("light", "mean grey value of the face", split(light), "Brightness of the crops, 0 to 255."),
    ]  # fmt: skip
    if layout.template is not None and samples:
        poses = head_pose(np.stack([sample.points for sample in samples]), layout.template)
        caption = (
            "Degrees, from an affine camera that lays the points of a drawn head over the labelled ones: some degrees "
            "off for expression and build."
        )
        for name, angles in zip(ANGLES, poses.T, strict=True):
            statistics.append(Statistic(name, f"{name}, degrees", split(angles), f"{name.capitalize()}. {caption}"))
    return statistics


def _size(sample: FaceSample) -> float:
    known = sample.points[np.isfinite(sample.points).all(axis=1)]
    return float(np.ptp(known, axis=0).max()) if len(known) > 1 else float("nan")


def _occluded(sample: FaceSample) -> float:
    labelled = int((sample.states != PointState.MISSING).sum())
    return int((sample.states == PointState.OCCLUDED).sum()) / labelled if labelled else float("nan")
