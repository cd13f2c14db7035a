"""How far a build is, and a Ctrl-C that ends it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn


@contextmanager
def build_monitor(library: Any, console: Console | None = None) -> Iterator[Any]:
    """`with build_monitor(library) as monitor:` a monitor for a builder's config: bars on a terminal, else nothing.

    An exception would end the process while the library is at work, so a Ctrl-C asks the build to end, and becomes a
    KeyboardInterrupt behind it.
    """
    console = console or Console(stderr=True)
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(), console=console, transient=True, disable=not console.is_terminal
    )
    interrupted = threading.Event()
    with _on_interrupt(interrupted), bars:
        yield _monitor(library, bars, interrupted)
    if interrupted.is_set():
        raise KeyboardInterrupt


@contextmanager
def _on_interrupt(interrupted: threading.Event) -> Iterator[None]:
    """Sets the event at Ctrl-C, where that is Python's to handle: in the main thread, and not if it is ignored."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _monitor(library: Any, bars: Progress, interrupted: threading.Event) -> Any:
    class Monitor(library.IProgressMonitor):
        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)
            self.tasks: dict[str, TaskID] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.tasks[phase_name] = bars.add_task(phase_name, total=num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.tasks:
                bars.update(self.tasks[phase_name], completed=step + 1)
            return not interrupted.is_set()

        def phase_finish(self, phase_name: str) -> None:
            if phase_name in self.tasks:
                bars.remove_task(self.tasks.pop(phase_name))

    return Monitor()
