"""Collages of faces whose keypoints are labelled, for the detector to learn from: pictures with KITTI labels.

    python docs/face_collages.py OUT --pts 300w/helen/train 300w/lfpw/train --json ytfaces/ytfaces.json

Rows of photographs at many sizes, each face twice. Its box is that of its keypoints with the forehead added, as WIDER
FACE draws it: the factors are medians over 401 clear, upright faces of WIDER's training part, whose keypoints the zoo's
FPENet found. What lies further around a face may hold others that nobody has labelled, and is `DontCare`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from facetrain.configs.fpenet.schema import SourceConfig
from facetrain.datasets.formats.fpenet_json import read_fpenet_json
from facetrain.datasets.formats.pts import read_pts_folder
from facetrain.datasets.image import read_image
from facetrain.datasets.sample import ByteArray, FaceSample, FloatArray

WIDTH, HEIGHT = 736, 560
ROWS = (56.0, 400.0)  # heights, pixels; drawn log-uniform. A face is about half as high
FOREHEAD = np.array([0.027, -0.362, -0.007, -0.010])  # added to the keypoints' box, shares of its width and height
AROUND = 0.3  # what is learnt as background around a face, share of its box on each side
TIMES = 2
KEYPOINTS = 68


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for pictures and labels")
    parser.add_argument("--pts", type=Path, nargs="*", default=[], help="folders of .pts files")
    parser.add_argument("--json", type=Path, help="FPENet label file")
    parser.add_argument("--person", type=int, default=6, help="pictures of each person of the JSON, drawn at random")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    faces = read(arguments, rng)
    queue = [faces[i] for _ in range(TIMES) for i in rng.permutation(len(faces))]
    arguments.out.mkdir(parents=True, exist_ok=True)
    count = 0
    while queue:
        picture, lines = collage(queue, rng)
        name = arguments.out / f"collage_{count:04}"
        Image.fromarray(picture).save(name.with_suffix(".jpg"), quality=95)
        name.with_suffix(".txt").write_text("".join(lines))
        count += 1
    print(f"{len(faces)} faces on {count} collages in {arguments.out}")


def read(arguments: argparse.Namespace, rng: np.random.Generator) -> list[FaceSample]:
    samples: list[FaceSample] = []
    for folder in arguments.pts:
        samples += read_pts_folder(SourceConfig(format="pts", path=folder.name), folder.parent)[0]
    if arguments.json:
        source = SourceConfig(format="fpenet_json", path=arguments.json.name)
        found, _ = read_fpenet_json(source, arguments.json.parent, KEYPOINTS)
        persons: dict[str, list[FaceSample]] = {}
        for sample in sorted(found, key=lambda sample: sample.name):
            persons.setdefault(Path(sample.name).stem[:-2], []).append(sample)
        for person in persons.values():
            samples += [person[i] for i in rng.permutation(len(person))[: arguments.person]]
    return [sample for sample in samples if np.isfinite(sample.points).all()]


def collage(queue: list[FaceSample], rng: np.random.Generator) -> tuple[ByteArray, list[str]]:
    """One picture, and its KITTI lines; takes the faces that it shows from the queue."""
    canvas = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    lines: list[str] = []
    top = 0
    while top < HEIGHT and queue:
        height = min(round(float(np.exp(rng.uniform(*np.log(ROWS))))), HEIGHT - top)
        if HEIGHT - top - height < ROWS[0] / 2:
            height = HEIGHT - top
        left = 0
        while left < WIDTH and queue:
            sample = queue.pop()
            assert isinstance(sample.image, Path)
            image = read_image(sample.image, grey=False)
            scale = height / image.shape[0]
            tile = Image.fromarray(image).resize(
                (max(round(image.shape[1] * scale), 1), height), Image.Resampling.BICUBIC
            )
            shown = np.asarray(tile)[:, : WIDTH - left]
            canvas[top : top + height, left : left + shown.shape[1]] = shown
            lines += labels(face_box(sample.points) * scale, (left, top), shown.shape[1], height)
            left += shown.shape[1]
        top += height
    return canvas, lines


def face_box(points: FloatArray) -> FloatArray:
    """[4] pixel edges."""
    low, high = points.min(axis=0) + 0.5, points.max(axis=0) + 0.5
    return np.concatenate([low, high]) + FOREHEAD * np.tile(high - low, 2)


def labels(box: FloatArray, at: tuple[int, int], width: int, height: int) -> list[str]:
    """KITTI lines of a face on its photograph [width, height], which lies `at` there on the collage."""
    corner = np.array([*at, *at])
    seen = np.clip(box, 0, [width, height, width, height])
    share = np.prod(np.maximum(seen[2:] - seen[:2], 0)) / np.prod(box[2:] - box[:2])
    if share < 0.5:
        return [line("DontCare", np.array([0, 0, width, height]) + corner)]
    reach = AROUND * np.tile(box[2:] - box[:2], 2) * [-1, -1, 1, 1]
    x1, y1, x2, y2 = np.clip(box + reach, 0, [width, height, width, height])
    strips = ((0, 0, x1, height), (x2, 0, width, height), (x1, 0, x2, y1), (x1, y2, x2, height))
    ignored = [line("DontCare", np.array(s) + corner) for s in strips if s[2] - s[0] >= 1 and s[3] - s[1] >= 1]
    return [line("face", seen + corner), *ignored]


def line(name: str, box: FloatArray) -> str:
    return f"{name} 0 0 0 " + " ".join(f"{edge:.2f}" for edge in box) + " 0 0 0 0 0 0 0\n"


if __name__ == "__main__":
    main()
