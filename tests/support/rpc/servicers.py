"""Scripted servers on loopback: real gRPC and health, with answers that a test defines."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc

from rstar.interfaces import (
    Candidate,
    Execution,
    ExecutionStatus,
    Executor,
    Policy,
    Proposal,
    Scores,
    TrajectoryScorer,
)
from rstar.rpc import codec
from rstar.rpc.call_context import CallContext
from rstar.rpc.serving import Health
from rstar.rpc.transport import SERVER_OPTIONS
from rstar.v1 import (
    executor_pb2,
    executor_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    preference_pb2,
    preference_pb2_grpc,
    search_pb2_grpc,
)

PROPOSE = "rstar.v1.PolicyService"
SCORE = "rstar.v1.PreferenceModelService"
EXECUTE = "rstar.v1.ExecutorService"
SOLVE = "rstar.v1.SearchService"

Context = grpc.aio.ServicerContext[Any, Any]
Before = Callable[[Context], Any]


@dataclass
class Calls:
    """The calls that reached a server; ``cancelled`` ones were cancelled before their answer."""

    started: int = 0
    cancelled: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    was_cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def count(self) -> AsyncIterator[None]:
        self.started += 1
        self.arrived.set()
        try:
            yield
        except asyncio.CancelledError:
            self.cancelled += 1
            self.was_cancelled.set()
            raise


async def at_once(_: Context) -> None:
    """Answer without waiting."""


async def never(_: Context) -> None:
    """Never answer."""
    await asyncio.Event().wait()


def fails(code: grpc.StatusCode, times: int = 1_000_000) -> Before:
    """Fail the first ``times`` calls with ``code``."""
    left = times

    async def abort(context: Context) -> None:
        nonlocal left
        if left:
            left -= 1
            await context.abort(code, f"scripted {code.name}")

    return abort


class ScriptedPolicy(policy_pb2_grpc.PolicyServiceServicer):
    def __init__(self, before: Before = at_once, model: Policy | None = None) -> None:
        self.before = before
        self.model = model
        self.calls = Calls()
        self.problems: list[str] = []

    async def Propose(self, request: policy_pb2.ProposeRequest, context: Context) -> policy_pb2.ProposeResponse:  # noqa: N802
        state, n, sampling, seed = codec.read_propose_request(request)
        async with self.calls.count():
            self.problems.append(state.problem_id)
            await self.before(context)
        if self.model is not None:
            return codec.propose_response(await self.model.propose(state, n, sampling, seed))
        return codec.propose_response(
            Proposal(tuple(Candidate(f"x = {k}\n<end_of_step>", 7) for k in range(n)), "policy-digest")
        )


class ScriptedPreferenceModel(preference_pb2_grpc.PreferenceModelServiceServicer):
    def __init__(self, before: Before = at_once, model: TrajectoryScorer | None = None) -> None:
        self.before = before
        self.model = model
        self.calls = Calls()

    async def Score(self, request: preference_pb2.ScoreRequest, context: Context) -> preference_pb2.ScoreResponse:  # noqa: N802
        state, candidates = codec.read_score_request(request)
        async with self.calls.count():
            await self.before(context)
        if self.model is not None:
            if request.every_step:
                return codec.score_response(await self.model.score_steps(state))
            return codec.score_response(await self.model.score(state, candidates))
        return codec.score_response(Scores(tuple(1 / (1 + k) for k in range(len(candidates))), "ppm-digest"))


class ScriptedExecutor(executor_pb2_grpc.ExecutorServiceServicer):
    def __init__(
        self,
        before: Before = at_once,
        broken: frozenset[str] = frozenset(),
        stdout: str = "24\n",
        model: Executor | None = None,
    ) -> None:
        self.before = before
        self.model = model
        self.broken = broken
        self.stdout = stdout
        self.calls = Calls()
        self.programs: list[str] = []
        self.turns: set[tuple[str, str]] = set()

    async def Execute(self, request: executor_pb2.ExecuteRequest, context: Context) -> executor_pb2.ExecuteResponse:  # noqa: N802
        state, candidates, limits = codec.read_execute_request(request)
        async with self.calls.count():
            self.programs += candidates
            self.turns.add((request.tenant, state.problem_id))
            await self.before(context)
        if self.model is not None:
            return codec.execute_response(await self.model.execute(state, candidates, limits))
        return codec.execute_response(
            Execution(ExecutionStatus.INTERNAL, reason="scripted")
            if candidate in self.broken
            else Execution(ExecutionStatus.OK, self.stdout)
            for candidate in candidates
        )


@dataclass
class Running:
    """A server in this process."""

    address: str
    server: grpc.aio.Server
    health: Health


@asynccontextmanager
async def running(
    *servicers: object, port: int = 0, credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[Running]:
    """Serve the servicers on loopback, with TLS where there are credentials, and report SERVING."""
    server = grpc.aio.server(options=SERVER_OPTIONS, interceptors=[CallContext()])
    health = Health([PROPOSE, SCORE, EXECUTE, SOLVE])
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    for servicer in servicers:
        match servicer:
            case ScriptedPolicy():
                policy_pb2_grpc.add_PolicyServiceServicer_to_server(servicer, server)
            case ScriptedPreferenceModel():
                preference_pb2_grpc.add_PreferenceModelServiceServicer_to_server(servicer, server)
            case ScriptedExecutor():
                executor_pb2_grpc.add_ExecutorServiceServicer_to_server(servicer, server)
            case search_pb2_grpc.SearchServiceServicer():
                search_pb2_grpc.add_SearchServiceServicer_to_server(servicer, server)
    address = f"127.0.0.1:{port}"
    bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    await server.start()
    await health.report_serving()
    try:
        yield Running(f"127.0.0.1:{bound}", server, health)
    finally:
        await server.stop(0)


@dataclass
class Process:
    """A server in a separate process."""

    address: str
    process: asyncio.subprocess.Process

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


def policy_process(*flags: str) -> AbstractAsyncContextManager[Process]:
    """Start ``tests.support.rpc.policy_process`` and wait for the event ``serving`` in its log."""
    return service_process("tests.support.rpc.policy_process", *flags)


def executor_process(*flags: str) -> AbstractAsyncContextManager[Process]:
    """Start ``tests.support.rpc.executor_process`` and wait for the event ``serving`` in its log."""
    return service_process("tests.support.rpc.executor_process", *flags)


@asynccontextmanager
async def service_process(module: str, *flags: str) -> AsyncIterator[Process]:
    """Start ``python -m MODULE`` and wait for the event ``serving`` in its log."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, *flags, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        event: dict[str, str] = {}
        while event.get("event") != "serving":
            line = await process.stderr.readline()
            assert line, "it ended before it served"
            # Model libraries write lines of their own.
            event = json.loads(line) if line.startswith(b"{") else {}
        yield Process(event["address"], process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def free_port() -> int:
    """Return a port on which no server listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
