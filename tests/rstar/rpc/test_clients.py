from __future__ import annotations

import asyncio

import grpc
import pytest

from rstar.interfaces import (
    ExecutionLimits,
    ExecutionStatus,
    Executor,
    Policy,
    PreferenceModel,
    Sampling,
    State,
)
from rstar.rpc.calls import ATTEMPTS
from rstar.rpc.clients import ExecutorClient, PolicyClient, PreferenceModelClient
from rstar.rpc.errors import CallFailed, CallRefused, CallTimedOut, ServiceUnavailable
from tests.support.rpc.servicers import (
    ScriptedExecutor,
    ScriptedPolicy,
    ScriptedPreferenceModel,
    fails,
    free_port,
    never,
    running,
)
from tests.support.states import START

STATE = State("p1", "what is 20 + 4?", ("<code>\nx = 1\n<end_of_step>",))


async def test_the_clients_implement_the_protocols_of_the_search() -> None:
    async with (
        running(ScriptedPolicy(), ScriptedPreferenceModel(), ScriptedExecutor()) as server,
        PolicyClient([server.address]) as policy,
        PreferenceModelClient([server.address]) as ppm,
        ExecutorClient([server.address]) as executor,
    ):
        assert isinstance(policy, Policy)
        assert isinstance(ppm, PreferenceModel)
        assert isinstance(executor, Executor)
        proposal = await policy.propose(STATE, 3, Sampling(), seed=2**64 - 1)
        texts = [candidate.text for candidate in proposal.candidates]
        assert (len(texts), proposal.model_digest) == (3, "policy-digest")
        assert (await ppm.score(STATE, texts)).values == (1, 1 / 2, 1 / 3)
        assert [e.stdout for e in await executor.execute(STATE, texts, ExecutionLimits())] == ["24\n"] * 3


async def test_without_async_with_the_first_call_connects() -> None:
    async with running(ScriptedPolicy()) as server:
        policy = PolicyClient([server.address])
        assert len((await policy.propose(STATE, 2, Sampling(), 0)).candidates) == 2
        await policy.close()


async def test_a_cancelled_task_cancels_its_call_on_the_server() -> None:
    servicer = ScriptedPolicy(never)
    async with running(servicer) as server, PolicyClient([server.address]) as policy:
        call = asyncio.ensure_future(policy.propose(STATE, 1, Sampling(), 0))
        await servicer.calls.arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await servicer.calls.was_cancelled.wait()
        assert (servicer.calls.started, servicer.calls.cancelled) == (1, 1)


async def test_a_deadline_ends_the_call_on_both_sides_without_a_retry() -> None:
    servicer = ScriptedPreferenceModel(never)
    async with (
        running(servicer) as server,
        PreferenceModelClient([server.address], call_seconds=0.1, queue_seconds=0.1) as ppm,
    ):
        with pytest.raises(CallTimedOut, match=f"PPM service at {server.address}"):
            await ppm.score(STATE, ["x"])
        await servicer.calls.was_cancelled.wait()
        assert servicer.calls.started == 1


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
async def test_a_transport_failure_is_retried(code: grpc.StatusCode) -> None:
    servicer = ScriptedPolicy(fails(code, times=2))
    async with running(servicer) as server, PolicyClient([server.address]) as policy:
        await policy.propose(STATE, 1, Sampling(), 0)
        assert servicer.calls.started == 3


async def test_only_the_deadline_ends_the_wait_for_a_full_queue() -> None:
    servicer = ScriptedPolicy(fails(grpc.StatusCode.RESOURCE_EXHAUSTED, times=ATTEMPTS + 1))
    async with running(servicer) as server, PolicyClient([server.address]) as policy:
        await policy.propose(STATE, 1, Sampling(), 0)
        assert servicer.calls.started == ATTEMPTS + 2
    servicer = ScriptedPolicy(fails(grpc.StatusCode.RESOURCE_EXHAUSTED))
    async with (
        running(servicer) as server,
        PolicyClient([server.address], call_seconds=0.25, queue_seconds=0.25) as policy,
    ):
        with pytest.raises(ServiceUnavailable, match="RESOURCE_EXHAUSTED: scripted"):
            await policy.propose(STATE, 1, Sampling(), 0)


