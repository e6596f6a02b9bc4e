"""What plays the containers of one pod: the seam between a pod's life and what it does. Scripts live here.

A workload is prepared once, then runs each container as often as the pod's restart policy asks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from rstar_testbed.kubelet.plays import Run

Ready = Callable[[bool], None]


@dataclass(frozen=True)
class Outcome:
    """How a container ended: exit code, the reason where the code does not say it, the termination message."""

    code: int
    reason: str = ""
    message: str = ""


class CannotStartError(Exception):
    """The containers cannot be started now: ``reason`` as the API has it, such as CreateContainerConfigError."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Workload(Protocol):
    """Plays the containers of one pod."""

    async def prepare(self) -> None:
        """Get ready to run containers; :class:`CannotStartError` is tried again."""

    async def run(self, container: dict[str, Any], ready: Ready) -> Outcome:
        """Run a container to its end; ``ready`` is told when it becomes ready, or is no longer."""

    async def terminate(self, grace: float) -> None:
        """Ask what runs to end, and end it after ``grace`` seconds."""

    async def close(self) -> None:
        """End what still runs, at once, and remove what was made for it."""


class Scripted:
    """A pod that plays a script."""

    def __init__(self, play: Run) -> None:
        self._play = play
        self._told_to_end = asyncio.Event()
        self._told = Outcome(143)

    async def prepare(self) -> None:
        """Nothing to prepare."""

    async def run(self, container: dict[str, Any], ready: Ready) -> Outcome:
        """Wait as long as the script says."""
        ready(self._play.ready)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._told_to_end.wait(), self._play.seconds)
            self._told_to_end.clear()
            return self._told
        return Outcome(self._play.code, self._play.reason, self._play.message)

    async def terminate(self, grace: float) -> None:
        """End at once, as a program that heeds SIGTERM."""
        self.end(Outcome(143))

    def end(self, outcome: Outcome) -> None:
        """End now, and like this, whatever the script says."""
        self._told = outcome
        self._told_to_end.set()

    async def close(self) -> None:
        """Nothing to remove."""
