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
