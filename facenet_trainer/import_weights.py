"""`facenet import-weights`: a model file of DetectNet_v2's ResNets, layer by layer by the names of gridbox §1."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..configs.facenet.schema import ClusteringConfig, FacenetImportWeightsSpec, ModelConfig
from ..datasets.resizing import PicturePreprocessing
from ..errors import ConfigError, ModelFileError
from ..tao.import_results import MODEL, load, write_import
from ..tao.weight_files import read_weights
from ..tao.weights import Account, WeightFile, norm_of, shortened
from ..training.model_file import ModelMeta
from ..training.run_folder import refuse_results
from .network import REPEATS, GridBoxArchitecture, GridBoxNet

EPSILON = 1e-3  # of our batch normalisations, and of the original's
BLOCK = re.compile(r"block_([1-4])([a-z])_conv_1")
HEADS = ("output_bbox", "output_cov")


def import_weights(spec: FacenetImportWeightsSpec) -> Path:
    """Reads `spec.weights` and writes imported.safetensors and weights.csv to `results_dir`; returns the former.

    Raises:
        ConfigError: results stand in the way, or a key does not fit the file.
        ModelFileError: the file cannot be used.
    """
    folder = Path(spec.results_dir)
    refuse_results(folder, MODEL, spec.overwrite)
    file = read_weights(Path(spec.weights), spec.key)
    account = Account(file, "FaceNet")
    network = GridBoxNet(_architecture(account, spec))
    _take(account, network.architecture)
    load(account, network)
    a = network.architecture
    size = file.input_shape or (3, spec.input.height, spec.input.width)
    preprocessing = PicturePreprocessing(size[2], size[1], spec.input.grayscale, spec.input.resize).to_dict()
    PicturePreprocessing.from_dict(preprocessing)
    model = ModelConfig(a.num_layers, a.all_projections, a.use_pooling, a.bbox_scale, a.bbox_offset)
    meta = ModelMeta(
        architecture=a.to_dict(),
        scheme={"classes": list(a.classes)},
        preprocessing=preprocessing,
        config={
            "imported": {"weights": Path(spec.weights).name},
            "model": asdict(model),
            "clustering": asdict(ClusteringConfig()),
        },
    )
    pruned = ", pruned" if a.pruned else ""
    lines = [
        f"ResNet-{a.num_layers}{pruned}, {'all' if a.all_projections else 'first'} shortcuts projected, classes "
        f"{', '.join(a.classes)}, box scale {a.bbox_scale:g} and offset {a.bbox_offset:g}, input {size[2]}x{size[1]}"
    ]
    return write_import(folder, network, meta, account, lines)


def _architecture(account: Account, spec: FacenetImportWeightsSpec) -> GridBoxArchitecture:
    """What the file's layers make. Channel counts are theirs, so a pruned network is rebuilt."""
    file = account.file
    stages = Counter(int(m[1]) for name in file.layers if (m := BLOCK.fullmatch(name)))
    repeats = tuple(stages[stage] for stage in (1, 2, 3, 4))
    depth = next((depth for depth, layout in REPEATS.items() if layout == repeats), None)
    if depth is None or "block_1a_conv_3" in file.layers or "conv1" not in file.layers:
        hint = "; `fpenet import-weights` reads FPENet's" if _is_fpenet(file) else ""
        raise ModelFileError(
            f"{file.path} is no ResNet-10, -18 or -34 of DetectNet_v2, which has conv1, block_1a_conv_1 and on{hint}; "
            f"the file's layers are {shortened(list(file.layers))}"
        )
    if missing := [head for head in HEADS if head not in file.layers]:
        raise ModelFileError(
            f"{file.path} has no {' and no '.join(missing)}: it is a backbone or another task's network; give a file "
            "that DetectNet_v2's train, prune or export wrote"
        )
    count = account.tensor("output_cov", "kernel", 4).shape[0]
    if count != len(spec.classes):
        raise ConfigError(
            f"classes={spec.classes}, but {file.path} has {count}: name them in the order of TAO's target_classes"
        )
    projections = _projections(file, repeats)
    convs = [layer.name for layer in file.layers.values() if "kernel" in layer.tensors and layer.name not in HEADS]
    return GridBoxArchitecture(
        num_layers=depth,
        all_projections=projections,
        use_pooling=file.max_pool if file.whole else spec.use_pooling,
        classes=tuple(spec.classes),
        channels={name: account.tensor(name, "kernel", 4).shape[0] for name in convs},
        bbox_scale=spec.bbox_scale,
        bbox_offset=spec.bbox_offset,
    )


def _is_fpenet(file: WeightFile) -> bool:
    return any(name.startswith("conv_keypoints") for name in file.layers)


def _projections(file: WeightFile, repeats: tuple[int, ...]) -> bool:
    """Whether every shortcut has a convolution. In a ResNet-10 each has one anyway."""
    return repeats == REPEATS[10] or "block_1b_conv_shortcut" in file.layers


def _take(account: Account, architecture: GridBoxArchitecture) -> None:
    _take_pair(account, "conv1", "conv1", "bn_conv1")
    for block in architecture.sub_blocks():
        for part in ("1", "2", *(["shortcut"] if block.projection else [])):
            name = f"{block.name}_conv_{part}"
            _take_pair(account, name, f"{block.name}.conv_{part}", f"{block.name}.bn_{part}")
    for head in HEADS:
        account.take(head, "kernel", f"{head}.weight", 4)
        account.take(head, "bias", f"{head}.bias", 1)


def _take_pair(account: Account, layer: str, conv: str, bn: str) -> None:
    """A convolution and its batch normalisation; one that the file has made part of the convolution passes on."""
    kernel = account.tensor(layer, "kernel", 4)
    channels = kernel.shape[0]
    account.take(layer, "kernel", f"{conv}.weight", 4)
    if "bias" in account.layer(layer).tensors:
        account.take(layer, "bias", f"{conv}.bias", 1)
    else:
        account.put("", np.zeros(channels, np.float32), f"{conv}.bias", "the file has no bias here")
    norm = norm_of(layer)
    targets = [f"{bn}.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    passing = np.full(channels, 1 - EPSILON, np.float32)
    if norm not in account.file.layers:
        for target, value in zip(targets, (ones, zeros, zeros, passing), strict=True):
            account.put("", value, target, "passes on: the file has no batch normalisation here")
        return
    found = account.layer(norm)
    if "scale" in found.tensors:
        account.take(norm, "scale", targets[0], 1)
        account.take(norm, "shift", targets[1], 1)
        for target, value in ((targets[2], zeros), (targets[3], passing)):
            account.put("", value, target, "the file keeps only what the normalisation amounts to")
        return
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    gamma, beta, mean, variance = (account.tensor(norm, name, 1) for name in names)
    if variance.min() < 0:
        raise ModelFileError(f"{account.file.path}: {norm}/moving_variance is below 0; the file is damaged")
    note = ""
    if found.epsilon is not None and abs(found.epsilon - EPSILON) > 1e-3 * EPSILON:
        wide = variance.astype(np.float64)
        gamma = (gamma * np.sqrt((wide + EPSILON) / (wide + found.epsilon))).astype(np.float32)
        note = f"for an epsilon of {EPSILON:g}; the file's is {found.epsilon:g}"
    for name, target, value in zip(names, targets, (gamma, beta, mean, variance), strict=True):
        account.put(f"{norm}/{name}", value, target, note if name == "gamma" else "")
