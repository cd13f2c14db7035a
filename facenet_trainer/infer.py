"""`facenet infer`: the faces, or whatever a model's classes are, of a picture, a folder, a video or a camera."""

from __future__ import annotations

from pathlib import Path

from ..configs.facenet.schema import FacenetInferSpec
from ..datasets.inputs import open_inputs
from ..training.inference import InferSummary, batches, prepare_results, to_the_end, watched
from .infer_results import FILES, InferResults, class_styles
from .predictor import Predictor


def infer(spec: FacenetInferSpec) -> InferSummary:
    """Runs a model over `spec.input` and writes labels/, predictions.json, coco.json, and pictures or a video.

    What is written and drawn are the detections that the model's clustering makes, from `spec.min_score` on.

    A picture that cannot be read is named in the results and the others go on. Ctrl-C leaves whole files; it is the
    ordinary end of a camera.

    Raises:
        ConfigError: no input, results_dir is in use, or a class, colour or clustering key that is none.
        DataError: the input cannot be read at all.
        ModelFileError: the model cannot be used.
    """
    inputs = open_inputs(spec.input, spec.max_frames)
    predictor = Predictor.load(spec.model, spec.device, spec.clustering, spec.input_size)
    styles = class_styles(predictor.classes, spec.names, spec.colours)
    prepare_results(Path(spec.results_dir), spec.input, spec.overwrite, FILES)
    summary = InferSummary(Path(spec.results_dir), "boxes", failures=inputs.failures)  # reading adds to that list
    with to_the_end(InferResults(spec, predictor, styles, inputs, summary), inputs.kind, spec.input) as results:
        pictures = watched(inputs)
        for batch in batches(pictures, inputs.kind, spec.batch_size, lambda picture: (1, picture.image.nbytes)):
            for picture, found in zip(batch, predictor.predict([p.image for p in batch]), strict=True):
                results.write(picture, predictor.confident(found, spec.min_score))
    return summary
