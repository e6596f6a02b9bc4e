"""One child process: started in a group of its own, logged to a file, ended for certain.

SIGTERM goes to the child, which ends its own children in order; SIGKILL to the whole group. Whatever the
child leaves behind in its group is killed when it has ended. The module refuses to know what runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Identity:
    """A process for certain: its pid and the kernel's start time of it, in clock ticks since boot."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Return the identity of a running process; None when there is none, or the kernel does not say."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in {"Z", "X"} else cls(pid, fields[19])

    def alive(self) -> bool:
        """Say whether this very process still runs."""
        return Identity.of(self.pid) == self


class Child:
    """A running command. ``grace`` is how many seconds it has after SIGTERM."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        *,
        grace: float,
        parent_death_signal: signal.Signals,
    ) -> None:
        """Start ``command`` with ``environment`` added to ours; stdout and stderr go to ``log``."""
        log.parent.mkdir(parents=True, exist_ok=True)
        tether = [sys.executable, "-m", "rstar.local.die_with_parent", str(os.getpid()), str(parent_death_signal.value)]
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                [*tether, *command],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self.log = log
        self.identity = Identity.of(self._process.pid)
        self._grace = grace
        self._kill_at: float | None = None

    def poll(self) -> int | None:
        """Return the exit code as a shell would (128 + signal), or None while it runs. Kills what outstays its grace."""
        if self._process.returncode is None and not self._ended():
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self.kill()
            return None
        code = self._process.returncode
        return code if code >= 0 else 128 - code

    def terminate(self) -> None:
        """Ask it to end; ``poll`` kills it when its grace is over. Asking twice changes nothing."""
        if self._kill_at is None and self.poll() is None:
            self._kill_at = time.monotonic() + self._grace
            self._process.terminate()

    def kill(self) -> None:
        """Kill its whole group now."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _ended(self) -> bool:
        # The group is killed while the leader is still a zombie: until it is reaped its id cannot be another's.
        if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return False
        self.kill()
        self._process.wait()
        return True


def end_orphan(identity: Identity, grace: float) -> None:
    """End a group that a dead driver left behind: SIGTERM, then SIGKILL after ``grace`` seconds."""
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, grace)):
        if not identity.alive():
            return
        with suppress(ProcessLookupError):
            os.killpg(identity.pid, number)
        until = time.monotonic() + seconds
        while identity.alive() and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