async def test_attempts_are_bounded_and_the_error_names_the_service_its_address_and_the_reason() -> None:
    servicer = ScriptedPolicy(fails(grpc.StatusCode.UNAVAILABLE))
    async with running(servicer) as server, PolicyClient([server.address]) as policy:
        with pytest.raises(ServiceUnavailable, match=f"policy service at {server.address}: UNAVAILABLE: scripted"):
            await policy.propose(STATE, 1, Sampling(), 0)
        assert servicer.calls.started == ATTEMPTS


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, CallRefused),
        (grpc.StatusCode.FAILED_PRECONDITION, CallRefused),
        (grpc.StatusCode.UNIMPLEMENTED, CallRefused),
        (grpc.StatusCode.INTERNAL, CallFailed),
        (grpc.StatusCode.UNKNOWN, CallFailed),
    ],
)
async def test_the_answer_of_a_server_is_never_retried(code: grpc.StatusCode, kind: type[CallFailed]) -> None:
    servicer = ScriptedPolicy(fails(code))
    async with running(servicer) as server, PolicyClient([server.address]) as policy:
        with pytest.raises(CallFailed, match=f"scripted {code.name}") as caught:
            await policy.propose(STATE, 1, Sampling(), 0)
        assert type(caught.value) is kind
        assert servicer.calls.started == 1


async def test_a_call_that_failed_on_one_server_is_retried_on_another() -> None:
    bad, good = ScriptedPolicy(fails(grpc.StatusCode.UNAVAILABLE)), ScriptedPolicy()
    async with running(bad) as first, running(good) as second, PolicyClient([first.address, second.address]) as policy:
        await _all_ready(policy)
        for i in range(20):
            await policy.propose(State(f"p{i}", "q"), 1, Sampling(), 0)
        assert bad.calls.started > 0
        assert good.calls.started == 20


async def test_only_the_internal_candidates_run_again_and_on_another_executor() -> None:
    bad, good = ScriptedExecutor(broken=frozenset({"b", "d"})), ScriptedExecutor(stdout="mended")
    async with (
        running(bad) as first,
        running(good) as second,
        ExecutorClient([first.address, second.address]) as executor,
    ):
        await _all_ready(executor)
        for _ in range(2):  # either executor may be the first
            results = await executor.execute(START, ["a", "b", "c", "d"], ExecutionLimits())
            assert all(result.status is ExecutionStatus.OK for result in results)
        assert good.programs.count("b") == 2


async def test_a_program_that_is_internal_twice_is_crashed() -> None:
    bad = ScriptedExecutor(broken=frozenset({"b", "d"}))
    async with running(bad) as first, ExecutorClient([first.address]) as alone:
        results = await alone.execute(START, ["a", "b", "c", "d"], ExecutionLimits())
    statuses = [result.status for result in results]
    assert statuses == [ExecutionStatus.OK, ExecutionStatus.CRASHED, ExecutionStatus.OK, ExecutionStatus.CRASHED]
    assert results[1].reason == "given up after 2 tries; its executor failed while it ran: scripted"
    assert sorted(bad.programs) == sorted(["a", "b", "c", "d", "b", "d"])


async def test_all_calls_of_a_problem_go_to_one_model_server() -> None:
    servicers = [ScriptedPolicy() for _ in range(3)]
    async with (
        running(servicers[0]) as a,
        running(servicers[1]) as b,
        running(servicers[2]) as c,
        PolicyClient([a.address, b.address, c.address]) as policy,
    ):
        await _all_ready(policy)
        for _ in range(3):
            for i in range(12):
                await policy.propose(State(f"p{i}", "q"), 1, Sampling(), 0)
    homes = [set(servicer.problems) for servicer in servicers]
    assert sum(map(len, homes)) == 12


async def test_the_error_for_a_missing_server_names_its_address() -> None:
    port = free_port()
    with pytest.raises(
        ServiceUnavailable, match=rf"policy service at 127\.0\.0\.1:{port}: no server was ready .*is it running\?"
    ):
        async with PolicyClient([f"127.0.0.1:{port}"], ready_seconds=0.3):
            pass


@pytest.mark.parametrize(
    "target", ["nowhere", "host:", ":50051", "host:port", "http://host:80", "dns:///host", "host:99999"]
)
def test_a_malformed_address_is_refused_at_once_with_one_sentence(target: str) -> None:
    with pytest.raises(ValueError, match="is not a server's address: write HOST:PORT or dns:///HOST:PORT"):
        PolicyClient([target])


def test_a_client_without_addresses_is_refused() -> None:
    with pytest.raises(ValueError, match="no address was given"):
        ExecutorClient([])


async def _all_ready(client: PolicyClient | ExecutorClient) -> None:
    """Wait until every server is ready: the client itself waits for one only."""
    endpoints = client._endpoints
    while not all(endpoint.ready for endpoint in endpoints._known.values()):  # noqa: ASYNC110 - no event for it
        await asyncio.sleep(0.01)
