"""The coordinator over real gRPC, with a scripted policy, executor and PPM."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest
from prometheus_client import REGISTRY
from rstar_search.service import SearchService

from rstar.config import SearchConfig
from rstar.problem import Problem
from rstar.record import Progress, SearchRecord
from rstar.rpc.clients import ExecutorClient, PolicyClient, PreferenceModelClient
from rstar.rpc.errors import CallFailed, CallRefused, ServiceUnavailable
from rstar.rpc.search_client import SearchClient
from rstar.search.solve import solve
from rstar.v1 import search_pb2, search_pb2_grpc
from tests.support.rpc.servicers import (
    Before,
    Context,
    ScriptedExecutor,
    ScriptedPolicy,
    ScriptedPreferenceModel,
    at_once,
    fails,
    free_port,
    never,
    running,
    service_process,
)
from tests.support.scripted import ClosenessModel, DigitPolicy, SumExecutor

CONFIG = SearchConfig(rollouts=6, candidates=4)
PROBLEM = Problem("p1", "which digits add up to 20?", "20")


@dataclass
class Services:
    """A coordinator and the services that it calls."""

    address: str
    server: grpc.aio.Server
    client: SearchClient
    policy: ScriptedPolicy
    executor: ScriptedExecutor
    ppm: ScriptedPreferenceModel


@asynccontextmanager
async def coordinator(before: Before = at_once, max_searches: int = 256) -> AsyncIterator[Services]:
    policy = ScriptedPolicy(before, DigitPolicy())
    executor, ppm = ScriptedExecutor(model=SumExecutor()), ScriptedPreferenceModel(model=ClosenessModel(20))
    async with (
        running(policy, executor, ppm) as models,
        PolicyClient([models.address]) as policies,
        ExecutorClient([models.address]) as executors,
        PreferenceModelClient([models.address]) as ppms,
        running(SearchService(policies, executors, ppms, max_searches)) as server,
        SearchClient([server.address]) as client,
    ):
        yield Services(server.address, server.server, client, policy, executor, ppm)


@asynccontextmanager
async def stub_method(
    address: str,
) -> AsyncIterator[grpc.aio.UnaryStreamMultiCallable[search_pb2.SolveRequest, search_pb2.SolveResponse]]:
    """Yield the stub method, without the retries of the client."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield search_pb2_grpc.SearchServiceStub(channel).Solve


async def record_of(
    client: SearchClient, problem: Problem = PROBLEM, config: SearchConfig = CONFIG, verifier: str = "exact"
) -> SearchRecord:
    events = [event async for event in client.solve(problem, config, verifier=verifier, seed=3)]
    assert all(isinstance(event, Progress) for event in events[:-1])
    assert isinstance(events[-1], SearchRecord)
    return events[-1]


@pytest.mark.parametrize("guidance", ["none", "ppm"])
async def test_a_search_through_the_services_is_the_search_in_process(guidance: str) -> None:
    config = SearchConfig.model_validate(CONFIG.model_dump() | {"guidance": guidance})
    async with coordinator() as services:
        remote = await record_of(services.client, config=config, verifier="")
    local = await solve(PROBLEM, config, policy=DigitPolicy(), executor=SumExecutor(), ppm=ClosenessModel(20), seed=3)
    assert remote == local
    assert len(local.nodes) > 10


async def test_the_named_verifier_verifies_the_terminals() -> None:
    async with coordinator() as services:
        verified = await record_of(services.client, config=SearchConfig(rollouts=20, candidates=8), verifier="exact")
        assert {node.correct for node in verified.nodes if node.answer is not None} <= {True, False}
        unverified = await record_of(services.client, verifier="")
        assert {node.correct for node in unverified.nodes} == {None}


async def test_a_long_search_reports_its_progress_before_its_result() -> None:
    async def slow(_: Context) -> None:
        await asyncio.sleep(0.1)

    async with coordinator(slow) as services:
        events = [event async for event in services.client.solve(PROBLEM, CONFIG, verifier="exact", seed=0)]
        progress, record = events[:-1], events[-1]
        assert progress
        assert isinstance(record, SearchRecord)
        spent = [event.usage.tokens for event in progress if isinstance(event, Progress)]
        assert spent == sorted(spent)
        assert spent[-1] <= record.usage.tokens
        found = [event.leading for event in progress if isinstance(event, Progress) and event.leading is not None]
        assert {one.answer for one in found} <= {record.nodes[i].answer for i in record.terminals()}
        assert found


