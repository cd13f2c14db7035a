"""Faces of a picture and their keypoints, by Triton's ensemble `faces`: python faces_client.py picture

Prints JSON: boxes in pixel edges of the picture, points in its pixels, the first pixel's centre being (0, 0). The
server is localhost:8000, or what the variable TRITON says. Needs tritonclient[http]; and Pillow for other pictures than
.npy, PPM and PGM.
"""

import json
import sys

import numpy as np
from predict import read
from server import ask


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    picture = read(sys.argv[1])
    height, width = picture.shape[:2]
    colour = np.broadcast_to(picture.reshape(height, width, -1), (height, width, 3))
    found = ask("faces", {"picture": np.ascontiguousarray(colour)})
    left_out = found.pop("found")[0] - len(found["boxes"])
    if left_out:
        print(f"{left_out} more faces are left out: see `most` in faces_crop/config.pbtxt", file=sys.stderr)
    names = {"boxes": "box", "scores": "score", "points": "points"}  # and what else there is
    columns = {names.get(name, name): found[name].tolist() for name in [*names, *sorted(set(found) - set(names))]}
    print(json.dumps([dict(zip(columns, face, strict=True)) for face in zip(*columns.values(), strict=True)]))


if __name__ == "__main__":
    main()
