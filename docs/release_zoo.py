"""Turns a trained model file into a zoo file: half precision, and no folder of the machine it was trained on.

python docs/release_zoo.py results/fpenet_300w/best.safetensors fpenet_trainer/zoo/fpenet_68.safetensors
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from facetrain.training.model_file import load_model, save_model


def main(source: str, target: str) -> None:
    weights, meta = load_model(source)
    config = relative({**meta.config, "results_dir": "", "data": {**meta.config["data"], "root": ""}})
    save_model(Path(target), weights, replace(meta, config=config), half=True)


def relative(value: Any) -> Any:
    """The same without the folders of absolute paths."""
    if isinstance(value, dict):
        return {key: relative(item) for key, item in value.items()}
    if isinstance(value, list):
        return [relative(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


if __name__ == "__main__":
    main(*sys.argv[1:])
