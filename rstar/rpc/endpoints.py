"""The servers of one service as a client sees them: one channel each, and only healthy ones get calls.

Every server's health is watched (``grpc.health.v1``), so a server that drains gets no new call from the
moment it says NOT_SERVING, and one that died gets none until it is back. Names are looked up again every few seconds,
and at once when a server goes away. The module refuses to retry and to choose: see ``calls``, ``executing`` and
``dispatch``.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Final, Generic, TypeVar

import grpc
from grpc_health.v1 import health_pb2

from rstar.rpc.addresses import Target, look_up, parse_target
from rstar.rpc.backoff import AWAKE, Rest
from rstar.rpc.errors import ServiceUnavailable
from rstar.rpc.transport import CLIENT_OPTIONS

LOOK_UP_SECONDS: Final = 5.0
LOOK_AGAIN_SECONDS: Final = 0.5
"""Between two look-ups at least, however many servers go away."""

READY_SECONDS: Final = 60.0
"""How long a call waits for a server that is ready, before it fails."""

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0

M = TypeVar("M")

Targets = Sequence[str] | Callable[[], Collection[str]]
"""``HOST:PORT`` or ``dns:///HOST:PORT`` of each server, or what returns them whenever it is asked."""


class Backend(Generic[M]):
    """One server: its channel, the method called on it, the calls outstanding and whether it is ready.

    ``farewell``: it has said that it takes no more calls, or its address is gone, so that its end is nobody's fault.
    ``when_lost`` are called when its connection breaks without a farewell. ``signals``: it tells when a call begins to
    be worked on. ``rest`` and ``trying`` are for ``rstar.rpc.executing``.
    """

    __slots__ = (
        "address",
        "channel",
        "farewell",
        "leaving",
        "method",
        "outstanding",
        "ready",
        "rest",
        "signals",
        "state",
        "trying",
        "watch",
        "when_lost",
    )

    def __init__(self, address: str, method: Callable[[grpc.aio.Channel], M]) -> None:
        self.address = address
        self.channel = grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS)
        self.method = method(self.channel)
        self.outstanding = 0
        self.ready = False
        self.leaving = False
        self.farewell = False
        self.rest: Rest = AWAKE
        self.trying = False
        self.signals = False
        self.when_lost: set[Callable[[], None]] = set()
        self.state = "not reached yet"
        self.watch: asyncio.Task[None] | None = None


