"""Traces of real searches through real servers, as a collector gets them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
import structlog
from rstar_search.service import SearchService

from rstar.config import SearchConfig
from rstar.interfaces import Sampling, State
from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.rpc import tracing
from rstar.rpc.call_context import IDS, ids_of, node_id, outgoing, read_ids
from rstar.rpc.clients import ExecutorClient, PolicyClient, PreferenceModelClient
from rstar.rpc.errors import CallFailed
from rstar.rpc.logs import configure_logs
from rstar.rpc.search_client import SearchClient
from rstar.rpc.spans import SEARCH, Span, round_trace
from rstar.rpc.tracing import TracingError, asked, stage_environment
from tests.support.rpc.collector import Collector, collector
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
)
from tests.support.scripted import ClosenessModel, DigitPolicy, SumExecutor

PROBLEM = Problem("p 1/ä", "which digits add up to 20?", "20")
CONFIG = SearchConfig(rollouts=4, candidates=3, guidance="ppm")
TRACE_PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("OTEL_") or name == tracing.TRACEPARENT]:
        monkeypatch.delenv(name)
    yield
    tracing.stop()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector, and the variables that send spans there."""
    with collector() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{found.address}")
        yield found


@asynccontextmanager
async def coordinator(before: Before = at_once) -> AsyncIterator[SearchClient]:
    policy = ScriptedPolicy(before, DigitPolicy())
    executor, ppm = ScriptedExecutor(model=SumExecutor()), ScriptedPreferenceModel(model=ClosenessModel(20))
    async with (
        running(policy, executor, ppm) as models,
        PolicyClient([models.address]) as policies,
        ExecutorClient([models.address]) as executors,
        PreferenceModelClient([models.address]) as ppms,
        running(SearchService(policies, executors, ppms, 256)) as server,
        SearchClient([server.address]) as client,
    ):
        yield client


@pytest.fixture
def service_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Log as a service does; the fixture returns the events."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    configure_logs("policy")
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    root.handlers[:], root.level = before
    structlog.reset_defaults()


async def search(client: SearchClient, problem: Problem = PROBLEM) -> SearchRecord:
    events = [event async for event in client.solve(problem, CONFIG, seed=3)]
    assert isinstance(events[-1], SearchRecord)
    return events[-1]


async def test_a_search_is_one_trace_of_its_calls_below_the_stage(
    spans: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tracing.TRACEPARENT, TRACE_PARENT)
    tracing.start("test", joins=True)
    structlog.contextvars.bind_contextvars(round="r1", stage="rollout")
    async with coordinator() as client:
        with tracing.span("stage rollout"):
            record = await search(client)
    tracing.stop()

    assert {span.trace_id for span in spans.spans} == {"0af7651916cd43dd8448eb211c80319c"}
    [stage] = spans.named("stage rollout")
    assert (stage.parent, stage.attributes["round"], stage.service) == ("b7ad6b7169203331", "r1", "rstar-test")
    [found] = spans.named("search")
    assert spans.parent_of(found) == stage
    assert found.attributes["problem_id"] == PROBLEM.id
    assert found.attributes["tokens"] == record.usage.tokens
    [served] = spans.named("rstar.v1.SearchService/Solve")
    assert spans.parent_of(served) == found
    proposals = spans.named("propose")
    assert sum(span.attributes["tokens"] for span in proposals) == record.usage.tokens
    assert {"0"} < {span.attributes["node"] for span in proposals}
    for span in proposals:
        assert span.attributes["depth"] == int(span.attributes["node"].partition("-")[0])
    executed = [status for span in spans.named("execute") for status in span.attributes["statuses"]]
    assert executed == ["ok"] * record.usage.executions
    assert all(span.attributes["queue_seconds"] >= 0 for span in spans.named("execute"))
    assert sum(span.attributes["candidates"] for span in spans.named("score")) == record.usage.scored
    methods = {
        "propose": "PolicyService/Propose",
        "execute": "ExecutorService/Execute",
        "score": "PreferenceModelService/Score",
    }
    for name, method in methods.items():
        calls = spans.named(name)
        assert calls
        assert {spans.parent_of(call).name for call in calls} == {"rstar.v1.SearchService/Solve"}
        answered = spans.named(f"rstar.v1.{method}")
        assert sorted(spans.parent_of(span).span_id for span in answered) == sorted(call.span_id for call in calls)
        assert {(span.attributes["round"], span.attributes["stage"]) for span in answered} == {("r1", "rollout")}


async def test_a_cancelled_search_ends_its_spans_and_its_calls(spans: Collector) -> None:
    arrived, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(context: Context) -> None:
        arrived.set()
        try:
            await never(context)
        finally:
            cancelled.set()

    tracing.start("test")
    async with coordinator(wait) as client:
        task = asyncio.ensure_future(search(client))
        await arrived.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await cancelled.wait()
    tracing.stop()
    assert spans.named("search")
    [proposal] = spans.named("propose")
    assert proposal.attributes["cancelled"] is True
    assert not proposal.failed


async def test_a_failed_search_is_a_failed_span_with_the_reason_at_its_server(spans: Collector) -> None:
    tracing.start("test")
    async with coordinator(fails(grpc.StatusCode.INTERNAL)) as client:
        with pytest.raises(CallFailed):
            await search(client)
    tracing.stop()
    for name in ("search", "propose", "rstar.v1.PolicyService/Propose", "rstar.v1.SearchService/Solve"):
        assert [span.failed for span in spans.named(name)] == [True], name


