"""Finds, from outside the executor, what its programs left behind on the machine.

Leftovers are recognised by names and numbers that only the corpus uses, or because they belong to the executor: other work
on the machine does not count.
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
_CLEANUP_SECONDS = 10.0
_MOST_ZOMBIES = 20
"""Two wardens reap before each program, and wait for the oldest where more than eight killed processes have not ended."""


class Found(NamedTuple):
    """The number of processes that have not ended and of their descriptors, and the names of everything else."""

    processes: int
    descriptors: int
    names: frozenset[str]

    def beyond(self, before: Found) -> str:
        """Describe what is there now and was not before; empty when there is nothing."""
        found = sorted(self.names - before.names)
        if self.processes > before.processes:
            found.append(f"{self.processes - before.processes} processes")
        if self.descriptors > before.descriptors:
            found.append(f"{self.descriptors - before.descriptors} descriptors")
        return ", ".join(found)


NOTHING = Found(0, 0, frozenset())


def look(driver: int, scratch: Path) -> Found:
    """Inspect the executors of process ``driver``, whose temporary files are in ``scratch``."""
    found = _processes(driver, scratch)
    processes = {pid for pid in found if not _is_zombie(pid)}
    unreaped = ["more processes than a warden leaves unreaped"] if len(found) - len(processes) > _MOST_ZOMBIES else []
    names = frozenset((*_below(scratch), *_marked(), *unreaped))
    return Found(len(processes), sum(map(_descriptors, processes)), names)


def left_behind(driver: int, scratch: Path, before: Found) -> str:
    """Describe what was left behind since ``before``; clean-up under way gets some seconds to finish."""
    until = time.monotonic() + _CLEANUP_SECONDS
    while (beyond := look(driver, scratch).beyond(before)) and time.monotonic() < until:
        time.sleep(0.05)
    return beyond


def _processes(driver: int, scratch: Path) -> set[int]:
    """Return the descendants of ``driver``, and former ones: a warden's arguments name the folder."""
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


def _is_zombie(pid: int) -> bool:
    """Say whether a process has ended; a killed one that its warden has not reaped yet runs nothing."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - a path object for each would be slow
    except OSError:  # it has ended, or belongs to another user
        return 0


def _below(folder: Path) -> Iterator[str]:
    """Name the contents of ``folder``; a warden's directory, whose name is random, by its position."""
    for number, top in enumerate(sorted(folder.iterdir())):
        label = f"directory {number}" if top.name.startswith("rstar-executor-") else top.name
        yield label
        for place, folders, files in os.walk(top):
            yield from (f"{label}/{(Path(place) / name).relative_to(top)}" for name in (*folders, *files))


def _marked() -> Iterator[str]:
    """Name files, sockets and System V objects with the corpus's names."""
    for place in _PLACES:
        try:
            names = os.listdir(place)  # noqa: PTH208 - as above
        except OSError:
            continue
        marks = (
            "rstar-corpus-file",
            "rstar-corpus-link",
            "rstar-corpus-folder",
            "rstar-corpus-shm",
            "rstar-corpus-moved",
        )
        yield from (f"{place}/{name}" for name in names if any(mark in name for mark in marks))
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