class Pool(Generic[M]):
    """The servers behind ``targets`` that offer the gRPC service ``full_name``; ``service`` is its name in errors.

    ``method`` makes the callable of a channel, once per server. Raises ``ValueError`` for a malformed target or for none.
    """

    def __init__(
        self,
        service: str,
        full_name: str,
        targets: Targets,
        method: Callable[[grpc.aio.Channel], M],
        ready_seconds: float = READY_SECONDS,
    ) -> None:
        if not callable(targets) and not targets:
            raise ValueError(f"{service}: no address was given; write HOST:PORT or dns:///HOST:PORT")
        self.service = service
        self._health = health_pb2.HealthCheckRequest(service=full_name)
        self._source = targets if callable(targets) else None
        self._targets = [] if callable(targets) else [parse_target(target) for target in targets]
        self._method = method
        self.ready_seconds = ready_seconds
        self._backends: dict[str, Backend[M]] = {}
        self._ready: list[Backend[M]] = []
        self._some_ready = asyncio.Event()
        self._waiting: set[asyncio.Future[None]] = set()
        self._look_again = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = False
        self._found: dict[Target, list[str]] = {}
        self._not_found = ""

    async def start(self) -> None:
        """Look for the servers, without waiting for one to be ready."""
        if self._started:
            return
        self._started = True
        await self._look_up()
        if self._source is not None or any(target.many for target in self._targets):
            self._run(self._keep_looking_up())

    async def wait_ready(self, seconds: float) -> None:
        """Return once a server is ready. Raises ``ServiceUnavailable``, naming the addresses, when none is in time."""
        await self.start()
        try:
            await asyncio.wait_for(self._some_ready.wait(), seconds)
        except TimeoutError:
            raise self._unavailable(seconds) from None

    async def pick(
        self, choose: Callable[[Sequence[Backend[M]]], Backend[M]], avoid: Collection[str], seconds: float
    ) -> Backend[M]:
        """Return the server ``choose`` takes among those ready, where possible none of ``avoid``; ``release`` it afterwards.

        Waits for a server to be ready for at most ``seconds``. Raises ``ServiceUnavailable``.
        """
        ready: list[Backend[M]] = self._ready
        while not ready:
            await self.wait_ready(min(seconds, self.ready_seconds))
            ready = self._ready
        if avoid:
            ready = [backend for backend in ready if backend.address not in avoid] or ready
        backend = choose(ready)
        backend.outstanding += 1
        return backend

    @property
    def addresses(self) -> str:
        """Every server known, or the names that stand for them."""
        return ", ".join(self._backends) or ", ".join(map(str, self._targets))

    @property
    def ready(self) -> Sequence[Backend[M]]:
        """The servers that are ready."""
        return self._ready

    async def change(self, seconds: float) -> None:
        """Return when a server has become ready, gone away or free of a suspect, or after ``seconds``."""
        changed = asyncio.get_running_loop().create_future()
        self._waiting.add(changed)
        try:
            await asyncio.wait((changed,), timeout=seconds)
        finally:
            self._waiting.discard(changed)

    def changed(self) -> None:
        """Wake who waits for a ``change``."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def look_again(self) -> None:
        """Look the names up again soon: a server has failed, so that there may be others."""
        self._look_again.set()

    def release(self, backend: Backend[M]) -> None:
        """Give back what ``pick`` returned, its call being over."""
        backend.outstanding -= 1
        if backend.leaving and not backend.outstanding:
            self._run(backend.channel.close())

    async def close(self) -> None:
        """End the watches and close the channels; calls still in flight are cancelled."""
        backends = list(self._backends.values())
        tasks = [*self._tasks, *(backend.watch for backend in backends if backend.watch is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for backend in backends:
            await backend.channel.close()
        self._backends.clear()
        self._refresh()

    async def _keep_looking_up(self) -> None:
        while True:
            await asyncio.sleep(min(LOOK_AGAIN_SECONDS, LOOK_UP_SECONDS))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look_again.wait(), max(0, LOOK_UP_SECONDS - LOOK_AGAIN_SECONDS))
            self._look_again.clear()
            await self._look_up()

    async def _look_up(self) -> None:
        if self._source is not None:
            self._targets = [parse_target(target) for target in self._source()]
            self._found = {target: found for target, found in self._found.items() if target in self._targets}
        for target in self._targets:
            try:
                self._found[target] = await look_up(target)
                self._not_found = ""
            except OSError as error:  # a name server that is away for a moment must not empty the pool
                self._not_found = f"{target} does not resolve: {error.strerror or error}"
        wanted = {address for addresses in self._found.values() for address in addresses}
        for address in wanted - self._backends.keys():
            self._add(address)
        for address in self._backends.keys() - wanted:
            self._remove(address)

    def _add(self, address: str) -> None:
        backend = Backend(address, self._method)
        self._backends[address] = backend
        backend.watch = asyncio.ensure_future(self._watch(backend))

    def _remove(self, address: str) -> None:
        backend = self._backends.pop(address)
        backend.leaving = backend.farewell = True
        if backend.watch is not None:
            backend.watch.cancel()
        self._refresh()
        if not backend.outstanding:
            self._run(backend.channel.close())

    async def _watch(self, backend: Backend[M]) -> None:
        watch = backend.channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        pause = _FIRST_PAUSE
        while True:
            try:
                async for reply in watch(self._health):
                    backend.state = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
                    serving = reply.status == health_pb2.HealthCheckResponse.SERVING
                    backend.farewell = not serving
                    self._set_ready(backend, serving)
                    pause = _FIRST_PAUSE
            except grpc.aio.AioRpcError as error:
                backend.state = f"{error.code().name}: {error.details()}"
                if not backend.farewell:
                    for tell in tuple(backend.when_lost):
                        tell()
                self.look_again()
            # An ended watch knows nothing: the server counts as away until it is heard of again.
            self._set_ready(backend, False)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _set_ready(self, backend: Backend[M], ready: bool) -> None:
        if backend.ready != ready:
            backend.ready = ready
            self._refresh()

    def _refresh(self) -> None:
        self._ready = [backend for backend in self._backends.values() if backend.ready]
        if self._ready:
            self._some_ready.set()
        else:
            self._some_ready.clear()
        self.changed()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _unavailable(self, seconds: float) -> ServiceUnavailable:
        states = "; ".join(f"{backend.address}: {backend.state}" for backend in self._backends.values())
        return ServiceUnavailable(
            self.service,
            self.addresses,
            f"no server was ready within {seconds:g} s ({states or self._not_found}); is it running?",
        )
