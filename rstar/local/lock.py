"""One driver per store: two would start every stage twice.

The lock is the kernel's (``flock``), so it goes with its process, however that ends. The module refuses
to break another driver's lock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DriverRunningError(RuntimeError):
    """Another driver works in the same store."""


@contextmanager
def sole_driver(work: Path) -> Iterator[None]:
    """Hold the lock of the work folder. Raises ``DriverRunningError`` naming the pid that has it."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / "lock"
    with path.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            pid = handle.read().strip() or "unknown"
            raise DriverRunningError(
                f"another run works in {work} (pid {pid}): wait for it, or end it with 'kill {pid}'"
            ) from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
