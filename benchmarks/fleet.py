"""The fleet of ``benchmarks.executor_load``: executor processes on loopback that can be added, drained and killed.

``addresses`` is what DNS returns for a headless Service: a ready executor until it gets SIGTERM, and a killed one a while
longer, as in a cluster.
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
"""How long the address of a killed executor stays listed."""

EXIT_SECONDS: Final = 20.0
"""How long the kernel of a busy machine may take to end the programs of a killed executor."""


@dataclass
class Member:
    """One executor."""

    process: asyncio.subprocess.Process
    address: str


@dataclass
class Fleet:
    """The running executors, oldest first, and counts of those added, drained and killed."""

    folder: Path
    slots: int
    members: list[Member] = field(default_factory=list)
    added: int = 0
    drained: int = 0
    killed: int = 0
    left_behind: int = 0
    _listed: list[str] = field(default_factory=list)

    def addresses(self) -> list[str]:
        """Return the addresses that clients may use."""
        return list(self._listed)

    async def add(self) -> None:
        """Start an executor and wait until it serves. Raises ``RuntimeError`` when it does not."""
        ready = self.folder / f"ready-{self.added}"
        self.added += 1
        command = [str(Path(sys.executable).with_name("rstar")), "serve", "executor", "--port", "0"]
        # Without a cache, so that every program runs.
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
        self._listed.append(member.address)

    async def drain(self, member: Member) -> None:
        """End an executor as a cluster does: remove its address, send SIGTERM, let its calls finish."""
        self.members.remove(member)
        self.drained += 1
        self._listed.remove(member.address)
        member.process.send_signal(signal.SIGTERM)
        code = await member.process.wait()
        if code != 0:
            raise RuntimeError(f"a drained executor ended with {code}")

    async def kill(self, member: Member) -> None:
        """Kill an executor as the loss of its node does; its address stays listed a while. Count the processes it leaves."""
        self.members.remove(member)
        self.killed += 1
        family = psutil.Process(member.process.pid).children(recursive=True)
        member.process.kill()
        await member.process.wait()
        await asyncio.sleep(STALE_SECONDS)
        self._listed.remove(member.address)
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, timeout=EXIT_SECONDS)
        self.left_behind += sum(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in alive)

    async def close(self) -> None:
        """Drain the remaining executors."""
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
