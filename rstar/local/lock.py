"""The lock that allows one driver per store: two would start every stage twice.

It is the kernel's (``flock``), so it is released however its process ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from rstar.local.children import POLL_SECONDS

_TRIES: Final = 10


class DriverRunningError(RuntimeError):
    """Another driver runs in the same store."""


@contextmanager
def sole_driver(work: Path) -> Iterator[None]:
    """Hold the lock of the work folder. Raises ``DriverRunningError`` with the pid of its holder."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / "lock"
    with path.open("a+") as handle:
        if not _locked(handle):
            handle.seek(0)
            pid = handle.read().strip() or "unknown"
            raise DriverRunningError(
                f"another driver runs in {work} (pid {pid}): wait for it, or end it with 'kill {pid}'"
            )
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def driver_pid(work: Path) -> str | None:
    """Return the pid of the driver that holds the lock, or None."""
    try:
        with (work / "lock").open() as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return handle.read().strip()
    except FileNotFoundError:
        pass
    return None


def _locked(handle: IO[str]) -> bool:
    """Take the lock, with several tries: ``driver_pid`` holds a shared lock for a moment."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(POLL_SECONDS)
        else:
            return True
    return False
