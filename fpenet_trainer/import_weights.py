"""`fpenet import-weights`: a model file of TAO's FPENet weights, layer by layer by the names of fpenet §1.1."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

from ..configs.fpenet.schema import FpenetImportWeightsSpec, ModelConfig
from ..datasets.preprocessing import Preprocessing
from ..errors import ConfigError, ModelFileError
from ..tao.import_results import MODEL, load, write_import
from ..tao.weight_files import read_weights
from ..tao.weights import Account, WeightFile, shortened
from ..training.model_file import ModelMeta
from ..training.run_folder import refuse_results
from .network import Architecture, RecombinatorNet
from .schemes import load_scheme

BLOCK = re.compile(r"block_(\d+)[a-z]_conv_(\d+)")
# Our convolutions of each block, in the order of the blocks' numbers, which need not begin at 1 (quirk 16).
BLOCKS = (
    *((f"encoder.{i}",) for i in range(4)),
    ("trunk.0", "trunk.1", "trunk.2"),
    *((f"decoder.{i}.0", f"decoder.{i}.1") for i in range(4)),
)
WIDTH = 64


def import_weights(spec: FpenetImportWeightsSpec) -> Path:
    """Reads `spec.weights` and writes imported.safetensors and weights.csv to `results_dir`; returns the former.

    Raises:
        ConfigError: results stand in the way, or a key is missing or does not fit the file.
        ModelFileError: the file cannot be used.
    """
    folder = Path(spec.results_dir)
    refuse_results(folder, MODEL, spec.overwrite)
    file = read_weights(Path(spec.weights), spec.key)
    account = Account(file, "FPENet")
    network = _network(account, _beta(file, spec.beta))
    load(account, network)
    a = network.architecture
    model = ModelConfig(
        variant=a.variant, num_keypoints=a.num_keypoints, upsampling=a.upsampling, beta=a.beta, scheme=spec.scheme
    )
    size = file.input_shape[1] if file.input_shape else spec.input_size
    meta = ModelMeta(
        architecture=a.to_dict(),
        scheme=load_scheme(spec.scheme, a.num_keypoints).to_dict(),
        preprocessing=Preprocessing(
            size, spec.crop.source, spec.crop.enlarge, spec.crop.shift_x, spec.crop.shift_y
        ).to_dict(),
        config={"imported": {"weights": Path(spec.weights).name}, "model": asdict(model)},
    )
    pruned = ", pruned" if a.channels else ""
    lines = [
        f"FpeNet_{a.variant}{pruned}, {a.num_keypoints} points, up-sampling by {a.upsampling}, beta {a.beta:g}, crops "
        f"of {size} pixels, values 0 to 255 as they are"
    ]
    return write_import(folder, network, meta, account, lines)


def _beta(file: WeightFile, asked: float) -> float:
    if file.beta is not None and file.beta > 0:
        if asked and abs(asked - file.beta) > 1e-6 * file.beta:
            raise ConfigError(f"beta={asked:g}, but {file.path} has {file.beta:g}: leave the key out")
        return round(file.beta, 7)  # a float32 of an ONNX file is 0.1 again
    if not asked:
        raise ConfigError(
            f"{file.path} does not say beta, the sharpness of the soft-argmax, without which its weights mean nothing: "
            "give beta=, that of the training spec (0.1 in TAO's notebook, 0.01 in its default spec)"
        )
    return asked


def _network(account: Account, beta: float) -> RecombinatorNet:
    """The network that the file's layers make, and on the account where each of them goes."""
    file = account.file
    places = _blocks(file)
    ups = sorted((name for name in file.layers if name.startswith("conv2d_transpose_")), key=_last_number)
    if len(ups) not in (0, 4):
        raise ModelFileError(f"{file.path} has {len(ups)} transposed convolutions; FPENet has 4 or none")
    places |= {f"up.{i}": name for i, name in enumerate(ups)}
    head, neck = _heads(file)
    if neck:
        places["neck"] = neck
    channels, kernels = {}, {}
    for ours, theirs in places.items():
        kernel = account.tensor(theirs, "kernel", 4)
        channels[ours], kernels[ours] = kernel.shape[1 if ours.startswith("up.") else 0], kernel.shape[2]
        module = ours if ours.startswith("up.") else f"{ours}.0"
        account.put(f"{theirs}/kernel", kernel, f"{module}.weight")
        if not ours.startswith("up."):
            account.take(theirs, "bias", f"{module}.bias", 1)
    account.take(head, "kernel", "keypoints.weight", 4)
    account.take(head, "bias", "keypoints.bias", 1)
    wide = kernels["decoder.0.0"] == 5
    variant = "base_5x5_conv" if wide else "public" if not neck else "base" if ups else "release"
    if wide and neck:
        raise ModelFileError(f"{file.path} has 5x5 convolutions and {neck}, which no FpeNet_* has both")
    architecture = Architecture(
        variant=variant,
        num_keypoints=account.weights["keypoints.weight"].shape[0],
        upsampling="deconv" if ups else "nearest",
        width=WIDTH,
        beta=beta,
        input_scale=1.0,
        channels=channels if any(count != WIDTH for count in channels.values()) else {},
    )
    return RecombinatorNet(architecture)


def _blocks(file: WeightFile) -> dict[str, str]:
    """Our convolutions and the file's layers that they are."""
    found: dict[int, dict[int, str]] = defaultdict(dict)
    for name in file.layers:
        if match := BLOCK.fullmatch(name):
            found[int(match[1])][int(match[2])] = name
    layout = [tuple(block[i] for i in sorted(block)) for _, block in sorted(found.items())]
    if [len(block) for block in layout] != [len(block) for block in BLOCKS]:
        hint = "; `facenet import-weights` reads DetectNet_v2's" if "output_cov" in file.layers else ""
        raise ModelFileError(
            f"{file.path} is no FPENet, which has blocks of 1, 1, 1, 1, 3, 2, 2, 2 and 2 convolutions called "
            f"block_1a_conv_1 and on{hint}; the file's layers are {shortened(list(file.layers))}"
        )
    ours = [name for block in BLOCKS for name in block]
    return dict(zip(ours, [name for block in layout for name in block], strict=True))


def _heads(file: WeightFile) -> tuple[str, str]:
    """The layers of the keypoint maps and of the head before them; "" where there is none (§1.2)."""
    heads = [name for name in file.layers if name.startswith("conv_keypoints_m")]
    neck = f"conv_keypoints_m{WIDTH}" if len(heads) == 2 else ""
    last = [name for name in heads if name != neck]
    if len(last) != 1:
        raise ModelFileError(f"{file.path} has {len(heads)} layers conv_keypoints_m*; FPENet has one or two")
    return last[0], neck


def _last_number(name: str) -> int:
    return int(name.rsplit("_", 1)[-1]) if name.rsplit("_", 1)[-1].isdigit() else 0
