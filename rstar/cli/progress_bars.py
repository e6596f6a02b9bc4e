"""The progress of a long command on standard error: a bar at a terminal, else lines, for logs and for ``nohup``."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rstar.cli.line_report import PROGRESS_SECONDS, stamped
from rstar.cli.progress_text import figures

Shown = Callable[[str, int, int], None]
"""Shows that ``done`` of ``total`` parts of the work with a name are done: ``shown(name, done, total)``."""


@contextmanager
def progress_bars() -> Iterator[Shown]:
    """Yield what shows the progress. Without a terminal that is a line every ``PROGRESS_SECONDS``: none of shorter work."""
    if not sys.stderr.isatty():
        lines = Lines()
        with _written_often(lines):
            yield lines
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    tasks: dict[str, TaskID] = {}
    with Progress(console=Console(stderr=True), transient=True) as bars:

        def shown(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name)
            bars.update(tasks[name], completed=done, total=total)

        yield shown


class Lines:
    """The progress as lines on standard error."""

    def __init__(self) -> None:
        self._current: tuple[str, int, int] | None = None
        self._began: dict[str, float] = {}
        self._written: set[str] = set()
        self._writing = threading.Lock()

    def __call__(self, name: str, done: int, total: int) -> None:
        """Note the progress. The end of work of which lines were written is written at once."""
        self._began.setdefault(name, time.monotonic())
        self._current = (name, done, total)
        if done == total and name in self._written:
            self.write()

    def write(self) -> None:
        """Write a line about the work at hand, unless it has ended."""
        with self._writing:
            if self._current is None:
                return
            name, done, total = self._current
            if done == total:
                self._current = None
            progress: dict[str, float] = {"done": done, "total": total}
            if done:
                progress["eta_seconds"] = (time.monotonic() - self._began[name]) / done * (total - done)
            self._written.add(name)
            print(stamped(f"{name} {figures(progress)}"), file=sys.stderr, flush=True)


@contextmanager
def _written_often(lines: Lines) -> Iterator[None]:
    over = threading.Event()

    def write() -> None:
        while not over.wait(PROGRESS_SECONDS):
            lines.write()

    writer = threading.Thread(target=write, name="progress", daemon=True)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()
