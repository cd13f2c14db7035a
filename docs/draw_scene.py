"""Writes a drawn scene as a picture: python docs/draw_scene.py scene.png [seed]"""

import sys

from PIL import Image

from facetrain.datasets.scenes import draw_scenes


def main(path: str, seed: str = "3000") -> None:
    scenes = draw_scenes(20, int(seed))
    Image.fromarray(max(scenes, key=lambda scene: len(scene.boxes)).image).save(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
