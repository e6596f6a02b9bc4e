"""Runs programs in an executor: reads one JSON object of names and programs, prints ``{"results", "threads"}``.

``results`` by name: ``{"whole", "steps"}``, the program run at once and step by step, as a search does, each ``[status,
stdout, reason]``. ``threads``: the numbers of threads of all processes of the executor that then wait. It is a process of its own because it may run as another user, or restricted.
"""

from __future__ import annotations

import asyncio
import json
import sys

from rstar_executor.server.local_executor import LocalExecutor

from rstar.interfaces import Execution, ExecutionLimits
from tests.support.executor.processes import inside, threads
from tests.support.executor.solver_programs import steps_of
from tests.support.states import after

LIMITS = ExecutionLimits(seconds=60)


def shown(execution: Execution) -> list[str]:
    return [execution.status.value, execution.stdout, execution.reason]


async def run(executor: LocalExecutor, text: str) -> dict[str, list[str]]:
    (whole,) = await executor.run([text], LIMITS)
    steps = steps_of(text)
    for depth in range(len(steps)):
        (last,) = await executor.execute(after(steps[:depth]), steps[depth : depth + 1], LIMITS)
    return {"whole": shown(whole), "steps": shown(last)}


async def main() -> None:
    """Run every program."""
    programs = json.load(sys.stdin)
    async with LocalExecutor(1, cache_mib=0) as executor:
        results = {name: await run(executor, f"{text}\n") for name, text in programs.items()}
        print(json.dumps({"results": results, "threads": sorted({threads(pid) for pid in inside(executor)})}))


if __name__ == "__main__":
    asyncio.run(main())
