"""One line per event, for logs and pipes: what changed since the last look.

It refuses to repeat itself: progress is a line every ten seconds at most.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Final, TextIO

from rstar.cli.progress_text import figures
from rstar.local.results import Snapshot

PROGRESS_SECONDS: Final = 10.0


class Lines:
    """A ``Report`` that writes lines to a stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._told: dict[tuple[str, str], str] = {}
        self._progress_at = time.monotonic()

    def __call__(self, snapshot: Snapshot) -> None:
        """Write what is new in the snapshot."""
        name = snapshot.current
        status = snapshot.statuses[name]
        for condition in status.conditions:
            if condition.type == "PPMGuides":
                self._tell(name, condition.type, condition.message)
        for stage in status.stages:
            detail = f" ({stage.output.manifest})" if stage.output else ""
            if stage.state not in {"waiting", "failed"}:
                self._tell(name, stage.name, f"{stage.name} {stage.state}{detail}")
        for service in snapshot.services:
            word = f"service {service.ref.kind} {service.state}"
            self._tell(name, f"service {service.ref.kind}", f"{word}: {service.reason}" if service.reason else word)
        if status.phase != "Running" or any(c.reason in {"BackOff", "DeadlineExceeded"} for c in status.conditions):
            self._tell(name, "phase", status.message)
        if status.progress and time.monotonic() - self._progress_at >= PROGRESS_SECONDS:
            self._progress_at = time.monotonic()
            self._tell(name, "progress", f"{status.stage} {figures(status.progress)}")

    def _tell(self, name: str, about: str, text: str) -> None:
        if text and self._told.get((name, about)) != text:
            self._told[name, about] = text
            print(f"{datetime.now():%H:%M:%S} {name}: {text}", file=self._stream, flush=True)
