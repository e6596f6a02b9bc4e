"""The executor as an object: ``rstar.interfaces.Executor`` over a pool of zygotes on this machine.

    async with LocalExecutor(slots=2) as executor:
        results = await executor.execute(steps, candidates, ExecutionLimits())

Notebooks and tests use it as it is; the service puts a wire in front of it. The module refuses to know the wire.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, Self

from rstar.interfaces import Execution, ExecutionLimits, ExecutionStatus
from rstar_executor import metrics
from rstar_executor.cache import Cache
from rstar_executor.pool import Pool
from rstar_executor.programs import bounded, programs_of, rejection

MAXIMUM: Final = ExecutionLimits(seconds=60.0, memory_mib=4096, output_bytes=1 << 20, file_mib=256)


class LocalExecutor:
    """Runs ``slots`` batches at once (default: one per core) and keeps ``cache_mib`` MiB of results; 0 turns that off."""

    def __init__(self, slots: int | None = None, *, maximum: ExecutionLimits = MAXIMUM, cache_mib: int = 64) -> None:
        self._pool = Pool(slots or os.cpu_count() or 1)
        self._maximum = maximum
        self._cache = Cache(cache_mib << 20)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Start the zygotes. Raises ``ZygoteFailedError``."""
        await self._pool.start()

    async def close(self) -> None:
        """Interrupt what still runs and end the zygotes."""
        await self._pool.close()

    def zygote_pids(self) -> list[int]:
        """Return the process ids of all zygotes."""
        return self._pool.zygote_pids()

    async def execute(
        self, steps: Sequence[str], candidates: Sequence[str], limits: ExecutionLimits
    ) -> list[Execution]:
        """Run ``code_of(steps + [candidate])`` for each candidate; programs never see each other.

        Raises ``ValueError`` for what no server could run and ``OverloadedError`` when too many calls wait.
        """
        limits = bounded(limits, self._maximum)
        programs = programs_of(steps, candidates)
        known = [self._answer(program, limits) for program in programs]
        unknown = [program for program, execution in zip(programs, known, strict=True) if execution is None]
        ran = iter(await self._pool.run(unknown, limits) if unknown else ())
        executions = []
        for program, answer in zip(programs, known, strict=True):
            if answer is None:
                execution = next(ran)
                self._cache.put(program, limits, execution)
                metrics.SECONDS.observe(execution.milliseconds / 1000)
            else:
                execution = answer
            metrics.PROGRAMS[execution.status].inc()
            executions.append(execution)
        return executions

    def _answer(self, program: str, limits: ExecutionLimits) -> Execution | None:
        """Return the result of a program that need not run."""
        if reason := rejection(program):
            return Execution(ExecutionStatus.REJECTED, reason=reason)
        if (execution := self._cache.get(program, limits)) is not None:
            metrics.CACHE_HITS.inc()
        return execution
