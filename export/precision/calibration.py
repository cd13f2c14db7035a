"""How large the values of tensors become, measured on real inputs: the ranges that INT8 spans.

One pass over the inputs, one input at a time. ONNX Runtime's calibrators do not fit: they hold every tensor of every
input at once, and their entropy method counts 128 bins for 128 levels, which leaves it nothing to choose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from ...errors import ExportError

BINS = 4096
LEVELS = 128  # that magnitudes have in INT8: 0 to 127
STEP = 16  # bins between the ranges that the entropy method tries

Batches = Callable[[], Iterator[NDArray[np.float32]]]


def calibrate(
    model: onnx.ModelProto,
    batches: Batches,
    tensors: Sequence[str],
    method: str = "entropy",
    percentile: float = 99.99,
) -> dict[str, float]:
    """The magnitude at which each tensor is cut off.

    Args:
        batches: gives inputs [n, C, H, W] float32, as the network takes them.
        tensors: of the graph; its input may be among them.
        method: "minmax", the largest magnitude; "percentile" of all magnitudes; or "entropy", see `entropy_range`.
        percentile: 0 to 100.

    Raises:
        ExportError: there are no inputs, or a tensor is not finite.
    """
    histograms = {name: Histogram(counted=method != "minmax") for name in tensors}
    for values in _activations(model, batches, tensors):
        for name, histogram in histograms.items():
            if not histogram.add(values[name]):
                raise ExportError(f"calibration: tensor {name!r} has values that are not finite; the model is damaged")
    if not all(histogram.total for histogram in histograms.values()):
        raise ExportError("calibration: there are no inputs to measure ranges on")
    if method == "minmax":
        return {name: histogram.largest for name, histogram in histograms.items()}
    if method == "percentile":
        return {name: histogram.percentile(percentile) for name, histogram in histograms.items()}
    return {name: entropy_range(histogram) for name, histogram in histograms.items()}


def _activations(
    model: onnx.ModelProto, batches: Batches, tensors: Sequence[str]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """The tensors of one input after another, or of as many as the graph takes at a time."""
    source = model.graph.input[0]
    size = source.type.tensor_type.shape.dim[0].dim_value or 1
    inside = [name for name in tensors if name != source.name]
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    already = {output.name for output in opened.graph.output}
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inside if name not in already)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for batch in batches():
        for start in range(0, len(batch), size):
            images = batch[start : start + size]
            filled = np.concatenate([images, np.repeat(images[-1:], size - len(images), axis=0)])
            results = session.run(inside, {source.name: filled})
            yield {
                source.name: images,
                **{name: result[: len(images)] for name, result in zip(inside, results, strict=True)},
            }


class Histogram:
    """How often magnitudes occur, counted in `BINS` bins of equal width from 0 on.

    The bins become twice as wide when a magnitude lies beyond them; so at least half of them are in use.

    Attributes:
        counts: [BINS]; zeros are in none of them.
        top: where the last bin ends.
        largest: magnitude.
        zeros: values that are 0.
        total: values.
    """

    def __init__(self, counted: bool = True) -> None:
        self.counted = counted
        self.counts = np.zeros(BINS, np.int64)
        self.top = self.largest = 0.0
        self.zeros = self.total = 0

    def add(self, values: NDArray[np.float32]) -> bool:
        """False if there is one that is not finite, and then none is added."""
        magnitudes = np.abs(values).ravel()
        largest = float(magnitudes.max(initial=0))
        if not np.isfinite(largest):
            return False
        self.largest = max(self.largest, largest)
        self.total += magnitudes.size
        if not self.counted:
            return True
        self._reach(largest)
        zeros = int(magnitudes.size - np.count_nonzero(magnitudes))
        self.zeros += zeros
        if largest:
            bins = (magnitudes * np.float32(BINS / self.top)).astype(np.int32)
            found = np.bincount(bins.clip(max=BINS - 1, out=bins), minlength=BINS)
            found[0] -= zeros
            self.counts += found
        return True

    def _reach(self, largest: float) -> None:
        self.top = self.top or largest
        while largest > self.top:
            self.top *= 2
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)])

    def percentile(self, percentile: float) -> float:
        """The magnitude that so many % of all values, zeros included, do not exceed; to a bin's width."""
        wanted = self.total * percentile / 100 - self.zeros
        if wanted <= 0:
            return 0.0
        edge = (int(np.searchsorted(self.counts.cumsum(), wanted)) + 1) * self.top / BINS
        return min(edge, self.largest)


def entropy_range(histogram: Histogram) -> float:
    """The range under which the distribution of magnitudes loses least information by the Kullback-Leibler divergence.

    After S. Migacz, "8-bit Inference with TensorRT", GTC 2017: for each range, the counts below it, with everything
    above it in the last bin, are compared with the same counts averaged over the bins that share an INT8 level. Zeros
    take no part: every range keeps them exactly, and behind a ReLU they would outweigh all else.
    """
    used = int(np.flatnonzero(histogram.counts)[-1]) + 1 if histogram.counts.any() else 0
    if used <= LEVELS:
        return histogram.largest
    counts = histogram.counts[:used].astype(np.float64)
    tried = [end for end in range(used, LEVELS, -STEP) if counts[end - 1]]
    best = min(tried, key=lambda end: _divergence(counts, end))
    return min(best * histogram.top / BINS, histogram.largest)


def _divergence(counts: NDArray[np.float64], end: int) -> float:
    kept = counts[:end].copy()
    levels = np.rint((np.arange(end) + 0.5) * (LEVELS - 1) / end).astype(np.intp)
    filled = kept > 0
    sums = np.bincount(levels, kept, LEVELS)
    shares = np.bincount(levels, filled, LEVELS)
    coarse = np.where(filled, (sums / np.maximum(shares, 1))[levels], 0)
    kept[-1] += counts[end:].sum()
    p, q = kept[filled] / kept.sum(), coarse[filled] / coarse.sum()
    return float((p * np.log(p / q)).sum())
