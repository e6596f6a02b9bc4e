"""Looking at processes from outside: who lives, who has which children."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rstar_executor.local import LocalExecutor


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def end_of(pid: int) -> None:
    while True:
        if not alive(pid):
            return
        await asyncio.sleep(0.01)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def entries(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def first_child(pid: int) -> int:
    while True:
        for child in children(pid):
            return child
        await asyncio.sleep(0.01)


async def running_program(executor: LocalExecutor) -> tuple[int, int]:
    """Wait until a program runs; return its zygote's process id and its own."""
    while True:
        for zygote in executor.zygote_pids():
            for program in children(zygote):
                return zygote, program
        await asyncio.sleep(0.01)
