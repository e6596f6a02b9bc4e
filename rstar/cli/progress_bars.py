"""The progress of a long command on standard error: a bar at a terminal, else lines, for logs and for ``nohup``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rstar.cli.line_report import PROGRESS_SECONDS, stamped
from rstar.cli.progress_text import figures

Shown = Callable[[str, int, int], None]
"""Shows that ``done`` of ``total`` parts of the work with a name are done: ``shown(name, done, total)``."""


@contextmanager
def progress_bars() -> Iterator[Shown]:
    """Yield what shows the progress. Without a terminal, work of less than ``PROGRESS_SECONDS`` writes nothing."""
    if not sys.stderr.isatty():
        yield _Lines()
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


class _Lines:
    """Writes a line every ``PROGRESS_SECONDS``, and one at the end of work of which lines were written."""

    def __init__(self) -> None:
        self._written_at = time.monotonic()
        self._began: dict[str, float] = {}
        self._written: set[str] = set()

    def __call__(self, name: str, done: int, total: int) -> None:
        now = time.monotonic()
        began = self._began.setdefault(name, now)
        if now - self._written_at < PROGRESS_SECONDS and not (done == total and name in self._written):
            return
        self._written_at = now
        self._written.add(name)
        progress: dict[str, float] = {"done": done, "total": total}
        if done:
            progress["eta_seconds"] = (now - began) / done * (total - done)
        print(stamped(f"{name} {figures(progress)}"), file=sys.stderr, flush=True)
