"""Many searches at once, in shards that are stored as they finish.

``concurrency`` problems are searched at any time. There is no barrier: a slow problem delays only its own shard. A
problem whose search fails becomes a record with ``error``, what it found and what it spent, and stops no other; at the
end of the stage it is searched once more, also when an earlier attempt stored it. If more than half of the problems
fail, the cause is not a single problem: the stage fails. After SIGTERM no shard is started, the running ones get
``DRAIN_SECONDS``, and the next attempt searches what is missing. The finished problems of a shard that takes longer than
``SAVE_SECONDS`` are stored meanwhile: a model on a CPU may need an hour for the slowest of them.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from rstar.config import SearchConfig
from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.rpc.errors import CallFailed, CallRefused
from rstar.rpc.search_client import SearchClient
from rstar.store.store import StoreError
from rstar_jobs.errors import BadInputError, TerminatedError
from rstar_jobs.progress import SearchProgress

DRAIN_SECONDS: Final = 20.0
"""Less than the 30 s that a pod has between SIGTERM and SIGKILL."""

SAVE_SECONDS: Final = 60.0
"""Time between two looks for finished problems that are not stored."""

ENOUGH_PROBLEMS: Final = 16
"""The share of failed problems is judged from so many finished ones on, or when all are finished: one problem that no
model can read must not end a stage because it came first."""


@dataclass(frozen=True, slots=True)
class SearchRun:
    """One search of a problem."""

    config: SearchConfig
    seed: int


@dataclass(frozen=True, slots=True)
class Shard:
    """Problems that are stored together under ``name``.

    ``runs`` gives the searches of a problem, in turn: a later one runs only while the problem is unsolved.
    ``verifier``: the name of the verifier that rewards answers, '' for none; ``equivalence``: of the one that tells
    which answers are equal in a vote.
    """

    name: str
    problems: tuple[Problem, ...]
    runs: Callable[[Problem], Sequence[SearchRun]]
    verifier: str = ""
    equivalence: str = ""


Searched = tuple[Shard, list[SearchRecord]]
"""A shard and the records of its problems, in order."""

StoreShard = Callable[[Shard, list[SearchRecord]], Awaitable[None]]
"""Stores a finished shard, or replaces it when a problem was searched once more."""

StorePartial = Callable[[Shard, Mapping[int, SearchRecord]], None]
"""Stores the records of a shard's finished problems, by position, in place of those stored before. Runs in a thread."""

Partial = Mapping[str, Mapping[int, SearchRecord]]
"""The records of finished problems of unfinished shards, by shard name and position."""

IsSuccess = Callable[[Shard, Problem, SearchRecord], Awaitable[bool]]
"""Whether a finished search counts as a success in the progress. Asked once per search."""


async def is_solved(shard: Shard, problem: Problem, record: SearchRecord) -> bool:
    """Return whether the search itself found a correct trajectory."""
    return record.solved


def shards_of(problems: Sequence[Problem], size: int) -> Iterator[tuple[Problem, ...]]:
    """Cut the problems into parts of ``size``, in order."""
    return (tuple(problems[i : i + size]) for i in range(0, len(problems), size))


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


