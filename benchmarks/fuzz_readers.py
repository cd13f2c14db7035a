"""Fuzzes the readers of labels for as long as one likes: no crash, no hang, no silent acceptance.

    python benchmarks/fuzz_readers.py --minutes 10
    python benchmarks/fuzz_readers.py --engine atheris --minutes 10 --only csv coco

`random` spoils right files in ways that each kind of file knows; `atheris` (pip install atheris) follows the code's
branches. Ends with 1 where a reader did not stand a file, which then lies in the folder
`--keep`; `--file` tries it again.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

SLOWEST = 20  # seconds of the processor for one file


def targets() -> dict[str, Any]:
    """Every reader by its name, with what writes the pictures that its files name."""
    from facetrain.tests.datasets import fuzz_boxes, fuzz_faces  # where atheris can look on

    faces = {f"faces/{name}": (target, fuzz_faces.prepare) for name, target in fuzz_faces.TARGETS.items()}
    boxes = {f"boxes/{name}": (target, fuzz_boxes.prepare) for name, target in fuzz_boxes.TARGETS.items()}
    return faces | boxes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0, help="for each reader")
    parser.add_argument("--engine", choices=("random", "atheris"), default="random")
    parser.add_argument("--only", nargs="*", default=[], help="readers whose name holds one of these words; all")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", type=Path, default=Path("fuzz"), help="folder for files that a reader does not stand")
    parser.add_argument("--file", type=Path, help="try this one file with the one reader of --only")
    parser.add_argument("--child", help=argparse.SUPPRESS)  # the reader that this process hands to atheris
    arguments = parser.parse_args()
    if arguments.child:
        _atheris_child(arguments.child, arguments)
    chosen = [n for n in targets() if not arguments.only or any(word in n for word in arguments.only)]
    if arguments.file:
        (name,) = chosen
        with tempfile.TemporaryDirectory() as place:
            print(name, _reader(name, Path(place))(arguments.file.read_bytes()))
    else:
        fuzz = _random if arguments.engine == "random" else _atheris
        failed = [name for name in chosen if not fuzz(name, arguments)]
        print(f"{len(chosen)} readers, {len(failed)} failed: {', '.join(failed) or 'none'}")
        sys.exit(bool(failed))


def _random(name: str, arguments: argparse.Namespace) -> bool:
    """Files spoilt at random until the time is over."""
    from facetrain.tests.datasets.fuzzing import spoilt

    target = targets()[name][0]
    chance, outcomes = random.Random(f"{name} {arguments.seed}"), Counter[str]()
    signal.signal(signal.SIGPROF, _hangs)
    end = time.monotonic() + arguments.minutes * 60
    with tempfile.TemporaryDirectory() as place:
        read = _reader(name, Path(place))
        while time.monotonic() < end:
            data = spoilt(target, chance.choice(target.seeds), chance)
            signal.setitimer(signal.ITIMER_PROF, SLOWEST)
            try:
                outcomes[read(data)] += 1
            except Exception:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                kept = arguments.keep / f"{name.replace('/', '_')}_{arguments.seed}_{outcomes.total()}"
                kept.write_bytes(data)
                print(f"{name}: seed {arguments.seed}, file {outcomes.total()}, kept as {kept}", flush=True)
                traceback.print_exc()
                return False
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
    print(f"{name:28} {outcomes.total():9,} files in {arguments.minutes:g} minutes: {dict(outcomes)}", flush=True)
    return True


def _hangs(*_: object) -> None:
    raise AssertionError(f"a file takes more than {SLOWEST} s")


def _atheris(name: str, arguments: argparse.Namespace) -> bool:
    """A process of its own, which libFuzzer ends."""
    words = ["--child", name, "--minutes", str(arguments.minutes), "--keep", str(arguments.keep)]
    done = subprocess.run(
        [sys.executable, __file__, *words, "--seed", str(arguments.seed)],
        capture_output=True,
        text=True,
    )
    lines = done.stderr.splitlines()
    last = next((line for line in reversed(lines) if line.startswith("Done") or " DONE " in line), "")
    covered = next((line.split("cov: ")[1].split()[0] for line in reversed(lines) if "cov: " in line), "?")
    print(f"{name:28} {last or 'failed'} (branches {covered})", flush=True)
    if done.returncode:
        print("\n".join(lines[-40:]))
    return done.returncode == 0


def _atheris_child(name: str, arguments: argparse.Namespace) -> None:
    import atheris

    with atheris.instrument_imports(include=["facetrain"]):
        target = targets()[name][0]
    from facetrain.tests.datasets.fuzzing import packed, unpacked

    records = target.kind == "records"  # atheris never finds a right checksum: it gets what stands in them
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as corpus:
        read = _reader(name, Path(place))
        for number, seed in enumerate(target.seeds):
            (Path(corpus) / str(number)).write_bytes(unpacked(seed)[0] if records else seed)
        arguments.keep.mkdir(parents=True, exist_ok=True)
        flags = [
            f"-max_total_time={round(arguments.minutes * 60)}",
            f"-timeout={SLOWEST}",
            f"-seed={arguments.seed % 2**31}",
            f"-artifact_prefix={arguments.keep}/{name.replace('/', '_')}_",
            "-max_len=8192",
        ]
        atheris.Setup([sys.argv[0], *flags, corpus], lambda data: void(read(packed([data]) if records else data)))
        atheris.Fuzz()


def void(_: object) -> None:
    """libFuzzer takes a result for a wish."""


def _reader(name: str, place: Path) -> Callable[[bytes], str]:
    """What reads one file, in a folder that is prepared for it."""
    from facetrain.tests.datasets.fuzzing import try_file

    target, prepare = targets()[name]
    folder = prepare(place)
    return lambda data: try_file(target, folder, data)


if __name__ == "__main__":
    main()
