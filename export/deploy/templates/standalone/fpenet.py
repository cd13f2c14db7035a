"""Keypoints of a face, with numpy and onnxruntime alone: python predict.py [model.onnx] picture [x1 y1 x2 y2]

The box is the face's, in pixel edges; without one the picture is the face. Prints JSON: points [x, y], the first
pixel's centre being (0, 0). All numbers are those of the graph's own metadata.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
from picture import luma, read, resized


def square(box, p):
    """The square to cut out for a face's box: x1, y1, side."""
    x1, y1, x2, y2 = box
    longer = max(x2 - x1, y2 - y1)
    side = longer * p["enlarge"]
    return (x1 + x2 - side) / 2 + p["shift_x"] * longer, (y1 + y2 - side) / 2 + p["shift_y"] * longer, side


def cut(grey, face, size):
    """A square of a grey picture [H, W] as the network's input [1, size, size]; 0 outside the picture."""
    x1, y1, side = face
    reach = max(side / size, 1.0)
    column, row = math.floor(x1 - reach), math.floor(y1 - reach)
    patch = np.zeros((math.ceil(y1 + side + reach) - row, math.ceil(x1 + side + reach) - column), np.uint8)
    part = grey[max(row, 0) : max(row + patch.shape[0], 0), max(column, 0) : max(column + patch.shape[1], 0)]
    patch[max(-row, 0) :, max(-column, 0) :][: part.shape[0], : part.shape[1]] = part
    box = (x1 - column, y1 - row, x1 - column + side, y1 - row + side)
    return resized(patch, size, size, box)[None].astype(np.float32)


def to_picture(points, face, size):
    """Pixels of a crop [..., 2] -> pixels of the picture."""
    return (points + 0.5) * (face[2] / size) + np.array(face[:2]) - 0.5


def main():
    import onnxruntime

    arguments, beside = sys.argv[1:], sorted(Path(__file__).parent.glob("fpenet*.onnx"))
    model = arguments.pop(0) if arguments[:1] and arguments[0].endswith(".onnx") else str((beside or ["no .onnx"])[0])
    if len(arguments) not in (1, 5):
        sys.exit(__doc__)
    session = onnxruntime.InferenceSession(model, providers=onnxruntime.get_available_providers())
    meta, info = (json.loads(session.get_modelmeta().custom_metadata_map[k]) for k in ("facetrain", "facetrain.graph"))
    picture, p = read(arguments[0]), meta["preprocessing"]
    face = square(np.array(arguments[1:], np.float32).tolist() or [0, 0, picture.shape[1], picture.shape[0]], p)
    images = np.stack([cut(luma(picture), face, p["size"])] * max(info["batch"], 1))
    values = session.run(list(info["outputs"].values()), {info["input"]: images})
    found = {role: value[0] for role, value in zip(info["outputs"], values, strict=True) if role != "heatmaps"}
    found["points"] = to_picture(found["points"], face, p["size"])
    print(json.dumps({role: value.tolist() for role, value in found.items()}))


if __name__ == "__main__":
    main()
