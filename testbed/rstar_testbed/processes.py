"""The testbed's components as processes: each has a log, errors quote its last lines, and none outlives its parent.

The kernel kills a component when the thread that started it ends (see :mod:`rstar.local.die_with_parent`). So the thread that
starts a testbed must run until the testbed is stopped.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from rstar_testbed.errors import TestbedError

# Below the range from which the kernel takes clients' ports, so that no connection takes a port that was just found free.
_PORTS: Final = range(20_000, 32_000)
_LAST_LINES: Final = 8


_reserved: list[IO[str]] = []


def free_port() -> int:
    """Return a TCP port of loopback on which nobody listens, reserved for this process until it ends.

    Another testbed's process that asks before the port is in use gets another one: a file per port is locked.
    """
    folder = Path(tempfile.gettempdir()) / f"rstar-testbed-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    while True:
        port = random.choice(_PORTS)
        lock = (folder / str(port)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            lock.close()
            continue
        _reserved.append(lock)
        return port


def last_lines(path: Path) -> str:
    """Return the end of a log, on one line."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return " | ".join(line.strip() for line in lines[-_LAST_LINES:]) or "its log is empty"


def answers(url: str) -> bool:
    """Return whether a GET of ``url`` succeeds within a second."""
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except OSError:
        return False


class Component:
    """A program with a process group and a log of its own."""

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environment = environment or {}
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        self.start()

    def start(self) -> None:
        """Start the program, for the first time or after :meth:`stop`."""
        dies_with_parent = [
            sys.executable,
            "-m",
            "rstar.local.die_with_parent",
            str(os.getpid()),
            str(int(signal.SIGKILL)),
        ]
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [*dies_with_parent, *map(str, self._command)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The number of the program's process."""
        return self._process.pid

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Return once ``ready()``. Raises :class:`TestbedError` with the log's end if the program ends first or takes too long."""
        until = time.monotonic() + seconds
        while not ready():
            if (code := self._process.poll()) is not None:
                raise TestbedError(f"{self.name} ended with exit code {code} ({self.log}): {last_lines(self.log)}")
            if time.monotonic() > until:
                raise TestbedError(f"{self.name} was not ready in {seconds:.0f} s ({self.log}): {last_lines(self.log)}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Kill the process group. No SIGTERM: the data are temporary, and an API server takes up to a minute to end."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
