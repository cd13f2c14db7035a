"""What `convert` writes, for both trainers."""

from __future__ import annotations

from dataclasses import dataclass

from .schema import key


@dataclass
class ConvertConfig:
    """What is written, and how."""

    image_root: str = key("", "label files: folder that pictures are named from; empty: data.root")
    append: bool = key(False, "store: add to the stores that stand in results_dir")
    verify: bool = key(False, "convert nothing: read every byte of the stores in results_dir and compare checksums")


@dataclass
class FaceConvertConfig(ConvertConfig):
    """What is written, and how."""

    to: str = key("store", "store: crops and labels in the fast format; else label files",
                  choices=("store", "fpenet_json", "coco"))  # fmt: skip


@dataclass
class PictureConvertConfig(ConvertConfig):
    """What is written, and how."""

    to: str = key("store", "store: decoded pictures and labels in the fast format; else label files",
                  choices=("store", "coco", "kitti"))  # fmt: skip
    longest_side: int = key(1472, "store: pictures with a longer side are shrunk to it, pixels; 0: none is", low=0)
