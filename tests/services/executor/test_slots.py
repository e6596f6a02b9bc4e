"""Slots are released, lost wardens are replaced, and programs end with the call that sent them."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from rstar_executor.sandbox.limits import Limits
from rstar_executor.server import warden_client
from rstar_executor.server.local_executor import LocalExecutor
from rstar_executor.server.programs import Kind
from rstar_executor.server.slots import OverloadedError
from rstar_executor.server.warden_client import Batch

from rstar.interfaces import ExecutionLimits
from rstar.interfaces import ExecutionStatus as S
from tests.services.executor.conftest import LIMITS, Run
from tests.support.executor.processes import alive, children, descendants, end_of, entries, inside, running_program
from tests.support.states import HEAVY, START, after

ENDLESS = "import time\nwhile True: time.sleep(1)"
LONG = ExecutionLimits(seconds=50)


async def test_cancelling_kills_the_program_and_frees_the_slot(executor: LocalExecutor, run: Run) -> None:
    before, pids = inside(executor), executor.warden_pids()
    call = asyncio.create_task(run(ENDLESS, "print(3)", limits=LONG))
    _, program = await running_program(executor, before)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    (execution,) = await run("print('next')")
    assert execution.stdout == "next\n"
    assert executor.warden_pids() == pids
    assert not alive(program)


async def test_cancelling_a_waiting_call_removes_it_from_the_queue(executor: LocalExecutor, run: Run) -> None:
    before = inside(executor)
    first = asyncio.create_task(run(ENDLESS, limits=LONG))
    await running_program(executor, before)
    second = asyncio.create_task(run("print(2)"))
    await asyncio.sleep(0)
    second.cancel()
    first.cancel()
    await asyncio.wait((first, second))
    assert second.cancelled()
    assert (await run("print(3)"))[0].stdout == "3\n"


async def test_a_killed_warden_fails_its_running_program_and_no_other(executor: LocalExecutor, run: Run) -> None:
    before, pids = inside(executor), executor.warden_pids()
    call = asyncio.create_task(run(ENDLESS, "print('sibling')", limits=LONG))
    warden, program = await running_program(executor, before)
    os.kill(warden, signal.SIGKILL)
    lost, sibling = await call
    assert (lost.status, lost.reason) == (S.INTERNAL, "the executor's process died")
    assert (sibling.status, sibling.stdout) == (S.OK, "sibling\n")
    await end_of(program)
    assert executor.warden_pids() != pids


async def test_an_idle_warden_that_died_fails_no_program(executor: LocalExecutor, run: Run) -> None:
    (warden,) = executor.warden_pids()
    os.kill(warden, signal.SIGKILL)
    await end_of(warden)
    assert (await run("print('next')"))[0].stdout == "next\n"


async def test_a_stopped_warden_is_replaced(executor: LocalExecutor, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warden_client, "GRACE_SECONDS", 0.5)
    (outside,) = executor.warden_pids()
    (warden,) = children(outside)
    os.kill(warden, signal.SIGSTOP)
    lost, after = await run("print('lost')", "print('after')", limits=ExecutionLimits(seconds=1))
    assert [lost.status, after.stdout] == [S.INTERNAL, "after\n"]
    await end_of(warden)


async def test_calls_beyond_the_queue_are_refused_and_queued_ones_are_served() -> None:
    async with LocalExecutor(slots=1, cache_mib=0, waiting_per_slot=3) as executor:
        before = inside(executor)
        first = asyncio.create_task(executor.execute(START, [ENDLESS], LONG))
        await running_program(executor, before)
        waiting = [asyncio.create_task(executor.execute(START, [f"print({k})"], LIMITS)) for k in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="3 batches wait for 1 slots"):
            await executor.execute(START, ["print('one too many')"], LIMITS)
        first.cancel()
        assert [(await call)[0].stdout for call in waiting] == ["0\n", "1\n", "2\n"]


async def test_waiting_tenants_are_served_in_turn(executor: LocalExecutor) -> None:
    before = inside(executor)
    first = asyncio.create_task(executor.execute(START, [ENDLESS], LONG))
    await running_program(executor, before)
    order: list[str] = []

    async def call(tenant: str, number: int) -> None:
        async def started() -> None:
            order.append(f"{tenant}{number}")

        await executor.execute(START, [f"print({number})"], LIMITS, tenant=tenant, started=started)

    calls = [asyncio.create_task(call("a", number)) for number in range(4)]
    await asyncio.sleep(0)
    calls += [asyncio.create_task(call("b", number)) for number in range(2)]
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(*calls)
    assert order == ["a0", "b0", "a1", "b1", "a2", "a3"]


async def test_closing_ends_every_process_and_removes_every_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with LocalExecutor(slots=2, cache_mib=0) as executor:
        before = inside(executor)
        call = asyncio.create_task(executor.execute(START, [ENDLESS], LONG))
        await running_program(executor, before)
        pids = inside(executor)
        assert len(entries(tmp_path)) == 2
    assert [execution.status for execution in await call] == [S.INTERNAL]
    assert [pid for pid in pids if alive(pid)] == []
    assert entries(tmp_path) == []


async def test_a_warden_ends_with_its_program_when_the_server_is_gone() -> None:
    warden = await warden_client.WardenProcess.start(1 << 20)
    running = asyncio.create_task(warden.run(Batch(Kind.LIGHT, [], [ENDLESS], Limits(50, 512, 65_536, 16))))
    await asyncio.sleep(0.3)
    pids = descendants(warden.pid)
    await warden.end()  # closes the socket first, as the end of the server does
    with pytest.raises(warden_client.WardenFailedError):
        await running
    assert len(pids) >= 4
    assert [pid for pid in pids if alive(pid)] == []


async def test_many_calls_at_once_each_get_their_own_results() -> None:
    async with LocalExecutor(slots=2, cache_mib=0) as executor:
        calls = [executor.execute(after([f"x = {k}\n"]), ["print(x)", "print(-x)", "1 / 0"], LIMITS) for k in range(40)]
        for k, executions in enumerate(await asyncio.gather(*calls)):
            assert [execution.stdout for execution in executions] == [f"{k}\n", f"{-k}\n", ""]


async def test_the_next_program_runs_whichever_paused_interpreter_dies(executor: LocalExecutor, run: Run) -> None:
    for victim in range(6):
        await executor.execute(after([f"{HEAVY}x = 1\n"]), [f"print(x + {victim})"], LIMITS)
        (outside,) = executor.warden_pids()
        paused = [pid for warden in children(outside) for pid in children(warden)]
        os.kill(paused[victim % len(paused)], signal.SIGKILL)
        (execution,) = await run(f"print('next {victim}')")
        assert (execution.status, execution.stdout) == (S.OK, f"next {victim}\n")
