"""The reports and the result of ``run_rounds``: plain data for a live view, a log or a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rstar.rounds.observed import Service
from rstar.rounds.status import RoundStatus


@dataclass(frozen=True, slots=True)
class RunStatus:
    """The run on one pass of the driver: the statuses of all rounds by name, the running round, the services."""

    statuses: Mapping[str, RoundStatus]
    current: str
    services: Sequence[Service]


class Report(Protocol):
    """Called on every pass of the driver, several times a second: it must be quick."""

    def __call__(self, run: RunStatus) -> None:
        """Show the status of the run."""
        ...


@dataclass(frozen=True, slots=True)
class RunResult:
    """How the run ended. ``signal``: the one that interrupted it; ``log``: that of the failed attempt, if there is one."""

    statuses: Mapping[str, RoundStatus]
    signal: int | None = None
    log: Path | None = None

    @property
    def succeeded(self) -> bool:
        """Whether every round is complete."""
        return all(status.phase == "Succeeded" for status in self.statuses.values())
