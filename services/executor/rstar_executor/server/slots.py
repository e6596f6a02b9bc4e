"""The slots: limits how many batches run at once, gives each a warden and replaces lost wardens.

A batch holds its slot until none of its processes runs any more, even when its caller has gone: cancellation interrupts
the batch, and the slot is free when the warden confirms. A batch whose programs get snapshots goes to the idle warden that
ran the longest prefix of its steps. A program whose warden is lost gets ``internal``, and the batch continues on a fresh warden. Programs are not
retried here: the client decides that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from rstar.interfaces import Execution, ExecutionStatus
from rstar_executor.sandbox import Layer
from rstar_executor.server import metrics
from rstar_executor.server.affinity import Affinity
from rstar_executor.server.fair_queue import FairQueue, QueueFullError
from rstar_executor.server.warden_client import Batch, WardenFailedError, WardenProcess
from rstar_executor.warden.snapshots import SNAPSHOT_KINDS

Started = Callable[[], Awaitable[None]]

WAITING_PER_SLOT: Final = 64
PROGRAMS_PER_WARDEN: Final = 100_000
"""A warden is replaced after this many programs, so that nothing it may have accumulated is kept."""


class OverloadedError(Exception):
    """The queue of batches is full."""


class _RunningBatch:
    """A batch that has a slot, and the warden that runs it, if any does at the moment."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.warden: WardenProcess | None = None
        self.interrupted = False

    def give_up(self, reason: str) -> None:
        left = len(self.batch.remaining())
        self.batch.results += [Execution(ExecutionStatus.INTERNAL, reason=reason)] * left

    def interrupt(self) -> None:
        self.interrupted = True
        if self.warden is not None:
            self.warden.interrupt()


class Slots:
    """Runs up to ``slots`` batches at once; the snapshots of each slot may hold ``snapshot_bytes``.

    ``waiting_per_slot`` more batches per slot may wait.
    """

    def __init__(
        self,
        slots: int,
        snapshot_bytes: int,
        programs_per_warden: int = PROGRAMS_PER_WARDEN,
        waiting_per_slot: int = WAITING_PER_SLOT,
    ) -> None:
        self._count = slots
        self._snapshot_bytes = snapshot_bytes
        self._programs_per_warden = programs_per_warden
        self._free = slots
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue(waiting_per_slot * slots)
        self._idle: list[WardenProcess] = []
        self._affinity: Affinity[WardenProcess] = Affinity()
        self._running: dict[asyncio.Task[list[Execution]], _RunningBatch] = {}
        self.layers: Sequence[Layer] = ()
        self.closed = False
        metrics.SLOTS.set(slots)

    async def start(self) -> None:
        """Start the wardens. Raises ``WardenFailedError``; ``close`` ends those that did start."""
        starting = [asyncio.create_task(self._start()) for _ in range(self._count)]
        try:
            await asyncio.wait(starting)
        finally:
            # Also when this is cancelled: a warden that starts cannot be given up halfway without a trace.
            ended = await asyncio.gather(*starting, return_exceptions=True)
            self._idle += [warden for warden in ended if isinstance(warden, WardenProcess)]
        for task in starting:
            task.result()
        self.layers = self._idle[0].layers

    async def run(
        self, batch: Batch, tenant: str = "", problem: str = "", started: Started | None = None
    ) -> list[Execution]:
        """Return one execution per candidate; ``started`` is called when the batch has its slot.

        Raises ``OverloadedError`` when the queue is full.
        """
        await self._acquire(tenant, problem)
        try:
            if started is not None:
                await started()
        except BaseException:
            self._release()
            raise
        running = _RunningBatch(batch)
        task = asyncio.create_task(self._run(running))
        self._running[task] = running
        task.add_done_callback(self._on_done)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            running.interrupt()
            raise

    async def _acquire(self, tenant: str, problem: str) -> None:
        """Take a slot, or wait for one."""
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._queue.push(turn, tenant, problem)
        except QueueFullError as error:
            raise OverloadedError(
                f"{len(self._queue)} batches wait for {self._count} slots; use another executor or try again later"
            ) from error
        with metrics.QUEUED.track_inprogress():
            try:
                await turn
            except asyncio.CancelledError:
                if not self._queue.remove(turn) and turn.done() and not turn.cancelled():
                    self._release()
                raise

    def _release(self) -> None:
        """Give a slot to the next batch in the queue."""
        while len(self._queue):
            turn = self._queue.pop()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    async def close(self) -> None:
        """Interrupt running batches and end every warden."""
        self.closed = True
        for running in self._running.values():
            running.interrupt()
        await asyncio.gather(*self._running)
        wardens, self._idle = self._idle, []
        await asyncio.gather(*(warden.end() for warden in wardens))

    def warden_pids(self) -> list[int]:
        """Return the process ids of all wardens."""
        busy = [running.warden for running in self._running.values() if running.warden is not None]
        return [warden.pid for warden in (*busy, *self._idle)]

    def _on_done(self, task: asyncio.Task[list[Execution]]) -> None:
        del self._running[task]
        self._release()

    async def _run(self, running: _RunningBatch) -> list[Execution]:
        batch = running.batch
        with metrics.BUSY.track_inprogress():
            while batch.remaining() and not running.interrupted:
                try:
                    warden = await self._take(batch)
                except WardenFailedError as failure:
                    running.give_up(str(failure))
                else:
                    await self._run_on(warden, running)
        running.give_up("the executor was stopped")
        return batch.results

    async def _run_on(self, warden: WardenProcess, running: _RunningBatch) -> None:
        """Run the remaining candidates of a batch; a lost warden costs one of them."""
        batch = running.batch
        running.warden = warden
        try:
            if not running.interrupted:
                await warden.run(batch)
                metrics.record_batch(warden.pid, warden.stats)
        except WardenFailedError as failure:
            if batch.remaining():
                batch.results.append(Execution(ExecutionStatus.INTERNAL, reason=str(failure)))
            await self._end(warden)
        else:
            if batch.kind in SNAPSHOT_KINDS:
                self._affinity.record(warden, batch.steps, batch.candidates)
            if warden.stats.unusable and not warden.programs:
                batch.results.append(Execution(ExecutionStatus.INTERNAL, reason=warden.stats.unusable))
            if warden.stats.unusable or warden.programs >= self._programs_per_warden:
                await self._end(warden)
            else:
                self._idle.append(warden)
        finally:
            running.warden = None

    async def _take(self, batch: Batch) -> WardenProcess:
        while self._idle:
            warden = self._affinity.choose(self._idle, batch.steps if batch.kind in SNAPSHOT_KINDS else ())
            self._idle.remove(warden)
            if warden.alive:
                return warden
            await self._end(warden)
        return await self._start()

    async def _start(self) -> WardenProcess:
        metrics.WARDENS.inc()
        return await WardenProcess.start(self._snapshot_bytes)

    async def _end(self, warden: WardenProcess) -> None:
        self._affinity.forget(warden)
        metrics.remove_warden(warden.pid)
        await warden.end()
