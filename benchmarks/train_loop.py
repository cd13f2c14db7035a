"""`fpenet train` and `facenet train`, from pictures to checkpoints, beside the bare step on resident tensors.

    python benchmarks/train_loop.py fpenet [--batch 64] [--steps 25] [--rounds 4]
    python benchmarks/train_loop.py facenet --batch 4
    python benchmarks/train_loop.py facenet --batch 16 --crop 192

A bare step is forward, loss, backward and optimiser. Both train the same network at the same precision in the same
process, in turn, so that the machine's speed of the moment is the same for both. Prints samples a second of each and
the ratio, of every round and of all together. The last round writes the models and the resume state: the recipes do so
every few hundred steps. FaceNet learns from drawn scenes, whole or in windows around faces.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import torch

from facetrain.configs.compose import load_spec
from facetrain.configs.facenet.schema import FacenetTrainSpec
from facetrain.configs.fpenet.schema import FpenetTrainSpec
from facetrain.facenet_trainer.train import prepare as prepare_facenet
from facetrain.fpenet_trainer.train import prepare as prepare_fpenet
from facetrain.training.allocator import keep_memory
from facetrain.training.command import build_trainer
from facetrain.training.distributed import process_group
from facetrain.training.loop import Trainer
from facetrain.training.run_folder import RunFolder

PROGRAMS = {"fpenet": (FpenetTrainSpec, prepare_fpenet), "facenet": (FacenetTrainSpec, prepare_facenet)}
DATA = {
    "fpenet": ["data.train=[{format: synthetic, count: %d}]", "data.drop_duplicates=false"],
    "facenet": [
        "data.train=[{format: scenes, count: %d}]",
        "loss.coverage=focal",
        "loss.bbox=giou",
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", choices=PROGRAMS, nargs="?", default="fpenet")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--crop", type=int, default=0, help="facenet: side of windows around faces; 0: whole pictures")
    parser.add_argument("--steps", type=int, default=25, help="steps a round")
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    samples = arguments.batch * arguments.steps
    keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        schema, prepare = PROGRAMS[arguments.program]
        first, *others = DATA[arguments.program]
        if arguments.crop:
            others += [f"augment.crop_width={arguments.crop}", f"augment.crop_height={arguments.crop}"]
            others.append("augment.random_crop_probability=1")
        spec = load_spec(
            schema,
            [
                first % samples,
                *others,
                "data.split.fraction=0",
                f"train.batch_size={arguments.batch}",
                f"train.epochs={arguments.rounds + 1}",
                f"train.checkpoint_every={arguments.rounds + 1}",
                f"results_dir={folder}/run",
            ],
        )
        with process_group("cpu") as processes:
            run_folder = RunFolder(spec.results_dir)
            run_folder.begin({}, resume=False, overwrite=False)
            trainer = build_trainer(spec, prepare(spec, processes), run_folder, processes)
            trainer.trackers.start({}, 0)
            compare(trainer, arguments.rounds)


def compare(trainer: Trainer, rounds: int) -> None:
    """Times one epoch of the trainer and as many bare steps, `rounds` times after a first round that warms up."""
    from facetrain.training.progress import TrainingProgress

    batch = next(iter(trainer.train_loader))
    spent = []
    for epoch in range(rounds + 1):
        start = time.perf_counter()
        for _ in range(trainer.steps_per_epoch):
            bare_step(trainer, batch)
        bare = time.perf_counter() - start
        start = time.perf_counter()
        with TrainingProgress(rounds, trainer.steps_per_epoch, enabled=False) as progress:
            trainer._train_epoch(epoch, progress)
            trainer._end_epoch(epoch, progress)
        whole = time.perf_counter() - start
        if epoch:
            samples = trainer.steps_per_epoch * len(batch["image"])
            spent.append((bare, whole))
            rates = f"bare {samples / bare:6.1f} samples/s   train {samples / whole:6.1f} samples/s"
            print(f"{rates}   ratio {bare / whole:.3f}")
    bare, whole = (sum(times) for times in zip(*spent, strict=True))
    print(f"ratio {bare / whole:.3f} over {rounds} rounds, batch {len(batch['image'])}")


def bare_step(trainer: Trainer, batch: dict[str, torch.Tensor]) -> None:
    """Forward, loss, backward, step; nothing else."""
    trainer.optimizer.zero_grad(set_to_none=True)
    trainer.network.train()
    trainer.task.step(trainer.network, batch, 0)["loss"].backward()
    trainer.optimizer.step()


if __name__ == "__main__":
    main()
