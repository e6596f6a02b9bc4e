"""The executor as an object: ``rstar.interfaces.Executor`` over a pool of wardens on this machine.

    async with LocalExecutor(slots=2) as executor:
        results = await executor.execute(state, candidates, ExecutionLimits())

Notebooks and tests use it as it is; the service puts a wire in front of it. The module refuses to know the wire.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Self

from rstar.interfaces import Execution, ExecutionLimits, ExecutionStatus, State
from rstar_executor import sandbox
from rstar_executor.sandbox import Layer
from rstar_executor.server import metrics
from rstar_executor.server.canary import Canary
from rstar_executor.server.programs import REPEATABLE, Kind, bounded, codes_of, digest, kind_of, rejection
from rstar_executor.server.slots import Pool, Started
from rstar_executor.server.warden_client import Batch

_ENTRY_BYTES = 512  # key, tuple, strings' heads, place in the table
MAXIMUM: Final = ExecutionLimits(seconds=60.0, memory_mib=4096, output_bytes=1 << 20, file_mib=256)


class UnsafeError(Exception):
    """A layer that the executor does not serve without is not in force; the text says which and why."""


class LocalExecutor:
    """Runs ``slots`` batches at once (default: one per core).

    ``cache_mib`` MiB of results and, per slot, ``snapshot_mib`` MiB of resting interpreters are kept; one program in
    ``canary_every`` is run a second time to see whether it ends the same way. 0 turns each off.
    """

    def __init__(
        self,
        slots: int | None = None,
        *,
        maximum: ExecutionLimits = MAXIMUM,
        cache_mib: int = 64,
        snapshot_mib: int = 128,
        canary_every: int = 0,
    ) -> None:
        self._pool = Pool(slots or os.cpu_count() or 1, snapshot_mib << 20)
        self._maximum = maximum
        self._cache = Cache(cache_mib << 20)
        self._canary = Canary(self._pool, canary_every)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Start the wardens. Raises ``WardenFailedError``, and ``UnsafeError`` where programs would not be contained."""
        await self._pool.start()
        if reason := sandbox.missing(self._pool.layers):
            await self._pool.close()
            raise UnsafeError(reason)

    async def close(self) -> None:
        """Interrupt what still runs and end the wardens."""
        await self._canary.close()
        await self._pool.close()

    @property
    def layers(self) -> Sequence[Layer]:
        """What is in force between programs and everything else; known after ``start``."""
        return self._pool.layers

    def warden_pids(self) -> list[int]:
        """Return the process ids of all wardens."""
        return self._pool.warden_pids()

    async def execute(
        self,
        state: State,
        candidates: Sequence[str],
        limits: ExecutionLimits,
        *,
        tenant: str = "",
        started: Started | None = None,
        tracebacks: bool = False,
    ) -> list[Execution]:
        """Run ``code_of(state.steps + (candidate,))`` for each candidate; programs never see each other.

        Where calls wait, tenants take turns, and within a tenant its problems. ``started`` is called when the first
        programs of the call have a slot; never, where all are known already. With ``tracebacks``, every program runs from
        its start and how it failed is told at length.
        Raises ``ValueError`` for what no server could run and ``OverloadedError`` when too many calls wait.
        """
        codes, own = codes_of(state.steps, candidates)
        return await self._run(codes, own, limits, tenant, state.problem_id, started, tracebacks)

    async def run(
        self, programs: Sequence[str], limits: ExecutionLimits, *, tracebacks: bool = False
    ) -> list[Execution]:
        """Run whole programs, as they are: no marker is looked for. Raises as ``execute`` does."""
        return await self._run([], programs, limits, "", "", None, tracebacks)

    async def _run(
        self,
        codes: Sequence[str],
        own: Sequence[str],
        limits: ExecutionLimits,
        tenant: str,
        problem: str,
        started: Started | None,
        whole: bool,
    ) -> list[Execution]:
        limits = bounded(limits, self._maximum)
        prefix = "".join(codes)
        programs = [prefix + code for code in own]
        executions = [self._answer(program, limits, whole) for program in programs]
        wanted: dict[Kind, list[int]] = {}
        for index, execution in enumerate(executions):
            if execution is None:
                wanted.setdefault(kind_of(programs[index]), []).append(index)
        for kind, indices in wanted.items():
            batch = Batch(kind, codes, [own[index] for index in indices], limits, whole)
            fresh = await self._pool.run(batch, tenant, problem, started)
            started = None
            for index, execution in zip(indices, fresh, strict=True):
                metrics.SECONDS.observe(execution.milliseconds / 1000)
                executions[index] = execution
                if not whole:
                    self._cache.put(programs[index], limits, execution)
                    self._canary.look_at(programs[index], limits, execution)
        answered = [execution for execution in executions if execution is not None]
        for execution in answered:
            metrics.PROGRAMS[execution.status].inc()
        return answered

    def _answer(self, program: str, limits: ExecutionLimits, whole: bool) -> Execution | None:
        """Return what is known of ``program`` without running it."""
        if reason := rejection(program):
            return Execution(ExecutionStatus.REJECTED, reason=reason)
        known = None if whole else self._cache.get(program, limits)
        if known is not None:
            metrics.CACHE_HITS.inc()
        return known


class Cache:
    """At most ``capacity`` bytes of results; 0 keeps none."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._size = 0
        self._entries: OrderedDict[tuple[bytes, ExecutionLimits], Execution] = OrderedDict()

    def get(self, program: str, limits: ExecutionLimits) -> Execution | None:
        """Return the result of ``program`` under ``limits`` if it is still known."""
        if not self._entries:
            return None
        key = _key(program, limits)
        execution = self._entries.get(key)
        if execution is not None:
            self._entries.move_to_end(key)
        return execution

    def put(self, program: str, limits: ExecutionLimits, execution: Execution) -> None:
        """Remember a result, as far as it is worth remembering."""
        weight = _weight(execution)
        if execution.status not in REPEATABLE or weight > self._capacity:
            return
        key = _key(program, limits)
        if (previous := self._entries.pop(key, None)) is not None:
            self._size -= _weight(previous)
        self._entries[key] = execution
        self._size += weight
        while self._size > self._capacity:
            self._size -= _weight(self._entries.popitem(last=False)[1])


def _key(program: str, limits: ExecutionLimits) -> tuple[bytes, ExecutionLimits]:
    return digest(program), limits


def _weight(execution: Execution) -> int:
    # Four bytes are the most that a character takes.
    return _ENTRY_BYTES + 4 * (len(execution.stdout) + len(execution.reason))
