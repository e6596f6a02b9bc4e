"""What an executor's programs could leave behind on the machine, looked at from outside.

Everything is told by names and numbers that only the corpus uses, or by belonging to the executor: other work on the
machine does not count.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

KEY = 0x7273_7461
"""The key of the corpus's System V objects."""

_PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "/", "/root", "/home", "/usr/lib", str(Path.cwd()))
_PATIENCE_SECONDS = 10.0


class Found(NamedTuple):
    """Processes and their descriptors in number, everything else by name."""

    processes: int
    descriptors: int
    names: frozenset[str]

    def beyond(self, before: Found) -> str:
        """Return what is there now and was not before, in words; empty when there is nothing."""
        found = sorted(self.names - before.names)
        if self.processes > before.processes:
            found.append(f"{self.processes - before.processes} processes")
        if self.descriptors > before.descriptors:
            found.append(f"{self.descriptors - before.descriptors} descriptors")
        return ", ".join(found)


NOTHING = Found(0, 0, frozenset())


def look(driver: int, scratch: Path) -> Found:
    """Look at the executors in process ``driver``, whose temporary files are in ``scratch``."""
    processes = _processes(driver, scratch)
    names = frozenset((*_below(scratch), *_strangers()))
    return Found(len(processes), sum(map(_descriptors, processes)), names)


def left_behind(driver: int, scratch: Path, before: Found) -> str:
    """Return what was left behind since ``before``; what is just being cleaned up is waited for."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while (beyond := look(driver, scratch).beyond(before)) and time.monotonic() < until:
        time.sleep(0.05)
    return beyond


def _processes(driver: int, scratch: Path) -> set[int]:
    """Return all that descends from ``driver``, and all that once did: a warden's arguments name the folder."""
    found = {driver}
    try:
        found |= {child.pid for child in psutil.Process(driver).children(recursive=True)}
    except psutil.NoSuchProcess:
        found = set()
    for process in psutil.process_iter():
        try:
            if process.pid != driver and any(str(scratch) in argument for argument in process.cmdline()):
                found.add(process.pid)
        except psutil.Error:
            continue
    return found


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - a path object for each would be slow
    except OSError:  # it ended, or is not ours to look into
        return 0


def _below(folder: Path) -> Iterator[str]:
    """Name what is in ``folder``; a warden's own directory by its place among them, as its name is another each time."""
    for number, top in enumerate(sorted(folder.iterdir())):
        label = f"directory {number}" if top.name.startswith("rstar-executor-") else top.name
        yield label
        for place, folders, files in os.walk(top):
            yield from (f"{label}/{(Path(place) / name).relative_to(top)}" for name in (*folders, *files))


def _strangers() -> Iterator[str]:
    """Name files, sockets and System V objects that bear the corpus's names."""
    for place in _PLACES:
        try:
            names = os.listdir(place)  # noqa: PTH208 - as above
        except OSError:
            continue
        marked = (
            "rstar-corpus-file",
            "rstar-corpus-link",
            "rstar-corpus-folder",
            "rstar-corpus-shm",
            "rstar-corpus-moved",
        )
        yield from (f"{place}/{name}" for name in names if any(mark in name for mark in marked))
        yield from (f"{place}/{name}" for name in names if place == "/dev/mqueue" and "rstar-corpus" in name)
    for line in Path("/proc/net/unix").read_text().splitlines():
        if "@rstar-corpus" in line:
            yield line.split()[-1]
    for kind in ("shm", "msg", "sem"):
        try:
            lines = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]
        except OSError:
            continue
        yield from (f"{kind} of System V, key {KEY:#x}" for line in lines if int(line.split()[0]) == KEY)
