"""The slots: how many batches run at once, which zygote runs them, and what happens when it is lost.

A slot is taken by one batch until nothing of it runs any more, also when its caller has gone: cancelling interrupts the
batch, and the slot is free when the zygote confirms it. A program whose zygote is lost under it is ``internal``; the
batch goes on in a fresh one. The module refuses to retry a program: that is the client's decision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from rstar.interfaces import Execution, ExecutionLimits, ExecutionStatus
from rstar_executor import metrics
from rstar_executor.programs import PRELOADED, Kind, kind_of
from rstar_executor.zygote_process import ZygoteFailedError, ZygoteProcess

WAITING_PER_SLOT: Final = 64


class OverloadedError(Exception):
    """More batches wait than the pool queues."""


@dataclass
class _Batch:
    programs: Sequence[str]
    limits: ExecutionLimits
    results: list[Execution] = field(default_factory=list)
    zygote: ZygoteProcess | None = None
    interrupted: bool = False

    def rest(self) -> Sequence[str]:
        return self.programs[len(self.results) :]

    def give_up(self, reason: str) -> None:
        self.results += [Execution(ExecutionStatus.INTERNAL, reason=reason)] * len(self.rest())

    def interrupt(self) -> None:
        self.interrupted = True
        if self.zygote is not None:
            self.zygote.interrupt()


class Pool:
    """``slots`` batches at once, first come, first served."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._free = asyncio.Semaphore(slots)
        self._waiting = 0
        self._idle: dict[Kind, list[ZygoteProcess]] = {kind: [] for kind in Kind}
        self._running: dict[asyncio.Task[list[Execution]], _Batch] = {}

    async def start(self) -> None:
        """Start the light zygotes; heavy ones start when a program wants one. Raises ``ZygoteFailedError``."""
        async with asyncio.TaskGroup() as group:
            starting = [group.create_task(_start(Kind.LIGHT)) for _ in range(self._slots)]
        self._idle[Kind.LIGHT] += [task.result() for task in starting]

    async def run(self, programs: Sequence[str], limits: ExecutionLimits) -> list[Execution]:
        """Return one execution per program. Raises ``OverloadedError`` when too many batches wait already."""
        if self._waiting >= WAITING_PER_SLOT * self._slots:
            raise OverloadedError(
                f"{self._waiting} batches wait for {self._slots} slots; try another executor or later"
            )
        self._waiting += 1
        metrics.QUEUED.inc()
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
            metrics.QUEUED.dec()
        batch = _Batch(programs, limits)
        work = asyncio.create_task(self._work(batch))
        self._running[work] = batch
        work.add_done_callback(self._done)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            batch.interrupt()
            raise

    async def close(self) -> None:
        """Interrupt what still runs and end every zygote."""
        for batch in self._running.values():
            batch.interrupt()
        await asyncio.gather(*self._running)
        zygotes = [zygote for idle in self._idle.values() for zygote in idle]
        self._idle = {kind: [] for kind in Kind}
        await asyncio.gather(*(zygote.end() for zygote in zygotes))

    def zygote_pids(self) -> list[int]:
        """Return the process ids of all zygotes."""
        busy = [batch.zygote for batch in self._running.values() if batch.zygote is not None]
        return [zygote.pid for zygote in (*busy, *(zygote for idle in self._idle.values() for zygote in idle))]

    def _done(self, work: asyncio.Task[list[Execution]]) -> None:
        del self._running[work]
        self._free.release()

    async def _work(self, batch: _Batch) -> list[Execution]:
        kind = kind_of(batch.programs)
        with metrics.BUSY.track_inprogress():
            while batch.rest() and not batch.interrupted:
                try:
                    zygote = await self._take(kind)
                except ZygoteFailedError as failure:
                    batch.give_up(str(failure))
                else:
                    await self._run_on(zygote, kind, batch)
        batch.give_up("the executor was stopped")
        return batch.results

    async def _run_on(self, zygote: ZygoteProcess, kind: Kind, batch: _Batch) -> None:
        """Run what is left of ``batch``; a lost zygote costs one program."""
        batch.zygote = zygote
        try:
            if not batch.interrupted:
                await zygote.run(batch.rest(), batch.limits, batch.results)
        except ZygoteFailedError as failure:
            if batch.rest():
                batch.results.append(Execution(ExecutionStatus.INTERNAL, reason=str(failure)))
            await zygote.end()
        else:
            self._idle[kind].append(zygote)
        finally:
            batch.zygote = None

    async def _take(self, kind: Kind) -> ZygoteProcess:
        while self._idle[kind]:
            zygote = self._idle[kind].pop()
            if zygote.alive:
                return zygote
            await zygote.end()
        return await _start(kind)


async def _start(kind: Kind) -> ZygoteProcess:
    metrics.ZYGOTES.labels(kind.value).inc()
    return await ZygoteProcess.start(PRELOADED[kind])
