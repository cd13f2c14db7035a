"""Every key a spec may hold: its type, default, range and meaning. `default-spec` prints this file's words.

Plain dataclasses, so that a spec is checked, and a wrong key reported, before torch is imported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError


def key(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A field with its one-line meaning and, where it has them, its closed range or its accepted words."""
    metadata = {"help": help, "low": low, "high": high, "choices": choices}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def ordered(section: Any, prefix: str, *pairs: tuple[str, str]) -> None:
    """Raises ConfigError unless the first key of each pair is at most the second."""
    for low, high in pairs:
        if getattr(section, low) > getattr(section, high):
            raise ConfigError(
                f"{prefix}.{low}={getattr(section, low)} is above {prefix}.{high}={getattr(section, high)}"
            )


def compat_key() -> Any:
    """The key `compat`: whose behaviour a verb's defaults are; see `configs.compat`."""
    return key("facetrain", "tao: the defaults of other keys are what TAO does, as docs/from-tao.md lists it; what is "
                            "given goes over them", choices=("facetrain", "tao"))  # fmt: skip


def section(cls: type) -> Any:
    """A nested group of keys, with its own defaults."""
    return field(default_factory=cls)


@dataclass
class SplitConfig:
    """How a validation part is taken from the training samples when data.val is empty."""

    by: str = key("fraction", "what stays together: fraction: a picture, at random; head: TAO's random partition: "
                              "the first pictures of each source by name; sequence: the pictures of a folder, or of a "
                              "pattern's group; subject: those of a person; list: what a file names",
                  choices=("fraction", "head", "sequence", "subject", "list"))  # fmt: skip
    fraction: float = key(0.1, "share of pictures, sequences or subjects to hold out; 0: none", low=0.0, high=0.9)
    folds: int = key(0, "hold out one of so many parts of like size instead; 0: data.split.fraction", low=0, high=1000)
    fold: int = key(0, "which of them, from 0", low=0, high=999)
    pattern: str = key("", "regular expression on a picture's name, its first group tells the sequence or subject")
    list: str = key("", "list: a file of picture names or subjects, one a line, or 'multipie_kpi'; sequence: TAO's "
                        "JSON of sequences and their frames")  # fmt: skip
    seed: int = key(0, "seed of the draw", low=0)

    def __post_init__(self) -> None:
        if self.folds == 1 or self.fold >= max(self.folds, 1):
            raise ConfigError(
                f"data.split.folds={self.folds}, data.split.fold={self.fold}: give 2 folds or more, and a fold from 0 "
                "to folds - 1; folds=0 takes data.split.fraction"
            )
        if self.folds and self.by == "list":
            raise ConfigError(f"data.split.folds={self.folds}: data.split.by=list holds out what its file names")
        if self.pattern and self.by not in ("sequence", "subject"):
            raise ConfigError(f"data.split.pattern: data.split.by={self.by} takes none; take sequence or subject")
        try:
            if self.pattern and not re.compile(self.pattern).groups:
                raise ConfigError(f"data.split.pattern={self.pattern} has no group; put what counts into (brackets)")
        except re.error as error:
            raise ConfigError(f"data.split.pattern={self.pattern} is no regular expression ({error})") from error

    @property
    def holds_out(self) -> bool:
        """Whether a part of the training samples is to be held out at all."""
        return self.by == "list" or self.folds > 0 or self.fraction > 0


