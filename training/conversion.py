"""What the verb `convert` does for either network: stores or label files, and a spec that trains on them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from PIL import Image
from rich.console import Console
from rich.progress import track

from ..datasets.sample import DetectionSample, FaceSample, Rejection
from ..datasets.store.fingerprint import fingerprint
from ..datasets.store.store import INDEX, Store
from ..datasets.store.writer import Record, StoreWriter, remove_store
from ..datasets.whole_file import whole_file
from ..errors import DataError

PARTS = ("train", "val", "test")
DATA, REJECTED, PICTURES = "data.yaml", "rejected.txt", "pictures"
READERS = 4  # threads; decoding a picture lets go of the interpreter's lock
AHEAD = 64  # samples read before the next is written

Sample = TypeVar("Sample", FaceSample, DetectionSample)
Source = dict[str, Any]
Encode = Callable[[Any], Sequence[Record] | Rejection]


@dataclass(frozen=True)
class Encoder:
    """How the samples of one part become records.

    Attributes:
        kind, about: as `Store` has them.
        encode: the records of a sample, or why it has none; raises DataError where its picture cannot be read.
    """

    kind: str
    about: dict[str, Any]
    encode: Encode


def write_stores(
    folder: Path, parts: dict[str, Sequence[Any]], encoder: Callable[[str], Encoder], *, append: bool, overwrite: bool
) -> tuple[dict[str, list[Source]], list[Rejection]]:
    """Writes the store of each part that has samples, or goes on with it where an earlier attempt was stopped, and
    reads it again.

    Returns the sources of each part, and the samples that were left out. Raises ConfigError, DataError and WriteError
    as `StoreWriter` does.
    """
    sources: dict[str, list[Source]] = {}
    rejections: list[Rejection] = []
    for part in PARTS:
        if overwrite:
            remove_store(folder / part)
        if parts[part]:
            how = encoder(part)
            mark = fingerprint(parts[part])
            writer = StoreWriter(folder / part, how.kind, how.about, mark, append=append)
            if writer.complete:
                print(f"{folder / part} has these samples already")
            else:
                _fill(writer, parts[part], how.encode)
        if (folder / part / INDEX).is_file():
            rejections += verified(folder / part).left_out()
            sources[part] = [{"format": "store", "path": part}]
    return sources, rejections


def _fill(writer: StoreWriter, samples: Sequence[Any], encode: Encode) -> None:
    if writer.done:
        print(f"{writer.folder}: going on behind sample {writer.done} of {len(samples)}")

    def attempt(position: int) -> Sequence[Record] | Rejection:
        sample = samples[position]
        try:
            return encode(sample)
        except DataError as error:
            # By its name and not by its path: a store has the same bytes wherever the files lie.
            detail = str(error).removeprefix(f"{sample.image}: ")
            return Rejection(f"{sample.source}/{sample.name}", None, "picture unreadable", detail)

    positions = range(writer.done, len(samples))
    with ThreadPoolExecutor(READERS) as pool:
        for position, made in zip(positions, _shown(_ahead(pool, attempt, positions), writer, positions), strict=True):
            if isinstance(made, Rejection):
                writer.step(position + 1, [], made)
            else:
                writer.step(position + 1, made)
    writer.finish()


def _ahead(pool: ThreadPoolExecutor, function: Callable[[int], Any], positions: range) -> Iterator[Any]:
    """The function's results in order, worked on only so far ahead that memory stays small."""
    for start in range(0, len(positions), AHEAD):
        yield from pool.map(function, positions[start : start + AHEAD])


def _shown(results: Iterable[Any], writer: StoreWriter, positions: range) -> Iterable[Any]:
    """The results, with a bar on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return results
    return track(results, description=writer.folder.name, total=len(positions), console=console)


def verify_stores(folder: Path) -> None:
    """Reads every byte of the stores in a folder and compares checksums. Raises DataError at the first that is not as
    it was written, and where there is no store."""
    stores = [part for part in (folder, *(folder / name for name in PARTS)) if (part / INDEX).is_file()]
    if not stores:
        raise DataError(f"{folder} holds no store; give results_dir=FOLDER of an earlier `convert convert.to=store`")
    for store in stores:
        verified(store)


def verified(folder: Path) -> Store:
    """The same of one store."""
    store = Store(folder)
    records = sum(1 for _ in store.verify())
    print(f"{folder}: {records} records in {len(store.shards)} shards are as they were written")
    return store


def with_files(parts: dict[str, Sequence[Sample]], folder: Path) -> dict[str, list[Sample]]:
    """The samples, those without a file of their picture, such as drawn ones, with one below `folder`."""

    def filed(part: str, number: int, sample: Sample) -> Sample:
        if isinstance(sample.image, Path):
            return sample
        path = folder / PICTURES / part / f"{number:06}.png"
        image = sample.image if not hasattr(sample.image, "read") else sample.image.read()
        with whole_file(path) as file:
            Image.fromarray(image).save(file, "PNG")
        return replace(sample, image=path)

    return {part: [filed(part, i, sample) for i, sample in enumerate(samples)] for part, samples in parts.items()}


def by_settings(samples: Sequence[Any], names: Sequence[str]) -> list[tuple[Source, list[Any]]]:
    """The samples in groups that a label file each can hold: of one source, and with the same of its settings `names`,
    which no label file keeps."""
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for sample in samples:
        groups.setdefault((sample.source, *(getattr(sample, name) for name in names)), []).append(sample)
    return [
        ({"name": key[0], **dict(zip(names, key[1:], strict=True))}, group)  # in the order that they came in
        for key, group in groups.items()
    ]


def file_name(part: str, settings: Source, number: int, several: bool) -> str:
    """The name of a group's label file or folder, without suffix."""
    if not several:
        return part
    return f"{part}_{number}_{re.sub(r'[^A-Za-z0-9.-]+', '_', settings['name'])}"


def write_spec(folder: Path, command: str, sources: dict[str, list[Source]], **sections: dict[str, Any]) -> None:
    """Writes data.yaml, that trains on what was converted."""
    data: dict[str, Any] = {"root": str(folder.resolve()), **sections.pop("data", {})}
    data |= {part: sources.get(part, []) for part in PARTS}
    if not sources.get("val"):
        data["split"] = {"fraction": 0.0}
    text = yaml.safe_dump({"data": data, **sections}, sort_keys=False, allow_unicode=True, width=120)
    with whole_file(folder / DATA) as file:
        file.write(f"# {command} -e {DATA}\n{text}".encode())


def write_rejections(folder: Path, rejections: Sequence[Rejection]) -> None:
    """Writes what was left out and why, a line each; an empty file where nothing was."""
    with whole_file(folder / REJECTED) as file:
        file.write("".join(f"{rejection}\n" for rejection in rejections).encode("utf-8", "replace"))
