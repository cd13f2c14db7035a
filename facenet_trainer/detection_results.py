"""A set of pictures after detection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..configs.facenet.per_class import each_class
from ..configs.facenet.schema import IgnoreConfig, MetricsConfig
from ..datasets.detection_sources import DetectionSets
from ..datasets.pictures import with_ignored
from ..datasets.sample import ByteArray, DetectionSample, Rejection
from ..datasets.store.pictures import read_picture
from ..errors import DataError
from .frame import Frame
from .groups import GroupFigures, by_group, by_source
from .matching import PictureDetections
from .metrics import DetectionResults, detection_results
from .predictor import Predictor

BATCH = 8


@dataclass(frozen=True)
class FoundPictures:
    """P pictures with labels and detections.

    Attributes:
        samples: the P pictures, boxes that are to be ignored among their ignore regions.
        predictions: P detections.
        results: what they are worth.
        frame: what boxes are in pixels of.
        rejections: pictures that could not be read.
    """

    samples: Sequence[DetectionSample]
    predictions: Sequence[PictureDetections]
    results: DetectionResults
    frame: Frame
    rejections: Sequence[Rejection] = ()

    def picture(self, index: int) -> ByteArray:
        """The picture that the boxes of sample `index` lie in. Raises DataError when it cannot be read."""
        return self.frame.picture(read_picture(self.samples[index]))

    @cached_property
    def figures(self) -> dict[str, float]:
        """`DetectionResults.summary`, which takes a while."""
        return self.results.summary()

    @cached_property
    def groups(self) -> list[GroupFigures]:
        """Parts of the faces: by source, where there are several, by size and by what the labels say."""
        sources = [sample.source for sample in self.samples]
        return [*(by_source(self.results, sources) if len(set(sources)) > 1 else []), *by_group(self.results)]


def predict_pictures(
    predictor: Predictor,
    samples: Sequence[DetectionSample],
    ignore: IgnoreConfig,
    metrics: MetricsConfig,
    batch_size: int = BATCH,
) -> FoundPictures:
    """Finds faces in every picture once, the last, smaller batch included.

    Raises:
        ConfigError: see `each_class`.
        DataError: no picture can be read.
        FacetrainError: the network's outputs are not finite.
    """
    each_class(metrics, predictor.classes)  # refuses what does not fit before anything is done
    frame = Frame(metrics.pixels, predictor.preprocessing)
    rejections: list[Rejection] = []
    kept: list[DetectionSample] = []
    predictions: list[PictureDetections] = []
    for batch in _batches(samples, batch_size, rejections):
        predictions += predictor.predict([image for _, image in batch], frame)
        for sample, image in batch:
            place = predictor.preprocessing.place(image.shape[1], image.shape[0])
            kept.append(frame.labels(with_ignored(sample, place, ignore), place))
    if not kept:
        raise _unreadable(rejections)
    results = detection_results(kept, predictions, predictor.classes, metrics)
    return FoundPictures(kept, predictions, results, frame, rejections)


def require_pictures(sets: DetectionSets) -> None:
    """Raises DataError when a set has pictures and none of them can be read; reads up to the first that can."""
    for part, samples in (("train", sets.train), ("val", sets.val), ("test", sets.test)):
        rejections: list[Rejection] = []
        if samples and next(_batches(samples, 1, rejections), None) is None:
            raise DataError(f"data.{part}: {_unreadable(rejections)}")


def _batches(
    samples: Sequence[DetectionSample], size: int, rejections: list[Rejection]
) -> Iterator[list[tuple[DetectionSample, ByteArray]]]:
    """Readable pictures in groups; the others become rejections."""
    batch: list[tuple[DetectionSample, ByteArray]] = []
    for sample in samples:
        try:
            batch.append((sample, read_picture(sample)))
        except DataError as error:
            rejections.append(Rejection(str(sample.image), None, "picture unreadable", str(error)))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _unreadable(rejections: Sequence[Rejection]) -> DataError:
    return DataError(f"none of the {len(rejections)} pictures can be read, the first: {rejections[0]}")
