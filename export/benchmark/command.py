"""What the verb `benchmark` does for either network: how long files take, by batch, and a picture's whole path."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ...configs.benchmark_schema import BenchmarkConfig
from ...datasets.image import read_image
from ...datasets.inputs import open_inputs
from ...datasets.sample import ByteArray
from ...errors import ConfigError, DataError, ExportError, FacetrainError
from ...training.run_folder import make_folder, refuse_results
from ...training.timing import clocked, turns
from ..engines.runtime import EngineModel
from ..samples import spread
from .models import Entrant, Load, NotRun, open_entrants
from .results import RESULT, Benchmark, EndToEnd, Latency, cpu_name, gpu_name, write_results

STAGES = ("read", "preprocess", "network", "decode", "draw")
PICTURES = 8  # different ones; more would only fill the memory


def run_benchmark(
    spec: BenchmarkConfig, network: str, load: Load, draw: Callable[[int], list[ByteArray]], drawn: str
) -> Benchmark:
    """Times what the spec names, prints the tables, and writes benchmark.json, report.html and status.json.

    Args:
        network: "fpenet" or "facenet".
        draw: so many pictures [H, W, 3], where the spec names none.
        drawn: what they are called.

    Raises:
        ConfigError: results stand in the way, or there is nothing to run, or nothing to run it.
        ModelFileError, ExportError: a file or a backend that was asked for cannot be used.
        DataError: no picture can be read.
    """
    folder = Path(spec.results_dir)
    refuse_results(folder, RESULT, spec.overwrite)
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    with _threads(spec.threads), _pictures(spec.input, draw, drawn) as (files, inputs):
        entrants, not_run = open_entrants(spec, network, load)
        make_folder(folder)
        threads = {"pytorch": torch.get_num_threads(), "onnxruntime": spec.threads}
        result = Benchmark([], [], not_run, inputs, threads, busy, _notes(entrants))
        for batch in _batches(entrants, spec.batches):
            print(f"batch {batch} ...", flush=True)
            _time_batch(entrants, batch, files, spec, result)
        if not result.latency:
            raise ExportError("nothing could be timed:\n  " + "\n  ".join(map(str, result.not_run)))
        if spec.end_to_end:
            print("end to end ...", flush=True)
            _time_paths(entrants, files, spec, result)
    write_results(folder, spec, network, result)
    return result


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """PyTorch computes on so many threads; 0: as it would."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _pictures(source: str, draw: Callable[[int], list[ByteArray]], drawn: str) -> Iterator[tuple[list[Path], str]]:
    """Files to read, and what they are."""
    if not source:
        with TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{i}.jpg" for i in range(PICTURES)]
            for path, picture in zip(paths, draw(PICTURES), strict=True):
                Image.fromarray(picture).save(path, quality=92)
            yield paths, f"{len(paths)} {drawn}"
        return
    inputs = open_inputs(source)
    if inputs.kind != "pictures":
        raise ConfigError(f"input={source}: give a picture or a folder of pictures; a {inputs.kind} is not timed")
    readable, error = [], None
    for path in spread([inputs.root / name for name in inputs.names], PICTURES):
        try:
            read_image(path, grey=False)
            readable.append(path)
        except DataError as failure:
            error = failure
    if not readable:
        raise error or DataError(f"input={source}: no picture")
    yield readable, f"{len(readable)} picture{'s' * (len(readable) > 1)} of {source}"


def _batches(entrants: Sequence[Entrant], wanted: Sequence[int]) -> list[int]:
    """Those that are wanted, if anything can run at them, and the fixed ones, at which all others are timed too."""
    fixed = [entrant.runtime.info.batch for entrant in entrants]
    return sorted({*(wanted if 0 in fixed else ()), *fixed} - {0})


def _notes(entrants: Sequence[Entrant]) -> list[str]:
    return [
        f"{entrant.label} takes {entrant.runtime.info.batch} inputs at a time, no other number"
        for entrant in entrants
        if entrant.runtime.info.batch
    ]