async def test_the_sampler_decides_for_each_search_and_a_round_stays(
    spans: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tracing.TRACEPARENT, TRACE_PARENT)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    tracing.start("test", joins=True)
    with tracing.span("stage rollout"):
        for _ in range(200):
            with tracing.span(SEARCH), tracing.span("propose"):
                pass
    tracing.stop()
    searches, proposals = spans.named("search"), spans.named("propose")
    assert 40 < len(searches) < 160
    assert {span.parent for span in proposals} == {span.span_id for span in searches}
    assert len(spans.named("stage rollout")) == 1


async def test_always_off_records_nothing(spans: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracing.TRACEPARENT, TRACE_PARENT)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    tracing.start("test", joins=True)
    with tracing.span("stage rollout"), tracing.span(SEARCH):
        pass
    tracing.stop()
    assert not spans.spans


def test_the_span_of_a_round_has_the_ids_that_its_stages_know(spans: Collector) -> None:
    tracing.start("run")
    began = datetime.now(UTC)
    tracing.record_round("store r1", "r1", began, began + timedelta(seconds=7), "Succeeded")
    tracing.stop()
    [span] = spans.spans
    assert (span.name, span.attributes, span.seconds) == ("round", {"round": "r1", "phase": "Succeeded"}, 7.0)
    assert round_trace("store r1").traceparent == f"00-{span.trace_id}-{span.span_id}-01"
    assert stage_environment("store r1") == {"TRACEPARENT": round_trace("store r1").traceparent}
    assert stage_environment("store r1", {}) == {}


async def test_without_a_collector_a_search_neither_waits_nor_fails_and_the_log_has_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    tracing.start("test")
    async with coordinator() as client:
        for _ in range(5):
            assert (await search(client)).nodes
            await asyncio.sleep(0.3)
    before = time.monotonic()
    tracing.stop()
    assert time.monotonic() - before < 30
    assert len([each for each in caplog.records if each.name.startswith("opentelemetry")]) == 1


def test_nothing_is_imported_when_no_traces_are_asked_for() -> None:
    code = (
        "import sys, asyncio\n"
        "from rstar.rpc import tracing, clients, serving, search_client\n"
        "tracing.start('x')\n"
        "with tracing.span('search') as span: span.set(a=1)\n"
        "assert not tracing.is_on()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://tempo:4317"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://tempo:4317"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://tempo:4317", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_the_standard_variables_ask_for_traces(variables: dict[str, str], wanted: bool) -> None:
    assert asked(variables) is wanted


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin': use otlp, console or none"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is 'http/protobuf': traces are sent by grpc alone; set it to grpc, with the port for it",
        ),
    ],
)
def test_what_is_not_supported_is_one_sentence(variables: dict[str, str], sentence: str) -> None:
    with pytest.raises(TracingError, match=f"^{sentence}$"):
        asked(variables)


def test_asked_for_and_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.delitem(sys.modules, "rstar.rpc.trace_export", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(TracingError, match=r"is not installed: install rstar-math\[tracing\]"):
        tracing.start("x")


def test_ids_of_any_text_arrive_as_they_were_sent() -> None:
    ids = {"round": "r1", "stage": "rollout", "problem_id": "p,1;=ä\n%", "node": "2-0a"}
    assert read_ids(dict(outgoing(Span(), ids))) == ids
    assert set(ids) == set(IDS)
    assert read_ids({"baggage": "rstar.round=r1;property=x, other=1,rstar.evil=2,rstar.,,"}) == {"round": "r1"}
    assert len(read_ids({"baggage": "rstar.round=" + "r" * 9_000})["round"]) == 256


def test_a_node_has_the_same_id_in_every_service() -> None:
    assert node_id(()) == "0"
    assert node_id(("a", "b")) == node_id(("a", "b"))
    assert node_id(("a", "b")) != node_id(("a", "c"))
    assert node_id(("a\udc80",)).startswith("1-")
    assert ids_of(State("p", "?", ("a",))) == {"problem_id": "p", "node": node_id(("a",))}


async def test_the_log_of_a_service_names_the_work_and_its_span(
    spans: Collector, service_log: Callable[[], list[dict[str, Any]]]
) -> None:
    tracing.start("policy")
    structlog.contextvars.bind_contextvars(round="r1", stage="evaluate")

    async def log(_: Context) -> None:
        structlog.get_logger().info("asked")

    async with running(ScriptedPolicy(log)) as server, PolicyClient([server.address]) as client:
        await client.propose(State("p1", "?", ("a",)), 1, Sampling(), 0)
    tracing.stop()
    [line] = [line for line in service_log() if line["event"] == "asked"]
    ids = {name: line[name] for name in IDS}
    assert ids == {"round": "r1", "stage": "evaluate", "problem_id": "p1", "node": node_id(("a",))}
    [span] = spans.named("rstar.v1.PolicyService/Propose")
    assert (line["trace_id"], line["span_id"]) == (span.trace_id, span.span_id)


async def test_ids_of_one_call_do_not_reach_the_log_of_another(
    service_log: Callable[[], list[dict[str, Any]]],
) -> None:

    async def log(_: Context) -> None:
        await asyncio.sleep(0.01)
        structlog.get_logger().info("asked")

    async with running(policy := ScriptedPolicy(log)) as server, PolicyClient([server.address]) as client:
        await asyncio.gather(*(client.propose(State(f"p{i}", "?"), 1, Sampling(), 0) for i in range(20)))
    assert len(policy.problems) == 20
    lines = [line for line in service_log() if line["event"] == "asked"]
    assert sorted(line["problem_id"] for line in lines) == sorted(policy.problems)
    assert not any("round" in line for line in lines)
