"""Runs programs on many executors: chooses the executor of a call, sends it again after failures, and hedges slow ones.

Only failures of infrastructure are retried; the result of a program is final. An executor that cannot be reached gets a
backoff; one that is full or draining gets no calls for as long as it asks; one that is lost during a call makes its
candidates suspects (``rstar.rpc.suspects``). A call that takes longer than its programs may, or whose executor fell
silent, is sent a second time elsewhere (a hedge). The caller's deadline or cancellation ends everything. The decisions
are pure functions in ``call_failures``, ``backoff``, ``dispatch`` and ``suspects``.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import grpc
import structlog

from rstar.interfaces import Execution, ExecutionStatus
from rstar.rpc.backoff import backoff_after_answer, backoff_after_failure, backoff_after_pushback
from rstar.rpc.call_failures import STARTED, CallFailure, FailureKind, classify_failure
from rstar.rpc.calls import pause
from rstar.rpc.dispatch import choose_available, may_hedge
from rstar.rpc.endpoints import Endpoint, Endpoints
from rstar.rpc.errors import CallFailed, CallTimedOut, failure
from rstar.rpc.suspects import Suspects
from rstar.v1 import executor_pb2

ATTEMPTS: Final = 8
"""How often one copy may find its executor unreachable; with the backoffs in between this takes about half a minute."""

HEDGE_MARGIN_SECONDS: Final = 15.0
"""How much longer than its programs at their limits a call may take before it is hedged."""

SILENCE_SECONDS: Final = 1.0
"""From the loss of an executor's health watch to the hedges of those of its calls that have not failed by then."""

StubMethod = grpc.aio.UnaryUnaryMultiCallable[executor_pb2.ExecuteRequest, executor_pb2.ExecuteResponse]
Executors = Endpoints[StubMethod]
MakeRequest = Callable[[Sequence[int]], executor_pb2.ExecuteRequest]
ReadResponse = Callable[[executor_pb2.ExecuteResponse], list[Execution]]


@dataclass
class CallCounts:
    """What happened to the calls of a client.

    Copies sent again because an executor was full or draining (``refused``) or not reachable (``unreached``); executors
    ``lost`` during a call; programs ``retried`` because of that, ``hedged`` because they were slow, and ``given_up``.
    """

    calls: int = 0
    refused: int = 0
    unreached: int = 0
    lost: int = 0
    retried: int = 0
    hedged: int = 0
    given_up: int = 0


class _ExecutorLost(Exception):  # noqa: N818 - named after the event
    """The executor was lost while it may have run the programs."""


@dataclass(eq=False)
class _Copy:
    """Some candidates of a call, by position, on an executor or waiting for one. A ``suspect`` is sent alone."""

    group: tuple[int, ...]
    suspect: bool
    avoid: Collection[str]
    hedge: bool
    task: asyncio.Task[list[Execution]] | None = None
    endpoint: Endpoint[StubMethod] | None = None
    tried: set[str] = field(default_factory=set)

    def used_addresses(self) -> set[str]:
        """Return the addresses that a further copy of these candidates should avoid."""
        return {*self.avoid, *self.tried, *((self.endpoint.address,) if self.endpoint else ())}


class Dispatcher:
    """What the calls of one client share: the executors, the counts, and how many copies are hedges."""

    def __init__(self, executors: Executors, read: ReadResponse) -> None:
        self.executors = executors
        self.read = read
        self.counts = CallCounts()
        self.turns = itertools.count()
        self.copies = 0
        self.hedges = 0

    async def execute(
        self, request: MakeRequest, candidates: int, program_seconds: float, seconds: float
    ) -> list[Execution]:
        """Return one result per candidate within ``seconds``; a program takes ``program_seconds`` at most.

        ``request`` makes the message for some candidates, by position. Raises ``CallFailed`` or one of its kinds.
        """
        self.counts.calls += 1
        return await _Batch(self, request, candidates, program_seconds, seconds).run()

    async def choose(
        self, avoid: Collection[str], suspect: bool, deadline: float, problem_id: str
    ) -> Endpoint[StubMethod]:
        """Wait for an executor that may take the call. Raises ``ServiceUnavailable`` or ``CallTimedOut``."""
        loop = asyncio.get_running_loop()
        while True:
            left = deadline - loop.time()
            if left <= 0:
                raise CallTimedOut(self.executors.service, self.executors.addresses, "none could take the call in time")
            if not self.executors.ready:
                await self.executors.wait_ready(min(left, self.executors.ready_seconds))
                continue
            chosen = choose_available(self.executors.ready, loop.time(), avoid, suspect, next(self.turns), problem_id)
            if isinstance(chosen, Endpoint):
                return chosen
            await self.executors.wait_for_change(min(left, chosen * random.uniform(1.0, 1.2) + 0.001))


