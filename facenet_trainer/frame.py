"""The picture that boxes are measured in: as it is, or as the network sees it (`metrics.pixels`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..datasets.resizing import PicturePreprocessing, Placement
from ..datasets.sample import ByteArray, DetectionSample

Size = tuple[int, int]
AS_IT_IS = Placement(1.0, 1.0, 0.0, 0.0)


class Frame:
    """Where labels and detections of pictures are compared.

    Args:
        pixels: "picture": every picture as it is. "network": as the network's input, bars and all, where TAO measures
            (gridbox §8.1): a label that `pad_crop` cuts off is still to be found.
    """

    def __init__(self, pixels: str, preprocessing: PicturePreprocessing) -> None:
        self.of_network = pixels == "network"
        self.preprocessing = preprocessing

    def placed(self, places: Sequence[Placement], sizes: Sequence[Size]) -> tuple[Sequence[Placement], Sequence[Size]]:
        """Where the frames of N pictures lie in the input, and their widths and heights, from those of the pictures."""
        if not self.of_network:
            return places, sizes
        return [AS_IT_IS] * len(places), [(self.preprocessing.width, self.preprocessing.height)] * len(sizes)

    def labels(self, sample: DetectionSample, place: Placement) -> DetectionSample:
        """The sample with its boxes in pixels of the frame; `place`: its picture's."""
        if not self.of_network:
            return sample
        return replace(sample, boxes=place.to_input(sample.boxes), ignore=place.to_input(sample.ignore))

    def picture(self, image: ByteArray) -> ByteArray:
        """The picture, RGB [H, W, 3] or grey [H, W], as boxes are drawn on it."""
        return self.preprocessing.apply(image)[0] if self.of_network else image
