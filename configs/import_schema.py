"""The keys of `import-spec` and `import-weights` that both networks have."""

from __future__ import annotations

from dataclasses import dataclass

from .schema import compat_key, key


@dataclass
class ImportSpecConfig:
    """Which spec is read, and what is written."""

    spec: str = key("", "a spec of TAO's: FPENet's YAML, or the text of DetectNet_v2's; a part of one will do")
    output: str = key("", "the YAML to write; empty: it is printed")
    overwrite: bool = key(False, "write over a file that stands there")
    compat: str = compat_key()


@dataclass
class ImportWeightsConfig:
    """Which weights are read, and over what the model file may be written."""

    weights: str = key("", "TAO's file: Keras' .hdf5 or .h5 (a model or weights), .onnx, or an encrypted .tlt or .etlt")
    overwrite: bool = key(False, "write over results that stand there")
    key: str = key("", "what a .tlt or .etlt was encrypted with; NGC's: nvidia_tlt")  # the last: it hides the function
