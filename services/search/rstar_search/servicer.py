"""Solve: one problem per call, many calls at once on one event loop, no barrier between them.

While one search waits for code another generates. A search that fails ends its own call alone, with the reason;
a client that goes away ends its search and every call under it. The servicer keeps nothing of a search after its
call, bounds how many run at once, and refuses to know how a search works (``rstar.search.solve``).
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
from rstar.record import SearchRecord, Usage
from rstar.rounds.validation_errors import sentences
from rstar.rpc.errors import CallRefused, ServiceUnavailable
from rstar.rpc.search_codec import Progress, progress_response, read_problem, result_response
from rstar.rpc.serving import refuse
from rstar.rpc.transport import MAX_MESSAGE_BYTES
from rstar.search.solve import solve
from rstar.v1 import search_pb2, search_pb2_grpc
from rstar.verify import verifier
from rstar_search import metrics

PROGRESS_SECONDS: Final = 0.5

_Context = grpc.aio.ServicerContext[search_pb2.SolveRequest, search_pb2.SolveResponse]


@dataclass(frozen=True, slots=True)
class Question:
    """A request that was read and found good."""

    problem: Problem
    config: SearchConfig
    verifier: Verifier | None
    seed: int


class SearchServicer(search_pb2_grpc.SearchServiceServicer):
    """Runs ``rstar.search.solve.solve`` for each call with the three models it was given."""

    def __init__(
        self, policy: Policy, executor: Executor, ppm: PreferenceModel | None = None, max_searches: int = 256
    ) -> None:
        self._policy = policy
        self._executor = executor
        self._ppm = ppm
        self._max_searches = max_searches
        self._active = 0

    # A coroutine that writes, not a generator: cancellation then always arrives here, and never in a generator that
    # nobody iterates any more, whose search would go on.
    async def Solve(  # type: ignore[override]  # noqa: N802 - gRPC names it
        self, request: search_pb2.SolveRequest, context: _Context
    ) -> None:
        """Search the problem; write progress about twice a second and at last the record."""
        try:
            question = self._read(request)
        except ValueError as error:
            await refuse(context, str(error))
        if self._active >= self._max_searches:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._active} searches are under way, which is all this coordinator takes; send fewer at once or raise --max-searches",
            )
        self._active += 1
        metrics.ACTIVE.inc()
        started = time.monotonic()
        outcome = "failed"
        try:
            record = await self._search(question, context)
            await context.write(await _result(record, context))
            outcome = "solved" if record.solved else "finished"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._active -= 1
            metrics.ACTIVE.dec()
            metrics.FINISHED.labels(outcome).inc()
            metrics.SECONDS.observe(time.monotonic() - started)

    def _read(self, request: search_pb2.SolveRequest) -> Question:
        """Return the request as plain data. Raises ``ValueError``, one sentence, for whatever cannot be searched."""
        problem = read_problem(request.problem)
        if not problem.id or not problem.question:
            raise ValueError("problem: id and question must not be empty")
        try:
            config = SearchConfig.model_validate_json(request.config_json or "{}")
        except ValidationError as error:
            raise ValueError(f"config: {sentences(error, SearchConfig)[0]}") from None
        if config.guidance == "ppm" and self._ppm is None:
            raise ValueError(
                "config: guidance is ppm, but this coordinator has no PPM; start it with --ppm or set guidance: none"
            )
        if config.method == "beam" and config.guidance != "ppm":
            raise ValueError("config: method beam ranks steps by the PPM; set guidance: ppm")
        return Question(problem, config, verifier(request.verifier) if request.verifier else None, request.seed)

    async def _search(self, question: Question, context: _Context) -> SearchRecord:
        latest = Progress(Usage(), 0, 0)
        meter = metrics.Meter()

        def note(usage: Usage, trajectories: int, correct: int) -> None:
            nonlocal latest
            latest = Progress(usage, trajectories, correct)

        search = asyncio.ensure_future(
            solve(
                question.problem,
                question.config,
                policy=self._policy,
                executor=self._executor,
                ppm=self._ppm,
                verifier=question.verifier,
                seed=question.seed,
                on_progress=note,
            )
        )
        try:
            while not (await asyncio.wait((search,), timeout=PROGRESS_SECONDS))[0]:
                meter.count(latest.usage)
                await context.write(progress_response(latest))
            return await search
        except Exception as error:
            await _abort(error, question.problem, context)
        finally:
            search.cancel()
            await asyncio.wait((search,))
            meter.count(latest.usage)


async def _result(record: SearchRecord, context: _Context) -> search_pb2.SolveResponse:
    message = result_response(record)
    size = message.ByteSize()
    if size > MAX_MESSAGE_BYTES:
        await context.abort(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"problem {record.problem_id!r}: its {len(record.nodes)} nodes take {size >> 20} MiB, more than the {MAX_MESSAGE_BYTES >> 20} MiB of a message; use fewer rollouts",
        )
    return message


async def _abort(error: Exception, problem: Problem, context: grpc.aio.ServicerContext[Any, Any]) -> NoReturn:
    """End the call with the status that tells the client what to do about ``error``."""
    match error:
        case ServiceUnavailable():
            code = grpc.StatusCode.UNAVAILABLE
        case CallRefused():
            code = grpc.StatusCode.FAILED_PRECONDITION
        case _:
            code = grpc.StatusCode.INTERNAL
    reason = str(error) or type(error).__name__
    trace = error if code is grpc.StatusCode.INTERNAL else None  # the other two say all there is to know
    structlog.get_logger().error("search failed", problem=problem.id, code=code.name, reason=reason, exc_info=trace)
    await context.abort(code, f"problem {problem.id!r}: {reason}")
