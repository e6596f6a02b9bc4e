"""The determinism canary: a sample of programs runs a second time, from the start, and what differs is counted.

A replay of a search, the cache and snapshots all rest on programs ending the same way each time. Clocks are left out:
they differ by right. The module refuses to do anything about a difference but to count it and to say so.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from rstar.interfaces import Execution, ExecutionLimits
from rstar_executor.server import metrics
from rstar_executor.server.programs import REPEATABLE, digest, kind_of
from rstar_executor.server.slots import OverloadedError, Pool
from rstar_executor.server.warden_client import Batch
from rstar_executor.warden.snapshots import resumable

_AT_ONCE: Final = 1
_SHOWN: Final = 200
_log = structlog.get_logger()


def chosen(program: str, every: int) -> bool:
    """Say whether ``program`` is one of the sample: one in ``every`` is, none when that is 0."""
    return every > 0 and int.from_bytes(digest(program)) % every == 0


def difference(first: Execution, second: Execution) -> str:
    """Return in what two runs of a program differ, in one sentence; empty when they do not."""
    if first.status != second.status:
        return f"{first.status.value} at first ({first.reason[:_SHOWN]}), then {second.status.value} ({second.reason[:_SHOWN]})"
    if first.reason != second.reason:
        return f"{first.reason[:_SHOWN]!r} at first, then {second.reason[:_SHOWN]!r}"
    pairs = zip(first.stdout.splitlines(), second.stdout.splitlines(), strict=False)
    for number, (before, after) in enumerate(pairs, 1):
        if before != after:
            return f"line {number} of the output is {before[:_SHOWN]!r} at first, then {after[:_SHOWN]!r}"
    if first.stdout != second.stdout:
        return f"{len(first.stdout)} characters of output at first, then {len(second.stdout)}"
    return ""


class Canary:
    """Runs the sample again on ``pool``, one program at a time; what comes meanwhile is not looked at."""

    def __init__(self, pool: Pool, every: int) -> None:
        self._pool, self._every = pool, every
        self._again: set[asyncio.Task[None]] = set()

    def look_at(self, program: str, limits: ExecutionLimits, first: Execution) -> None:
        """Have ``program``, which ended as ``first``, run again if it is one of the sample; does not wait."""
        if first.status not in REPEATABLE or len(self._again) >= _AT_ONCE:
            return
        if chosen(program, self._every) and resumable(program):
            task = asyncio.create_task(self._compare(program, limits, first))
            self._again.add(task)
            task.add_done_callback(self._again.discard)

    async def settle(self) -> None:
        """Wait for what runs again."""
        await asyncio.gather(*self._again)

    async def close(self) -> None:
        """Let go of what runs again."""
        for task in self._again:
            task.cancel()
        await asyncio.gather(*self._again, return_exceptions=True)

    async def _compare(self, program: str, limits: ExecutionLimits, first: Execution) -> None:
        try:
            (second,) = await self._pool.run(Batch(kind_of(program), [], [program], limits, whole=True))
        except OverloadedError:
            return
        if second.status not in REPEATABLE:
            return  # out of time, of memory or of an executor: that is load, not another end
        words = difference(first, second)
        (metrics.CANARY_DIFFERENCES if words else metrics.CANARY_SAME).inc()
        if words:
            _log.warning("a program ended differently the second time", program=digest(program).hex(), difference=words)
