"""The report of a run as lines, for logs and pipes: one line per change, and progress at most every ten seconds."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Final, TextIO

from rstar.cli.progress_text import figures
from rstar.local.results import RunStatus
from rstar.rounds.observed import SKIPPED

PROGRESS_SECONDS: Final = 10.0


def stamped(text: str) -> str:
    """Return ``text`` after the time of day."""
    return f"{datetime.now():%H:%M:%S} {text}"


class LineReport:
    """A ``Report`` that writes lines to a stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._written: dict[tuple[str, str], str] = {}
        self._progress_at = time.monotonic()

    def __call__(self, run: RunStatus) -> None:
        """Write the changes since the previous call."""
        name = run.current
        status = run.statuses[name]
        for condition in status.conditions:
            if condition.type == "PPMGuides":
                self._write(name, condition.type, condition.message)
        for stage in status.stages:
            detail = f" ({stage.output.manifest})" if stage.output else ""
            detail += f"; skipped: {stage.metrics[SKIPPED]}" if SKIPPED in stage.metrics else ""
            if stage.state not in {"waiting", "failed"}:
                self._write(name, stage.name, f"{stage.name} {stage.state}{detail}")
        for service in run.services:
            text = f"service {service.ref.kind} {service.state}"
            self._write(name, f"service {service.ref.kind}", f"{text}: {service.reason}" if service.reason else text)
        if status.phase != "Running" or any(c.reason in {"BackOff", "DeadlineExceeded"} for c in status.conditions):
            self._write(name, "phase", status.message)
        if status.progress and time.monotonic() - self._progress_at >= PROGRESS_SECONDS:
            self._progress_at = time.monotonic()
            self._write(name, "progress", f"{status.stage} {figures(status.progress)}")

    def _write(self, name: str, subject: str, text: str) -> None:
        if text and self._written.get((name, subject)) != text:
            self._written[name, subject] = text
            print(stamped(f"{name}: {text}"), file=self._stream, flush=True)
