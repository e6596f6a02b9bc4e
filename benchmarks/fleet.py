"""Executors as processes on loopback that come, drain and are killed: the fleet of ``benchmarks.executor_load``.

``addresses`` is what a headless Service would tell: an executor is in it from the moment it is ready until it is told to
end, and one that was killed for a while longer, as in a cluster. The module refuses to call executors.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

START_SECONDS: Final = 120.0
STALE_SECONDS: Final = 3.0
"""How long a killed executor's address is still told."""

LAST_BREATH_SECONDS: Final = 20.0
"""How long the kernel of a busy machine may take to end what a killed executor ran."""


@dataclass
class Member:
    """One executor."""

    process: asyncio.subprocess.Process
    address: str


@dataclass
class Fleet:
    """The executors that run, oldest first, and how many were added, drained and killed."""

    folder: Path
    slots: int
    members: list[Member] = field(default_factory=list)
    added: int = 0
    drained: int = 0
    killed: int = 0
    left_behind: int = 0
    _told: list[str] = field(default_factory=list)

    def addresses(self) -> list[str]:
        """Return where clients may look."""
        return list(self._told)

    async def add(self) -> None:
        """Start an executor and wait until it serves. Raises ``RuntimeError`` when it does not."""
        ready = self.folder / f"ready-{self.added}"
        self.added += 1
        command = [str(Path(sys.executable).with_name("rstar")), "serve", "executor", "--port", "0"]
        # Without the cache every program really runs.
        options = ["--slots", str(self.slots), "--cache-mib", "0", "--ready-file", str(ready), "--drain-seconds", "60"]
        with (self.folder / "executors.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(*command, *options, stdout=log, stderr=log)
        try:
            async with asyncio.timeout(START_SECONDS):
                while not ready.exists():
                    if process.returncode is not None:
                        raise RuntimeError(f"an executor ended with {process.returncode}: see {log.name}")
                    await asyncio.sleep(0.05)
        except BaseException:
            if process.returncode is None:
                process.kill()
            raise
        member = Member(process, ready.read_text().strip())
        self.members.append(member)
        self._told.append(member.address)

    async def drain(self, member: Member) -> None:
        """End an executor as a cluster does: SIGTERM, its address withdrawn, its calls finished."""
        self.members.remove(member)
        self.drained += 1
        self._told.remove(member.address)
        member.process.send_signal(signal.SIGTERM)
        code = await member.process.wait()
        if code != 0:
            raise RuntimeError(f"a drained executor ended with {code}")

    async def kill(self, member: Member) -> None:
        """End an executor as a lost node does; its address is told a little longer. What it leaves behind is counted."""
        self.members.remove(member)
        self.killed += 1
        family = psutil.Process(member.process.pid).children(recursive=True)
        member.process.kill()
        await member.process.wait()
        await asyncio.sleep(STALE_SECONDS)
        self._told.remove(member.address)
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, timeout=LAST_BREATH_SECONDS)
        self.left_behind += sum(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in alive)

    async def close(self) -> None:
        """Drain what still runs."""
        await asyncio.gather(*(self.drain(member) for member in tuple(self.members)))


def memory_mib(member: Member) -> float:
    """Return the memory of an executor with all its processes, shared pages counted once (PSS), in MiB."""
    total = 0
    root = psutil.Process(member.process.pid)
    for process in (root, *root.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # it has ended meanwhile
            continue
    return total / (1 << 20)
