"""Inspects processes from outside: which are alive, and their descendants."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from rstar_executor.server.local_executor import LocalExecutor

IDLE_PROCESSES = 6
"""Of a slot that has run light programs: the waiting parent, the warden, three zygotes and a preforked process."""

_END_SECONDS = 10.0


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def threads(pid: int) -> int:
    """Return the number of threads of a process; 1 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[17])
    except OSError:
        return 1


async def end_of(pid: int) -> None:
    while True:
        if not alive(pid):
            return
        await asyncio.sleep(0.01)


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    found = children(pid)
    return found + [below for child in found for below in descendants(child)]


def inside(executor: LocalExecutor) -> list[int]:
    """Return all processes of an executor: waiting parents, wardens, zygotes, snapshots, programs."""
    return [pid for outside in executor.warden_pids() for pid in (outside, *descendants(outside))]


async def only_idle_processes_left(executor: LocalExecutor) -> bool:
    """Wait for the end of a light program that was killed after its result; say whether no other process is left."""
    until = time.monotonic() + _END_SECONDS
    while True:
        left = [pid for pid in inside(executor) if alive(pid)]
        if len(left) == IDLE_PROCESSES or time.monotonic() > until:
            return len(left) == IDLE_PROCESSES
        await asyncio.sleep(0.01)


def entries(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def running_program(executor: LocalExecutor, before: list[int]) -> tuple[int, int]:
    """Wait until a process runs that is not among ``before`` (``inside``); return its warden and its pid."""
    while True:
        for outside in executor.warden_pids():
            for warden in children(outside):
                for program in children(warden):
                    if program not in before:
                        return warden, program
        await asyncio.sleep(0.01)