def _time_batch(
    entrants: Sequence[Entrant], batch: int, files: Sequence[Path], spec: BenchmarkConfig, result: Benchmark
) -> None:
    """Times all that take this batch, in turns, and adds to the result."""
    runs: list[tuple[Entrant, Tensor]] = []
    examples: dict[tuple[object, ...], Tensor] = {}
    for entrant in entrants:
        if entrant.runtime.info.batch not in (0, batch):
            continue
        if isinstance(entrant.runtime, EngineModel):  # which would run a larger batch in parts
            low, high = entrant.runtime.engine.facts.batches
            if not low <= batch <= high:
                reason = f"it was built for {low} to {high} inputs at a time (build.min_batch, build.max_batch)"
                result.not_run.append(NotRun(entrant.label, entrant.backend, batch, reason))
                continue
        images = _example(entrant, batch, files, examples)
        if _runs(entrant, batch, lambda run=entrant.runtime.run, images=images: run(images), result):  # type: ignore
            runs.append((entrant, images))
    times: list[list[float]] = [[] for _ in runs]
    for i, counts in _turns(len(runs), spec):
        entrant, images = runs[i]
        _, taken = clocked(lambda run=entrant.runtime.run, images=images: run(images))  # type: ignore[misc]
        if counts:
            times[i].append(taken)
    result.latency += [_latency(entrant, batch, taken) for (entrant, _), taken in zip(runs, times, strict=True)]


def _runs(entrant: Entrant, batch: int, once: Callable[[], object], result: Benchmark) -> bool:
    """Whether it runs at all; if not, the result says why."""
    try:
        once()
    except Exception as error:  # each library has its own for a batch that it, or the memory, cannot take
        reason = str(error) if isinstance(error, FacetrainError) else f"{type(error).__name__}: {error}"
        result.not_run.append(NotRun(entrant.label, entrant.backend, batch, " ".join(reason.split())[:300]))
        return False
    return True


def _turns(count: int, spec: BenchmarkConfig) -> Iterator[tuple[int, bool]]:
    """Whose pass is next, and whether it counts; the first, which shows whether it runs at all, has been made."""
    return turns(count, warm_up=spec.warm_up - 1, passes=spec.repeats, seconds=spec.seconds)


def _example(entrant: Entrant, batch: int, files: Sequence[Path], examples: dict[tuple[object, ...], Tensor]) -> Tensor:
    """[batch, C, H, W] of pictures, where the runtime takes them from; shared by those who want the same."""
    inputs = [entrant.pipeline.preprocess(read_image(file, grey=False))[0] for file in files[:batch]]
    kind = (inputs[0].shape, inputs[0].stride(), inputs[0].device)
    if kind not in examples:
        examples[kind] = torch.cat([inputs[i % len(inputs)] for i in range(batch)])
    return examples[kind]


def _latency(entrant: Entrant, batch: int, times: Sequence[float]) -> Latency:
    mean = float(np.mean(times))
    p50, p90, p99 = (float(value) for value in np.percentile(times, (50, 90, 99)))
    return Latency(
        **_named(entrant),
        batch=batch,
        runs=len(times),
        mean_ms=mean,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        fps=1e3 * batch / mean,
    )


def _named(entrant: Entrant) -> dict[str, str]:
    return {
        "file": entrant.label,
        "device": gpu_name() if entrant.on_gpu else cpu_name(),
        "backend": entrant.backend,
        "run_by": entrant.runtime.backend,
        "precision": entrant.runtime.info.precision,
    }


def _time_paths(entrants: Sequence[Entrant], files: Sequence[Path], spec: BenchmarkConfig, result: Benchmark) -> None:
    """Times the whole path of one picture after the other with each, in turns, and adds to the result."""
    able = [one for one in entrants if _runs(one, 1, lambda one=one: _path(one, files[0]), result)]  # type: ignore[misc]
    times: list[list[list[float]]] = [[] for _ in able]
    for i, counts in _turns(len(able), spec):
        taken = _path(able[i], files[len(times[i]) % len(files)])
        if counts:
            times[i].append(taken)
    result.end_to_end += [_end_to_end(entrant, np.array(taken)) for entrant, taken in zip(able, times, strict=True)]


def _end_to_end(entrant: Entrant, times: NDArray[np.float64]) -> EndToEnd:
    """Of the milliseconds [runs, stages]."""
    medians = np.median(times, axis=0)
    mean = float(times.sum(axis=1).mean())
    return EndToEnd(
        **_named(entrant),
        runs=len(times),
        stages_ms=dict(zip(STAGES, medians.tolist(), strict=True)),
        shares=dict(zip(STAGES, (medians / medians.sum()).tolist(), strict=True)),
        mean_ms=mean,
        fps=1e3 / mean,
    )


def _path(entrant: Entrant, file: Path) -> list[float]:
    """The milliseconds of each stage."""
    pipeline = entrant.pipeline
    picture, read = clocked(lambda: read_image(file, grey=False))
    (images, place), prepare = clocked(lambda: pipeline.preprocess(picture))
    output, network = clocked(lambda: pipeline.runtime.run(images))
    found, decode = clocked(lambda: pipeline.decode(output, place))
    _, drawing = clocked(lambda: pipeline.draw(picture, found))
    return [read, prepare, network, decode, drawing]
