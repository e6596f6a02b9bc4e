"""The progress file: a small JSON object, replaced atomically about once a second.

Rates and the time left are of this attempt. Losing it costs nothing: no decision is taken on it.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

PERIOD_SECONDS: Final = 1.0


class Progress:
    """Writes what a stage reports to ``path`` (None: nowhere)."""

    def __init__(self, path: Path | None, stage: str) -> None:
        self._path = path
        self._stage = stage
        self._started = time.monotonic()
        self._written = 0.0
        self.last: dict[str, Any] = {}

    def report(self, done: int, total: int, *, last: bool = False, **figures: float) -> None:
        """Say how far the stage is, at most once a second unless it is the ``last`` time."""
        now = time.monotonic()
        if self._path is None or (now - self._written < PERIOD_SECONDS and not last):
            return
        self._written = now
        content: dict[str, Any] = {"stage": self._stage, "done": done, "total": total}
        content |= {name: round(value, 4) for name, value in figures.items()}
        self.last = content
        temporary = self._path.with_name(f".{self._path.name}.new")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(content))
        temporary.replace(self._path)

    def seconds(self) -> float:
        """Return how long this attempt has been running."""
        return max(time.monotonic() - self._started, 1e-9)
