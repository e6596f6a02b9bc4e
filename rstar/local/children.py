"""One child process: started in its own process group, logged to a file, ended without leftovers.

SIGTERM goes to the child alone, which ends its own children in order; SIGKILL goes to the whole group. When the child
has ended, all processes that are left in its group are killed.
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
class ProcessIdentity:
    """A process beyond the reuse of pids: its pid and its start time, in clock ticks since boot."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """Return the identity of a running process; None when it does not run, or where there is no ``/proc``."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in {"Z", "X"} else cls(pid, fields[19])

    def alive(self) -> bool:
        """Return whether this very process still runs."""
        return ProcessIdentity.of(self.pid) == self


class Child:
    """A running command. ``grace``: seconds between SIGTERM and SIGKILL."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        *,
        grace: float,
        parent_death_signal: signal.Signals,
    ) -> None:
        """Start ``command`` with ``environment`` added to this process's; stdout and stderr go to ``log``."""
        log.parent.mkdir(parents=True, exist_ok=True)
        launcher = ["-m", "rstar.local.die_with_parent", str(os.getpid()), str(parent_death_signal.value)]
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                [sys.executable, *launcher, *command],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self.log = log
        self.identity = ProcessIdentity.of(self._process.pid)
        self._grace = grace
        self._kill_at: float | None = None

    def poll(self) -> int | None:
        """Return the exit code as a shell would (128 + signal), or None while it runs. Kills it when its grace is over."""
        if self._process.returncode is None and not self._ended():
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self.kill()
            return None
        code = self._process.returncode
        return code if code >= 0 else 128 - code

    def terminate(self) -> None:
        """Send SIGTERM; ``poll`` kills it when its grace is over. A second call changes nothing."""
        if self._kill_at is None and self.poll() is None:
            self._kill_at = time.monotonic() + self._grace
            self._process.terminate()

    def kill(self) -> None:
        """Kill the whole process group now."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _ended(self) -> bool:
        # The group is killed while its leader is still a zombie: until then no other group can get its id.
        if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return False
        self.kill()
        self._process.wait()
        return True


def end_orphan(identity: ProcessIdentity, grace: float) -> None:
    """End the process group of a child whose driver is gone: SIGTERM, then SIGKILL after ``grace`` seconds."""
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, grace)):
        if not identity.alive():
            return
        with suppress(ProcessLookupError):
            os.killpg(identity.pid, number)
        until = time.monotonic() + seconds
        while identity.alive() and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
