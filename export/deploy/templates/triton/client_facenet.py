"""Faces of a picture, by the network in Triton: python facenet_client.py picture [least score]

Prints JSON: boxes in pixel edges of the picture, the most confident first. The least score is by default that of the
best F1 in the model's own validation. The server is localhost:8000, or what the variable TRITON says.
facenet_client.json lies beside it. Needs tritonclient[http]; and Pillow for other pictures than .npy, PPM and PGM.
"""

import json
import sys
from pathlib import Path

import numpy as np
from predict import find, prepare, read
from server import ask


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    facts = json.loads(Path(__file__).with_suffix(".json").read_text())
    picture, least = read(sys.argv[1]), float(sys.argv[2]) if sys.argv[2:] else None
    images = np.stack([prepare(picture, facts["preprocessing"])] * facts["batch"])
    answer = ask(facts["model"], {facts["input"]: images})
    found = {role: answer[name] for role, name in facts["outputs"].items()}
    boxes, scores, names = find(found, picture.shape[1], picture.shape[0], least, facts, facts)
    faces = zip(boxes.tolist(), scores.tolist(), names.tolist(), strict=True)
    print(json.dumps([{"box": box, "score": score, "class": name} for box, score, name in faces]))


if __name__ == "__main__":
    main()
