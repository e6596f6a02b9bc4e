"""The layer *control group*: a bound on what all processes of a warden take together, where one is delegated.

Covered: memory and number of processes in sum; the kernel then ends one of them, never the service.
Not covered: where no writable control group (version 2) is at hand, as in most containers: there the container's own
limits hold.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

MOUNT: Final = Path("/sys/fs/cgroup")


class Group:
    """A control group of its own for the calling process and all it starts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def remove(self) -> None:
        """End what is left in it and remove it."""
        with contextlib.suppress(OSError):
            (self.path / "cgroup.kill").write_text("1")
        with contextlib.suppress(OSError):
            self.path.rmdir()


def join(memory_bytes: int, processes: int, mount: Path = MOUNT) -> Group:
    """Move this process into a new group with these bounds. Raises ``OSError`` where that is not delegated."""
    parent = _own(mount).parent
    if not (parent / "cgroup.procs").exists():
        raise OSError("no control group version 2 above this one")
    group = Group(parent / f"rstar-executor-{os.getpid()}")
    group.path.mkdir()
    try:
        (group.path / "memory.max").write_text(str(memory_bytes))
        with contextlib.suppress(OSError):
            (group.path / "memory.swap.max").write_text("0")
        (group.path / "pids.max").write_text(str(processes))
        (group.path / "cgroup.procs").write_text("0")
    except OSError:
        group.remove()
        raise
    return group


def _own(mount: Path) -> Path:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::/") and (mount / "cgroup.controllers").exists():
            return mount / line[len("0::/") :]
    raise OSError("control groups version 2 are not mounted here")
