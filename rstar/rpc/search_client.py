"""The search service over gRPC: takes one problem, yields its progress and at the end its record."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

import grpc

from rstar.config import SearchConfig
from rstar.problem import Problem
from rstar.record import NodeRecord, Progress, SearchRecord, Usage
from rstar.rpc import tracing
from rstar.rpc.call_context import outgoing
from rstar.rpc.calls import ATTEMPTS, pause
from rstar.rpc.clients import Client
from rstar.rpc.dispatch import least_outstanding
from rstar.rpc.endpoints import READY_SECONDS, Endpoint
from rstar.rpc.errors import TRANSPORT_FAILURES, CallFailed, failure
from rstar.rpc.search_codec import read_nodes, read_progress, read_result, solve_request
from rstar.rpc.spans import SEARCH, Attribute, Headers
from rstar.rpc.transport import MAX_CALL_SECONDS
from rstar.v1 import search_pb2, search_pb2_grpc

_Solve = grpc.aio.UnaryStreamMultiCallable[search_pb2.SolveRequest, search_pb2.SolveResponse]


class SearchClient(Client[_Solve]):
    """Solves problems on search coordinators; a problem goes to the one with the fewest outstanding calls.

    ``call_seconds`` bounds one search with its retries; ``ready_seconds`` the wait for a coordinator that is ready.
    """

    def __init__(
        self,
        targets: Sequence[str],
        *,
        call_seconds: float = MAX_CALL_SECONDS,
        ready_seconds: float = READY_SECONDS,
    ) -> None:
        super().__init__(
            "search service",
            "rstar.v1.SearchService",
            targets,
            lambda channel: search_pb2_grpc.SearchServiceStub(channel).Solve,
            ready_seconds,
        )
        self._call_seconds = call_seconds
        self._turns = itertools.count()

    async def solve(
        self,
        problem: Problem,
        config: SearchConfig,
        *,
        seed: int,
        verifier: str = "",
        equivalence: str = "",
        call_seconds: float | None = None,
    ) -> AsyncGenerator[Progress | SearchRecord, None]:
        """Yield progress about twice a second, then the record.

        ``verifier`` and ``equivalence`` are names: of the verifier that rewards answers, and of the one that tells which
        are equal in a vote. ``call_seconds``: for this search instead of the client's. If the coordinator is lost, the
        search starts again on another one; the seed makes it the same search, and its record counts what all attempts spent. Closing the iterator or cancelling its task ends the
        search. Raises ``CallFailed`` or one of its kinds; a search that failed yields before that a record with its
        ``error`` and what it found.
        """
        request = solve_request(problem, config, verifier, equivalence, seed)
        span = tracing.begin(SEARCH, "client", problem_id=problem.id, method=config.method)
        metadata = outgoing(span, {"problem_id": problem.id})
        seconds = self._call_seconds if call_seconds is None else call_seconds
        try:
            async with aclosing(self._attempts(request, problem.id, metadata, seconds)) as events:
                async for event in events:
                    if isinstance(event, SearchRecord):
                        span.set(**record_attributes(event))
                    yield event
        except CallFailed as error:
            span.fail(error.reason)
            raise
        finally:
            span.end()

    async def _attempts(
        self, request: search_pb2.SolveRequest, problem_id: str, metadata: Headers, seconds: float
    ) -> AsyncGenerator[Progress | SearchRecord, None]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        avoid: set[str] = set()
        lost = Usage()
        for attempt in range(1, ATTEMPTS + 1):
            endpoint = await self._endpoints.pick(self._choose, avoid, max(deadline - loop.time(), 0))
            events = endpoint.method(request, timeout=deadline - loop.time(), metadata=metadata)
            nodes: list[NodeRecord] = []
            record: SearchRecord | None = None
            error: CallFailed
            try:
                async for event in events:
                    match event.WhichOneof("event"):
                        case "progress":
                            yield read_progress(event.progress)
                        case "nodes":
                            nodes += read_nodes(event.nodes.nodes)
                        case "result":
                            record = read_result(problem_id, nodes, event.result)
                            record = replace(record, usage=lost + record.usage)
                if record is not None:
                    yield record
                    return
                error = CallFailed(self._endpoints.service, endpoint.address, "the stream ended without a result")
                retried = False
            except grpc.aio.AioRpcError as status:
                error = failure(self._endpoints.service, endpoint.address, status)
                retried = attempt < ATTEMPTS and status.code() in TRANSPORT_FAILURES
            finally:
                events.cancel()
                self._endpoints.release(endpoint)
            if not retried:
                if record is not None:
                    yield record
                raise error
            lost = record.usage if record is not None else lost
            avoid.add(endpoint.address)
            await asyncio.sleep(pause(attempt))

    def _choose(self, coordinators: Sequence[Endpoint[_Solve]]) -> Endpoint[_Solve]:
        return least_outstanding(coordinators, next(self._turns))


def record_attributes(record: SearchRecord) -> dict[str, Attribute]:
    """Return what the span of a search says of its result."""
    usage = record.usage
    return {
        "tokens": usage.tokens,
        "rollouts": usage.rollouts,
        "nodes": usage.nodes,
        "executions": usage.executions,
        "solved": record.solved,
    }
