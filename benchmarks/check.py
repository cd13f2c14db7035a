"""How many pictures a minute `check` gets through, with which memory.

    python benchmarks/check.py [--pictures 10000] [--width 736] [--height 552] [--boxes] [--folder FOLDER]

Draws a few pictures, writes so many variations of them as JPEG files with labels, and runs the command in a process of
its own. Memory is the largest resident size of that process and of the largest of those that open pictures. The files
stay in `--folder`, if that is given, for the next run.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from facetrain.datasets.drawn.scenes import draw_scenes
from facetrain.datasets.drawn.synthetic import draw_faces
from facetrain.datasets.sample import FaceSample

SCENES, FACES = 32, 400  # that are drawn; turned and lit otherwise, no two pictures are alike


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=10000)
    parser.add_argument("--width", type=int, default=736)
    parser.add_argument("--height", type=int, default=552)
    parser.add_argument("--boxes", action="store_true", help="facenet check, not fpenet check")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.folder or Path(temporary)
        if not (root / "pictures").is_dir():
            write(root, arguments.pictures, (arguments.width, arguments.height))
        run(root, arguments.pictures, arguments.boxes)


def write(root: Path, count: int, size: tuple[int, int]) -> None:
    """Pictures with a .pts and a KITTI label each: a drawn face on a drawn scene, in places and light of its own."""
    for name in ("pictures", "labels"):
        (root / name).mkdir(parents=True)
    faces = draw_faces(FACES, seed=1, num_keypoints=68)
    drawn = draw_scenes(SCENES, seed=1)
    scenes = [Image.fromarray(scene.image).resize((size[0] + 64, size[1] + 64)) for scene in drawn]
    rng = np.random.default_rng(0)
    for i in range(count):
        left, top = rng.integers(64, size=2)
        picture = np.asarray(scenes[i % SCENES])[top : top + size[1], left : left + size[0]].copy()
        face, points = turned(faces[i % FACES], rng.uniform(-30, 30))
        x, y = rng.integers(size[0] - 160), rng.integers(size[1] - 160)
        picture[y : y + 160, x : x + 160] = np.clip(face[..., None] * rng.uniform(0.5, 1.2), 0, 255)
        noise = rng.integers(-40, 40, (size[1] // 16, size[0] // 16, 3))  # no two are alike
        picture[: 16 * noise.shape[0], : 16 * noise.shape[1]] = np.clip(
            picture[: 16 * noise.shape[0], : 16 * noise.shape[1]] + noise.repeat(16, 0).repeat(16, 1), 0, 255
        )
        Image.fromarray(picture).save(root / "pictures" / f"{i:06}.jpg", quality=88)
        rows = "\n".join(f"{px + x:.2f} {py + y:.2f}" for px, py in points)
        (root / "pictures" / f"{i:06}.pts").write_text(f"n_points: 68\n{{\n{rows}\n}}\n")
        box = f"{x + 20} {y + 20} {x + 140} {y + 140}"
        (root / "labels" / f"{i:06}.txt").write_text(f"face 0 0 0 {box} 0 0 0 0 0 0 0\n")


def turned(face: FaceSample, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Picture and points of a face, turned about the picture's centre."""
    matrix = cv2.getRotationMatrix2D((79.5, 79.5), degrees, 1.0)
    points = face.points @ matrix[:, :2].T + matrix[:, 2]
    return cv2.warpAffine(face.image, matrix, (160, 160), borderMode=cv2.BORDER_REFLECT), points


def run(root: Path, count: int, boxes: bool) -> None:
    if boxes:
        words = ["facenet", "check", "data.train=[{format: kitti, path: labels, images: pictures}]"]
    else:
        words = ["fpenet", "check", "data.train=[{format: pts, path: pictures}]", "model.num_keypoints=68"]
    with tempfile.TemporaryDirectory() as results:
        words += [f"data.root={root}", f"results_dir={results}"]
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "facetrain", *words], capture_output=True, text=True)
        seconds = time.perf_counter() - start
    print(done.stdout[-1500:], done.stderr)
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"{words[0]} check, {count} pictures, {os.cpu_count()} cores: {seconds:.1f} s, "
        f"{60 * count / seconds:.0f} pictures a minute, {memory:.0f} MiB at most in one process"
    )


if __name__ == "__main__":
    main()