@dataclass
class TrainConfig:
    """The loop."""

    epochs: int = key(60, "passes over the training faces", low=1, high=100000)
    batch_size: int = key(32, "faces a step and process", low=1, high=65536)
    accumulate: int = key(1, "batches whose gradients are added up before a step", low=1, high=4096)
    optimizer: str = key("adamw", "adam is TAO's (no weight decay)", choices=("adamw", "adam"))
    learning_rate: float = key(3e-3, "highest learning rate", low=1e-9, high=10.0)
    min_learning_rate: float = key(1e-6, "learning rate at the first and last step", low=1e-12, high=10.0)
    soft_start: float = key(0.05, "share of the run over which the rate rises", low=0.0, high=1.0)
    annealing: float = key(0.05, "share of the run after which the rate falls", low=0.0, high=1.0)
    schedule: str = key("cosine", "shape of the rise and fall: TAO's soft-start annealing is exponential",
                        choices=("exponential", "cosine"))  # fmt: skip
    weight_decay: float = key(1e-4, "decoupled weight decay of adamw, on kernels only", low=0.0, high=10.0)
    clip_norm: float = key(5.0, "largest gradient norm; 0: no clipping", low=0.0, high=1e6)
    ema: float = key(0.998, "decay of the averaged weights that are validated and saved; 0: off", low=0.0, high=0.99999)
    precision: str = key("fp32", "arithmetic of the network; the soft-argmax is always fp32",
                         choices=("fp32", "bf16", "fp16"))  # fmt: skip
    device: str = key("auto", "auto: the GPU of this process, else the CPU", choices=("auto", "cpu", "cuda"))
    qat: bool = key(False, "quantisation-aware training: numbers are rounded as INT8 will round them, from a trained "
                           "model on; the model file keeps the ranges for the export")  # fmt: skip
    sync_bn: bool = key(False, "batch normalisation over all processes of a distributed run; on GPUs only")
    channels_last: bool = key(True, "memory layout of the convolutions; faster almost everywhere")
    resume: str = key("auto", "auto: go on with results_dir's unfinished run; never: begin anew",
                      choices=("auto", "never"))  # fmt: skip
    val_every: int = key(1, "epochs between validations (and checks for the best model)", low=1, high=100000)
    checkpoint_every: int = key(1, "epochs between saves of the resume state", low=1, high=100000)
    early_stopping: int = key(
        0, "validations without a better model before training ends; 0: never", low=0, high=100000
    )
    log_every: int = key(20, "steps between logged losses", low=1, high=1000000)

    def __post_init__(self) -> None:
        ordered(self, "train", ("min_learning_rate", "learning_rate"), ("soft_start", "annealing"))
        if self.qat and self.sync_bn:
            raise ConfigError("train.sync_bn=true: train.qat=true keeps batch normalisation's statistics, leave it out")


@dataclass
class TrackConfig:
    """Where metrics go besides metrics.jsonl and status.json."""

    csv: bool = key(True, "metrics.csv in the run folder")
    tensorboard: bool = key(False, "event files in the run folder (pip install 'facetrain[tensorboard]')")
    wandb: bool = key(False, "Weights & Biases (pip install 'facetrain[wandb]')")
    wandb_mode: str = key("auto", "auto: online when WANDB_API_KEY is set, else offline",
                          choices=("auto", "online", "offline"))  # fmt: skip
    project: str = key("facetrain", "W&B project")
    entity: str = key("", "W&B entity; empty: your default one")
    run_name: str = key("", "W&B run name; empty: the run folder's name")
    pictures: int = key(8, "validation faces drawn for the trackers and the report", low=0, high=64)


@dataclass
class PruneConfig:
    """Which filters are cut."""

    target: str = key("threshold", "what says how much is cut: threshold: that key; parameters, gmac, or latency "
                                   "on this CPU: target_share, by the lowest threshold that gets there",
                      choices=("threshold", "parameters", "gmac", "latency"))  # fmt: skip
    threshold: float = key(0.1, "filters with a larger normalised norm are counted, and so many are kept", low=0.0)
    target_share: float = key(0.5, "share of the parameters, GMACs or latency that may be left", low=0.001, high=1.0)
    normalizer: str = key("max", "norms are taken relative to the layer's largest, or to its L2 norm over the number "
                                 "of filters",
                          choices=("max", "L2"))  # fmt: skip
    equalization: str = key("union", "one norm out of those of layers that are added and so must keep the same "
                                     "filters: union: the largest, intersection: the smallest",
                            choices=("union", "intersection", "arithmetic_mean", "geometric_mean"))  # fmt: skip
    granularity: int = key(8, "kept filters are rounded up to a multiple of this", low=1, high=4096)
    min_filters: int = key(16, "filters that a layer keeps at least; 0: a layer that would lose all is an error",
                           low=0, high=4096)  # fmt: skip
    excluded_layers: list[str] = key([], "layers that stay whole, and with them those that they are added to")
    fold_constants: bool = key(True, "what a cut filter gave without looking goes into the next bias (TAO drops it)")
