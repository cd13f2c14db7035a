"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import WriteError


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, that takes its name when it is complete and on the disk: a reader, or a crash at any moment,
    meets the old content or the new, never a part. Folders on the way are made.

    Raises WriteError where the disk refuses (full, read-only); the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise WriteError(
            f"cannot write {path}: {error.strerror or error}. What stood there before is intact; make room and run "
            "the same command again to go on"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def sync_folder(folder: Path) -> None:
    """Puts the names in a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
