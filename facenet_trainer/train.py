"""`facenet train`: from a spec to a run folder with a model, its figures and a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from ..configs.facenet.schema import FacenetTrainSpec
from ..datasets.detection_sources import DetectionSets, read_detection_sets
from ..datasets.picture_transforms import PictureAugment
from ..datasets.pictures import PictureDataset, count_boxes, picture_loader
from ..datasets.resizing import PicturePreprocessing
from ..datasets.sample import Rejection
from ..errors import ConfigError
from ..training.command import Job, Outcome, left_out, run_training, training_facts
from ..training.distributed import Processes
from ..training.loop import Trainer, seed_everything
from ..training.qat import FakeQuantized, QuantizedTensor, quantized_layers
from .detection_report import write_training_report
from .detection_results import predict_pictures, require_pictures
from .network import GridBoxNet, prune_graph
from .predictor import Predictor, scaled
from .pretrained import start_network
from .task import FacenetTask

VAL_BATCH = 4  # whole pictures, where training's are often windows of them


def train(spec: FacenetTrainSpec) -> dict[str, float]:
    """Trains FaceNet as the spec says, or goes on with the unfinished run in `results_dir`; see `run_training`."""
    return run_training(spec, lambda processes: prepare(spec, processes))


@dataclass(frozen=True)
class _Run:
    """What `train` reports on."""

    spec: FacenetTrainSpec
    task: FacenetTask
    sets: DetectionSets
    train: PictureDataset
    val: PictureDataset | None


def prepare(spec: FacenetTrainSpec, processes: Processes) -> Job:
    """Reads the data and builds the network, its loaders and its task; writes nothing."""
    seed_everything(spec.seed)
    if not spec.data.train:
        raise ConfigError(
            "data.train is empty: choose a data set, such as data=wider data.root=FOLDER, or data=scenes for drawn "
            "pictures"
        )
    start = spec.model.pretrained
    if spec.train.qat and (start in ("", "imagenet") or Path(start).suffix in (".pth", ".pt")):
        raise ConfigError(
            f"model.pretrained={start!r}: train.qat=true goes on from a trained detector; give "
            "model.pretrained=FILE.safetensors, or zoo; without one, train with train.qat=false first"
        )
    sets = read_detection_sets(spec.data)
    require_pictures(sets)
    network, lines = start_network(spec.model, sets.classes)
    size = spec.input
    preprocessing = PicturePreprocessing(size.width, size.height, size.grayscale, size.resize)
    cache = spec.data.cache_gib if spec.data.cache else 0.0
    augment = PictureAugment(spec.augment, preprocessing)
    train = PictureDataset(sets.train, preprocessing, augment, spec.data.ignore, spec.seed, cache)
    val = PictureDataset(sets.val, preprocessing, None, spec.data.ignore, spec.seed, cache) if sets.val else None
    task = FacenetTask(network, preprocessing, spec, val.samples if val else [])
    run = _Run(spec, task, sets, train, val)
    if spec.train.qat:
        lines.append(_quantize(run, network, processes.device))

    def loader(dataset: PictureDataset, training: bool) -> DataLoader:
        return picture_loader(
            dataset,
            spec.train.batch_size if training else VAL_BATCH,
            rank=processes.rank,
            world=processes.world,
            shuffle=training,
            drop_last=training,
            seed=spec.seed,
            workers=spec.data.workers if training else 0,
            uniform=training and spec.data.sampling == "uniform",
        )

    return Job(
        task=task,
        train_loader=loader(train, training=True),
        val_loader=loader(val, training=False) if val is not None else None,
        lines=[*lines, *_account(run)],
        finish=lambda trainer: _finish(run, trainer),
    )


def _quantize(run: _Run, network: GridBoxNet, device: torch.device) -> str:
    """Makes the task's network round as INT8 does, by ranges that every process finds for itself; says so."""
    model = FakeQuantized(network, quantized_layers(prune_graph(network)), quantized_tensors(network)).to(device)
    loader = picture_loader(
        run.train,
        run.spec.train.batch_size,
        shuffle=True,
        drop_last=False,
        seed=run.spec.seed,
        workers=0,
        uniform=run.spec.data.sampling == "uniform",
    )
    model.calibrate(scaled(batch["image"].to(device)) for batch in loader)
    run.task.model = model
    return model.account()


