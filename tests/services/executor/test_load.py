"""A short run of ``benchmarks.executor_load``: executors are added, drained and killed, and no call is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.executor_load import Outcome, drive
from benchmarks.fleet import Fleet
from rstar.rpc.clients import ExecutorClient

pytestmark = pytest.mark.slow

CALLS = 60


async def test_no_call_is_lost_while_executors_are_added_drained_and_killed(tmp_path: Path) -> None:
    fleet, outcome = Fleet(tmp_path, slots=1), Outcome()

    async def after(calls: int) -> None:
        while outcome.calls < calls:  # noqa: ASYNC110 - a plain count, no event per call
            await asyncio.sleep(0.01)

    async def disturb() -> None:
        await after(10)
        await fleet.add()
        await after(20)
        await fleet.drain(fleet.members[0])
        await after(35)
        await fleet.kill(fleet.members[0])

    await asyncio.gather(fleet.add(), fleet.add())
    try:
        async with ExecutorClient(fleet.addresses, tenant="lab") as client, asyncio.TaskGroup() as group:
            group.create_task(disturb())
            for k in range(6):
                group.create_task(drive(client, f"task-{k}", 7, outcome, lambda: outcome.calls >= CALLS))
    finally:
        await fleet.close()
    assert (outcome.failed, outcome.wrong) == (0, 0), outcome.faults
    assert (fleet.added, fleet.killed, fleet.left_behind) == (3, 1, 0)
    assert outcome.calls >= CALLS
