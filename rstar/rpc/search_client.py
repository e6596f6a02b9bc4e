"""The search service over gRPC: takes one problem, yields its progress and at the end its record."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence

import grpc

from rstar.config import SearchConfig
from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.rpc.calls import ATTEMPTS, pause
from rstar.rpc.clients import Client
from rstar.rpc.dispatch import least_outstanding
from rstar.rpc.endpoints import READY_SECONDS, Endpoint
from rstar.rpc.errors import TRANSPORT_FAILURES, CallFailed, failure
from rstar.rpc.search_codec import Progress, read_progress, read_result, solve_request
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
        self, problem: Problem, config: SearchConfig, verifier: str, seed: int
    ) -> AsyncGenerator[Progress | SearchRecord, None]:
        """Yield progress about twice a second, then the record. ``verifier`` is a name; empty: no answer is verified.

        If the coordinator is lost, the search starts again on another one; the seed makes it the same search. Closing
        the iterator or cancelling its task ends the search. Raises ``CallFailed`` or one of its kinds.
        """
        request = solve_request(problem, config, verifier, seed)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._call_seconds
        avoid: set[str] = set()
        for attempt in range(1, ATTEMPTS + 1):
            endpoint = await self._endpoints.pick(self._choose, avoid, max(deadline - loop.time(), 0))
            events = endpoint.method(request, timeout=deadline - loop.time())
            try:
                async for event in events:
                    if event.WhichOneof("event") == "result":
                        yield read_result(problem.id, event.result)
                        return
                    yield read_progress(event.progress)
                raise CallFailed(self._endpoints.service, endpoint.address, "the stream ended without a result")
            except grpc.aio.AioRpcError as error:
                if attempt == ATTEMPTS or error.code() not in TRANSPORT_FAILURES:
                    raise failure(self._endpoints.service, endpoint.address, error) from error
                avoid.add(endpoint.address)
            finally:
                events.cancel()
                self._endpoints.release(endpoint)
            await asyncio.sleep(pause(attempt))

    def _choose(self, coordinators: Sequence[Endpoint[_Solve]]) -> Endpoint[_Solve]:
        return least_outstanding(coordinators, next(self._turns))
