"""The executor as an object: ``rstar.interfaces.Executor`` on the wardens of this machine.

    async with LocalExecutor(slots=2) as executor:
        results = await executor.execute(state, candidates, ExecutionLimits())

Notebooks and tests use it directly; ``service`` offers it over gRPC.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Self

from rstar.interfaces import Execution, ExecutionLimits, ExecutionStatus, State
from rstar_executor import sandbox
from rstar_executor.sandbox import Layer
from rstar_executor.sandbox.limits import Limits
from rstar_executor.server import metrics
from rstar_executor.server.canary import Canary
from rstar_executor.server.import_check import NATIVE, threads_started
from rstar_executor.server.programs import REPEATABLE, Kind, bounded, codes_of, digest, kind_of, rejection
from rstar_executor.server.scripts import ScriptExecution, not_run
from rstar_executor.server.slots import WAITING_PER_SLOT, Slots, Started
from rstar_executor.server.warden_client import Batch
from rstar_executor.warden.script import Script

_SCRIPT_ATTEMPTS = 2
_ENTRY_BYTES = 512  # key, tuple, heads of the strings, entry in the table
MAXIMUM: Final = ExecutionLimits(seconds=60.0, memory_mib=4096, output_bytes=1 << 20, file_mib=256)


class UnsafeError(Exception):
    """A required layer is not in force, or a library starts threads; the text names it and the reason."""


class LocalExecutor:
    """Runs ``slots`` batches at once (default: one per core), while ``waiting_per_slot`` more per slot may wait.

    Keeps ``cache_mib`` MiB of results and, per slot, ``snapshot_mib`` MiB of snapshots; runs one program in
    ``canary_every`` a second time to check that it ends the same way. 0 turns each off.
    """

    def __init__(
        self,
        slots: int | None = None,
        *,
        maximum: ExecutionLimits = MAXIMUM,
        cache_mib: int = 64,
        snapshot_mib: int = 128,
        canary_every: int = 0,
        waiting_per_slot: int = WAITING_PER_SLOT,
    ) -> None:
        self._slots = Slots(slots or os.cpu_count() or 1, snapshot_mib << 20, waiting_per_slot=waiting_per_slot)
        self._maximum = maximum
        self._cache = Cache(cache_mib << 20)
        self._canary = Canary(self._slots, canary_every)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Start the wardens.

        Raises ``WardenFailedError``, and ``UnsafeError`` when a required layer is not in force or a library starts threads.
        """
        checking = asyncio.create_task(asyncio.to_thread(threads_started, NATIVE))
        try:
            await self._slots.start()
            if reason := sandbox.missing(self._slots.layers) or await checking:
                raise UnsafeError(reason)
        except BaseException:
            checking.cancel()
            await self._slots.close()
            raise

    async def close(self) -> None:
        """Interrupt running programs and end the wardens."""
        await self._canary.close()
        await self._slots.close()

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers between programs and the machine; known after ``start``."""
        return self._slots.layers

    def warden_pids(self) -> list[int]:
        """Return the process ids of all wardens."""
        return self._slots.warden_pids()

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

        Waiting calls are served round robin, by tenant and within a tenant by problem. ``started`` is called when the first
        programs of the call have a slot; never, where the cache has all results. With ``tracebacks``, every program runs
        from its start and a failure comes with its traceback.
        Raises ``ValueError`` for a request that no server could run and ``OverloadedError`` when the queue is full.
        """
        codes, own = codes_of(state.steps, candidates)
        return await self._run(codes, own, limits, tenant, state.problem_id, started, tracebacks)

    async def run(
        self, programs: Sequence[str], limits: ExecutionLimits, *, tracebacks: bool = False
    ) -> list[Execution]:
        """Run whole programs as they are, without a search for markers. Raises as ``execute`` does."""
        return await self._run([], programs, limits, "", "", None, tracebacks)

    async def run_script(
        self,
        text: str,
        script: Script,
        limits: ExecutionLimits,
        *,
        tenant: str = "",
        started: Started | None = None,
    ) -> ScriptExecution:
        """Run ``text`` as ``python program.py`` does, with the input and the files of ``script``.

        Every call runs it: its result is neither cached nor checked. A script that is ``internal`` is run once more.
        Raises as ``execute`` does.
        """
        bounds = bounded(limits, self._maximum)
        for attempt in range(_SCRIPT_ATTEMPTS):
            batch = Batch(kind_of(text), [], [text], bounds, script=script)
            (execution,) = await self._slots.run(batch, tenant, "", None if attempt else started)
            metrics.SECONDS.observe(execution.milliseconds / 1000)
            if execution.status is not ExecutionStatus.INTERNAL or self._slots.closed:
                break
        metrics.PROGRAMS[execution.status].inc()
        return execution if isinstance(execution, ScriptExecution) else not_run(execution)

    async def _run(
        self,
        codes: Sequence[str],
        own: Sequence[str],
        requested: ExecutionLimits,
        tenant: str,
        problem: str,
        started: Started | None,
        tracebacks: bool,
    ) -> list[Execution]:
        limits = bounded(requested, self._maximum)
        prefix = "".join(codes)
        programs = [prefix + code for code in own]
        executions = [self._known(program, limits, tracebacks) for program in programs]
        wanted: dict[Kind, list[int]] = {}
        for index, execution in enumerate(executions):
            if execution is None:
                wanted.setdefault(kind_of(programs[index]), []).append(index)
        for kind, indices in wanted.items():
            batch = Batch(kind, codes, [own[index] for index in indices], limits, tracebacks)
            fresh = await self._slots.run(batch, tenant, problem, started)
            started = None
            for index, execution in zip(indices, fresh, strict=True):
                metrics.SECONDS.observe(execution.milliseconds / 1000)
                executions[index] = execution
                if not tracebacks:
                    self._cache.put(programs[index], limits, execution)
                    self._canary.check(programs[index], limits, execution)
        answered = [execution for execution in executions if execution is not None]
        for execution in answered:
            metrics.PROGRAMS[execution.status].inc()
        return answered

    def _known(self, program: str, limits: Limits, tracebacks: bool) -> Execution | None:
        """Return the result of ``program`` where it is known without a run: a rejection or a cached result."""
        if reason := rejection(program):
            return Execution(ExecutionStatus.REJECTED, reason=reason)
        cached = None if tracebacks else self._cache.get(program, limits)
        if cached is not None:
            metrics.CACHE_HITS.inc()
        return cached


class Cache:
    """At most ``capacity`` bytes of results; 0 keeps none."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._size = 0
        self._entries: OrderedDict[tuple[bytes, Limits], Execution] = OrderedDict()

    def get(self, program: str, limits: Limits) -> Execution | None:
        """Return the cached result of ``program`` under ``limits``, if there is one."""
        if not self._entries:
            return None
        key = _key(program, limits)
        execution = self._entries.get(key)
        if execution is not None:
            self._entries.move_to_end(key)
        return execution

    def put(self, program: str, limits: Limits, execution: Execution) -> None:
        """Cache a result if the program would have it again and it fits."""
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


def _key(program: str, limits: Limits) -> tuple[bytes, Limits]:
    return digest(program), limits


def _weight(execution: Execution) -> int:
    # Four bytes are the most that a character takes.
    return _ENTRY_BYTES + 4 * (len(execution.stdout) + len(execution.reason))
