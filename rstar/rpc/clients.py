"""The policy, the PPM and the executor over gRPC: the protocols of ``rstar.interfaces``, nothing more.

Each client takes the addresses of its servers (``HOST:PORT`` or ``dns:///HOST:PORT``) and is used as
``async with PolicyClient([...]) as policy``, which waits until one of them is ready; a client used without
connects at its first call and is ended by ``close``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, Generic, Self, TypeVar

import grpc

from rstar.interfaces import Execution, ExecutionLimits, Proposal, Sampling, Scores, State
from rstar.rpc import codec
from rstar.rpc.calls import call
from rstar.rpc.dispatch import rendezvous
from rstar.rpc.endpoints import READY_SECONDS, Pool, Targets
from rstar.rpc.executing import Counts, Dispatcher, Executors, Method
from rstar.v1 import (
    executor_pb2,
    executor_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    preference_pb2,
    preference_pb2_grpc,
)

MODEL_CALL_SECONDS: Final = 600.0
QUEUE_SECONDS: Final = 120.0
"""How long a program may wait for its turn on an executor."""

EXECUTOR_DEFAULT_SECONDS: Final = 5.0

M = TypeVar("M")


class Client(Generic[M]):
    """What the clients share: a pool of servers, opened and closed with ``async with``."""

    def __init__(self, pool: Pool[M], ready_seconds: float) -> None:
        self._pool = pool
        self._ready_seconds = ready_seconds

    async def connect(self) -> None:
        """Wait until a server is ready. Raises ``ServiceUnavailable``, naming the addresses, when none is in time."""
        await self._pool.wait_ready(self._ready_seconds)

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
        """Close every connection; calls still in flight are cancelled."""
        await self._pool.close()


class PolicyClient(Client[grpc.aio.UnaryUnaryMultiCallable[policy_pb2.ProposeRequest, policy_pb2.ProposeResponse]]):
    """``Policy`` over gRPC; all calls of a problem go to one server while its load allows.

    ``call_seconds`` bounds one call with its retries; ``ready_seconds`` the wait for a server that is ready.
    """

    def __init__(
        self,
        targets: Sequence[str],
        *,
        call_seconds: float = MODEL_CALL_SECONDS,
        ready_seconds: float = READY_SECONDS,
    ) -> None:
        super().__init__(
            Pool(
                "policy service",
                "rstar.v1.PolicyService",
                targets,
                lambda channel: policy_pb2_grpc.PolicyServiceStub(channel).Propose,
                ready_seconds,
            ),
            ready_seconds,
        )
        self._call_seconds = call_seconds

    async def propose(self, state: State, n: int, sampling: Sampling, seed: int) -> Proposal:
        """Return n candidates of ``state``. Raises ``CallFailed`` or one of its kinds."""
        request = codec.propose_request(state, n, sampling, seed)
        response, _ = await call(self._pool, partial(rendezvous, state.problem_id), request, self._call_seconds)
        return codec.read_propose_response(response)


class PreferenceModelClient(
    Client[grpc.aio.UnaryUnaryMultiCallable[preference_pb2.ScoreRequest, preference_pb2.ScoreResponse]]
):
    """``PreferenceModel`` over gRPC; all calls of a problem go to one server while its load allows."""

    def __init__(
        self,
        targets: Sequence[str],
        *,
        call_seconds: float = MODEL_CALL_SECONDS,
        ready_seconds: float = READY_SECONDS,
    ) -> None:
        super().__init__(
            Pool(
                "PPM service",
                "rstar.v1.PreferenceModelService",
                targets,
                lambda channel: preference_pb2_grpc.PreferenceModelServiceStub(channel).Score,
                ready_seconds,
            ),
            ready_seconds,
        )
        self._call_seconds = call_seconds

    async def score(self, state: State, candidates: Sequence[str]) -> Scores:
        """Score each candidate as the next step of ``state``. Raises ``CallFailed`` or one of its kinds."""
        request = codec.score_request(state, candidates)
        response, _ = await call(self._pool, partial(rendezvous, state.problem_id), request, self._call_seconds)
        return codec.read_score_response(response)


class ExecutorClient(Client[Method]):
    """``Executor`` over gRPC, on as many executors as there are: see ``rstar.rpc.executing``.

    ``targets`` may also be a function that returns the addresses whenever it is asked. ``tenant`` says who calls, for
    executors that serve several fairly.
    """

    def __init__(self, targets: Targets, *, tenant: str = "", ready_seconds: float = READY_SECONDS) -> None:
        pool: Executors = Pool(
            "executor service",
            "rstar.v1.ExecutorService",
            targets,
            lambda channel: executor_pb2_grpc.ExecutorServiceStub(channel).Execute,
            ready_seconds,
        )
        super().__init__(pool, ready_seconds)
        self._dispatcher = Dispatcher(pool, codec.read_execute_response)
        self._tenant = tenant

    @property
    def counts(self) -> Counts:
        """What became of the calls so far."""
        return self._dispatcher.counts

    async def execute(
        self, state: State, candidates: Sequence[str], limits: ExecutionLimits, *, tracebacks: bool = False
    ) -> list[Execution]:
        """Run each candidate as the next step of ``state``; the problems of a tenant take turns.

        ``tracebacks`` asks for the whole traceback of each program that fails. It is for people: such programs run from
        their start. Raises ``CallFailed`` or one of its kinds.
        """
        prefix = codec.execute_request(state, (), limits, self._tenant, tracebacks=tracebacks)

        def request(group: Sequence[int]) -> executor_pb2.ExecuteRequest:
            return codec.with_candidates(prefix, [candidates[i] for i in group])

        each = limits.seconds or EXECUTOR_DEFAULT_SECONDS
        return await self._dispatcher.execute(
            request, len(candidates), each, execution_seconds(len(candidates), limits)
        )


def execution_seconds(candidates: int, limits: ExecutionLimits) -> float:
    """Return the deadline of one call: its programs one after another at their limit, and the wait for their turn."""
    return QUEUE_SECONDS + candidates * (limits.seconds or EXECUTOR_DEFAULT_SECONDS)
