"""The keys of `import-spec` that both networks have."""

from __future__ import annotations

from dataclasses import dataclass

from .compat import HELP, NAMES
from .schema import key


@dataclass
class ImportSpecConfig:
    """Which spec is read, and what is written."""

    spec: str = key("", "a spec of TAO's: FPENet's YAML, or the text of DetectNet_v2's; a part of one will do")
    output: str = key("", "the YAML to write; empty: it is printed")
    overwrite: bool = key(False, "write over a file that stands there")
    compat: str = key("facetrain", HELP.replace("this verb's defaults are", "keep"), choices=NAMES)
