"""Faults of picture files, whatever is labelled in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ..datasets.image import PictureHead
from .findings import Finding
from .scan import Scan

Found = Callable[[str, str], Finding]  # kind, detail

# Formats by suffix; a phone's JPEG with a second picture inside is MPO to Pillow.
FORMATS = {".jpg": ("JPEG", "MPO"), ".jpeg": ("JPEG", "MPO"), ".png": ("PNG",), ".bmp": ("BMP",)}
TURNS = {2: "mirrored", 3: "180 degrees", 4: "upside down", 5: "transposed", 6: "90 degrees", 7: "transposed",
         8: "270 degrees"}  # fmt: skip


def picture_faults(head: PictureHead | None, fault: str, path: Path, found: Found) -> Iterator[Finding]:
    """What is wrong with or unusual of one file, given what `scan` saw of it."""
    if fault:
        yield found("picture unreadable", fault)
    if head is None:
        return
    if head.format not in FORMATS.get(path.suffix.lower(), (head.format,)):
        yield found("wrongly named", f"a {head.format} file")
    if head.transparent:
        yield found("transparency", f"mode {head.mode}")
    if head.bits > 8:
        yield found("16 bits", f"mode {head.mode}")
    if head.mode == "CMYK":
        yield found("CMYK", "four inks")
    if head.orientation in TURNS:
        yield found("turned by EXIF", f"orientation {head.orientation}: {TURNS[head.orientation]}")


def scan_findings(scan: Scan, paths: list[Path | None], found: Callable[[int, str, str], Finding]) -> list[Finding]:
    """Of all pictures; `found` makes a finding of picture number, kind and detail."""
    findings: list[Finding] = []
    for i, path in enumerate(paths):
        if path is not None:
            findings += picture_faults(scan.heads[i], scan.faults[i], path, partial(found, i))
    return findings
