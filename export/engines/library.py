"""TensorRT and TensorRT-RTX: two libraries with one interface, chosen by name and imported where they are used."""

from __future__ import annotations

import importlib
import re
from collections import deque
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch
from packaging.version import Version

from ...errors import ExportError


@dataclass(frozen=True)
class Flavour:
    """One of the two libraries.

    Attributes:
        title: its name for people.
        oldest: the first version that has all that is used here.
        install: the line that installs it.
    """

    title: str
    oldest: str
    install: str


FLAVOURS = {
    "tensorrt": Flavour(
        "TensorRT",
        "10.0",
        "pip install 'facetrain[tensorrt]' (its libraries lie on NVIDIA's own index, so plain `pip install tensorrt` "
        "may need --extra-index-url https://pypi.nvidia.com)",
    ),
    "tensorrt_rtx": Flavour("TensorRT-RTX", "1.1", "pip install 'facetrain[tensorrt-rtx]'"),
}


def load_library(flavour: str) -> Any:
    """The module of that name.

    Raises:
        ExportError: it is not installed, too old, or cannot be imported; the message has the line that installs it.
    """
    known = FLAVOURS[flavour]
    try:
        library = importlib.import_module(flavour)
    except ModuleNotFoundError as error:
        if error.name == flavour:
            raise ExportError(f"{known.title} is not installed: {known.install}") from None
        raise _broken(known, error) from error
    except (ImportError, OSError, RuntimeError) as error:  # a library that it is linked against
        raise _broken(known, error) from error
    if not hasattr(library, "Builder"):  # a folder of that name imports as well
        raise ExportError(f"{known.title} is not installed: {known.install}")
    if Version(library.__version__) < Version(known.oldest):
        raise ExportError(
            f"{known.title} {library.__version__} is too old, {known.oldest} or later is needed: {known.install}"
        )
    return library


def _broken(known: Flavour, error: Exception) -> ExportError:
    return ExportError(f"{known.title} is installed but cannot be imported ({error}): {known.install}")


@cache
def log_of(library: ModuleType) -> Any:
    """Where a library writes its messages: it keeps errors and warnings, and shows none.

    One for the whole process: the library goes on using the first that it is handed.
    """

    class Log(library.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=20)
            self.warnings: deque[str] = deque(maxlen=20)

        def log(self, severity: Any, message: str) -> None:
            kinds = library.ILogger.Severity
            if severity in (kinds.ERROR, kinds.INTERNAL_ERROR):
                self.errors.append(message)
            elif severity == kinds.WARNING:
                self.warnings.append(message)

        def take(self) -> str:
            """The errors since the last call, in one line."""
            text = plain("\n".join(self.errors))
            self.errors.clear()
            self.warnings.clear()
            return text

    return Log()


def plain(text: str) -> str:
    """A library's message in one line, without its complaints that there is no GPU where it needs none."""
    lines = [line for line in text.splitlines() if "cudaError" not in line or re.match(r"I(Runtime|Builder)::", line)]
    sentence = re.sub(r"\s*In \w+ at /_src/[^\s)]+", "", " ".join(lines))  # a place in its own source
    return " ".join(sentence.split()).rstrip(".")[:400]


def instance(library: Any, kind: str) -> Any:
    """The library's Builder or Runtime. Raises ExportError when it does not start, for its CUDA's or driver's sake."""
    log = log_of(library)
    log.take()
    try:
        return getattr(library, kind)(log)
    except (TypeError, RuntimeError) as error:
        raise ExportError(
            f"{library.__name__} {library.__version__} does not start: {log.take() or error}. The GPU's driver must be "
            "as new as the CUDA that the library was built for: see `fpenet doctor`"
        ) from None


def gpu_facts(device: torch.device | None = None) -> dict[str, str] | None:
    """Name and compute capability, such as "8.6", of a GPU; None where there is none."""
    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability(device)
    return {"name": torch.cuda.get_device_name(device), "compute_capability": f"{major}.{minor}"}
