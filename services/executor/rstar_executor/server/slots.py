"""The slots: how many batches run at once, which warden runs them, and what happens when it is lost.

A slot is taken by one batch until nothing of it runs any more, also when its caller has gone: cancelling interrupts the
batch, and the slot is free when the warden confirms it. A batch goes to the idle warden that knows the longest part of
its steps. A program whose warden is lost under it is ``internal``; the batch goes on in a fresh one. The module refuses
to retry a program: that is the client's decision.
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

Started = Callable[[], Awaitable[None]]

WAITING_PER_SLOT: Final = 64
PROGRAMS_PER_WARDEN: Final = 100_000
"""After so many programs a warden is replaced: whatever it may have gathered goes with it."""


class OverloadedError(Exception):
    """More batches wait than the pool queues."""


class _Work:
    """A batch, and what may still be said to it."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.warden: WardenProcess | None = None
        self.interrupted = False

    def give_up(self, reason: str) -> None:
        rest = self.batch.rest()
        self.batch.results += [Execution(ExecutionStatus.INTERNAL, reason=reason)] * len(rest)

    def interrupt(self) -> None:
        self.interrupted = True
        if self.warden is not None:
            self.warden.interrupt()


class Pool:
    """``slots`` batches at once; the snapshots of each slot may hold ``snapshot_bytes``."""

    def __init__(self, slots: int, snapshot_bytes: int, programs_per_warden: int = PROGRAMS_PER_WARDEN) -> None:
        self._slots = slots
        self._snapshot_bytes = snapshot_bytes
        self._programs_per_warden = programs_per_warden
        self._open = slots
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue(WAITING_PER_SLOT * slots)
        self._idle: list[WardenProcess] = []
        self._affinity: Affinity[WardenProcess] = Affinity()
        self._running: dict[asyncio.Task[list[Execution]], _Work] = {}
        self.layers: Sequence[Layer] = ()
        metrics.SLOTS.set(slots)

    async def start(self) -> None:
        """Start the wardens. Raises ``WardenFailedError``."""
        async with asyncio.TaskGroup() as group:
            starting = [group.create_task(self._start()) for _ in range(self._slots)]
        self._idle += [task.result() for task in starting]
        self.layers = self._idle[0].layers

    async def run(
        self, batch: Batch, tenant: str = "", problem: str = "", started: Started | None = None
    ) -> list[Execution]:
        """Return one execution per candidate; ``started`` is called when the batch has its slot.

        Raises ``OverloadedError`` when too many batches wait already.
        """
        await self._turn(tenant, problem)
        try:
            if started is not None:
                await started()
        except BaseException:
            self._release()
            raise
        work = _Work(batch)
        task = asyncio.create_task(self._work(work))
        self._running[task] = work
        task.add_done_callback(self._done)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            work.interrupt()
            raise

    async def _turn(self, tenant: str, problem: str) -> None:
        """Take a slot, or wait for one."""
        if self._open:
            self._open -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._queue.push(turn, tenant, problem)
        except QueueFullError as error:
            raise OverloadedError(
                f"{len(self._queue)} batches wait for {self._slots} slots; try another executor or later"
            ) from error
        with metrics.QUEUED.track_inprogress():
            try:
                await turn
            except asyncio.CancelledError:
                if not self._queue.remove(turn) and turn.done() and not turn.cancelled():
                    self._release()
                raise

    def _release(self) -> None:
        """Give a slot to whose turn it is."""
        while len(self._queue):
            turn = self._queue.pop()
            if not turn.done():
                turn.set_result(None)
                return
        self._open += 1

    async def close(self) -> None:
        """Interrupt what still runs and end every warden."""
        for work in self._running.values():
            work.interrupt()
        await asyncio.gather(*self._running)
        wardens, self._idle = self._idle, []
        await asyncio.gather(*(warden.end() for warden in wardens))

    def warden_pids(self) -> list[int]:
        """Return the process ids of all wardens."""
        busy = [work.warden for work in self._running.values() if work.warden is not None]
        return [warden.pid for warden in (*busy, *self._idle)]

    def _done(self, task: asyncio.Task[list[Execution]]) -> None:
        del self._running[task]
        self._release()

    async def _work(self, work: _Work) -> list[Execution]:
        with metrics.BUSY.track_inprogress():
            while work.batch.rest() and not work.interrupted:
                try:
                    warden = await self._take(work.batch)
                except WardenFailedError as failure:
                    work.give_up(str(failure))
                else:
                    await self._run_on(warden, work)
        work.give_up("the executor was stopped")
        return work.batch.results

    async def _run_on(self, warden: WardenProcess, work: _Work) -> None:
        """Run what is left of a batch; a lost warden costs one program."""
        work.warden = warden
        try:
            if not work.interrupted:
                await warden.run(work.batch)
                metrics.told(warden.pid, warden.told)
        except WardenFailedError as failure:
            if work.batch.rest():
                work.batch.results.append(Execution(ExecutionStatus.INTERNAL, reason=str(failure)))
            await self._end(warden)
        else:
            self._affinity.note(warden, work.batch.kind, work.batch.steps, work.batch.candidates)
            if warden.told.spent and not warden.programs:
                work.batch.results.append(
                    Execution(ExecutionStatus.INTERNAL, reason="a fresh warden could run nothing")
                )
            if warden.told.spent or warden.programs >= self._programs_per_warden:
                await self._end(warden)
            else:
                self._idle.append(warden)
        finally:
            work.warden = None

    async def _take(self, batch: Batch) -> WardenProcess:
        while self._idle:
            warden = self._affinity.choose(self._idle, batch.kind, batch.steps)
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
        metrics.gone(warden.pid)
        await warden.end()
