"""`fpenet train`: from a spec to a run folder with a model, its figures and a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader

from ..configs.compose import to_plain
from ..configs.fpenet.schema import FpenetTrainSpec
from ..datasets.faces import FaceDataset, face_loader, margin_for, require_faces
from ..datasets.preprocessing import Preprocessing
from ..datasets.sample import FaceSample, Rejection
from ..datasets.sources import FaceSets, read_sets
from ..datasets.transforms import FaceAugment
from ..errors import ConfigError
from ..training.command import Job, Outcome, left_out, run_training, training_facts
from ..training.distributed import Processes
from ..training.loop import Trainer, seed_everything
from ..training.pruning import Layer
from ..training.qat import FakeQuantized, QuantizedTensor, quantized_layers
from .face_report import write_training_report
from .face_results import predict_faces
from .network import RecombinatorNet
from .predictor import Predictor
from .pretrained import start_network
from .prune import prune_graph
from .schemes import Scheme
from .task import FpenetTask


def train(spec: FpenetTrainSpec) -> dict[str, float]:
    """Trains FPENet as the spec says, or goes on with the unfinished run in `results_dir`; see `run_training`."""
    return run_training(spec, lambda processes: prepare(spec, processes))


@dataclass(frozen=True)
class _Run:
    """What `train` reports on."""

    spec: FpenetTrainSpec
    task: FpenetTask
    sets: FaceSets
    train: FaceDataset
    val: FaceDataset | None


def prepare(spec: FpenetTrainSpec, processes: Processes) -> Job:
    """Reads the data and builds the network, its loaders and its task; writes nothing."""
    seed_everything(spec.seed)
    if spec.train.qat and not spec.train.pretrained:
        raise ConfigError(
            "train.qat=true goes on from a trained network: give train.pretrained=FILE.safetensors, or zoo; without "
            "one, train with train.qat=false first"
        )
    network, scheme, lines = start_network(spec.model, spec.train.pretrained)
    preprocessing = Preprocessing(
        size=spec.model.input_size,
        crop_source=spec.crop.source,
        enlarge=spec.crop.enlarge,
        shift_x=spec.crop.shift_x,
        shift_y=spec.crop.shift_y,
    )
    task = FpenetTask(network, scheme, preprocessing, spec.loss, to_plain(spec), spec.seed)
    if not spec.data.train:
        raise ConfigError(
            "data.train is empty: choose a data set, such as data=pts_300w data.root=FOLDER, or data=synthetic for "
            "drawn faces"
        )
    augment = _augment(spec, scheme, lines)
    source_points = list(spec.model.source_points)
    sets = read_sets(spec.data, scheme.num_keypoints, source_points, preprocessing, scheme.names)
    require_faces(sets, preprocessing)
    train = FaceDataset(sets.train, preprocessing, augment, spec.seed, spec.data.cache)
    val = FaceDataset(sets.val, preprocessing, None, spec.seed, spec.data.cache) if _labelled(sets.val) else None
    run = _Run(spec, task, sets, train, val)
    if spec.train.qat:
        lines.append(_quantize(run, network, processes.device))

    def loader(dataset: FaceDataset, training: bool) -> DataLoader:
        return face_loader(
            dataset,
            spec.train.batch_size,
            rank=processes.rank,
            world=processes.world,
            shuffle=training,
            drop_last=training,
            seed=spec.seed,
            workers=spec.data.workers if training else 0,
        )

    return Job(
        task=task,
        train_loader=loader(train, training=True),
        val_loader=loader(val, training=False) if val is not None else None,
        lines=[*lines, *_account(run)],
        finish=lambda trainer: _finish(run, trainer),
    )


def _quantize(run: _Run, network: RecombinatorNet, device: torch.device) -> str:
    """Makes the task's network round as INT8 does, by ranges that every process finds for itself; says so."""
    model = FakeQuantized(network, quantized_layers(prune_graph(network)), quantized_tensors(network)).to(device)
    loader = face_loader(
        run.train, run.spec.train.batch_size, shuffle=True, drop_last=False, seed=run.spec.seed, workers=0
    )
    model.calibrate(batch["image"].float().to(device) for batch in loader)
    run.task.model = model
    return model.account()


def quantized_tensors(network: RecombinatorNet) -> list[QuantizedTensor]:
    """What the convolutions take. A stage's features go on to the next stage and, joined with others, into the decoder:
    both have one scale, since the export rounds the features once."""
    takers: dict[tuple[str, ...], list[str]] = {}  # by what they take; of what is joined the last are the features
    for layer in prune_graph(network):
        if isinstance(layer, Layer) and not layer.output:
            takers.setdefault(layer.inputs[-1:], []).append(layer.module)
    return [QuantizedTensor(tuple(names), tuple(f"{name}.input" for name in names)) for names in takers.values()]


def _augment(spec: FpenetTrainSpec, scheme: Scheme, lines: list[str]) -> FaceAugment:
    size = spec.model.input_size
    if scheme.flip is None and spec.augment.hflip_prob > 0:
        lines.append(f"horizontal flips are off: the scheme of {scheme.num_keypoints} points has no flip table")
    return FaceAugment(spec.augment, size, margin_for(size), list(scheme.flip) if scheme.flip else None)


def _account(run: _Run) -> list[str]:
    """How many faces there are for what, and what was left out."""
    val, test = len(run.val) if run.val else 0, len(run.sets.test)
    counts = f"faces: {len(run.train)} to train on, {val} to validate on, {test} to test on"
    return [counts, *run.sets.notes, *left_out(_rejections(run))]


def _rejections(run: _Run) -> list[Rejection]:
    own = (rejection for part in (run.train, run.val) if part is not None for rejection in part.rejections)
    return [*run.sets.rejections, *own]


def _finish(run: _Run, trainer: Trainer) -> Outcome:
    """Measures the best model and writes the report."""
    predictor = Predictor.load(str(trainer.folder.best), run.spec.train.device)
    results = {
        name: predict_faces(predictor, samples)
        for name, samples in (("test", run.sets.test), ("validation", run.sets.val))
        if _labelled(samples)
    }
    write_training_report(
        trainer.folder.path,
        f"FPENet, {run.task.scheme.num_keypoints} points",
        _facts(run, trainer),
        trainer.folder.metrics(),
        results,
        _rejections(run),
        run.sets.notes,
    )
    figures = {name: faces.errors.summary() for name, faces in results.items()}
    return Outcome(figures, [_line(name, values) for name, values in figures.items()])


def _labelled(samples: Sequence[FaceSample]) -> bool:
    return any(sample.labelled for sample in samples)


def _facts(run: _Run, trainer: Trainer) -> dict[str, str]:
    model = run.task.architecture
    parameters = sum(p.numel() for p in run.task.model.parameters())
    preprocessing = run.task.preprocessing
    return {
        "model": f"FpeNet_{model.variant}, {model.num_keypoints} points, {parameters:,} parameters",
        "beta": f"{model.beta:g}",
        "crop": f"{preprocessing.size} px, {preprocessing.enlarge:g} x {preprocessing.crop_source}",
        "faces": f"{len(run.train)} training, {len(run.val) if run.val else 0} validation, {len(run.sets.test)} test",
        **training_facts(trainer, run.spec.seed),
    }


def _line(name: str, figures: dict[str, float]) -> str:
    shown = [f"{key} {figures[key]:.3f}" for key in ("nme_interocular", "nme_diagonal", "error_all") if key in figures]
    return f"{name}: {int(figures['faces'])} faces, {', '.join(shown)}"
