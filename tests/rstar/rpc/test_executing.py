"""Calls on many executors: none is lost, no program runs more than twice, and no program spoils the results of others."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc
import pytest

from rstar.interfaces import Execution, ExecutionLimits, ExecutionStatus
from rstar.rpc import executing, tls
from rstar.rpc.call_failures import PUSHBACK
from rstar.rpc.clients import ExecutorClient
from rstar.rpc.errors import CallFailed, CallRefused, ServiceUnavailable
from rstar.rpc.transport import CLIENT_OPTIONS
from tests.support.rpc.executor_process import POISON
from tests.support.rpc.servicers import (
    Context,
    ScriptedExecutor,
    executor_process,
    fails,
    never,
    running,
)
from tests.support.states import START, after

LIMITS = ExecutionLimits(seconds=5)
QUICK = ExecutionLimits(seconds=0.05)


async def ready(client: ExecutorClient, count: int) -> None:
    while len(client._endpoints.ready) != count:  # noqa: ASYNC110 - no event for it
        await asyncio.sleep(0.01)


def full(milliseconds: str, times: int) -> object:
    left = times

    async def abort(context: Context) -> None:
        nonlocal left
        if left:
            left -= 1
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", ((PUSHBACK, milliseconds),))

    return abort


def crashed(executions: list[Execution]) -> list[bool]:
    return [execution.status is ExecutionStatus.CRASHED for execution in executions]


async def test_a_program_that_kills_its_executor_runs_twice_and_the_others_of_the_batch_get_their_results() -> None:
    async with (
        executor_process() as a,
        executor_process() as b,
        executor_process() as c,
        ExecutorClient([a.address, b.address, c.address]) as executor,
    ):
        await ready(executor, 3)
        batch = ["1", "2", POISON, "3", "4"]
        calls = [executor.execute(START, ["x", "y"], LIMITS) for _ in range(20)]
        results, *others = await asyncio.gather(executor.execute(START, batch, LIMITS), *calls)
        assert crashed(results) == [False, False, True, False, False]
        assert results[2].reason.startswith("given up after 2 tries; its executor was lost while it ran")
        assert [execution.stdout for execution in results if execution.stdout] == ["1", "2", "3", "4"]
        assert all(execution.stdout in "xy" for executions in others for execution in executions)
        await ready(executor, 1)
        assert [process.process.returncode for process in (a, b, c)].count(137) <= 2
        assert executor.counts.given_up == 1


async def test_programs_that_had_not_started_on_a_lost_executor_are_no_suspects() -> None:
    slow = executor_process("--signal-start", "--slots", "1", "--call-seconds", "0.5")
    async with slow as doomed, executor_process() as other:
        addresses = [doomed.address]
        async with ExecutorClient(lambda: addresses) as executor:
            await executor.execute(START, ["warm"], LIMITS)
            calls = [asyncio.ensure_future(executor.execute(START, [f"{i}"], LIMITS)) for i in range(10)]
            await asyncio.sleep(0.2)
            addresses = [doomed.address, other.address]
            executor._endpoints.look_again()
            await ready(executor, 2)
            doomed.signal(signal.SIGKILL)
            assert [e.stdout for (e,) in await asyncio.gather(*calls)] == [f"{i}" for i in range(10)]
            assert executor.counts.lost == executor.counts.retried == 1
            assert executor.counts.unreached >= 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_no_call_fails_while_executors_start_drain_and_are_killed_under_load(number: signal.Signals) -> None:
    async with executor_process("--call-seconds", "0.01") as first, executor_process() as second:
        addresses = [first.address]
        async with ExecutorClient(lambda: addresses) as executor, under_load(executor) as done:
            await done(100)
            addresses = [first.address, second.address]
            executor._endpoints.look_again()
            await ready(executor, 2)
            await done(100)
            first.signal(number)
            await first.process.wait()
            await done(100)
        if number is signal.SIGTERM:  # a drain loses no program, so there are no suspects
            assert executor.counts.lost == 0
        assert executor.counts.given_up == 0


async def test_a_removed_address_finishes_its_calls_and_gets_no_new_ones() -> None:
    old, new = ScriptedExecutor(never), ScriptedExecutor(stdout="new")
    release = asyncio.Event()

    async def wait(_: Context) -> None:
        await release.wait()

    old.before = wait
    async with running(old) as first, running(new) as second:
        addresses = [first.address]
        async with ExecutorClient(lambda: addresses) as executor:
            waiting = asyncio.ensure_future(executor.execute(START, ["p"], LIMITS))
            await old.calls.arrived.wait()
            addresses = [second.address]
            executor._endpoints.look_again()
            while first.address in executor._endpoints.addresses:  # noqa: ASYNC110 - no event for it
                await asyncio.sleep(0.01)
            assert [e.stdout for e in await executor.execute(START, ["p"], LIMITS)] == ["new"]
            release.set()
            assert [e.stdout for e in await waiting] == ["24\n"]


async def test_a_call_goes_from_a_full_executor_to_a_free_one() -> None:
    busy, free = ScriptedExecutor(full("60000", 1)), ScriptedExecutor()
    async with running(busy) as a, running(free) as b, ExecutorClient([a.address, b.address]) as executor:
        await ready(executor, 2)
        for _ in range(20):
            await executor.execute(START, ["p"], LIMITS)
        assert (busy.calls.started, free.calls.started) == (1, 20)


async def test_a_full_executor_gets_no_calls_for_as_long_as_it_asks() -> None:
    busy = ScriptedExecutor(full("300", 3))
    async with running(busy) as a, ExecutorClient([a.address]) as executor:
        start = asyncio.get_running_loop().time()
        await executor.execute(START, ["p"], LIMITS)
        assert asyncio.get_running_loop().time() - start >= 0.9
        assert (busy.calls.started, executor.counts.refused) == (4, 3)


async def test_a_negative_pushback_ends_the_call() -> None:
    async with running(ScriptedExecutor(full("-1", 9))) as a, ExecutorClient([a.address]) as executor:
        with pytest.raises(ServiceUnavailable, match="full"):
            await executor.execute(START, ["p"], LIMITS)


async def test_a_full_queue_fails_a_call_only_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rstar.rpc.clients.QUEUE_SECONDS", 0.3)
    async with running(ScriptedExecutor(full("200", 99))) as a, ExecutorClient([a.address]) as executor:
        with pytest.raises(ServiceUnavailable, match="RESOURCE_EXHAUSTED: full"):
            await executor.execute(START, ["p"], QUICK)


async def test_an_executor_that_answers_unavailable_gets_a_backoff_and_makes_no_suspects() -> None:
    bad, good = ScriptedExecutor(fails(grpc.StatusCode.UNAVAILABLE)), ScriptedExecutor()
    async with running(bad) as a, running(good) as b, ExecutorClient([a.address, b.address]) as executor:
        await ready(executor, 2)
        for _ in range(50):
            (execution,) = await executor.execute(START, ["p"], LIMITS)
            assert execution.status is ExecutionStatus.OK
        assert bad.calls.started < 10
        assert good.calls.started == 50


async def test_the_attempts_on_unreachable_executors_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rstar.rpc.backoff.FIRST_SECONDS", 0.01)
    bad = ScriptedExecutor(fails(grpc.StatusCode.UNAVAILABLE))
    async with running(bad) as a, ExecutorClient([a.address]) as executor:
        with pytest.raises(ServiceUnavailable, match="UNAVAILABLE: scripted"):
            await executor.execute(START, ["p"], LIMITS)
        assert bad.calls.started == executing.ATTEMPTS


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNKNOWN])
async def test_a_final_failure_is_not_retried(code: grpc.StatusCode) -> None:
    bad = ScriptedExecutor(fails(code))
    async with running(bad) as a, ExecutorClient([a.address]) as executor:
        with pytest.raises(CallFailed, match="scripted") as caught:
            await executor.execute(START, ["p"], LIMITS)
        assert isinstance(caught.value, CallRefused) == (code is grpc.StatusCode.INVALID_ARGUMENT)
        assert bad.calls.started == 1


async def test_cancelling_the_caller_cancels_every_copy() -> None:
    lose_once = fails(grpc.StatusCode.INTERNAL, 1)

    async def lose_the_first_call_then_wait(context: Context) -> None:
        await lose_once(context)
        await never(context)

    servicers = [ScriptedExecutor(lose_the_first_call_then_wait) for _ in range(3)]
    async with (
        running(servicers[0]) as a,
        running(servicers[1]) as b,
        running(servicers[2]) as c,
        ExecutorClient([a.address, b.address, c.address]) as executor,
    ):
        await ready(executor, 3)
        call = asyncio.ensure_future(executor.execute(START, ["p", "q"], LIMITS))
        await asyncio.gather(*(servicer.calls.arrived.wait() for servicer in servicers))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        while sum(servicer.calls.cancelled for servicer in servicers) != 2:  # noqa: ASYNC110 - two of three events
            await asyncio.sleep(0.01)


async def test_closing_the_client_cancels_its_calls() -> None:
    stuck = ScriptedExecutor(never)
    async with running(stuck) as a, ExecutorClient([a.address]) as executor:
        call = asyncio.ensure_future(executor.execute(START, ["p"], LIMITS))
        await stuck.calls.arrived.wait()
        await executor.close()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(call, 10)


async def test_a_silent_peer_is_detected_and_its_calls_are_answered_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick = {"grpc.keepalive_time_ms": 1_000, "grpc.keepalive_timeout_ms": 300, "grpc.http2.ping_timeout_ms": 300}
    options = tuple((key, quick.get(key, value)) for key, value in CLIENT_OPTIONS)
    monkeypatch.setattr(tls, "CLIENT_OPTIONS", options)
    stuck, good = ScriptedExecutor(never), ScriptedExecutor(stdout="elsewhere")
    async with running(stuck) as a, running(good) as b, black_hole(a.address) as (address, discard):
        addresses = [address]
        async with ExecutorClient(lambda: addresses) as executor:
            call = asyncio.ensure_future(executor.execute(START, ["p"], LIMITS))
            await stuck.calls.arrived.wait()
            addresses = [address, b.address]
            executor._endpoints.look_again()
            await ready(executor, 2)
            discard.set()
            assert [e.stdout for e in await call] == ["elsewhere"]
            assert executor.counts.lost == 1


async def test_a_call_carries_its_tenant_and_problem() -> None:
    servicer = ScriptedExecutor()
    async with running(servicer) as a, ExecutorClient([a.address], tenant="lab/r1") as executor:
        await executor.execute(after([], "p1"), ["x"], LIMITS)
        await executor.execute(after(["first", "second"], "p2"), ["x"], LIMITS)
        await executor.execute(START, ["x"], LIMITS)
    assert servicer.turns == {("lab/r1", "p1"), ("lab/r1", "p2"), ("lab/r1", "")}


@asynccontextmanager
async def under_load(executor: ExecutorClient) -> AsyncIterator[object]:
    """Call without a pause; the yielded function waits for a number of further calls. A wrong answer raises."""
    done, stop = 0, asyncio.Event()

    async def one(worker: int) -> None:
        nonlocal done
        while not stop.is_set():
            texts = [f"{worker}-{done}-{i}" for i in range(3)]
            assert [e.stdout for e in await executor.execute(START, texts, LIMITS)] == texts
            done += 1

    async def more(calls: int) -> None:
        target = done + calls
        while done < target and not work.done():  # noqa: ASYNC110 - a plain count, no event per call
            await asyncio.sleep(0.01)

    async def load() -> None:
        async with asyncio.TaskGroup() as group:
            for worker in range(16):
                group.create_task(one(worker))

    work = asyncio.ensure_future(load())
    try:
        yield more
    finally:
        stop.set()
        await work


@asynccontextmanager
async def black_hole(address: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Forward connections to ``address`` until the event is set; from then on all data are discarded."""
    discard = asyncio.Event()
    host, _, port = address.rpartition(":")
    pumps: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                if not discard.is_set():
                    writer.write(data)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if discard.is_set():
            return
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        pumps.update(map(asyncio.ensure_future, (pump(reader, there_writer), pump(there_reader, writer))))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", discard
    finally:
        for task in pumps:
            task.cancel()
        server.close()
