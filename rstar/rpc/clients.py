"""The policy, the PPM and the executor over gRPC: they implement the protocols of ``rstar.interfaces``.

Each client takes the addresses of its servers (``HOST:PORT`` or ``dns:///HOST:PORT``). ``async with
PolicyClient([...]) as policy`` waits until one of them is ready and closes the client at the end. Without ``async
with``, the first call connects and ``close`` closes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Generic, Self, TypeVar

import grpc

from rstar.interfaces import Execution, ExecutionLimits, Proposal, Sampling, Scores, State
from rstar.rpc import codec, tracing
from rstar.rpc.call_context import ids_of, outgoing
from rstar.rpc.calls import Request, Response, call
from rstar.rpc.dispatch import rendezvous
from rstar.rpc.endpoints import READY_SECONDS, Endpoints, Targets
from rstar.rpc.executing import CallCounts, Dispatcher, StubMethod
from rstar.rpc.spans import Attribute, Span
from rstar.v1 import (
    executor_pb2,
    executor_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    preference_pb2,
    preference_pb2_grpc,
)

MODEL_CALL_SECONDS: Final = 600.0
"""How long a model server may take for one call, from when it begins with it."""

MODEL_QUEUE_SECONDS: Final = 21_600.0
"""How long a call may wait in the queue of a model server, retries included."""

QUEUE_SECONDS: Final = 120.0
"""How long a program may wait for its turn on an executor."""

EXECUTOR_DEFAULT_SECONDS: Final = 5.0

M = TypeVar("M")


class Client(Generic[M]):
    """The part that all clients share: the endpoints of one service, opened and closed with ``async with``."""

    def __init__(
        self,
        service: str,
        full_name: str,
        targets: Targets,
        method: Callable[[grpc.aio.Channel], M],
        ready_seconds: float,
    ) -> None:
        self._endpoints = Endpoints(service, full_name, targets, method, ready_seconds)

    async def connect(self) -> None:
        """Wait until a server is ready. Raises ``ServiceUnavailable``, naming the addresses, when none is in time."""
        await self._endpoints.wait_ready(self._endpoints.ready_seconds)

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; calls in progress are cancelled."""
        await self._endpoints.close()


class _ModelClient(Client[grpc.aio.UnaryUnaryMultiCallable[Request, Response]]):
    """A client of model servers: all calls of a problem go to one server while its load allows."""

    def __init__(
        self,
        service: str,
        full_name: str,
        targets: Targets,
        method: Callable[[grpc.aio.Channel], grpc.aio.UnaryUnaryMultiCallable[Request, Response]],
        call_seconds: float,
        queue_seconds: float,
        ready_seconds: float,
    ) -> None:
        super().__init__(service, full_name, targets, method, ready_seconds)
        self.call_seconds = call_seconds
        self._queue_seconds = queue_seconds

    async def _call(self, state: State, request: Request, span: Span) -> Response:
        seconds = self._queue_seconds + self.call_seconds
        choose, metadata = partial(rendezvous, state.problem_id), outgoing(span, ids_of(state))
        return await call(self._endpoints, choose, request, seconds, metadata)


class PolicyClient(_ModelClient[policy_pb2.ProposeRequest, policy_pb2.ProposeResponse]):
    """``Policy`` over gRPC; all calls of a problem go to one server while its load allows.

    ``call_seconds`` bounds a call from when its server begins with it: the server ends it then, so that no call fails
    because many others came first. ``queue_seconds`` bounds the wait until then and ``ready_seconds`` the wait for a
    server that is ready.
    """

    def __init__(
        self,
        targets: Sequence[str],
        *,
        call_seconds: float = MODEL_CALL_SECONDS,
        queue_seconds: float = MODEL_QUEUE_SECONDS,
        ready_seconds: float = READY_SECONDS,
    ) -> None:
        super().__init__(
            "policy service",
            "rstar.v1.PolicyService",
            targets,
            lambda channel: policy_pb2_grpc.PolicyServiceStub(channel).Propose,
            call_seconds,
            queue_seconds,
            ready_seconds,
        )

    async def propose(self, state: State, n: int, sampling: Sampling, seed: int) -> Proposal:
        """Return n candidates of ``state``. Raises ``CallFailed`` or one of its kinds."""
        request = codec.propose_request(state, n, sampling, seed, self.call_seconds)
        with _span("propose", state, n) as span:
            proposal = codec.read_propose_response(await self._call(state, request, span))
            span.set(tokens=sum(candidate.tokens for candidate in proposal.candidates))
        return proposal


