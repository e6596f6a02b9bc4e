"""Programs on many executors: where the call goes, when it is sent again, and when it is doubled.

Infrastructure alone is ever tried again; what a program did is its result. An executor that cannot be reached rests; one
that is full or about to end is believed when it says for how long; one that is lost under a call makes suspects
(``rstar.rpc.suspects``). A call whose programs should have been done by now, or whose executor has fallen silent, is
doubled elsewhere. Everything ends with the caller's deadline or cancellation. The decisions are pure and stand in
``outcomes``, ``backoff``, ``dispatch`` and ``suspects``; the module refuses to make any of its own, and to know the
wire format.
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
from rstar.rpc.backoff import after_answer, after_failure, after_refusal
from rstar.rpc.call_failures import STARTED, Meaning, Outcome, outcome
from rstar.rpc.calls import pause
from rstar.rpc.dispatch import awake, may_hedge
from rstar.rpc.endpoints import Backend, Pool
from rstar.rpc.errors import CallFailed, CallTimedOut, failure
from rstar.rpc.suspects import Suspects
from rstar.v1 import executor_pb2

ATTEMPTS: Final = 8
"""How often executors may be out of reach for one copy; they rest in between, so it is about half a minute."""

HEDGE_MARGIN_SECONDS: Final = 15.0
"""How much longer than its programs at their limits a call may take before it is doubled."""

SILENCE_SECONDS: Final = 1.0
"""Between the loss of an executor's health watch and the doubling of calls that have not failed with it."""

Method = grpc.aio.UnaryUnaryMultiCallable[executor_pb2.ExecuteRequest, executor_pb2.ExecuteResponse]
Executors = Pool[Method]
Request = Callable[[Sequence[int]], executor_pb2.ExecuteRequest]
Read = Callable[[executor_pb2.ExecuteResponse], list[Execution]]


@dataclass
class Counts:
    """What became of a client's calls.

    Sent again because an executor was full or ending (``refused``), or not there (``unreached``); executors ``lost``
    under them; programs ``retried`` for that, run twice because they were slow (``hedged``), and ``given_up``.
    """

    calls: int = 0
    refused: int = 0
    unreached: int = 0
    lost: int = 0
    retried: int = 0
    hedged: int = 0
    given_up: int = 0


class _ExecutorLost(Exception):  # noqa: N818 - says what happened
    """The executor went away while it may have run the programs."""


@dataclass(eq=False)
class _Copy:
    """One copy of some candidates under way, or waiting for an executor."""

    group: tuple[int, ...]
    alone: bool
    avoid: Collection[str]
    hedge: bool
    task: asyncio.Task[list[Execution]] | None = None
    backend: Backend[Method] | None = None
    met: set[str] = field(default_factory=set)

    def shunned(self) -> set[str]:
        """Return where a copy made because of this one should not go."""
        return {*self.avoid, *self.met, *((self.backend.address,) if self.backend else ())}


class Dispatcher:
    """What the calls of one client share: the executors, whose turn it is, how many calls are doubled."""

    def __init__(self, pool: Executors, read: Read) -> None:
        self.pool = pool
        self.read = read
        self.counts = Counts()
        self.turns = itertools.count()
        self.copies = 0
        self.hedges = 0

    async def execute(
        self, request: Request, candidates: int, program_seconds: float, seconds: float
    ) -> list[Execution]:
        """Return one result per candidate within ``seconds``; a program takes ``program_seconds`` at most.

        ``request`` makes the message for some candidates, by position. Raises ``CallFailed`` or one of its kinds.
        """
        self.counts.calls += 1
        return await _Call(self, request, candidates, program_seconds, seconds).run()

    async def place(self, avoid: Collection[str], alone: bool, deadline: float, problem: str) -> Backend[Method]:
        """Wait for an executor that may be given a call of ``problem``. Raises ``ServiceUnavailable`` or ``CallTimedOut``."""
        loop = asyncio.get_running_loop()
        while True:
            left = deadline - loop.time()
            if left <= 0:
                raise CallTimedOut(self.pool.service, self.pool.addresses, "none could take the call in time")
            if not self.pool.ready:
                await self.pool.wait_ready(min(left, self.pool.ready_seconds))
                continue
            chosen = awake(self.pool.ready, loop.time(), avoid, alone, next(self.turns), problem)
            if isinstance(chosen, Backend):
                return chosen
            await self.pool.change(min(left, chosen * random.uniform(1.0, 1.2) + 0.001))