async def test_many_problems_are_searched_at_the_same_time() -> None:
    waiting = 0
    together = asyncio.Event()

    async def meet(_: Context) -> None:
        nonlocal waiting
        waiting += 1
        if waiting == 8:  # each search has a call in progress
            together.set()
        await together.wait()

    async with coordinator(meet) as services:
        records = await asyncio.gather(*(record_of(services.client, Problem(f"p{i}", "q", "20")) for i in range(8)))
        assert [record.problem_id for record in records] == [f"p{i}" for i in range(8)]


async def test_a_client_that_disconnects_ends_its_search_and_the_calls_of_the_search() -> None:
    async with coordinator(never) as services:
        task = asyncio.ensure_future(record_of(services.client))
        await services.policy.calls.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await services.policy.calls.was_cancelled.wait()
        await no_search_is_active()


async def test_closing_the_iterator_ends_the_search() -> None:
    async with coordinator(never) as services:
        async with aclosing(services.client.solve(PROBLEM, CONFIG, seed=0)) as events:
            assert isinstance(await anext(events), Progress)
        await services.policy.calls.was_cancelled.wait()
        await no_search_is_active()


async def test_a_failed_search_ends_only_its_own_call() -> None:
    async def refuse_one(context: Context) -> None:
        if services.policy.problems[-1] == "bad":
            await context.abort(grpc.StatusCode.INTERNAL, "out of memory")

    async with coordinator(refuse_one) as services:
        good, bad = await asyncio.gather(
            record_of(services.client), record_of(services.client, Problem("bad", "q")), return_exceptions=True
        )
        assert isinstance(good, SearchRecord)
        assert isinstance(bad, CallFailed)
        assert "search service" in str(bad)
        assert "problem 'bad': policy service" in str(bad)
        assert "out of memory" in str(bad)


async def test_an_unreachable_policy_is_unavailable_and_a_refused_step_is_not_retried() -> None:
    async with coordinator(fails(grpc.StatusCode.INVALID_ARGUMENT)) as services:
        with pytest.raises(CallRefused, match="scripted INVALID_ARGUMENT"):
            await record_of(services.client)
        assert services.policy.calls.started == 1
    async with coordinator(fails(grpc.StatusCode.UNAVAILABLE)) as services, stub_method(services.address) as call:
        with pytest.raises(grpc.aio.AioRpcError, match="policy service at") as caught:
            async for _ in call(search_pb2.SolveRequest(problem=search_pb2.Problem(id="p", question="q"))):
                pass
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_search_that_fails_half_way_keeps_its_tree_and_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rstar.rpc.calls.ATTEMPTS", 1)
    monkeypatch.setattr("rstar.rpc.search_client.ATTEMPTS", 2)

    async def end_after_two(context: Context) -> None:
        if services.policy.calls.started % 3 == 0:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    async with coordinator(end_after_two) as services:
        events = services.client.solve(PROBLEM, SearchConfig(rollouts=4, candidates=4), seed=3)
        record = await anext(events)
        with pytest.raises(ServiceUnavailable, match="gone"):
            await anext(events)
        assert isinstance(record, SearchRecord)
        assert "gone" in record.error
        assert max(map(record.path, range(len(record.nodes))), key=len)
        assert record.usage.tokens == 2 * 2 * 4 * 3  # two attempts, with two calls for four candidates of three tokens


async def test_a_step_that_the_policy_cannot_continue_costs_only_its_own_node() -> None:
    async def refuse_later_steps(context: Context) -> None:
        if services.policy.calls.started == 3:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the prompt has 5000 tokens")

    async with coordinator(refuse_later_steps) as services:
        record = await record_of(services.client, config=SearchConfig(rollouts=8, candidates=4))
        assert sum("5000 tokens" in node.reason for node in record.nodes) == 1
        assert list(record.terminals())
        assert not record.error


async def test_a_record_larger_than_one_message_arrives_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rstar.rpc.search_codec.PART_BYTES", 200)
    async with coordinator() as services:
        remote = await record_of(services.client, verifier="")
    assert remote == await solve(PROBLEM, CONFIG, policy=DigitPolicy(), executor=SumExecutor(), seed=3)


