"""A step of the ensemble `faces` around its networks: the one that the configuration's parameter `step` names.

facenet_predict.py and fpenet_predict.py are the code of either network's stand-alone predict.py; faces.json holds the
numbers. Needs numpy; pictures are resized faster with Pillow.
"""

import json
from pathlib import Path

import facenet_predict as detector
import fpenet_predict as keypoints
import numpy as np
import triton_python_backend_utils as pb_utils

LARGEST_RESIZE = 2.0  # of the square between the two looks, either way; beyond it there is hardly a face

try:
    from PIL import Image
except ImportError:
    pass
else:

    def resized(image, width, height, box=None):
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box))

    detector.resized = keypoints.resized = resized


class TritonPythonModel:
    def initialize(self, arguments):
        config = json.loads(arguments["model_config"])
        facts = json.loads(Path(__file__).with_name("faces.json").read_text())
        self.detector, self.crop_as, self.face, self.fill = (facts[k] for k in ("detector", "crop", "face", "fill"))
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self.step, self.most = getattr(self, parameters["step"]), int(parameters.get("most", 0))
        self.outputs = [output["name"] for output in config["output"]]

    def execute(self, requests):
        responses = []
        for request in requests:
            found = self.step(**{tensor.name(): tensor.as_numpy() for tensor in request.inputs()})
            tensors = [pb_utils.Tensor(name, np.ascontiguousarray(found[name])) for name in self.outputs]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
        return responses

    def prepare(self, picture):
        """Picture [H, W, 3] -> the detector's input."""
        image = detector.prepare(picture, self.detector["preprocessing"])
        return {"images": np.stack([image] * self.detector["batch"])}

    def crop(self, picture, **tensors):
        """The detector's outputs -> faces, the most confident first, and the keypoint network's input on them."""
        rows, columns = picture.shape[:2]
        outputs = {name.removeprefix("facenet_"): values for name, values in tensors.items()}
        boxes, scores, names = detector.find(outputs, columns, rows, None, self.detector, self.detector)
        every = np.flatnonzero(names == self.face)
        faces = every[: self.most]
        boxes, scores = boxes[faces].astype(np.float32), scores[faces].astype(np.float32)
        squares = [keypoints.square(self._wanted(box), self.crop_as) for box in boxes.astype(float)]
        found = np.array([len(every)], np.int32)
        return {"boxes": boxes, "scores": scores, "found": found, **self._cut(picture, squares)}

    def recrop(self, picture, first_points, first_squares):
        """The points of a first look, in crops -> the input of a second, in the squares around those points."""
        squares, size = [], self.crop_as["size"]
        for points, before in zip(first_points, first_squares.tolist(), strict=True):
            placed = keypoints.to_picture(points, before, size).astype(np.float32).astype(float) + 0.5
            after = keypoints.square([*placed.min(axis=0), *placed.max(axis=0)], self.crop_as)
            squares.append(after if self._same_face(before, after) else before)
        return self._cut(picture, squares)

    def place(self, face_boxes, squares, fpenet_points, **tensors):
        """Points in crops -> points [F, K, 2] in the picture; crops that no face is in are left out."""
        count, size = len(face_boxes), self.crop_as["size"]
        points = np.zeros((count, *fpenet_points.shape[1:]), np.float32)
        for i, square in enumerate(squares[:count].tolist()):
            points[i] = keypoints.to_picture(fpenet_points[i], square, size)
        others = {name.removeprefix("fpenet_"): values[:count] for name, values in tensors.items()}
        return {"points": points, **others}

    def _wanted(self, box):
        """The box that the keypoint network knows: the detector's, or that of the points, from brows to chin."""
        if not self.crop_as["beyond_points"]:
            return box
        left, top, right, bottom = self.crop_as["beyond_points"]
        x1, y1, x2, y2 = box
        width, height = (x2 - x1) / (1 - left + right), (y2 - y1) / (1 - top + bottom)
        wanted = [x1 - left * width, y1 - top * height, x2 - right * width, y2 - bottom * height]
        return np.array(wanted, np.float32).astype(float)

    def _cut(self, picture, squares):
        """Squares [N, 3] and crops [N, 1, S, S]: at least one, since Triton takes the batch's dimension off a batch of
        none, and as many as the network's batch where that is fixed."""
        grey, size = keypoints.luma(picture), self.crop_as["size"]
        squares = [*squares, *[(0.0, 0.0, float(size))] * (self.fill - len(squares))]
        crops = np.stack([keypoints.cut(grey, square, size) for square in squares])
        return {"squares": np.array(squares, float), "crops": crops}

    @staticmethod
    def _same_face(before, after):
        """Whether the second square is of about the size of the first, and its centre inside it."""
        (x, y, side), (new_x, new_y, new_side) = before, after
        near = 0 < new_x + new_side / 2 - x < side and 0 < new_y + new_side / 2 - y < side
        return near and 1 / LARGEST_RESIZE < new_side / side < LARGEST_RESIZE
