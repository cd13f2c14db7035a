"""Writes the drawn scene with the most faces of 20 as a picture: python docs/draw_scene.py scene.png [seed]"""

import sys

import numpy as np
from PIL import Image

from facetrain.datasets.drawn.scenes import draw_scene


def main(path: str, seed: str = "3000") -> None:
    scenes = [draw_scene(int(seed), index) for index in range(20)]
    fullest = max(scenes, key=lambda scene: len(scene.boxes)).image
    assert isinstance(fullest, np.ndarray)
    Image.fromarray(fullest).save(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
