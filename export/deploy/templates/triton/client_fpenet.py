"""Keypoints of a face, by the network in Triton: python fpenet_client.py picture [x1 y1 x2 y2]

The box is the face's, in pixel edges; without one the picture is the face. Prints JSON: points [x, y], the first
pixel's centre being (0, 0). The server is localhost:8000, or what the variable TRITON says. fpenet_client.json lies
beside it. Needs tritonclient[http]; and Pillow for other pictures than .npy, PPM and PGM.
"""

import json
import sys
from pathlib import Path

import numpy as np
from predict import cut, luma, read, square, to_picture
from server import ask


def main():
    if len(sys.argv) not in (2, 6):
        sys.exit(__doc__)
    facts = json.loads(Path(__file__).with_suffix(".json").read_text())
    picture, p = read(sys.argv[1]), facts["preprocessing"]
    face = square(np.array(sys.argv[2:], np.float32).tolist() or [0, 0, picture.shape[1], picture.shape[0]], p)
    images = np.stack([cut(luma(picture), face, p["size"])] * facts["batch"])
    answer = ask(facts["model"], {facts["input"]: images})
    found = {role: answer[name][0] for role, name in facts["outputs"].items() if role != "heatmaps"}
    found["points"] = to_picture(found["points"], face, p["size"])
    print(json.dumps({role: values.tolist() for role, values in found.items()}))


if __name__ == "__main__":
    main()
