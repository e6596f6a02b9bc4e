"""The layer *control group*: a limit on the sum over all processes of a warden, where a group is delegated.

Covered: total memory and number of processes; above the limit the kernel ends one of them, never the service.
Not covered: machines without a writable control group (version 2), as in most containers: there the container's own
limits hold.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

MOUNT: Final = Path("/sys/fs/cgroup")


class Group:
    """A control group for the calling process and its descendants."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def remove(self) -> None:
        """End the processes left in it and remove it."""
        with contextlib.suppress(OSError):
            (self.path / "cgroup.kill").write_text("1")
        with contextlib.suppress(OSError):
            self.path.rmdir()


def join(memory_bytes: int, processes: int, mount: Path = MOUNT) -> Group:
    """Move this process into a new group with these limits. Raises ``OSError`` where none is delegated."""
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
