"""The executor on this machine: its layers, what ends a program, and programs per second."""

from __future__ import annotations

import asyncio
import time

from rstar_executor.server.local_executor import LocalExecutor

from benchmarks.gpu_check.runner import Figures, Setting
from rstar.interfaces import ExecutionLimits, ExecutionStatus, State

LIMITS = ExecutionLimits(seconds=10)
BATCH = 8


def executor(setting: Setting) -> Figures:
    """Run programs that end well and one that does not end."""
    return asyncio.run(_execute(1 if setting.quick else None, 4 if setting.quick else 200))


async def _execute(slots: int | None, batches: int) -> Figures:
    async with LocalExecutor(slots, cache_mib=0) as local:
        endless = await local.run(["while True: pass"], ExecutionLimits(seconds=0.5))
        if endless[0].status is not ExecutionStatus.TIMEOUT:
            raise AssertionError(f"a program without an end ended with {endless[0].status}: {endless[0].reason}")
        began = time.perf_counter()
        results = await asyncio.gather(
            *(
                local.execute(State(f"p{b}", "", ()), [f"x = {b} * {k} + {b}\nprint(x)" for k in range(BATCH)], LIMITS)
                for b in range(batches)
            )
        )
        seconds = time.perf_counter() - began
        off = [layer.name for layer in local.layers if not layer.in_force]
    for b, batch in enumerate(results):
        for k, execution in enumerate(batch):
            if (execution.status, execution.stdout.strip()) != (ExecutionStatus.OK, str(b * k + b)):
                raise AssertionError(f"a program ended with {execution.status}: {execution.reason or execution.stdout}")
    return {
        "programs_per_s": batches * BATCH / seconds,
        "programs": batches * BATCH,
        "layers_not_in_force": ", ".join(off) or "none",
    }
