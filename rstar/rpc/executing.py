"""Runs programs on many executors: chooses the executor of a call and sends the call again after failures.

Only failures of infrastructure are retried; the result of a program is final. An executor that cannot be reached gets a
backoff; one that is full or draining gets no calls for as long as it asks; one that is lost during a call makes its
candidates suspects (``rstar.rpc.suspects``). The keepalive fails the calls of a silent executor, so it counts as lost.
The caller's deadline or cancellation ends everything. The decisions are pure functions in ``call_failures``,
``backoff``, ``dispatch`` and ``suspects``.

Not covered: an executor that is slow but connected keeps its calls until their deadline.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog

from rstar.interfaces import Execution, ExecutionStatus
from rstar.rpc import tracing
from rstar.rpc.backoff import backoff_after_answer, backoff_after_failure, backoff_after_pushback
from rstar.rpc.call_failures import STARTED, CallFailure, FailureKind, classify_failure
from rstar.rpc.calls import pause
from rstar.rpc.dispatch import choose_available
from rstar.rpc.endpoints import Endpoint, Endpoints
from rstar.rpc.errors import CallFailed, CallTimedOut, failure
from rstar.rpc.spans import Headers
from rstar.rpc.suspects import Suspects
from rstar.v1 import executor_pb2

ATTEMPTS: Final = 8
"""How often one copy may find its executor unreachable; with the backoffs in between this takes about half a minute."""

StubMethod = grpc.aio.UnaryUnaryMultiCallable[executor_pb2.ExecuteRequest, executor_pb2.ExecuteResponse]
Executors = Endpoints[StubMethod]
MakeRequest = Callable[[Sequence[int]], executor_pb2.ExecuteRequest]
ReadResponse = Callable[[executor_pb2.ExecuteResponse], list[Execution]]


@dataclass
class CallCounts:
    """What happened to the calls of a client.

    Copies sent again because an executor was full or draining (``refused``) or not reachable (``unreached``); executors
    ``lost`` during a call; programs ``retried`` because of that, and ``given_up``.
    """

    calls: int = 0
    refused: int = 0
    unreached: int = 0
    lost: int = 0
    retried: int = 0
    given_up: int = 0


class _ExecutorLost(Exception):  # noqa: N818 - named after the event
    """The executor was lost while it may have run the programs."""


@dataclass(eq=False)
class _Copy:
    """Some candidates of a call, by position, on an executor or waiting for one. A ``suspect`` is sent alone.

    ``tried``: the addresses to which these candidates were sent; others are preferred.
    """

    group: tuple[int, ...]
    suspect: bool
    tried: set[str]


class Dispatcher:
    """What the calls of one client share: the executors and the counts."""

    def __init__(self, executors: Executors, read: ReadResponse) -> None:
        self.executors = executors
        self.read = read
        self.counts = CallCounts()
        self.turns = itertools.count()

    async def execute(
        self, request: MakeRequest, candidates: int, seconds: float, metadata: Headers = ()
    ) -> list[Execution]:
        """Return one result per candidate within ``seconds``.

        ``request`` makes the message for some candidates, by position; ``metadata`` are sent with each. Raises ``CallFailed`` or one of its kinds.
        """
        self.counts.calls += 1
        return await _Batch(self, request, candidates, seconds, metadata).run()

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
        self, dispatcher: Dispatcher, request: MakeRequest, candidates: int, seconds: float, metadata: Headers
    ) -> None:
        self._shared = dispatcher
        self._executors = dispatcher.executors
        self._counts = dispatcher.counts
        self._request = request
        self._metadata = metadata
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + seconds
        self._suspects = Suspects(candidates)
        self._candidates = tuple(range(candidates))
        self._open: dict[asyncio.Task[list[Execution]], _Copy] = {}

    async def run(self) -> list[Execution]:
        if not self._candidates:
            return []
        self._start_copy(self._candidates, suspect=False, tried=())
        try:
            while not self._suspects.done:
                ended, _ = await asyncio.wait(self._open, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    self._ended(task)
        finally:
            await self._cancel()
        return self._suspects.results()

    def _start_copy(self, group: tuple[int, ...], *, suspect: bool, tried: Collection[str]) -> None:
        copy = _Copy(group, suspect, set(tried))
        self._open[asyncio.ensure_future(self._deliver(copy))] = copy

    def _ended(self, task: asyncio.Task[list[Execution]]) -> None:
        copy = self._open.pop(task)
        given_up = len(self._suspects.given_up)
        try:
            again = self._suspects.answered(copy.group, task.result())
        except _ExecutorLost as lost:
            self._counts.lost += 1
            again = self._suspects.lost(copy.group, str(lost))
        if len(self._suspects.given_up) > given_up:
            self._counts.given_up += 1
            structlog.get_logger().warning("program given up", executors=sorted(copy.tried))
        for i in again:
            self._counts.retried += 1
            self._start_copy((i,), suspect=True, tried=copy.tried)

    async def _deliver(self, copy: _Copy) -> list[Execution]:
        """Return the answer to one copy, sent again only if no executor ran it. Raises ``_ExecutorLost``, ``CallFailed``."""
        message = self._request(copy.group)
        unreached = busy = 0
        last: CallFailed | None = None
        while True:
            try:
                endpoint = await self._shared.choose(copy.tried, copy.suspect, self._deadline, message.problem_id)
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
        """Send a copy to ``endpoint`` and return its answer. Raises ``AioRpcError``."""
        endpoint.outstanding += 1
        endpoint.runs_suspect = endpoint.runs_suspect or copy.suspect
        call = endpoint.method(message, timeout=seconds, metadata=self._metadata)
        try:
            if tracing.is_on():
                # An executor sends its initial metadata when the programs have a slot.
                sent = self._loop.time()
                await call.initial_metadata()
                tracing.annotate(queue_seconds=self._loop.time() - sent)
            response = await call
            # This does not wait: initial metadata arrive before the response.
            if not endpoint.reports_start:
                endpoint.reports_start = any(key == STARTED for key, _ in await call.initial_metadata())
            return response
        finally:
            if copy.suspect:
                endpoint.runs_suspect = False
                self._executors.notify_change()
            copy.tried.add(endpoint.address)
            self._executors.release(endpoint)

    async def _cancel(self) -> None:
        for task in self._open:
            task.cancel()
        if self._open:
            await asyncio.gather(*self._open, return_exceptions=True)


def classify_error(error: grpc.aio.AioRpcError, endpoint: Endpoint[StubMethod]) -> CallFailure:
    """Classify a failed call by its status, its metadata and the state of the connection."""
    connected = endpoint.channel.get_state() is grpc.ChannelConnectivity.READY
    started = not endpoint.reports_start or STARTED in error.initial_metadata()
    trailing: Any = error.trailing_metadata() or ()
    return classify_failure(error.code(), error.details() or "", trailing, connected=connected, started=started)
