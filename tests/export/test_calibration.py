"""Ranges measured on inputs: what each method cuts off, in bounded memory, and the cache for old TensorRTs."""

import numpy as np
import pytest

from facetrain.errors import ExportError
from facetrain.export.precision.calibration import BINS, Histogram, calibrate, entropy_range
from facetrain.export.precision.calibration_cache import write_cache
from facetrain.tests.export_graphs import chain

RNG = np.random.default_rng(11)


def model(kernel=2.0):
    """The input [n, 1, 8, 8]; "first.out", that times `kernel` and 0.1; "first.relu", what of that is positive."""
    return chain({"first": np.full((1, 1, 1, 1), kernel), "head": np.ones((1, 1, 1, 1))})


def images(values):
    """[n, 1, 8, 8], all of a picture alike."""
    return np.broadcast_to(np.asarray(values, np.float32)[:, None, None, None], (len(values), 1, 8, 8)).copy()


def counted(*parts):
    histogram = Histogram()
    for part in parts:
        assert histogram.add(np.asarray(part, np.float32))
    return histogram


def measured(values, method, *settings, tensors=("images", "first.out", "first.relu"), batch=3, graph=None):
    everything = images(values)
    parts = [everything[start : start + batch] for start in range(0, len(everything), batch)]
    return calibrate(graph or model(), lambda: iter(parts), tensors, method, *settings)


def divergence(counts, end):
    """Of the counts in the first bins, all others in the last of these, from what 127 steps make of them."""
    kept, told = counts[:end].copy(), np.zeros(end)
    levels = np.rint((np.arange(end) + 0.5) / (end / 127))
    for level in range(128):
        inside = (levels == level) & (kept > 0)
        if inside.any():
            told[inside] = kept[inside].mean()
    kept[-1] += counts[end:].sum()
    there = told > 0
    p, q = kept[there] / kept.sum(), told[there] / told.sum()
    return (p * np.log(p / q)).sum()


