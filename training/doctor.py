"""`doctor`: what this machine has, what is missing, and the command that gets it. Uses no network."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table

from .. import __version__

ROOT = Path(__file__).resolve().parents[1]
IMPORT_NAMES = {"hydra-core": "hydra", "opencv-python-headless": "cv2", "pillow": "PIL", "protobuf": "google.protobuf",
                "pyyaml": "yaml"}  # fmt: skip
NOT_FOR_USERS = ("all", "dev")  # extras


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        what: the thing looked at.
        found: its version, or what is wrong with it.
        state: "ok"; "absent", which only closes some feature; or "broken", which stops training.
        remedy: what to do, a command where there is one.
    """

    what: str
    found: str
    state: str = "ok"
    remedy: str = ""


def doctor(console: Console | None = None) -> int:
    """Prints findings and remedies. Returns 0 when training can run here, 1 when something that it needs is broken."""
    console = console or Console()
    colours = {"ok": "green", "absent": "yellow", "broken": "red"}
    table = Table("", "found", "state", title=f"facetrain {__version__}", title_justify="left")
    findings = list(examine())
    for finding in findings:
        table.add_row(finding.what, finding.found, f"[{colours[finding.state]}]{finding.state}")
    console.print(table)
    for finding in findings:
        if finding.remedy:
            console.print(f"{finding.what}: {finding.remedy}", markup=False, highlight=False, soft_wrap=True)
    broken = [finding.what for finding in findings if finding.state == "broken"]
    console.print(f"Training cannot run: {', '.join(broken)}" if broken else "Training can run here.", style="bold")
    return 1 if broken else 0


def examine(root: Path = ROOT) -> Iterator[Finding]:
    """All findings, in the order of the table. Nothing that is absent or broken makes it raise.

    `root` is the folder that facetrain is installed in, where its model files lie.
    """
    yield Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield from _packages()
    for check in (_torch_pair, _processors, _gpus, _distributed):
        try:
            yield from check()
        except Exception as error:  # a broken torch, say, which has its own line by then
            yield Finding(check.__name__.strip("_").replace("_", " "), _reason(error), "broken")
    yield from _zoo(root)


def _packages() -> Iterator[Finding]:
    """Every requirement of facetrain's own metadata, then those of its extras."""
    try:
        requirements = [Requirement(line) for line in metadata.requires("facetrain") or []]
    except metadata.PackageNotFoundError:
        yield Finding("facetrain", "not installed", "broken", "pip install -e . in the checkout")
        return
    extras = metadata.metadata("facetrain").get_all("Provides-Extra") or []
    for requirement in requirements:
        if _wanted(requirement):
            yield _package(requirement, "broken", f"pip install '{requirement.name}{requirement.specifier}'")
    for extra in extras:
        if extra in NOT_FOR_USERS:
            continue
        for requirement in requirements:
            if not _wanted(requirement) and _wanted(requirement, extra):
                yield _package(requirement, "absent", f"pip install 'facetrain[{extra}]'")


def _wanted(requirement: Requirement, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _package(requirement: Requirement, otherwise: str, remedy: str) -> Finding:
    """Whether a package is there, imports, and has a version that will do; `otherwise` is its state if not."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks for updates over the network when imported
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    name = requirement.name
    try:
        module = importlib.import_module(IMPORT_NAMES.get(name, name.replace("-", "_")))
    except ModuleNotFoundError:
        return Finding(name, "not installed", otherwise, remedy)
    except Exception as error:  # a library that is missing below it, or two packages that do not fit
        return Finding(name, f"installed, but fails: {_reason(error)}", otherwise, remedy)
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:  # another package gives the module, such as opencv-python
        version = str(getattr(module, "__version__", ""))
    if not version:
        return Finding(name, "not installed", otherwise, remedy)  # a folder of that name, which imports as well
    if not requirement.specifier.contains(version, prereleases=True):
        return Finding(name, f"{version}, needs {requirement.specifier}", otherwise, remedy)
    return Finding(name, version)


def _torch_pair() -> Iterator[Finding]:
    """torchvision's compiled operators exist only beside the torch that they were built for."""
    import torch

    major, minor = torch.__version__.split(".")[:2]
    remedy = f"pip install 'torch=={major}.{minor}.*' 'torchvision==0.{int(minor) + 15}.*'"  # since torch 2.0
    try:
        importlib.import_module("torchvision.ops").nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except Exception as error:
        yield Finding("torch with torchvision", f"do not fit: {_reason(error)}", "broken", remedy)
    else:
        yield Finding("torch with torchvision", "fit")


def _processors() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    info = Path("/proc/cpuinfo")
    words = set(info.read_text().split()) if info.exists() else set()
    native = sorted(words & {"avx512_bf16", "amx_bf16", "bf16", "asimdbf16"})
    bf16 = f"bf16 in hardware ({', '.join(native)})" if native else "no bf16 in hardware: fp32 is faster"
    yield Finding("CPU", f"{cores} of {os.cpu_count()} cores usable, {bf16}")


def _gpus() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        remedy = "training runs on the CPU; for a GPU see `nvidia-smi` and https://pytorch.org/get-started"
        yield Finding("GPU", f"none that PyTorch ({built}) can use", "absent", remedy)
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        text = f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, compute capability {facts.major}.{facts.minor}"
        try:
            torch.ones(8, device=f"cuda:{index}").sum().item()
        except Exception as error:  # a card older or newer than the build knows
            remedy = "pip install another build of torch, from https://pytorch.org/get-started, or train.device=cpu"
            yield Finding(f"GPU {index}", f"{text}: fails: {_reason(error)}", "broken", remedy)
        else:
            yield Finding(f"GPU {index}", text + (", bf16" if facts.major >= 8 else ", no bf16 in hardware"))


def _distributed() -> Iterator[Finding]:
    import torch.distributed as dist

    backends = {"gloo": dist.is_available() and dist.is_gloo_available()}
    backends["nccl"] = dist.is_available() and dist.is_nccl_available()
    there = [name for name, available in backends.items() if available]
    yield Finding("distributed", ", ".join(there) or "no back-end: one process only", "ok" if there else "absent")


def _zoo(root: Path) -> Iterator[Finding]:
    """The model files that come with facetrain."""
    files = sorted(root.glob("*_trainer/zoo/*.safetensors"))
    remedy = "pip install --force-reinstall --no-deps facetrain"
    if not files:
        yield Finding("zoo", "no model file came with this installation", "absent", remedy)
    for file in files:
        try:
            from .model_file import load_model  # imports torch, which may be what is broken

            weights, meta = load_model(file)
        except Exception as error:
            yield Finding(f"zoo {file.stem}", _reason(error), "absent", remedy)
        else:
            parameters = sum(tensor.numel() for tensor in weights.values())
            yield Finding(f"zoo {file.stem}", f"{meta.architecture.get('network')}, {parameters:,} parameters")


def _reason(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:160]
