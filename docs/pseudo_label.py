"""Labels faces that nobody has labelled with what a trained model sees in them, for another model to learn from.

    python docs/pseudo_label.py results/teacher/best.safetensors OUT --wider wider_face_train_bbx_gt.txt \
        --json ytfaces.json

Each face is predicted six times, at three sizes of the crop and mirrored. The mean is its label, and the face is kept
only where the six agree and the crop laid around the points found is the one that was looked at. Writes a picture of
each kept face, grey, and a .pts beside it: a source of `format: pts`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from facetrain.configs.facenet.schema import SourceConfig as PictureSource
from facetrain.configs.fpenet.schema import SourceConfig as FaceSource
from facetrain.datasets.formats.fpenet_json import read_fpenet_json
from facetrain.datasets.formats.wider import read_wider
from facetrain.datasets.image import read_image
from facetrain.datasets.preprocessing import Square, cut, to_image
from facetrain.datasets.sample import ByteArray, FloatArray
from facetrain.fpenet_trainer.predictor import Predictor

SIZES = (0.92, 1.0, 1.12)  # of the crop, relative to the model's own
LARGEST_SPREAD = 0.018  # of the six predictions, share of the diagonal of the points' box
LARGEST_MOVE = 0.05  # of the crop between the last two rounds, share of its side
ROUNDS = 3  # a detector's box is only a first guess of where the crop belongs

Face = tuple[str, ByteArray, Square]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model file of the teacher, or 'zoo'")
    parser.add_argument("out", type=Path, help="folder for the faces")
    parser.add_argument("--wider", type=Path, help="WIDER FACE's label file")
    parser.add_argument("--json", type=Path, help="FPENet label file; only where its faces are is used")
    parser.add_argument("--smallest", type=float, default=36, help="smallest box of a WIDER face, pixels")
    parser.add_argument("--count", type=int, default=2000, help="faces of the JSON, drawn at random")
    arguments = parser.parse_args()
    teacher = Predictor.load(arguments.model)
    if teacher.scheme.flip is None:
        parser.error(f"{arguments.model}: its keypoint scheme has no flip table, so faces cannot be mirrored")
    arguments.out.mkdir(parents=True, exist_ok=True)
    seen = kept = 0
    for name, image, square in faces(arguments, teacher):
        seen += 1
        if (found := label(teacher, image, square)) is not None:
            kept += 1
            write(arguments.out / name, image, *found)
    print(f"kept {kept} of {seen} faces in {arguments.out}")


def faces(arguments: argparse.Namespace, teacher: Predictor) -> Iterator[Face]:
    """Every face's name, grey picture [H, W] and first guess of its square."""
    if arguments.wider:
        pictures, _ = read_wider(PictureSource(format="wider", path=arguments.wider.name), arguments.wider.parent)
        for number, picture in enumerate(pictures):
            image = None
            assert isinstance(picture.image, Path)
            for i, face in enumerate(picture.boxes):
                x1, y1, x2, y2 = face.box
                if face.marked or face.attributes["occlusion"] > 1 or min(x2 - x1, y2 - y1) < arguments.smallest:
                    continue
                image = read_image(picture.image, grey=True) if image is None else image
                # WIDER's boxes take in the forehead, the model's squares begin at the brows.
                side = 1.25 * max(x2 - x1, 0.82 * (y2 - y1))
                x, y = (x1 + x2) / 2, y1 + 0.57 * (y2 - y1)
                yield f"w{number:05}_{i}", image, (x - side / 2, y - side / 2, side)
    if arguments.json:
        source = FaceSource(format="fpenet_json", path=arguments.json.name)
        samples, _ = read_fpenet_json(source, arguments.json.parent, teacher.scheme.num_keypoints)
        samples.sort(key=lambda sample: sample.name)
        for number in np.random.default_rng(0).permutation(len(samples))[: arguments.count]:
            sample = samples[number]
            assert isinstance(sample.image, Path)
            if (square := teacher.preprocessing.square(sample.points, sample.box)) is not None:
                yield f"j{number:05}", read_image(sample.image, grey=True), square


def label(teacher: Predictor, image: ByteArray, square: Square) -> tuple[FloatArray, Square] | None:
    """The face's points [K, 2] and square, or None where the predictions disagree."""
    first = square
    for _ in range(ROUNDS):
        before = square
        points, spread = look(teacher, image, before)
        if (after := teacher.preprocessing.square(points, None)) is None:
            return None
        square = after
    middle, side = np.array(square[:2]) + square[2] / 2, before[2]
    moved = np.hypot(*(middle - np.array(before[:2]) - side / 2)) / side + abs(square[2] / side - 1)
    away = np.abs(middle - np.array(first[:2]) - first[2] / 2).max() / first[2]
    sure = spread < LARGEST_SPREAD and moved < LARGEST_MOVE and away < 0.28 and 0.5 < square[2] / first[2] < 1.6
    return (points, square) if sure else None


def look(teacher: Predictor, image: ByteArray, square: Square) -> tuple[FloatArray, float]:
    """Mean [K, 2] and spread of the six predictions on a square of the picture."""
    size, flip = teacher.preprocessing.size, np.array(teacher.scheme.flip)
    x, y, side = square
    squares = [(x + side * (1 - s) / 2, y + side * (1 - s) / 2, side * s) for s in SIZES]
    crops = np.stack([cut(image, each, size) for each in squares])
    predicted = teacher.predict(np.concatenate([crops, crops[:, :, ::-1]])).points
    mirrored = predicted[len(SIZES) :, flip]
    mirrored[..., 0] = size - 1 - mirrored[..., 0]
    both = np.concatenate([predicted[: len(SIZES)], mirrored])
    points = np.stack([to_image(p, s, size) for p, s in zip(both, squares * 2, strict=True)])
    mean = points.mean(axis=0)
    diagonal = max(float(np.linalg.norm(np.ptp(mean, axis=0))), 1.0)
    return mean, float(np.linalg.norm(points - mean, axis=2).mean()) / diagonal


def write(path: Path, image: ByteArray, points: FloatArray, square: Square) -> None:
    """The square with half its side around it, and the points in it."""
    x, y, side = square
    left, top = max(int(x - side / 2), 0), max(int(y - side / 2), 0)
    Image.fromarray(image[top : int(y + 1.5 * side), left : int(x + 1.5 * side)]).save(path.with_suffix(".png"))
    rows = "\n".join(f"{px - left:.3f} {py - top:.3f}" for px, py in points)
    path.with_suffix(".pts").write_text(f"version: 1\nn_points: {len(points)}\n{{\n{rows}\n}}\n")


if __name__ == "__main__":
    main()
