"""Faces of a picture, with numpy and onnxruntime alone: python predict.py [model.onnx] picture [least score]

Prints JSON: boxes in pixel edges of the picture, the most confident first. The least score is by default that of the
best F1 in the model's own validation. All numbers are those of the graph's own metadata.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
from clustering import cells, choose
from picture import luma, read, resized


def place(columns, rows, p):
    """Where a picture comes to lie in the network's input: width, height, left, top."""
    if p["resize"] == "pad_crop":
        return columns, rows, 0, 0
    scale = min(p["width"] / columns, p["height"] / rows, 1.0 if p["resize"] == "fit" else math.inf)
    width, height = max(round(columns * scale), 1), max(round(rows * scale), 1)
    if p["resize"] == "stretch":
        width, height = p["width"], p["height"]
    return width, height, (p["width"] - width) // 2, (p["height"] - height) // 2


def prepare(picture, p):
    """The network's input [3, H, W] of a picture."""
    picture = luma(picture) if p["grayscale"] else picture
    width, height, left, top = place(picture.shape[1], picture.shape[0], p)
    part = resized(picture, width, height)[: p["height"], : p["width"]]
    canvas = np.zeros((p["height"], p["width"], 3), np.float32)
    canvas[top : top + part.shape[0], left : left + part.shape[1]] = part.reshape(*part.shape[:2], -1)
    return canvas.transpose(2, 0, 1) / 255


def find(found, columns, rows, least, meta, info):
    """Boxes [D, 4] in pixels of the picture, scores [D] and names [D], of the graph's outputs by what they are."""
    settings, every = meta["config"]["clustering"], []
    for label, name in enumerate(meta["architecture"]["classes"]):
        c = settings | settings["per_class"].get(name, {})
        boxes, scores = cells(found, label, info["decode"])
        lit = (scores > c["coverage_threshold"]) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        boxes, scores = choose(boxes[lit].astype(float), scores[lit].astype(float), c)
        kept = scores >= (meta["metrics"].get(f"f1_score_{name}", 0.0) if least is None else least)
        kept &= boxes[:, 3] - boxes[:, 1] >= c["minimum_bounding_box_height"]
        every.append((boxes[kept], scores[kept], np.full(kept.sum(), name)))
    boxes, scores, names = (np.concatenate(parts) for parts in zip(*every, strict=True))
    width, height, left, top = place(columns, rows, meta["preprocessing"])
    boxes = ((boxes - [left, top] * 2) / ([width / columns, height / rows] * 2)).clip(0, [columns, rows] * 2)
    kept = [i for i in np.argsort(-scores, kind="stable") if (boxes[i, 2:] > boxes[i, :2]).all()]
    return boxes[kept], scores[kept], names[kept]


def main():
    import onnxruntime

    arguments, beside = sys.argv[1:], sorted(Path(__file__).parent.glob("facenet*.onnx"))
    model = arguments.pop(0) if arguments[:1] and arguments[0].endswith(".onnx") else str((beside or ["no .onnx"])[0])
    if len(arguments) not in (1, 2):
        sys.exit(__doc__)
    session = onnxruntime.InferenceSession(model, providers=onnxruntime.get_available_providers())
    meta, info = (json.loads(session.get_modelmeta().custom_metadata_map[k]) for k in ("facetrain", "facetrain.graph"))
    picture = read(arguments[0])
    images = np.stack([prepare(picture, meta["preprocessing"])] * max(info["batch"], 1))
    values = session.run(list(info["outputs"].values()), {info["input"]: images})
    found, least = dict(zip(info["outputs"], values, strict=True)), float(arguments[1]) if arguments[1:] else None
    boxes, scores, names = find(found, picture.shape[1], picture.shape[0], least, meta, info)
    faces = zip(boxes.tolist(), scores.tolist(), names.tolist(), strict=True)
    print(json.dumps([{"box": box, "score": score, "class": name} for box, score, name in faces]))


if __name__ == "__main__":
    main()
