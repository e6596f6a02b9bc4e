"""Many searches at once, in shards that are stored as they finish.

``concurrency`` problems are searched at any time. There is no barrier: a slow problem delays only its own shard. A
problem whose search fails after the client's retries becomes a record with ``error`` and stops no other. If more than
half of a shard fails, the cause is not a single problem: the shard is not stored and the stage fails. After SIGTERM no
shard is started, the running ones get ``DRAIN_SECONDS``, and the next attempt searches the shards that are missing.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from rstar.config import SearchConfig
from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.rpc.errors import CallFailed, CallRefused
from rstar.rpc.search_client import SearchClient
from rstar_jobs.errors import BadInputError, TerminatedError
from rstar_jobs.progress import SearchProgress

DRAIN_SECONDS: Final = 20.0
"""Less than the 30 s that a pod has between SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True)
class SearchRun:
    """One search of a problem."""

    config: SearchConfig
    seed: int


@dataclass(frozen=True, slots=True)
class Shard:
    """Problems that are stored together under ``name``.

    ``runs`` gives the searches of a problem, in turn: a later one runs only while the problem is unsolved.
    ``verifier``: the name of the verifier that the search uses, '' for none.
    """

    name: str
    problems: tuple[Problem, ...]
    runs: Callable[[Problem], Sequence[SearchRun]]
    verifier: str = ""


StoreShard = Callable[[Shard, list[SearchRecord]], Awaitable[None]]
"""Stores a finished shard; the records are in the order of its problems."""

IsSuccess = Callable[[Shard, Problem, SearchRecord], Awaitable[bool]]
"""Whether a finished search counts as a success in the progress. Asked once per problem."""


async def is_solved(shard: Shard, problem: Problem, record: SearchRecord) -> bool:
    """Return whether the search itself found a correct trajectory."""
    return record.solved


def shards_of(problems: Sequence[Problem], size: int) -> Iterator[tuple[Problem, ...]]:
    """Cut the problems into parts of ``size``, in order."""
    return (tuple(problems[i : i + size]) for i in range(0, len(problems), size))


async def search_shards(
    addresses: Sequence[str],
    shards: Iterable[Shard],
    concurrency: int,
    store: StoreShard,
    progress: SearchProgress,
    is_success: IsSuccess = is_solved,
) -> None:
    """Search every problem of ``shards`` and call ``store`` for each shard when its last problem is done.

    ``addresses`` are search coordinators. Raises ``BadInputError`` when the services refuse the work,
    ``TerminatedError`` after SIGTERM, ``CallFailed`` when no coordinator can be reached or most of a shard failed.
    """
    async with SearchClient(addresses) as client:
        searches = _Searches(client, store, progress, is_success)
        with _on_sigterm(searches.stop):
            await searches.run(shards, concurrency)


@dataclass(slots=True)
class _OpenShard:
    """A shard whose problems are being searched; ``records`` are in the order of its problems."""

    shard: Shard
    records: list[SearchRecord | None]
    failures: list[CallFailed] = field(default_factory=list)


class _Searches:
    def __init__(
        self, client: SearchClient, store: StoreShard, progress: SearchProgress, is_success: IsSuccess
    ) -> None:
        self._client = client
        self._store = store
        self._progress = progress
        self._is_success = is_success
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Start no further shard."""
        structlog.get_logger().info("SIGTERM: finishing the running shards")
        self._stopping.set()

    async def run(self, shards: Iterable[Shard], concurrency: int) -> None:
        """Run ``concurrency`` searches at a time until all shards are stored."""
        queue = self._problems(shards)
        workers = asyncio.gather(*(self._worker(queue) for _ in range(concurrency)))
        stopped = asyncio.ensure_future(self._stopping.wait())
        reports = asyncio.ensure_future(self._report())
        try:
            await asyncio.wait((workers, stopped), return_when=asyncio.FIRST_COMPLETED)
            if self._stopping.is_set():
                await asyncio.wait((workers,), timeout=DRAIN_SECONDS)
                if workers.done() and (error := workers.exception()):
                    structlog.get_logger().warning("failed while ending", error=str(error))
                raise TerminatedError("ended by SIGTERM; finished shards are stored and will not be searched again")
            await workers
        finally:
            for task in (workers, stopped, reports):
                task.cancel()
            await asyncio.gather(workers, stopped, reports, return_exceptions=True)
            self._progress.report(last=True)

    def _problems(self, shards: Iterable[Shard]) -> Iterator[tuple[_OpenShard, int]]:
        """Yield each problem as its shard and its position there, until SIGTERM stops new shards."""
        for shard in shards:
            if self._stopping.is_set():
                return
            opened = _OpenShard(shard, [None] * len(shard.problems))
            yield from ((opened, i) for i in range(len(shard.problems)))

    async def _worker(self, queue: Iterator[tuple[_OpenShard, int]]) -> None:
        for opened, position in queue:
            shard = opened.shard
            problem = shard.problems[position]
            record = await self._search(opened, problem)
            success = await self._is_success(shard, problem, record)
            self._progress.finished(shard.name, record, success=success)
            opened.records[position] = record
            records = [record for record in opened.records if record is not None]
            if len(records) == len(opened.records):
                self._check(opened)
                await self._store(shard, records)
                structlog.get_logger().info("shard stored", shard=shard.name, problems=len(records))

    async def _search(self, opened: _OpenShard, problem: Problem) -> SearchRecord:
        shard = opened.shard
        found: SearchRecord | None = None
        try:
            for run in shard.runs(problem):
                events = self._client.solve(problem, run.config, shard.verifier, run.seed)
                async for event in events:
                    if isinstance(event, SearchRecord):
                        found = event if found is None else merge_records(found, event)
                    else:
                        self._progress.running(shard.name, problem.id, event.usage, found)
                if found is None or found.solved or found.error:
                    break
        except CallFailed as error:
            opened.failures.append(error)
            structlog.get_logger().warning("search failed", problem=problem.id, error=str(error))
            return replace(found or SearchRecord(problem.id, ()), error=str(error))
        if found is None:
            raise RuntimeError(f"problem {problem.id}: the search ended without a record")
        return found

    def _check(self, opened: _OpenShard) -> None:
        failures = opened.failures
        if self._stopping.is_set() and failures:
            raise failures[0]
        if len(failures) * 2 <= len(opened.records):
            return
        if all(isinstance(error, CallRefused) for error in failures):
            raise BadInputError(f"the search refuses this work: {failures[0].reason}")
        what = f"{len(failures)} of {len(opened.records)} problems of shard {opened.shard.name} failed, the first with"
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
