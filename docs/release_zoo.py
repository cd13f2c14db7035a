"""Turns a trained model file into a zoo file: half precision, and no folder of the machine it was trained on.

python docs/release_zoo.py results/fpenet_300w/best.safetensors fpenet_trainer/zoo/fpenet_68.safetensors
"""

import sys
from dataclasses import replace
from pathlib import Path

from facetrain.training.model_file import load_model, save_model


def main(source: str, target: str) -> None:
    weights, meta = load_model(source)
    config = {**meta.config, "results_dir": ""}
    config["data"] = {**config["data"], "root": ""}
    config["train"] = {**config["train"], "pretrained": Path(config["train"]["pretrained"]).name}
    save_model(Path(target), weights, replace(meta, config=config), half=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
