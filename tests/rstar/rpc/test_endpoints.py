from __future__ import annotations

import asyncio
import signal

import pytest

from rstar.interfaces import Proposal, Sampling, State
from rstar.rpc import endpoints
from rstar.rpc.addresses import look_up, parse_target
from rstar.rpc.clients import PolicyClient
from tests.support.rpc.servicers import Process, ScriptedPolicy, policy_process, running


async def load(policy: PolicyClient, stop: asyncio.Event, done: list[int]) -> None:
    """Call without a pause until ``stop`` is set; any failed call raises."""

    async def one(worker: int) -> None:
        i = 0
        while not stop.is_set():
            await policy.propose(State(f"{worker}-{i}", "q"), 2, Sampling(), 0)
            done[0] += 1
            i += 1

    async with asyncio.TaskGroup() as group:
        for worker in range(16):
            group.create_task(one(worker))


async def wait_for_calls(done: list[int], calls: int, work: asyncio.Task[None]) -> None:
    """Wait until ``calls`` more calls are done."""
    target = done[0] + calls
    while done[0] < target and not work.done():  # noqa: ASYNC110 - a plain count, no event per call
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_no_call_fails_when_a_server_ends_under_load(number: signal.Signals) -> None:
    async with (
        policy_process() as first,
        policy_process() as second,
        PolicyClient([first.address, second.address]) as policy,
    ):
        await end_under_load(policy, first, number)


async def end_under_load(policy: PolicyClient, victim: Process, number: signal.Signals) -> None:
    stop, done = asyncio.Event(), [0]
    work = asyncio.ensure_future(load(policy, stop, done))
    await wait_for_calls(done, 200, work)
    victim.signal(number)
    await victim.process.wait()
    await wait_for_calls(done, 200, work)
    stop.set()
    await work
    assert done[0] >= 400


async def test_a_draining_server_answers_its_calls() -> None:
    async with policy_process("--call-seconds", "2") as server, PolicyClient([server.address]) as policy:
        calls = [asyncio.ensure_future(policy.propose(State(f"p{i}", "q"), 1, Sampling(), 0)) for i in range(8)]
        await asyncio.sleep(0.5)
        server.signal(signal.SIGTERM)
        assert len(await asyncio.gather(*calls)) == 8
        assert await server.process.wait() == 0


async def test_a_server_that_reports_not_serving_gets_no_new_call() -> None:
    leaving, staying = ScriptedPolicy(), ScriptedPolicy()
    async with (
        running(leaving) as first,
        running(staying) as second,
        PolicyClient([first.address, second.address]) as policy,
    ):
        await _ready(policy, 2)
        await first.health.enter_graceful_shutdown()
        await _ready(policy, 1)
        for i in range(20):
            await policy.propose(State(f"p{i}", "q"), 1, Sampling(), 0)
        assert (leaving.calls.started, staying.calls.started) == (0, 20)


async def test_calls_wait_for_a_server_that_restarts() -> None:
    async with running(ScriptedPolicy()) as server:
        port = int(server.address.rpartition(":")[2])
        policy = PolicyClient([server.address])
        await policy.propose(State("p", "q"), 1, Sampling(), 0)
    await _ready(policy, 0)
    waiting = asyncio.ensure_future(policy.propose(State("p", "q"), 1, Sampling(), 0))
    async with running(ScriptedPolicy(), port=port):
        await waiting
        await policy.close()


async def test_after_a_new_look_up_new_servers_get_calls_and_removed_ones_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[str] = []

    async def resolve(_: object) -> list[str]:
        return answers

    monkeypatch.setattr(endpoints, "look_up", resolve)
    monkeypatch.setattr(endpoints, "LOOK_UP_SECONDS", 0.02)
    old, new = ScriptedPolicy(), ScriptedPolicy()
    async with running(old) as first, running(new) as second:
        answers = [first.address]
        async with PolicyClient(["dns:///policies:50051"]) as policy:
            await policy.propose(State("p", "q"), 1, Sampling(), 0)
            answers = [second.address]
            while [e.address for e in policy._endpoints._ready] != [second.address]:  # noqa: ASYNC110 - no event for it
                await asyncio.sleep(0.01)
            for i in range(10):
                await policy.propose(State(f"p{i}", "q"), 1, Sampling(), 0)
    assert (old.calls.started, new.calls.started) == (1, 10)


async def test_a_replica_added_under_load_takes_its_share_and_a_removed_one_finishes_its_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[str] = []
    answer = asyncio.Event()

    async def resolve(_: object) -> list[str]:
        return answers

    async def wait(_: object) -> None:
        await answer.wait()

    monkeypatch.setattr(endpoints, "look_up", resolve)
    monkeypatch.setattr(endpoints, "LOOK_UP_SECONDS", 0.02)
    old, new = ScriptedPolicy(wait), ScriptedPolicy(wait)
    calls: list[asyncio.Task[Proposal]] = []

    def start(policy: PolicyClient, count: int) -> None:
        states = [State(f"p{len(calls) + i}", "q") for i in range(count)]
        calls.extend(asyncio.ensure_future(policy.propose(state, 1, Sampling(), 0)) for state in states)

    async def sent(count: int) -> None:
        while old.calls.started + new.calls.started < count:  # noqa: ASYNC110 - a plain count, no event per call
            await asyncio.sleep(0.01)

    async with running(old) as first, running(new) as second:
        answers = [first.address]
        async with PolicyClient(["dns:///policies:50051"]) as policy:
            start(policy, 8)
            await sent(8)
            answers = [first.address, second.address]
            await _ready(policy, 2)
            # The first server has 8 calls: with bounded load the next ones go to the second.
            start(policy, 4)
            await sent(12)
            assert (old.calls.started, new.calls.started) == (8, 4)
            answers = [second.address]
            await _ready(policy, 1)
            start(policy, 4)
            await sent(16)
            assert (old.calls.started, new.calls.started) == (8, 8)
            answer.set()
            await asyncio.gather(*calls)
    assert (old.calls.cancelled, new.calls.cancelled) == (0, 0)


async def test_a_plain_address_is_one_server_and_a_dns_name_is_looked_up() -> None:
    assert await look_up(parse_target("somewhere:50051")) == ["somewhere:50051"]
    assert "127.0.0.1:50051" in await look_up(parse_target("dns:///localhost:50051"))


async def _ready(policy: PolicyClient, count: int) -> None:
    while len(policy._endpoints._ready) != count:  # noqa: ASYNC110 - no event for it
        await asyncio.sleep(0.01)