class _Batch:
    """The candidates of one call of ``execute`` and their copies, until every candidate has its result."""

    def __init__(
        self, dispatcher: Dispatcher, request: MakeRequest, candidates: int, program_seconds: float, seconds: float
    ) -> None:
        self._shared = dispatcher
        self._executors = dispatcher.executors
        self._counts = dispatcher.counts
        self._request = request
        self._program_seconds = program_seconds
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + seconds
        self._suspects = Suspects(candidates)
        self._candidates = tuple(range(candidates))
        # A copy that ended (None), or one that is slow on the given executor.
        self._events: asyncio.Queue[tuple[_Copy, Endpoint[StubMethod] | None]] = asyncio.Queue()
        self._open: set[_Copy] = set()

    async def run(self) -> list[Execution]:
        if not self._candidates:
            return []
        self._start_copy(self._candidates, suspect=False, avoid=(), hedge=False)
        try:
            while not self._suspects.done:
                copy, slow_on = await self._events.get()
                if slow_on is None:
                    self._ended(copy)
                elif copy.endpoint is slow_on:
                    self._hedge(copy)
        finally:
            await self._cancel()
        return self._suspects.results()

    def _start_copy(self, group: tuple[int, ...], *, suspect: bool, avoid: Collection[str], hedge: bool) -> None:
        copy = _Copy(group, suspect, avoid, hedge)
        self._open.add(copy)
        self._shared.copies += 1
        self._shared.hedges += hedge
        copy.task = asyncio.ensure_future(self._deliver(copy))
        copy.task.add_done_callback(lambda _: self._events.put_nowait((copy, None)))

    def _ended(self, copy: _Copy) -> None:
        self._close(copy)
        assert copy.task is not None
        if copy.task.cancelled():  # another copy was faster
            return
        given_up = len(self._suspects.given_up)
        try:
            again = self._suspects.answered(copy.group, copy.task.result())
        except _ExecutorLost as lost:
            self._counts.lost += 1
            again = self._suspects.lost(copy.group, str(lost))
        except CallFailed:
            if not self._suspects.undelivered(copy.group):
                raise
            return
        if len(self._suspects.given_up) > given_up:
            self._counts.given_up += 1
            structlog.get_logger().warning("program given up", executors=sorted(copy.used_addresses()))
        for i in again:
            self._counts.retried += 1
            self._start_copy((i,), suspect=True, avoid=copy.used_addresses(), hedge=False)
        for other in self._open:
            if not self._suspects.needs(other.group) and other.task is not None:
                other.task.cancel()

    def _hedge(self, copy: _Copy) -> None:
        """Send the candidates of a slow copy a second time, if another executor is available."""
        now, used = self._loop.time(), copy.used_addresses()
        others = [e for e in self._executors.ready if e.address not in used and e.backoff.until <= now]
        silent = copy.endpoint is not None and not copy.endpoint.ready
        if not others or not (silent or may_hedge(self._shared.hedges, self._shared.copies)):
            return
        for i in self._suspects.slow(copy.group):
            self._counts.hedged += 1
            self._start_copy((i,), suspect=True, avoid=copy.used_addresses(), hedge=True)

    async def _deliver(self, copy: _Copy) -> list[Execution]:
        """Return the answer to one copy, sent again only if no executor ran it. Raises ``_ExecutorLost``, ``CallFailed``."""
        message = self._request(copy.group)
        unreached = busy = 0
        last: CallFailed | None = None
        while True:
            try:
                endpoint = await self._shared.choose(
                    copy.used_addresses(), copy.suspect, self._deadline, message.problem_id
                )
            except CallTimedOut as error:
                raise last or error from None
            sent = self._loop.time()
            try:
                response = await self._call(endpoint, copy, message, self._deadline - sent)
            except grpc.aio.AioRpcError as error:
                classified = classify_error(error, endpoint)
                last = failure(self._executors.service, endpoint.address, error)
                if classified.kind is FailureKind.FINAL:
                    raise last from error
                if classified.kind is FailureKind.BUSY:
                    self._counts.refused += 1
                    busy += 1
                    wait = pause(busy) if classified.wait is None else classified.wait
                    endpoint.backoff = backoff_after_pushback(endpoint.backoff, self._loop.time(), wait)
                    # Full executors are no reason to give up: the deadline ends the wait.
                    continue
                self._back_off(endpoint, sent, f"{error.code().name}: {error.details()}")
                if classified.kind is FailureKind.LOST and not endpoint.draining:
                    raise _ExecutorLost(f"{error.code().name}: {error.details()}") from error
                self._counts.unreached += 1
                unreached += 1
                if unreached == ATTEMPTS or self._loop.time() >= self._deadline:
                    raise last from error
            else:
                executions = self._shared.read(response)
                if len(executions) != len(copy.group):
                    reason = f"{len(copy.group)} candidates were sent and {len(executions)} results came back"
                    raise CallFailed(self._executors.service, endpoint.address, reason)
                if all(execution.status is ExecutionStatus.INTERNAL for execution in executions):
                    self._back_off(endpoint, sent, executions[0].reason)
                else:
                    endpoint.backoff = backoff_after_answer(endpoint.backoff, sent)
                return executions

    def _back_off(self, endpoint: Endpoint[StubMethod], sent: float, reason: str) -> None:
        """Give a backoff to an endpoint that failed a call sent at ``sent``, and look for new endpoints."""
        backoff = backoff_after_failure(endpoint.backoff, sent, self._loop.time(), random.random())
        if backoff is not endpoint.backoff:
            endpoint.backoff = backoff
            structlog.get_logger().warning("executor failed", address=endpoint.address, reason=reason)
        self._executors.look_again()

    async def _call(
        self, endpoint: Endpoint[StubMethod], copy: _Copy, message: executor_pb2.ExecuteRequest, seconds: float
    ) -> executor_pb2.ExecuteResponse:
        """Call ``endpoint``; an event follows if it is slow or falls silent."""
        slow = partial(self._events.put_nowait, (copy, endpoint))

        def silent() -> None:
            self._loop.call_later(SILENCE_SECONDS, slow)

        patience = self._program_seconds * len(copy.group) + HEDGE_MARGIN_SECONDS
        timer = self._loop.call_later(patience, slow)
        endpoint.on_lost.add(silent)
        endpoint.outstanding += 1
        endpoint.runs_suspect = endpoint.runs_suspect or copy.suspect
        copy.endpoint = endpoint
        call = endpoint.method(message, timeout=seconds)
        try:
            response = await call
            # This does not wait: initial metadata arrive before the response.
            if not endpoint.reports_start:
                endpoint.reports_start = any(key == STARTED for key, _ in await call.initial_metadata())
            return response
        finally:
            timer.cancel()
            endpoint.on_lost.discard(silent)
            if copy.suspect:
                endpoint.runs_suspect = False
                self._executors.notify_change()
            copy.endpoint = None
            copy.tried.add(endpoint.address)
            self._executors.release(endpoint)

    def _close(self, copy: _Copy) -> None:
        self._open.discard(copy)
        self._shared.copies -= 1
        self._shared.hedges -= copy.hedge

    async def _cancel(self) -> None:
        tasks = [copy.task for copy in self._open if copy.task is not None]
        for copy in tuple(self._open):
            self._close(copy)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)


def classify_error(error: grpc.aio.AioRpcError, endpoint: Endpoint[StubMethod]) -> CallFailure:
    """Classify a failed call by its status, its metadata and the state of the connection."""
    connected = endpoint.channel.get_state() is grpc.ChannelConnectivity.READY
    started = not endpoint.reports_start or STARTED in error.initial_metadata()
    trailing: Any = error.trailing_metadata() or ()
    return classify_failure(error.code(), error.details() or "", trailing, connected=connected, started=started)