@dataclass(eq=False, slots=True)
class _OpenShard:
    """A shard of which ``pending`` problems are still to be searched; ``records`` are in the order of its problems.

    ``stored``: how many of the records are stored. ``storing`` is held while any are.
    """

    shard: Shard
    records: list[SearchRecord | None]
    pending: int
    stored: int = 0
    storing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def finished(self) -> dict[int, SearchRecord]:
        """Return the records of the problems that need not be searched again, by position."""
        return {i: record for i, record in enumerate(self.records) if record is not None and not record.error}


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
        self._store_partial = store_partial
        self._progress = progress
        self._is_success = is_success
        self._shards = shards
        self._partial = partial
        self._problems = sum(len(shard.problems) - len(partial.get(shard.name, ())) for shard in shards)
        self._finished = 0
        self._failures: list[CallFailed] = []
        self._with_failures: list[Searched] = []
        self._open: set[_OpenShard] = set()
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
        others = asyncio.ensure_future(self._report()), asyncio.ensure_future(self._save_often(save_seconds))
        try:
            await asyncio.wait((searching, stopped), return_when=asyncio.FIRST_COMPLETED)
            if self._stopping.is_set():
                await asyncio.wait((searching,), timeout=DRAIN_SECONDS)
                if searching.done() and (error := searching.exception()):
                    structlog.get_logger().warning("failed while ending", error=str(error))
                raise TerminatedError("ended by SIGTERM; finished shards are stored and will not be searched again")
            await searching
        finally:
            for task in (searching, stopped, *others):
                task.cancel()
            await asyncio.gather(searching, stopped, *others, return_exceptions=True)
            await self._save()
            self._progress.report(last=True)

    async def _search_all(self, concurrency: int) -> None:
        await self._work(self._new(), concurrency)
        with_failures, self._with_failures = self._with_failures, []
        await self._work(self._failed(with_failures), concurrency)

    async def _work(self, queue: Iterator[tuple[_OpenShard, int]], concurrency: int) -> None:
        workers = [asyncio.ensure_future(self._worker(queue)) for _ in range(concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def _new(self) -> Iterator[tuple[_OpenShard, int]]:
        """Yield each unfinished problem as its shard and its position there, until SIGTERM stops new shards."""
        for shard in self._shards:
            if self._stopping.is_set():
                return
            known = self._partial.get(shard.name, {})
            records = [known.get(i) for i in range(len(shard.problems))]
            missing = [i for i, record in enumerate(records) if record is None]
            opened = _OpenShard(shard, records, len(missing), stored=len(known))
            self._open.add(opened)
            yield from ((opened, i) for i in missing)

    def _failed(self, searched: Iterable[Searched]) -> Iterator[tuple[_OpenShard, int]]:
        """Yield the problems whose search failed, in the same way."""
        for shard, records in searched:
            if self._stopping.is_set():
                return
            failed = [i for i, record in enumerate(records) if record.error]
            opened = _OpenShard(shard, [*records], len(failed))
            yield from ((opened, i) for i in failed)

    async def _worker(self, queue: Iterator[tuple[_OpenShard, int]]) -> None:
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
                self._open.discard(opened)

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

    async def _save_often(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._save()

    async def _save(self) -> None:
        """Store the finished problems of all open shards."""
        for opened in tuple(self._open):
            async with opened.storing:
                finished = opened.finished()
                if not opened.pending or len(finished) <= opened.stored:
                    continue
                try:
                    await asyncio.to_thread(self._store_partial, opened.shard, finished)
                except StoreError as error:  # the shard itself is stored later, or ends the stage with the reason
                    structlog.get_logger().warning("problems not stored", shard=opened.shard.name, error=str(error))
                else:
                    opened.stored = len(finished)

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


def merge_records(first: SearchRecord, second: SearchRecord) -> SearchRecord:
    """Append the trees of ``second``, numbered after those of ``first``; the first choice stays if there is one.

    Raises ``ValueError`` when they are of different problems.
    """
    if first.problem_id != second.problem_id:
        raise ValueError(f"searches of {first.problem_id} and {second.problem_id} cannot be merged")
    offset = len(first.nodes)
    trees = max((node.tree for node in first.nodes), default=-1) + 1
    moved = tuple(
        replace(node, parent=node.parent + offset if node.parent >= 0 else -1, tree=node.tree + trees)
        for node in second.nodes
    )
    chosen = first.chosen
    if chosen < 0 <= second.chosen:
        chosen = second.chosen + offset
    return SearchRecord(
        problem_id=first.problem_id,
        nodes=first.nodes + moved,
        usage=first.usage + second.usage,
        chosen=chosen,
        policy_digest=second.policy_digest or first.policy_digest,
        ppm_digest=second.ppm_digest or first.ppm_digest,
        error=first.error or second.error,
    )
