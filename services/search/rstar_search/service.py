"""The wire side of the search coordinator: one problem per call, many calls at once on one event loop.

No search waits for another: while one waits for code, another generates. A search that fails ends only its own call,
with what it found and the reason; a client that disconnects ends its search and the calls of that search to the other services. Nothing
is kept after a call. The search itself is ``rstar.search.solve``.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import grpc
import structlog
from pydantic import ValidationError

from rstar.config import SearchConfig
from rstar.interfaces import Executor, Policy, PreferenceModel, Verifier
from rstar.problem import Problem
from rstar.record import Progress, SearchRecord, Usage
from rstar.rounds.validation_errors import validation_messages
from rstar.rpc.errors import CallRefused, ServiceUnavailable
from rstar.rpc.search_codec import progress_response, read_problem, result_responses
from rstar.rpc.serving import refuse
from rstar.search.choice import Same
from rstar.search.solve import SearchFailed, solve
from rstar.v1 import search_pb2, search_pb2_grpc
from rstar.verify import equivalence, verifier
from rstar_search import metrics

FULL_NAME: Final = search_pb2.DESCRIPTOR.services_by_name["SearchService"].full_name

PROGRESS_SECONDS: Final = 0.5

_Context = grpc.aio.ServicerContext[search_pb2.SolveRequest, search_pb2.SolveResponse]


@dataclass(frozen=True, slots=True)
class SolveCall:
    """A valid request as plain data."""

    problem: Problem
    config: SearchConfig
    verifier: Verifier | None
    same: Same | None
    seed: int


class SearchService(search_pb2_grpc.SearchServiceServicer):
    """Searches one problem per call with the given policy, executor and PPM, at most ``max_searches`` at once."""

    def __init__(
        self, policy: Policy, executor: Executor, ppm: PreferenceModel | None = None, max_searches: int = 256
    ) -> None:
        self._policy = policy
        self._executor = executor
        self._ppm = ppm
        self._max_searches = max_searches
        self._active = 0

    def register(self, server: grpc.aio.Server) -> None:
        """Add this service to ``server``."""
        search_pb2_grpc.add_SearchServiceServicer_to_server(self, server)

    # A coroutine that writes, not a generator: a cancellation then always arrives here. In a generator that is not
    # iterated any more it would not arrive, and the search would continue.
    async def Solve(  # type: ignore[override]  # noqa: N802 - gRPC names it
        self, request: search_pb2.SolveRequest, context: _Context
    ) -> None:
        """Search the problem; write progress about twice a second and the record at the end."""
        try:
            call = self._read(request)
        except ValueError as error:
            await refuse(context, str(error))
        if self._active >= self._max_searches:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._active} searches are in progress, the limit of this coordinator; send fewer at once or raise --max-searches",
            )
        self._active += 1
        metrics.ACTIVE.inc()
        started = time.monotonic()
        outcome = "failed"
        try:
            record = await self._search(call, context)
            for message in result_responses(record):
                await context.write(message)
            outcome = "solved" if record.solved else "finished"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._active -= 1
            metrics.ACTIVE.dec()
            metrics.FINISHED.labels(outcome).inc()
            metrics.SECONDS.observe(time.monotonic() - started)

    def _read(self, request: search_pb2.SolveRequest) -> SolveCall:
        """Return the request as plain data. Raises ``ValueError`` with one sentence when it is not valid."""
        problem = read_problem(request.problem)
        if not problem.id or not problem.question:
            raise ValueError("problem: id and question must not be empty")
        try:
            config = SearchConfig.model_validate_json(request.config_json or "{}")
        except ValidationError as error:
            raise ValueError(f"config: {validation_messages(error, SearchConfig)[0]}") from None
        if config.guidance == "ppm" and self._ppm is None:
            raise ValueError(
                "config: guidance is ppm, but this coordinator has no PPM; start it with --ppm or set guidance: none"
            )
        if config.method == "beam" and config.guidance != "ppm":
            raise ValueError("config: method beam ranks steps by the PPM; set guidance: ppm")
        return SolveCall(
            problem,
            config,
            verifier(request.verifier) if request.verifier else None,
            equivalence(request.equivalence) if request.equivalence else None,
            request.seed,
        )

    async def _search(self, call: SolveCall, context: _Context) -> SearchRecord:
        latest = Progress(Usage(), 0, 0)
        counted = metrics.SearchMetrics()

        def on_progress(progress: Progress) -> None:
            nonlocal latest
            latest = progress

        search = asyncio.ensure_future(
            solve(
                call.problem,
                call.config,
                policy=self._policy,
                executor=self._executor,
                ppm=self._ppm,
                verifier=call.verifier,
                same=call.same,
                seed=call.seed,
                on_progress=on_progress,
            )
        )
        try:
            while not (await asyncio.wait((search,), timeout=PROGRESS_SECONDS))[0]:
                counted.add(latest.usage)
                await context.write(progress_response(latest))
            return await search
        except SearchFailed as failed:
            for message in result_responses(failed.record):
                await context.write(message)
            await _abort(failed.__cause__ or failed, call.problem, context)
        finally:
            search.cancel()
            await asyncio.wait((search,))
            counted.add(latest.usage)


async def _abort(error: BaseException, problem: Problem, context: grpc.aio.ServicerContext[Any, Any]) -> NoReturn:
    """End the call with the status from which the client knows what to do about ``error``."""
    match error:
        case ServiceUnavailable():
            code = grpc.StatusCode.UNAVAILABLE
        case CallRefused():
            code = grpc.StatusCode.FAILED_PRECONDITION
        case TimeoutError():
            code = grpc.StatusCode.DEADLINE_EXCEEDED
        case _:
            code = grpc.StatusCode.INTERNAL
    reason = str(error) or type(error).__name__
    trace = error if code is grpc.StatusCode.INTERNAL else None  # the reasons of the other two are complete
    structlog.get_logger().error("search failed", problem_id=problem.id, code=code.name, reason=reason, exc_info=trace)
    await context.abort(code, f"problem {problem.id!r}: {reason}")
