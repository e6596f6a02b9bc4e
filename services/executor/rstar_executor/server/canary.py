"""The determinism canary: runs a sample of programs a second time, from the start, and counts results that differ.

The replay of a search, the cache and snapshots all require that a program ends the same way each time. Programs that
read clocks are left out: they may differ. A difference is counted and logged; nothing else is done about it.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from rstar.interfaces import Execution
from rstar_executor.sandbox.limits import Limits
from rstar_executor.server import metrics
from rstar_executor.server.programs import REPEATABLE, digest, kind_of
from rstar_executor.server.slots import OverloadedError, Slots
from rstar_executor.server.warden_client import Batch
from rstar_executor.warden.snapshots import resumable

_AT_ONCE: Final = 1
_SHOWN: Final = 200
_log = structlog.get_logger()


def is_sampled(program: str, every: int) -> bool:
    """Say whether ``program`` belongs to the sample, which is one program in ``every``; none when that is 0."""
    return every > 0 and int.from_bytes(digest(program)) % every == 0


def difference(first: Execution, second: Execution) -> str:
    """Return one sentence on how two results of a program differ; empty when they do not."""
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
    """Runs the sample again on ``slots``, one program at a time; programs that arrive meanwhile are not sampled."""

    def __init__(self, slots: Slots, every: int) -> None:
        self._slots, self._every = slots, every
        self._running: set[asyncio.Task[None]] = set()

    def check(self, program: str, limits: Limits, first: Execution) -> None:
        """Run ``program``, whose result was ``first``, again if it belongs to the sample; do not wait for it."""
        if first.status not in REPEATABLE or len(self._running) >= _AT_ONCE:
            return
        if is_sampled(program, self._every) and resumable(program):
            task = asyncio.create_task(self._compare(program, limits, first))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def wait(self) -> None:
        """Wait for the programs that run again."""
        await asyncio.gather(*self._running)

    async def close(self) -> None:
        """Cancel the programs that run again."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _compare(self, program: str, limits: Limits, first: Execution) -> None:
        try:
            (second,) = await self._slots.run(Batch(kind_of(program), [], [program], limits, tracebacks=True))
        except OverloadedError:
            return
        if second.status not in REPEATABLE:
            return  # a timeout, lack of memory or a lost warden comes from load, not from the program
        found = difference(first, second)
        (metrics.CANARY_DIFFERENCES if found else metrics.CANARY_SAME).inc()
        if found:
            _log.warning("a program ended differently the second time", program=digest(program).hex(), difference=found)