async def test_a_search_whose_coordinator_ended_starts_again_on_another() -> None:
    async with (
        coordinator(never) as first,
        coordinator() as second,
        SearchClient([first.address, second.address]) as client,
    ):
        endpoints = client._endpoints
        while len(endpoints._ready) < 2:  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.01)
        tasks = [asyncio.ensure_future(record_of(client)) for _ in range(2)]
        await first.policy.calls.arrived.wait()
        await first.server.stop(0)
        records = await asyncio.gather(*tasks)
        assert records[0] == records[1]


@pytest.mark.parametrize(
    ("problem", "config_json", "verifier", "sentence"),
    [
        (
            search_pb2.Problem(id="p", question="q"),
            '{"rolouts": 3}',
            "",
            "config: rolouts: unknown key; did you mean rollouts?",
        ),
        (
            search_pb2.Problem(id="p", question="q"),
            '{"rollouts": 0}',
            "",
            "config: rollouts: must be at least 1, not 0",
        ),
        (search_pb2.Problem(id="p", question="q"), "{", "", "config: "),
        (search_pb2.Problem(id="p", question="q"), '{"method": "beam"}', "", "config: method beam"),
        (search_pb2.Problem(id="p", question="q"), "{}", "exat", "unknown verifier 'exat'"),
        (search_pb2.Problem(id="p", question="q", data_json="[]"), "{}", "", "problem 'p': data_json is a list"),
        (search_pb2.Problem(question="q"), "{}", "", "problem: id and question must not be empty"),
    ],
)
async def test_a_bad_request_is_refused_with_one_sentence_before_any_call(
    problem: search_pb2.Problem, config_json: str, verifier: str, sentence: str
) -> None:
    async with coordinator() as services, stub_method(services.address) as solve_call:
        call = solve_call(search_pb2.SolveRequest(problem=problem, config_json=config_json, verifier=verifier))
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await call.details() or "").startswith(sentence)
        assert services.policy.calls.started == 0


async def test_ppm_guidance_without_a_ppm_is_refused() -> None:
    async with (
        running(ScriptedPolicy(), ScriptedExecutor()) as models,
        PolicyClient([models.address]) as policies,
        ExecutorClient([models.address]) as executors,
        running(SearchService(policies, executors)) as server,
        SearchClient([server.address]) as client,
    ):
        with pytest.raises(CallRefused, match="this coordinator has no PPM; start it with --ppm"):
            await record_of(client, config=SearchConfig(guidance="ppm"))


async def test_searches_beyond_the_limit_are_refused_until_another_one_ends() -> None:
    gate = asyncio.Event()

    async def wait(_: Context) -> None:
        await gate.wait()

    async with coordinator(wait, max_searches=1) as services:
        inside = asyncio.ensure_future(record_of(services.client))
        await services.policy.calls.arrived.wait()
        with pytest.raises(ServiceUnavailable, match=r"RESOURCE_EXHAUSTED: 1 searches are in progress.*--max-searches"):
            await record_of(services.client)
        gate.set()
        await inside
        assert isinstance(await record_of(services.client), SearchRecord)


async def test_the_usage_of_a_search_is_counted_once() -> None:
    def total(name: str) -> float:
        return REGISTRY.get_sample_value(name) or 0.0

    async with coordinator() as services:
        before = total("rstar_search_nodes_total"), total("rstar_search_generated_tokens_total")
        record = await record_of(services.client)
        after = total("rstar_search_nodes_total"), total("rstar_search_generated_tokens_total")
        assert (after[0] - before[0], after[1] - before[1]) == (record.usage.nodes, record.usage.tokens)


async def test_the_program_serves_solves_and_ends_on_sigterm() -> None:
    async with running(ScriptedPolicy(model=DigitPolicy()), ScriptedExecutor(model=SumExecutor())) as models:
        flags = ("--port", "0", "--policy", models.address, "--executor", models.address)
        async with service_process("rstar_search", *flags) as program:
            async with SearchClient([program.address]) as client:
                assert (await record_of(client, verifier="")).nodes
            program.signal(signal.SIGTERM)
            assert await program.process.wait() == 0


async def test_a_malformed_address_ends_the_program_with_code_2_and_one_sentence() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rstar_search", "--policy", "nowhere", "--executor", f"127.0.0.1:{free_port()}"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert errors.decode().strip() == "search: 'nowhere' is not a server's address: write HOST:PORT or dns:///HOST:PORT"


async def no_search_is_active() -> None:
    """Wait until no search is active."""
    while REGISTRY.get_sample_value("rstar_search_active"):  # noqa: ASYNC110 - a gauge has no event
        await asyncio.sleep(0.01)
