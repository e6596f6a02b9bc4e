"""What the driver tells while it works, and in the end: plain data for a live view, a log, or a notebook.

It refuses to format anything (see ``rstar.cli``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rstar.rounds.observed import Service
from rstar.rounds.status import RoundStatus


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look at the run: the statuses of all rounds by name, the round at work, the services."""

    statuses: Mapping[str, RoundStatus]
    current: str
    services: Sequence[Service]


class Report(Protocol):
    """Whoever wants to know. Called after every look, several times a second: it must be quick."""

    def __call__(self, snapshot: Snapshot) -> None:
        """Take note of the snapshot."""
        ...


@dataclass(frozen=True, slots=True)
class RunResult:
    """How the run ended. ``signal`` is the one that interrupted it; ``log`` of the attempt that failed, if one did."""

    statuses: Mapping[str, RoundStatus]
    signal: int | None = None
    log: Path | None = None

    @property
    def succeeded(self) -> bool:
        """Whether every round is complete."""
        return all(status.phase == "Succeeded" for status in self.statuses.values())
