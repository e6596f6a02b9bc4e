"""Slots are given back, lost zygotes are replaced, and a caller who leaves takes the programs along."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from rstar_executor import pool, zygote_process
from rstar_executor.local import LocalExecutor
from rstar_executor.pool import OverloadedError

from rstar.interfaces import ExecutionLimits
from rstar.interfaces import ExecutionStatus as S
from tests.executor.conftest import LIMITS, Run
from tests.executor.processes import alive, children, end_of, entries, first_child, running_program

ENDLESS = "import time\nwhile True: time.sleep(1)"
LONG = ExecutionLimits(seconds=50)


async def test_cancelling_kills_the_program_and_frees_the_slot(executor: LocalExecutor, run: Run) -> None:
    call = asyncio.create_task(run("print(1)", ENDLESS, "print(3)", limits=LONG))
    zygote, _ = await running_program(executor)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    (execution,) = await run("print('next')")
    assert execution.stdout == "next\n"
    assert executor.zygote_pids() == [zygote]
    assert children(zygote) == []


async def test_cancelling_a_call_that_waits_takes_it_out_of_the_queue(executor: LocalExecutor, run: Run) -> None:
    first = asyncio.create_task(run(ENDLESS, limits=LONG))
    await running_program(executor)
    second = asyncio.create_task(run("print(2)"))
    await asyncio.sleep(0)
    second.cancel()
    first.cancel()
    await asyncio.wait((first, second))
    assert second.cancelled()
    assert (await run("print(3)"))[0].stdout == "3\n"


async def test_a_killed_zygote_costs_its_program_and_no_other(executor: LocalExecutor, run: Run) -> None:
    call = asyncio.create_task(run(ENDLESS, "print('sibling')", limits=LONG))
    zygote, program = await running_program(executor)
    os.kill(zygote, signal.SIGKILL)
    lost, sibling = await call
    assert (lost.status, lost.reason) == (S.INTERNAL, "the executor's process died")
    assert (sibling.status, sibling.stdout) == (S.OK, "sibling\n")
    await end_of(program)
    assert executor.zygote_pids() != [zygote]


async def test_an_idle_zygote_that_died_costs_nothing(executor: LocalExecutor, run: Run) -> None:
    (zygote,) = executor.zygote_pids()
    os.kill(zygote, signal.SIGKILL)
    await end_of(zygote)
    assert (await run("print('next')"))[0].stdout == "next\n"


async def test_a_program_that_kills_or_stops_its_zygote_is_internal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zygote_process, "GRACE_SECONDS", 0.5)
    limits = ExecutionLimits(seconds=1)
    for number in ("SIGKILL", "SIGSTOP"):
        attack = f"import os, signal\nos.kill(os.getppid(), signal.{number})\nwhile True: pass"
        before, killer, after = await run("print('before')", attack, "print('after')", limits=limits)
        assert [before.stdout, killer.status, after.stdout] == ["before\n", S.INTERNAL, "after\n"]


async def test_calls_beyond_the_queue_are_refused_and_the_queue_is_served(
    executor: LocalExecutor, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "WAITING_PER_SLOT", 3)
    first = asyncio.create_task(run(ENDLESS, limits=LONG))
    await running_program(executor)
    waiting = [asyncio.create_task(run(f"print({k})")) for k in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="3 batches wait for 1 slots"):
        await run("print('one too many')")
    first.cancel()
    assert [(await call)[0].stdout for call in waiting] == ["0\n", "1\n", "2\n"]


async def test_closing_ends_every_process_and_removes_every_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with LocalExecutor(slots=2, cache_mib=0) as executor:
        call = asyncio.create_task(executor.execute([], [ENDLESS], LONG))
        _, program = await running_program(executor)
        pids = [*executor.zygote_pids(), program]
        assert len(entries(tmp_path)) == 2
    assert [execution.status for execution in await call] == [S.INTERNAL]
    assert [pid for pid in pids if alive(pid)] == []
    assert entries(tmp_path) == []


async def test_a_zygote_whose_service_vanished_ends_with_its_program() -> None:
    zygote = await zygote_process.ZygoteProcess.start(())
    running = asyncio.create_task(zygote.run([ENDLESS], LONG, []))
    program = await first_child(zygote.pid)
    await zygote.end()  # closes the socket first, as the end of the service does
    with pytest.raises(zygote_process.ZygoteFailedError):
        await running
    assert not alive(program)


async def test_many_calls_at_once_each_get_their_own_results() -> None:
    async with LocalExecutor(slots=2, cache_mib=0) as executor:
        calls = [executor.execute([f"x = {k}\n"], ["print(x)", "print(-x)", "1 / 0"], LIMITS) for k in range(40)]
        for k, executions in enumerate(await asyncio.gather(*calls)):
            assert [execution.stdout for execution in executions] == [f"{k}\n", f"{-k}\n", ""]
