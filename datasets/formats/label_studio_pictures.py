"""Where the pictures of a Label Studio export lie on this machine.

The addresses that it writes: `/data/upload/<project>/<8 hex digits>-<name>` for uploaded files, `/data/local-files/?d=
<path>` for local storage, and `http(s)://`, `s3://`, `gs://` or `azure-blob://` for the others
(https://labelstud.io/guide/storage).
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from ..frame import Fault
from ..image import IMAGE_SUFFIXES
from ..source_files import picture_name

_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # the prefix that keeps uploaded names apart


def address_path(address: str) -> str:
    """The path within an address, without host, query and escapes; "" where there is none."""
    try:
        parts = urlsplit(address.replace("\\", "/"))
        given = parse_qs(parts.query).get("d") or [unquote(parts.path)]
    except ValueError:  # such as half an IPv6 host
        return ""
    return given[0].replace("\\", "/")


class LocalPictures:
    """The pictures below a folder, found by address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, address: str) -> Path | Fault:
        """The picture at the longest tail of the address's path below the folder; else the only one anywhere below it
        that has its name, with or without the prefix of uploads. Raises BrokenLabel when it names no file."""
        parts = PurePosixPath(address_path(address)).parts
        name = picture_name(parts[-1] if parts else "", f"the end of {address!r:.120}")
        if ".." not in parts:
            tails = (self.folder.joinpath(*parts[start:]) for start in range(int(parts[0] == "/"), len(parts)))
            for tail in tails:
                if os.path.isfile(tail):  # Path.is_file raises on names that the system cannot have
                    return tail
        uploaded = _UPLOADED.fullmatch(name)
        for wanted in (name, uploaded[1] if uploaded else name):
            found = self._by_name.get(wanted, [])
            if len(found) == 1:
                return found[0]
            if found:
                return "broken label", f"{len(found)} pictures are called {wanted}, such as {found[0]} and {found[1]}"
        return "image missing", f"{address!r:.200}: no {name} below {self.folder}; put it there, or set image_root"

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        names: dict[str, list[Path]] = defaultdict(list)
        for file in sorted(self.folder.rglob("*")):
            if file.suffix.lower() in IMAGE_SUFFIXES:
                names[file.name].append(file)
        return names
