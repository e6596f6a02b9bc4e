"""Runs the corpus: reads one category per line, runs its programs and prints their results as one line of JSON.

Its argument is ``snapshot_mib``. Two executors of one slot each share the programs, so that a program and the canary after
it use the same zygotes. It is a process of its own because it may run as another user, or restricted.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from rstar_executor.server.local_executor import LocalExecutor

from rstar.interfaces import ExecutionLimits
from tests.support.executor.canary import HEAVY, LIGHT
from tests.support.executor.hostile import HostileProgram, programs
from tests.support.states import START

LIMITS = ExecutionLimits(seconds=30, memory_mib=512)
_HEAVY = re.compile(r"^(import|from) (numpy|sympy)", re.MULTILINE)


async def canary(executor: LocalExecutor, *, heavy: bool) -> list[str]:
    """Run the canaries and return their results as text."""
    executions = await executor.execute(START, [LIGHT, HEAVY] if heavy else [LIGHT], LIMITS)
    return [f"{execution.status} {execution.reason}\n{execution.stdout}" for execution in executions]


async def attack(executor: LocalExecutor, program: HostileProgram, fresh: list[str]) -> dict[str, Any]:
    """Run ``program`` and then the canaries; return its result and the changes that the canaries found."""
    (execution,) = await executor.execute(START, [program.text], program.limits)
    heavy = _HEAVY.search(program.text) is not None
    after = await canary(executor, heavy=heavy)
    changed = [(was, now) for was, now in zip(fresh, after, strict=False) if was != now]
    return {
        "name": program.name,
        "status": execution.status,
        "reason": execution.reason,
        "stdout": execution.stdout,
        "ms": execution.milliseconds,
        "changed": changed,
    }


async def share(executor: LocalExecutor, waiting: Iterator[HostileProgram], fresh: list[str]) -> list[dict[str, Any]]:
    """Run the programs that are still waiting, one after the other."""
    return [await attack(executor, program, fresh) for program in waiting]


async def main() -> None:
    """Serve until the end of the input."""
    one, other = (LocalExecutor(1, cache_mib=0, snapshot_mib=int(sys.argv[1])) for _ in range(2))
    async with one as first, other as second:
        fresh = await canary(first, heavy=True)
        if await canary(second, heavy=True) != fresh:
            raise SystemExit("two fresh executors differ")
        print(json.dumps("ready"), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            waiting = iter(programs(line.strip()))
            shares = await asyncio.gather(*(share(executor, waiting, fresh) for executor in (first, second)))
            print(json.dumps([result for results in shares for result in results]), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
