"""What runs the containers of one pod: a script (:class:`Scripted`), or processes (:mod:`real_pod`).

The pod's lifecycle prepares a workload once, then runs each container as often as the pod's restart policy asks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from rstar_testbed.kubelet.behaviour import Run

SetReady = Callable[[bool], None]


@dataclass(frozen=True)
class Outcome:
    """How a container ended: exit code, the reason where it does not follow from the code, the termination message."""

    code: int
    reason: str = ""
    message: str = ""


class CannotStartError(Exception):
    """The containers cannot be started now. ``reason`` is the API's, such as CreateContainerConfigError."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Workload(Protocol):
    """Runs the containers of one pod."""

    async def prepare(self) -> None:
        """Get ready to run containers. Raises :class:`CannotStartError`; the caller tries again."""

    async def run(self, container: dict[str, Any], set_ready: SetReady) -> Outcome:
        """Run a container to its end; call ``set_ready`` when it becomes ready or stops being ready."""

    async def terminate(self, grace: float) -> None:
        """Ask the running containers to end; kill them after ``grace`` seconds."""

    async def close(self) -> None:
        """Kill what still runs and remove what was made for it."""


class Scripted:
    """A workload that follows a script."""

    def __init__(self, script: Run) -> None:
        self._script = script
        self._end_requested = asyncio.Event()
        self._requested_outcome = Outcome(143)

    async def prepare(self) -> None:
        """Do nothing."""

    async def run(self, container: dict[str, Any], set_ready: SetReady) -> Outcome:
        """Wait for the script's time, or for :meth:`end`."""
        set_ready(self._script.ready)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._end_requested.wait(), self._script.seconds)
            self._end_requested.clear()
            return self._requested_outcome
        return Outcome(self._script.code, self._script.reason, self._script.message)

    async def terminate(self, grace: float) -> None:
        """End at once, as a program that handles SIGTERM."""
        self.end(Outcome(143))

    def end(self, outcome: Outcome) -> None:
        """End now with this outcome, whatever the script says."""
        self._requested_outcome = outcome
        self._end_requested.set()

    async def close(self) -> None:
        """Do nothing."""
