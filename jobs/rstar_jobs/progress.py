"""How far a stage is: a small JSON object in a file, or in a ConfigMap of the pod's namespace.

A file is replaced atomically about once a second. Rates and the time left are of this attempt. Losing it costs
nothing: no decision is taken on it.
"""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path
from typing import Any, Final, Protocol

from rstar.record import SearchRecord, Usage

PERIOD_SECONDS: Final = 1.0
_CONFIG_MAP: Final = "configmap:"
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class Destination(Protocol):
    """Where the newest report is kept."""

    def write(self, text: str) -> None:
        """Replace the report."""
        ...

    def close(self) -> None:
        """See to it that the last report arrives; takes a bounded time."""
        ...


class ProgressFile:
    """A local file, replaced atomically."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, text: str) -> None:
        """Replace the file."""
        temporary = self._path.with_name(f".{self._path.name}.new")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text)
        temporary.replace(self._path)

    def close(self) -> None:
        """Do nothing: a file has what was written."""


def open_destination(text: str) -> Destination:
    """Open a path, or ``configmap:NAME``. Raises ``ValueError`` for a name that no ConfigMap can have."""
    if not text.startswith(_CONFIG_MAP):
        return ProgressFile(Path(text))
    name = text.removeprefix(_CONFIG_MAP)
    if not _NAME.fullmatch(name):
        raise ValueError(f"--progress {text!r} names no ConfigMap: write configmap:NAME, in lower case letters")
    from rstar.cluster.progress import ConfigMapProgress

    return ConfigMapProgress(name)


class Progress:
    """Hands on what a stage reports (``destination`` None: to nobody)."""

    def __init__(self, destination: Destination | None, stage: str) -> None:
        self._destination = destination
        self._stage = stage
        self._started = time.monotonic()
        self._written = 0.0
        self.last: dict[str, Any] = {}

    def report(self, done: int, total: int, *, last: bool = False, **figures: float) -> None:
        """Say how far the stage is, at most once a second unless it is the ``last`` time."""
        now = time.monotonic()
        if self._destination is None or (now - self._written < PERIOD_SECONDS and not last):
            return
        self._written = now
        content: dict[str, Any] = {"stage": self._stage, "done": done, "total": total}
        # JSON has no NaN, and a loss may become one.
        content |= {name: round(value, 4) for name, value in figures.items() if math.isfinite(value)}
        self.last = content
        self._destination.write(json.dumps(content))

    def close(self) -> None:
        """Wait, a bounded time, until the last report has arrived."""
        if self._destination is not None:
            self._destination.close()

    def seconds(self) -> float:
        """Return how long this attempt has been running."""
        return max(time.monotonic() - self._started, 1e-9)


class Meter:
    """Counts finished searches and what the running ones report.

    ``done`` problems were stored by earlier attempts, and ``right`` of them were right; ``name`` is what being right
    is called in the report: ``solved`` where the search is told, ``correct`` where it is judged afterwards.
    """

    def __init__(self, progress: Progress, total: int, done: int, right: int, name: str) -> None:
        self._progress = progress
        self._total = total
        self._before = done
        self._done = 0
        self._right = right
        self._name = name
        self._spent = Usage()
        self._running: dict[str, Usage] = {}

    def running(self, problem: str, usage: Usage, earlier: SearchRecord | None) -> None:
        """Note what a search under way has spent; ``earlier`` is the record of its earlier phases."""
        self._running[problem] = usage if earlier is None else earlier.usage + usage

    def finished(self, record: SearchRecord, *, right: bool) -> None:
        """Note a finished search."""
        self._running.pop(record.problem_id, None)
        self._spent += record.usage
        self._done += 1
        self._right += right

    def report(self, *, last: bool = False) -> None:
        """Say how far it is."""
        spent = sum(self._running.values(), self._spent)
        seconds = self._progress.seconds()
        left = self._total - self._before - self._done
        figures: dict[str, float] = {
            self._name: self._right,
            "tokens": spent.tokens,
            "nodes": spent.nodes,
            "tokens_per_second": spent.tokens / seconds,
            "nodes_per_second": spent.nodes / seconds,
        }
        if self._done:
            figures["eta_seconds"] = seconds / self._done * left
        self._progress.report(self._before + self._done, self._total, last=last, **figures)