class PreferenceModelClient(_ModelClient[preference_pb2.ScoreRequest, preference_pb2.ScoreResponse]):
    """``PreferenceModel`` over gRPC; all calls of a problem go to one server while its load allows.

    ``call_seconds`` bounds a call from when its server begins with it: the server ends it then, so that no call fails
    because many others came first. ``queue_seconds`` bounds the wait until then and ``ready_seconds`` the wait for a
    server that is ready.
    """

    def __init__(
        self,
        targets: Sequence[str],
        *,
        call_seconds: float = MODEL_CALL_SECONDS,
        queue_seconds: float = MODEL_QUEUE_SECONDS,
        ready_seconds: float = READY_SECONDS,
    ) -> None:
        super().__init__(
            "PPM service",
            "rstar.v1.PreferenceModelService",
            targets,
            lambda channel: preference_pb2_grpc.PreferenceModelServiceStub(channel).Score,
            call_seconds,
            queue_seconds,
            ready_seconds,
        )

    async def score(self, state: State, candidates: Sequence[str]) -> Scores:
        """Score each candidate as the next step of ``state``. Raises ``CallFailed`` or one of its kinds."""
        request = codec.score_request(state, candidates, self.call_seconds)
        with _span("score", state, len(candidates)) as span:
            return codec.read_score_response(await self._call(state, request, span))

    async def score_steps(self, state: State) -> Scores:
        """Score each of the state's steps, in one pass. Raises ``CallFailed`` or one of its kinds."""
        request = codec.score_steps_request(state, self.call_seconds)
        with _span("score", state, 0) as span:
            return codec.read_score_response(await self._call(state, request, span))


class ExecutorClient(Client[StubMethod]):
    """``Executor`` over gRPC, on one or more executors: see ``rstar.rpc.executing``.

    ``targets`` may be a function that returns the addresses; it is called at every look-up. ``tenant`` names the
    caller: executors serve their tenants in turn.
    """

    def __init__(self, targets: Targets, *, tenant: str = "", ready_seconds: float = READY_SECONDS) -> None:
        super().__init__(
            "executor service",
            "rstar.v1.ExecutorService",
            targets,
            lambda channel: executor_pb2_grpc.ExecutorServiceStub(channel).Execute,
            ready_seconds,
        )
        self._dispatcher = Dispatcher(self._endpoints, codec.read_execute_response)
        self._tenant = tenant

    @property
    def counts(self) -> CallCounts:
        """What happened to the calls so far."""
        return self._dispatcher.counts

    async def execute(
        self, state: State, candidates: Sequence[str], limits: ExecutionLimits, *, tracebacks: bool = False
    ) -> list[Execution]:
        """Run each candidate as the next step of ``state``; the problems of a tenant take turns.

        ``tracebacks`` asks for the whole traceback of each program that fails. It is for people: such programs run
        without snapshots, from their first step. Raises ``CallFailed`` or one of its kinds.
        """
        prefix = codec.execute_request(state, (), limits, self._tenant, tracebacks=tracebacks)

        def request(group: Sequence[int]) -> executor_pb2.ExecuteRequest:
            return codec.with_candidates(prefix, [candidates[i] for i in group])

        # The wait for a slot, and every program at its limit, one after another.
        call_seconds = QUEUE_SECONDS + len(candidates) * (limits.seconds or EXECUTOR_DEFAULT_SECONDS)
        with _span("execute", state, len(candidates)) as span:
            headers = outgoing(span, ids_of(state))
            executions = await self._dispatcher.execute(request, len(candidates), call_seconds, headers)
            span.set(statuses=[execution.status.value for execution in executions])
        return executions


def _span(name: str, state: State, candidates: int) -> Span:
    if not tracing.is_on():
        return tracing.span(name)
    ids: dict[str, Attribute] = {**ids_of(state)}
    return tracing.span(name, "client", None, **ids, depth=len(state.steps), candidates=candidates)
