"""Adds, drains and kills executors under full load: ``python -m benchmarks.executor_load [--minutes 10] [--json]``.

Two tenants send programs with known results (``benchmarks.known_programs``) through the executor client without a pause,
while every few seconds an executor is added, drained (SIGTERM) or killed (SIGKILL). No call may fail and no result may be
wrong. The first executor runs the whole time; its memory must stop growing.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import psutil
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.fleet import Fleet, memory_mib
from benchmarks.known_programs import batches
from rstar.interfaces import ExecutionLimits, State
from rstar.rpc.clients import ExecutorClient
from rstar.rpc.errors import CallFailed
from rstar.rpc.logs import configure_logs

LIMITS: Final = ExecutionLimits(seconds=20, memory_mib=128)
TENANTS: Final = ("lab-a/r1", "lab-b/r1")
FEWEST: Final = 2
SHOWN_FAULTS: Final = 5


@dataclass
class Outcome:
    """Counts and times of the clients' calls.

    A call's wait is its duration less the time of its programs, which run one after another in one slot.
    """

    calls: int = 0
    programs: int = 0
    failed: int = 0
    wrong: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def fault(self, text: str) -> None:
        """Keep the first few faults for the report."""
        if len(self.faults) < SHOWN_FAULTS:
            self.faults.append(text)


async def drive(client: ExecutorClient, name: str, seed: int, outcome: Outcome, over: Callable[[], bool]) -> None:
    """Send the calls of one search path after another until ``over``."""
    for number in itertools.count():
        problem = f"{name}-{number}"
        for batch in batches(seed, problem):
            if over():
                return
            texts = [known.text for known in batch.candidates]
            start = time.perf_counter()
            try:
                executions = await client.execute(State(problem, "", tuple(batch.steps)), texts, LIMITS)
            except CallFailed as error:
                outcome.failed += 1
                outcome.fault(f"failed: {error}")
                break
            finally:
                outcome.seconds.append(time.perf_counter() - start)
                outcome.calls += 1
                outcome.programs += len(texts)
            ran = sum(execution.milliseconds for execution in executions) / 1000
            outcome.waits.append(max(0.0, outcome.seconds[-1] - ran))
            wrong = batch.wrong(executions)
            outcome.wrong += len(wrong)
            for known, execution in wrong:
                outcome.fault(f"wrong: {known!r} gave {execution!r}")


async def disturb(fleet: Fleet, pause: float, over: Callable[[], bool]) -> None:
    """Add, drain, add, kill, with a pause in between; never the first executor."""
    for turn in itertools.count():
        await asyncio.sleep(pause)
        if over():
            return
        if turn % 2 == 0:
            await fleet.add()
        elif turn % 4 == 1:
            await fleet.drain(fleet.members[1])
        else:
            await fleet.kill(fleet.members[1])


async def load(seconds: float, tasks: int, slots: int, pause: float, seed: int, folder: Path) -> dict[str, object]:
    """Run the load and return the figures."""
    fleet, outcome = Fleet(folder, slots), Outcome()
    await asyncio.gather(*(fleet.add() for _ in range(FEWEST)))
    end = time.monotonic() + seconds

    def over() -> bool:
        return time.monotonic() >= end

    async def record_memory() -> None:
        while not over():
            outcome.memory.append(memory_mib(fleet.members[0]))
            await asyncio.sleep(seconds / 60)

    start = time.monotonic()
    clients = [ExecutorClient(fleet.addresses, tenant=tenant) for tenant in TENANTS]
    try:
        async with clients[0], clients[1], asyncio.TaskGroup() as group:
            group.create_task(disturb(fleet, pause, over))
            group.create_task(record_memory())
            for k in range(tasks):
                group.create_task(drive(clients[k % 2], f"task-{k}", seed, outcome, over))
        took = time.monotonic() - start
    finally:
        await fleet.close()
    return figures(outcome, fleet, clients, took)


def figures(outcome: Outcome, fleet: Fleet, clients: list[ExecutorClient], took: float) -> dict[str, object]:
    """Return the figures of the report."""
    counts = [client.counts for client in clients]
    quantiles = statistics.quantiles(outcome.seconds, n=100)
    third = max(1, len(outcome.memory) // 3)
    return {
        "minutes": round(took / 60, 2),
        "calls": outcome.calls,
        "failed_calls": outcome.failed,
        "wrong_results": outcome.wrong,
        "executors_added": fleet.added,
        "executors_drained": fleet.drained,
        "executors_killed": fleet.killed,
        "processes_left_behind": fleet.left_behind,
        "retries": sum(c.refused + c.unreached + c.retried for c in counts),
        "lost_under_a_call": sum(c.lost for c in counts),
        "given_up": sum(c.given_up for c in counts),
        "p50_ms": round(quantiles[49] * 1000, 1),
        "p99_ms": round(quantiles[98] * 1000, 1),
        "calls_per_s": round(outcome.calls / took, 1),
        "programs_per_s": round(outcome.programs / took, 1),
        "memory_mib_first_third": round(statistics.mean(outcome.memory[:third]), 1),
        "memory_mib_second_third": round(statistics.mean(outcome.memory[third : 2 * third] or outcome.memory), 1),
        "memory_mib_last_third": round(statistics.mean(outcome.memory[-third:]), 1),
        "client_memory_mib": round(psutil.Process().memory_info().rss / (1 << 20), 1),
        "faults": outcome.faults,
    }


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="Duration of the load.")] = 10.0,
    tasks: Annotated[int, typer.Option(min=2, help="Concurrent calls, half of them from each tenant.")] = 24,
    slots: Annotated[int, typer.Option(min=1, help="Slots of each executor.")] = 2,
    pause: Annotated[float, typer.Option(min=0.1, help="Seconds between changes to the fleet.")] = 6.0,
    seed: int = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run the load; exit code 1 when a call failed or a result was wrong."""
    configure_logs("load")
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(load(minutes * 60, tasks, slots, pause, seed, Path(folder)))
    if as_json:
        print(json.dumps(report))
    else:
        table = Table("figure", "value")
        for key, value in report.items():
            table.add_row(key.replace("_", " "), str(value))
        Console().print(table)
    raise typer.Exit(1 if report["failed_calls"] or report["wrong_results"] else 0)


if __name__ == "__main__":
    typer.run(main)
