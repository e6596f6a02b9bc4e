"""Many searches at once, in shards that are stored as they finish.

``concurrency`` problems are under way at any time and there is no barrier: a slow problem holds back nothing but
its own shard. A problem whose search fails after the client's retries becomes a record with ``error`` and never
stops the others; a shard of which more than half failed is not stored, and ends the stage: then something is wrong
that no single problem is to blame for. After SIGTERM no shard is begun, those under way get ``DRAIN_SECONDS``, and
what is not stored by then is searched again by the next attempt.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import structlog

from rstar.config import SearchConfig
from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.rpc.errors import CallFailed, CallRefused
from rstar.rpc.search_client import SearchClient
from rstar_jobs.program import BadInputError, TerminatedError
from rstar_jobs.progress import Meter

DRAIN_SECONDS: Final = 20.0
"""Less than the 30 s that a pod has between SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One search of a problem; further phases run only while no trajectory is right."""

    config: SearchConfig
    seed: int


@dataclass(frozen=True, slots=True)
class Shard:
    """Problems that are stored together under ``name``."""

    name: str
    problems: tuple[Problem, ...]
    phases: Callable[[Problem], Sequence[Phase]]
    verifier: str = ""


Store = Callable[[Shard, list[SearchRecord]], None]

Right = Callable[[Problem, SearchRecord], Awaitable[bool]]
"""Whether a finished search counts as right in the progress."""


async def solved(problem: Problem, record: SearchRecord) -> bool:
    """Say whether the search was told that a trajectory is right."""
    return record.solved


def shards_of(problems: Sequence[Problem], size: int) -> Iterator[tuple[Problem, ...]]:
    """Cut the problems into shards of ``size``, in order."""
    return (tuple(problems[i : i + size]) for i in range(0, len(problems), size))


async def search_shards(
    targets: Sequence[str], shards: Iterable[Shard], concurrency: int, store: Store, meter: Meter, right: Right = solved
) -> None:
    """Search every problem of ``shards`` and call ``store`` (in a thread) for each shard when its last one is done.

    Raises ``BadInputError`` when the services refuse the work, ``TerminatedError`` after SIGTERM, ``CallFailed`` when
    no coordinator can be reached or most of a shard failed.
    """
    async with SearchClient(targets) as client:
        work = _Work(client, store, meter, right)
        with _on_sigterm(work.stop):
            await work.run(shards, concurrency)


class _Work:
    def __init__(self, client: SearchClient, store: Store, meter: Meter, right: Right) -> None:
        self._client = client
        self._store = store
        self._meter = meter
        self._right = right
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin no further shard."""
        structlog.get_logger().info("ending after the shards under way")
        self._stopping.set()

    async def run(self, shards: Iterable[Shard], concurrency: int) -> None:
        """Keep ``concurrency`` searches going until all shards are stored."""
        queue = self._places(shards)
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
            self._meter.report(last=True)

    def _places(self, shards: Iterable[Shard]) -> Iterator[tuple[_Open, int]]:
        for shard in shards:
            if self._stopping.is_set():
                return
            opened = _Open(shard, [None] * len(shard.problems))
            yield from ((opened, i) for i in range(len(shard.problems)))

    async def _worker(self, queue: Iterator[tuple[_Open, int]]) -> None:
        for opened, place in queue:
            problem = opened.shard.problems[place]
            record = await self._search(opened, problem)
            self._meter.finished(record, right=await self._right(problem, record))
            opened.records[place] = record
            records = [record for record in opened.records if record is not None]
            if len(records) == len(opened.records):
                self._check(opened)
                await asyncio.to_thread(self._store, opened.shard, records)
                structlog.get_logger().info("shard stored", shard=opened.shard.name, problems=len(records))

    async def _search(self, opened: _Open, problem: Problem) -> SearchRecord:
        found: SearchRecord | None = None
        try:
            for phase in opened.shard.phases(problem):
                events = self._client.solve(problem, phase.config, opened.shard.verifier, phase.seed)
                async for event in events:
                    if isinstance(event, SearchRecord):
                        found = event if found is None else merge(found, event)
                    else:
                        self._meter.running(problem.id, event.usage, found)
                if found is None or found.solved or found.error:
                    break
        except CallFailed as error:
            opened.failures.append(error)
            structlog.get_logger().warning("search failed", problem=problem.id, error=str(error))
            return replace(found or SearchRecord(problem.id, ()), error=str(error))
        if found is None:
            raise RuntimeError(f"problem {problem.id}: the search ended without a record")
        return found

    def _check(self, opened: _Open) -> None:
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
            self._meter.report()
            await asyncio.sleep(1)


@dataclass(slots=True)
class _Open:
    """A shard under way."""

    shard: Shard
    records: list[SearchRecord | None]
    failures: list[CallFailed]

    def __init__(self, shard: Shard, records: list[SearchRecord | None]) -> None:
        self.shard, self.records, self.failures = shard, records, []


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


def merge(first: SearchRecord, second: SearchRecord) -> SearchRecord:
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
