"""Many searches at once, in shards that are stored as they finish.

``concurrency`` problems are searched at any time. There is no barrier: a slow problem delays only its own shard. A
problem whose search fails becomes a record with ``error``, what it found and what it spent, and stops no other; at the
end of the stage it is searched once more, also when an earlier attempt stored it. If more than half of the problems
fail, the cause is not a single problem: the stage fails. After SIGTERM no shard is started, the running ones get
``DRAIN_SECONDS``, and the next attempt searches what is missing.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import structlog

from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.rpc.errors import CallFailed, CallRefused
from rstar.rpc.search_client import SearchClient
from rstar_jobs.errors import BadInputError, TerminatedError
from rstar_jobs.open_shards import OpenShard, OpenShards, StorePartial
from rstar_jobs.progress import SearchProgress
from rstar_jobs.search_work import Partial, Searched, Shard, merge_records

DRAIN_SECONDS: Final = 20.0
"""Less than the 30 s that a pod has between SIGTERM and SIGKILL."""

SAVE_SECONDS: Final = 60.0
"""Time between two looks for finished problems that are not stored."""

ENOUGH_PROBLEMS: Final = 16
"""The share of failed problems is judged from so many finished ones on, or when all are finished: one problem that no
model can read must not end a stage because it came first."""


StoreShard = Callable[[Shard, list[SearchRecord]], Awaitable[None]]
"""Stores a finished shard, or replaces it when a problem was searched once more."""

IsSuccess = Callable[[Shard, Problem, SearchRecord], Awaitable[bool]]
"""Whether a finished search counts as a success in the progress. Asked once per search."""


async def is_solved(shard: Shard, problem: Problem, record: SearchRecord) -> bool:
    """Return whether the search itself found a correct trajectory."""
    return record.solved


async def search_shards(
    addresses: Sequence[str],
    shards: Sequence[Shard],
    concurrency: int,
    store: StoreShard,
    progress: SearchProgress,
    store_partial: StorePartial,
    is_success: IsSuccess = is_solved,
    failed_before: Iterable[Searched] = (),
    partial: Partial | None = None,
    save_seconds: float = SAVE_SECONDS,
) -> None:
    """Search every problem of ``shards`` and call ``store`` for each shard when its last problem is done.

    ``addresses`` are search coordinators. Earlier attempts stored ``failed_before``, shards that have failed problems, and
    ``partial``, the finished problems of some of ``shards``. ``store_partial`` is called every ``save_seconds`` and at the end.
    Raises ``BadInputError`` when the services refuse the work, ``TerminatedError`` after SIGTERM, ``CallFailed`` when no
    coordinator can be reached or most problems failed.
    """
    async with SearchClient(addresses) as client:
        searches = _Searches(client, store, store_partial, progress, is_success, shards, partial or {})
        with _on_sigterm(searches.stop):
            await searches.run(concurrency, failed_before, save_seconds)


class _Searches:
    def __init__(
        self,
        client: SearchClient,
        store: StoreShard,
        store_partial: StorePartial,
        progress: SearchProgress,
        is_success: IsSuccess,
        shards: Sequence[Shard],
        partial: Partial,
    ) -> None:
        self._client = client
        self._store = store
        self._progress = progress
        self._is_success = is_success
        self._shards = shards
        self._problems = sum(len(shard.problems) - len(partial.get(shard.name, ())) for shard in shards)
        self._finished = 0
        self._failures: list[CallFailed] = []
        self._with_failures: list[Searched] = []
        self._open = OpenShards(store_partial, partial)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Start no further shard."""
        structlog.get_logger().info("SIGTERM: finishing the running shards")
        self._stopping.set()

    async def run(self, concurrency: int, failed_before: Iterable[Searched], save_seconds: float) -> None:
        """Run ``concurrency`` searches at a time until all shards are stored and the failed problems were tried again."""
        self._with_failures += failed_before
        searching = asyncio.ensure_future(self._search_all(concurrency))
        stopped = asyncio.ensure_future(self._stopping.wait())
        others = asyncio.ensure_future(self._report()), asyncio.ensure_future(self._open.save_often(save_seconds))
        try:
            await asyncio.wait((searching, stopped), return_when=asyncio.FIRST_COMPLETED)
            if self._stopping.is_set():
                await asyncio.wait((searching,), timeout=DRAIN_SECONDS)
                if searching.done() and (error := searching.exception()):
                    structlog.get_logger().warning("failed while ending", error=str(error))
                raise TerminatedError("ended by SIGTERM; finished problems are stored and will not be searched again")
            await searching
        finally:
            for task in (searching, stopped, *others):
                task.cancel()
            await asyncio.gather(searching, stopped, *others, return_exceptions=True)
            await self._open.save()
            self._progress.report(last=True)

    async def _search_all(self, concurrency: int) -> None:
        await self._work(self._new(), concurrency)
        with_failures, self._with_failures = self._with_failures, []
        await self._work(self._failed(with_failures), concurrency)

    async def _work(self, queue: Iterator[tuple[OpenShard, int]], concurrency: int) -> None:
        workers = [asyncio.ensure_future(self._worker(queue)) for _ in range(concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def _new(self) -> Iterator[tuple[OpenShard, int]]:
        """Yield each unfinished problem as its shard and its position there, until SIGTERM stops new shards."""
        for shard in self._shards:
            if self._stopping.is_set():
                return
            opened, missing = self._open.open(shard)
            yield from ((opened, i) for i in missing)

    def _failed(self, searched: Iterable[Searched]) -> Iterator[tuple[OpenShard, int]]:
        """Yield the problems whose search failed, in the same way."""
        for shard, records in searched:
            if self._stopping.is_set():
                return
            failed = [i for i, record in enumerate(records) if record.error]
            opened = OpenShard(shard, [*records], len(failed))
            yield from ((opened, i) for i in failed)

    async def _worker(self, queue: Iterator[tuple[OpenShard, int]]) -> None:
        for opened, position in queue:
            shard, before = opened.shard, opened.records[position]
            problem = shard.problems[position]
            found = await self._search(shard, problem, first=before is None)
            # The record of a problem that was searched once more has what both searches spent.
            record = found if before is None else replace(found, usage=before.usage + found.usage)
            success = await self._is_success(shard, problem, record)
            self._progress.finished(shard.name, found, success=success, again=before is not None)
            opened.records[position] = record
            opened.pending -= 1
            self._finished += before is None
            if not opened.pending:
                async with opened.storing:
                    await self._finish(
                        [record for record in opened.records if record is not None], shard, before is None
                    )
                self._open.close(opened)

    async def _finish(self, records: list[SearchRecord], shard: Shard, first: bool) -> None:
        if first:
            self._check()
        await self._store(shard, records)
        failed = sum(bool(record.error) for record in records)
        structlog.get_logger().info("shard stored", shard=shard.name, problems=len(records), failed=failed)
        if failed and first:
            self._with_failures.append((shard, records))

    async def _search(self, shard: Shard, problem: Problem, *, first: bool) -> SearchRecord:
        found: SearchRecord | None = None
        try:
            for run in shard.runs(problem):
                events = self._client.solve(
                    problem, run.config, verifier=shard.verifier, equivalence=shard.equivalence, seed=run.seed
                )
                async for event in events:
                    if isinstance(event, SearchRecord):
                        found = event if found is None else merge_records(found, event)
                    else:
                        self._progress.running(shard.name, problem.id, event.usage, found)
                if found is None or found.solved or found.error:
                    break
        except CallFailed as error:
            if first:
                self._failures.append(error)
            structlog.get_logger().warning("search failed", problem_id=problem.id, error=str(error))
            return replace(found or SearchRecord(problem.id, ()), error=str(error))
        if found is None:
            raise RuntimeError(f"problem {problem.id}: the search ended without a record")
        return found

    def _check(self) -> None:
        """Raise when most problems failed, or any while the stage is ending: the services may be ending too."""
        failures = self._failures
        if self._stopping.is_set() and failures:
            raise failures[0]
        if self._finished < min(ENOUGH_PROBLEMS, self._problems) or len(failures) * 2 <= self._finished:
            return
        if all(isinstance(error, CallRefused) for error in failures):
            raise BadInputError(f"the search refuses this work: {failures[0].reason}")
        what = f"{len(failures)} of {self._finished} problems failed, the first with"
        raise CallFailed(failures[0].service, failures[0].address, f"{what}: {failures[0].reason}")

    async def _report(self) -> None:
        while True:
            self._progress.report()
            await asyncio.sleep(1)


@contextmanager
def _on_sigterm(stop: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGTERM)
    loop.add_signal_handler(signal.SIGTERM, stop)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)