class _Call:
    """One call of ``execute``: its copies, until every candidate has its result."""

    def __init__(
        self, dispatcher: Dispatcher, request: Request, candidates: int, program_seconds: float, seconds: float
    ) -> None:
        self._shared = dispatcher
        self._pool = dispatcher.pool
        self._counts = dispatcher.counts
        self._request = request
        self._program_seconds = program_seconds
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + seconds
        self._suspects = Suspects(candidates)
        self._everybody = tuple(range(candidates))
        self._events: asyncio.Queue[tuple[_Copy, Backend[Method] | None]] = asyncio.Queue()
        self._open: set[_Copy] = set()

    async def run(self) -> list[Execution]:
        if not self._everybody:
            return []
        self._send(self._everybody, alone=False, avoid=(), hedge=False)
        try:
            while not self._suspects.done:
                copy, slow_on = await self._events.get()
                if slow_on is None:
                    self._ended(copy)
                elif copy.backend is slow_on:
                    self._double(copy)
        finally:
            await self._cancel()
        return self._suspects.results()

    def _send(self, group: tuple[int, ...], *, alone: bool, avoid: Collection[str], hedge: bool) -> None:
        copy = _Copy(group, alone, avoid, hedge)
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
            structlog.get_logger().warning("program given up", executors=sorted(copy.shunned()))
        for i in again:
            self._counts.retried += 1
            self._send((i,), alone=True, avoid=copy.shunned(), hedge=False)
        for other in self._open:
            if not self._suspects.wants(other.group) and other.task is not None:
                other.task.cancel()

    def _double(self, copy: _Copy) -> None:
        """Make a second copy of what has not answered, if another executor is free to take it."""
        now, shunned = self._loop.time(), copy.shunned()
        others = [b for b in self._pool.ready if b.address not in shunned and b.rest.until <= now]
        silent = copy.backend is not None and not copy.backend.ready
        if not others or not (silent or may_hedge(self._shared.hedges, self._shared.copies)):
            return
        for i in self._suspects.slow(copy.group):
            self._counts.hedged += 1
            self._send((i,), alone=True, avoid=copy.shunned(), hedge=True)

    async def _deliver(self, copy: _Copy) -> list[Execution]:
        """Return the answer to one copy, sent again only when nobody ran it. Raises ``_ExecutorLost``, ``CallFailed``."""
        message = self._request(copy.group)
        unreached = busy = 0
        last: CallFailed | None = None
        while True:
            try:
                backend = await self._shared.place(copy.shunned(), copy.alone, self._deadline, message.problem_id)
            except CallTimedOut as error:
                raise last or error from None
            sent = self._loop.time()
            try:
                response = await self._on(backend, copy, message, self._deadline - sent)
            except grpc.aio.AioRpcError as error:
                judged = judge(error, backend)
                last = failure(self._pool.service, backend.address, error)
                if judged.meaning is Meaning.FINAL:
                    raise last from error
                if judged.meaning is Meaning.BUSY:
                    self._counts.refused += 1
                    busy += 1
                    wait = pause(busy) if judged.wait is None else judged.wait
                    backend.rest = after_refusal(backend.rest, self._loop.time(), wait)
                    # Full executors are no reason to give up: the deadline ends the wait.
                    continue
                self._failed(backend, sent, f"{error.code().name}: {error.details()}")
                if judged.meaning is Meaning.LOST and not backend.farewell:
                    raise _ExecutorLost(f"{error.code().name}: {error.details()}") from error
                self._counts.unreached += 1
                unreached += 1
                if unreached == ATTEMPTS or self._loop.time() >= self._deadline:
                    raise last from error
            else:
                executions = self._shared.read(response)
                if len(executions) != len(copy.group):
                    counted = f"{len(copy.group)} candidates were sent and {len(executions)} results came back"
                    raise CallFailed(self._pool.service, backend.address, counted)
                if all(execution.status is ExecutionStatus.INTERNAL for execution in executions):
                    self._failed(backend, sent, executions[0].reason)
                else:
                    backend.rest = after_answer(backend.rest, sent)
                return executions

    def _failed(self, backend: Backend[Method], sent: float, reason: str) -> None:
        """Let a backend rest that failed a call of ``sent``, and look whether there are others by now."""
        rest = after_failure(backend.rest, sent, self._loop.time(), random.random())
        if rest is not backend.rest:
            backend.rest = rest
            structlog.get_logger().warning("executor failed", address=backend.address, reason=reason)
        self._pool.look_again()

    async def _on(
        self, backend: Backend[Method], copy: _Copy, message: executor_pb2.ExecuteRequest, seconds: float
    ) -> executor_pb2.ExecuteResponse:
        """Call ``backend``; tell when it is slow or falls silent."""
        slow = partial(self._events.put_nowait, (copy, backend))

        def silent() -> None:
            self._loop.call_later(SILENCE_SECONDS, slow)

        patience = self._program_seconds * len(copy.group) + HEDGE_MARGIN_SECONDS
        timer = self._loop.call_later(patience, slow)
        backend.when_lost.add(silent)
        backend.outstanding += 1
        backend.trying = backend.trying or copy.alone
        copy.backend = backend
        call = backend.method(message, timeout=seconds)
        try:
            response = await call
            # Known by now: it came before the response.
            backend.signals = backend.signals or any(key == STARTED for key, _ in await call.initial_metadata())
            return response
        finally:
            timer.cancel()
            backend.when_lost.discard(silent)
            if copy.alone:
                backend.trying = False
                self._pool.changed()
            copy.backend = None
            copy.met.add(backend.address)
            self._pool.release(backend)

    def _close(self, copy: _Copy) -> None:
        self._open.discard(copy)
        self._shared.copies -= 1
        self._shared.hedges -= copy.hedge

    async def _cancel(self) -> None:
        left = [copy.task for copy in self._open if copy.task is not None]
        for copy in tuple(self._open):
            self._close(copy)
        for task in left:
            task.cancel()
        if left:
            await asyncio.gather(*left, return_exceptions=True)


def judge(error: grpc.aio.AioRpcError, backend: Backend[Method]) -> Outcome:
    """Judge a failed call by its status, what the server said, and whether its connection is still there."""
    connected = backend.channel.get_state() is grpc.ChannelConnectivity.READY
    begun = not backend.signals or STARTED in error.initial_metadata()
    trailing: Any = error.trailing_metadata() or ()
    return outcome(error.code(), error.details() or "", trailing, connected=connected, begun=begun)