def quantized_tensors(network: GridBoxNet) -> list[QuantizedTensor]:
    """What the convolutions take, and of every addition the term that the export rounds: not the one whose convolution
    adds the other (`export.placement`), which is the shortcut's where it has one."""
    tensors = [QuantizedTensor(("conv1",), ("conv1.input",))]
    for block in network.architecture.sub_blocks():
        name = block.name
        takers = ("conv_1", "conv_shortcut") if block.projection else ("conv_1",)
        tensors += [
            QuantizedTensor((name,), tuple(f"{name}.{conv}.input" for conv in takers)),  # a bare shortcut adds it, too
            QuantizedTensor((f"{name}.conv_2",), (f"{name}.conv_2.input",)),
            QuantizedTensor((f"{name}.bn_2",), (f"{name}.conv_2.output",), output=True, rounded=block.projection),
        ]
        if block.projection:
            shortcut = (f"{name}.conv_shortcut.output",)
            tensors.append(QuantizedTensor((f"{name}.bn_shortcut",), shortcut, output=True, rounded=False))
    return tensors


def _account(run: _Run) -> list[str]:
    """How many pictures there are for what, and what was left out."""
    val, test = len(run.val) if run.val else 0, len(run.sets.test)
    boxes = count_boxes(run.train.samples)
    counts = f"pictures: {len(run.train)} to train on ({boxes} boxes), {val} to validate on, {test} to test on"
    return [counts, *_notes(run), *left_out(_rejections(run))]


def _notes(run: _Run) -> list[str]:
    own = (note for part in (run.train, run.val) if part is not None for note in part.notes)
    return [*run.sets.notes, *dict.fromkeys(own)]


def _rejections(run: _Run) -> list[Rejection]:
    own = (rejection for part in (run.train, run.val) if part is not None for rejection in part.rejections)
    return [*run.sets.rejections, *own]


def _finish(run: _Run, trainer: Trainer) -> Outcome:
    """Measures the best model and writes the report."""
    spec = run.spec
    predictor = Predictor.load(str(trainer.folder.best), spec.train.device)
    results = {
        name: predict_pictures(predictor, samples, spec.data.ignore, spec.metrics)
        for name, samples in (("test", run.sets.test), ("validation", run.sets.val))
        if samples
    }
    write_training_report(
        trainer.folder.path,
        f"FaceNet, {', '.join(run.sets.classes)}",
        _facts(run, trainer),
        trainer.folder.metrics(),
        results,
        _rejections(run),
        _notes(run),
    )
    figures = {name: found.figures for name, found in results.items()}
    return Outcome(figures, [_line(name, values) for name, values in figures.items()])


def _facts(run: _Run, trainer: Trainer) -> dict[str, str]:
    architecture, size = run.task.architecture, run.spec.input
    parameters = sum(p.numel() for p in run.task.model.parameters())
    counts = [len(run.train), len(run.val) if run.val else 0, len(run.sets.test)]
    pruned = ", pruned" if architecture.pruned else ""
    return {
        "model": f"GridBox ResNet-{architecture.num_layers}{pruned}, {parameters:,} parameters",
        "classes": ", ".join(architecture.classes),
        "input": f"{size.width} x {size.height} px, {size.resize}{', grey' if size.grayscale else ''}",
        "pictures": "{} training, {} validation, {} test".format(*counts),
        **training_facts(trainer, run.spec.seed),
    }


def _line(name: str, figures: dict[str, float]) -> str:
    shown = [f"{key} {figures[key]:.3f}" for key in ("ap", "recall", "coco_map") if key in figures]
    return f"{name}: {int(figures['pictures'])} pictures, {int(figures['faces'])} boxes, {', '.join(shown)}"