class TestGraph:
    """What is measured on a graph's tensors."""

    def test_the_largest_magnitude_of_all_inputs(self):
        found = measured([1, -5, 2, 0, 4], "minmax")
        assert found == pytest.approx({"images": 5, "first.out": 9.9, "first.relu": 8.1}, rel=1e-6)

    @pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
    def test_batches_make_no_difference(self, method):
        values = RNG.normal(size=12)
        assert measured(values, method, batch=1) == measured(values, method, batch=12)

    def test_a_percentile(self):
        values = np.arange(1, 101)
        assert measured(values, "percentile", 95.0)["images"] == pytest.approx(95, abs=0.1)
        assert measured(values, "percentile", 100.0)["images"] == 100

    def test_what_fills_a_fixed_batch_does_not_count(self):
        """The sixth of six pictures stands for itself, not for three, in a graph that takes four at a time."""
        fixed = model()
        for value in (*fixed.graph.input, *fixed.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 4
        found = measured([1, 1, 1, 1, 1, 100], "percentile", 80.0, batch=6, graph=fixed)
        assert found["first.out"] == pytest.approx(2.1, abs=0.1)

    @pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_damaged_model(self, method, value):
        with pytest.raises(ExportError, match=r"tensor 'first\.out' has values that are not finite"):
            measured([1, 2], method, tensors=["first.out"], graph=model(value))

    @pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
    def test_no_inputs(self, method):
        with pytest.raises(ExportError, match="there are no inputs to measure ranges on"):
            measured([], method)

    @pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
    def test_a_tensor_that_is_always_0(self, method):
        assert measured([-1, -2], method, tensors=["first.relu"])["first.relu"] == 0


class TestHistogram:
    """Counts of magnitudes in bins whose number does not grow."""

    def test_growing_magnitudes(self):
        parts = [RNG.exponential(scale, 5000) for scale in (1e-3, 1, 40, 3e4)]
        histogram = counted(*parts)
        everything = np.concatenate(parts).astype(np.float32)
        assert histogram.counts.shape == (BINS,)
        assert histogram.counts.sum() == histogram.total == len(everything)
        assert histogram.largest == everything.max() <= histogram.top
        width = histogram.top / BINS
        assert width <= 2 * histogram.largest / BINS
        for percentile in (10.0, 50.0, 90.0, 99.9):
            edge = histogram.percentile(percentile)
            assert abs(edge - np.percentile(everything, percentile, method="inverted_cdf")) <= width

    def test_counts_are_where_they_belong(self):
        values = RNG.normal(size=3000).astype(np.float32)
        histogram = counted(values[:1000], 4 * values[1000:])
        everything = np.abs(np.concatenate([values[:1000], 4 * values[1000:]]))
        expected, _ = np.histogram(everything, BINS, (0, histogram.top))
        assert np.abs(np.cumsum(histogram.counts - expected)).max() <= 2  # values on an edge

    def test_zeros_count_for_a_percentile(self):
        histogram = counted(np.concatenate([np.zeros(900), np.arange(1, 101)]))
        assert histogram.percentile(90) == 0
        assert histogram.percentile(95) == pytest.approx(50, abs=0.05)


class TestEntropy:
    """The range that loses least information."""

    def test_an_outlier_is_cut_off(self):
        values = np.append(RNG.normal(size=200_000), 60)
        found = entropy_range(counted(values))
        assert 3 < found < 8

    def test_where_all_magnitudes_are_alike_none_is_cut_off(self):
        values = RNG.uniform(-3, 3, 200_000)
        assert entropy_range(counted(values)) == pytest.approx(3, rel=0.02)

    def test_it_follows_the_scale(self):
        values = RNG.exponential(size=100_000) ** 1.5
        found = entropy_range(counted(values))
        assert entropy_range(counted(64 * values)) == pytest.approx(64 * found, rel=1e-6)
        assert found < 0.7 * values.max()

    def test_no_range_loses_less(self):
        """By the definition, range for range: a bin's values become the level next to its middle."""
        histogram = counted(RNG.exponential(size=100_000) ** 1.5)
        counts = histogram.counts.astype(float)
        ends = range(np.flatnonzero(counts)[-1] + 1, 128, -16)  # from the last bin that holds anything
        lost = {end: divergence(counts, end) for end in ends if counts[end - 1]}
        best = min(lost, key=lost.get)
        assert entropy_range(histogram) == pytest.approx(best * histogram.top / BINS)
        assert best < 0.8 * BINS

    def test_zeros_have_no_say(self):
        values = RNG.exponential(size=50_000) ** 1.5
        assert entropy_range(counted(values, np.zeros(10**6))) == entropy_range(counted(values))

    def test_nothing_was_seen_but_zeros(self):
        assert entropy_range(counted(np.zeros(10))) == 0


def test_the_cache_says_the_scales(tmp_path):
    ranges = {"input_face_images:0": 255.0, "relu_1": 3.17, "softargmax/strided_slice:0": 79.0}
    for name in ("fpenet.txt", "fpenet.bin"):
        write_cache(tmp_path / name, ranges)
    assert (tmp_path / "fpenet.txt").read_bytes() == (tmp_path / "fpenet.bin").read_bytes()
    head, *lines = (tmp_path / "fpenet.bin").read_text("ascii").splitlines()
    assert head.startswith("TRT-") and head.endswith("-EntropyCalibration2")
    assert [line.rpartition(": ")[0] for line in lines] == list(ranges)
    decoded = [np.frombuffer(bytes.fromhex(line.rpartition(": ")[2]), ">f4")[0] for line in lines]
    np.testing.assert_array_equal(decoded, np.float32([value / 127 for value in ranges.values()]))
    # As in caches that TensorRT has written: a scale of 1 is 3f800000.
    write_cache(tmp_path / "one", {"x": 127.0})
    assert (tmp_path / "one").read_text().splitlines()[1] == "x: 3f800000"
