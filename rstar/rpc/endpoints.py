"""The endpoints of one service, as a client sees them: one channel each, and only healthy ones get calls.

The health of every endpoint is watched (``grpc.health.v1``): a draining server gets no new call once it reports
NOT_SERVING, and a lost one gets none until it is back. Names are resolved again every few seconds, and sooner when an
endpoint is lost. Retries are decided in ``calls`` and ``executing``, the choice of an endpoint in ``dispatch``. With TLS
(``tls``), a renewed certificate replaces every channel; calls in progress end on the old ones.
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
from rstar.rpc.backoff import NO_BACKOFF, Backoff
from rstar.rpc.errors import ServiceUnavailable
from rstar.rpc.tls import Pem, explain, open_channel, own_certificate

LOOK_UP_SECONDS: Final = 5.0
LOOK_AGAIN_SECONDS: Final = 0.5
"""Least time between two look-ups, however many endpoints are lost."""

READY_SECONDS: Final = 60.0
"""How long a call waits for a ready endpoint before it fails."""

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0

M = TypeVar("M")

Targets = Sequence[str] | Callable[[], Collection[str]]
"""``HOST:PORT`` or ``dns:///HOST:PORT`` of each server, or a function that returns them at every look-up."""


class Endpoint(Generic[M]):
    """One server: its channel, the method called on it, its outstanding calls and its health.

    ``draining``: it reported NOT_SERVING, or its address was removed, so the end of its connection is expected.
    ``health``: the last report, for error messages. ``backoff``, ``runs_suspect`` and ``reports_start`` (it sends
    ``STARTED``) are used by ``rstar.rpc.executing`` only.
    """

    __slots__ = (
        "address",
        "backoff",
        "channel",
        "draining",
        "health",
        "method",
        "outstanding",
        "ready",
        "removed",
        "reports_start",
        "runs_suspect",
        "watch",
    )

    def __init__(self, address: str, method: Callable[[grpc.aio.Channel], M], pem: Pem | None) -> None:
        self.address = address
        self.channel = open_channel(address, pem)
        self.method = method(self.channel)
        self.outstanding = 0
        self.ready = False
        self.removed = False
        self.draining = False
        self.backoff: Backoff = NO_BACKOFF
        self.runs_suspect = False
        self.reports_start = False
        self.health = "not reached yet"
        self.watch: asyncio.Task[None] | None = None


class Endpoints(Generic[M]):
    """The endpoints behind ``targets`` that offer the gRPC service ``full_name``; ``service`` is its name in errors.

    ``method`` makes the callable of a channel, once per endpoint. Raises ``ValueError`` for a malformed target or for
    none, and the errors of ``own_certificate``.
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
        self._health_request = health_pb2.HealthCheckRequest(service=full_name)
        self._list_targets = targets if callable(targets) else None
        self._targets = [] if callable(targets) else [parse_target(target) for target in targets]
        self._method = method
        self._certificate = own_certificate()
        self._pem = self._certificate.latest() if self._certificate else None
        self.ready_seconds = ready_seconds
        self._known: dict[str, Endpoint[M]] = {}
        self._ready: list[Endpoint[M]] = []
        self._some_ready = asyncio.Event()
        self._waiting: set[asyncio.Future[None]] = set()
        self._look_again = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = False
        self._found: dict[Target, list[str]] = {}
        self._not_found = ""

    async def start(self) -> None:
        """Look for the endpoints, without waiting for one to be ready."""
        if self._started:
            return
        self._started = True
        await self._look_up()
        lasting = self._list_targets is None and not any(target.many for target in self._targets)
        if not lasting or self._certificate is not None:
            self._run(self._keep_looking_up())

    async def wait_ready(self, seconds: float) -> None:
        """Return once an endpoint is ready. Raises ``ServiceUnavailable`` with the addresses when none is in time."""
        await self.start()
        try:
            async with asyncio.timeout(seconds):
                await self._some_ready.wait()
        except TimeoutError:
            raise self._unavailable(seconds) from None

    async def pick(
        self, choose: Callable[[Sequence[Endpoint[M]]], Endpoint[M]], avoid: Collection[str], seconds: float
    ) -> Endpoint[M]:
        """Return the ready endpoint that ``choose`` takes, if possible none of ``avoid``; ``release`` ends the call.

        Waits at most ``seconds`` for a ready endpoint. Raises ``ServiceUnavailable``.
        """
        ready: list[Endpoint[M]] = self._ready
        while not ready:
            await self.wait_ready(min(seconds, self.ready_seconds))
            ready = self._ready
        if avoid:
            ready = [endpoint for endpoint in ready if endpoint.address not in avoid] or ready
        endpoint = choose(ready)
        endpoint.outstanding += 1
        return endpoint

    @property
    def addresses(self) -> str:
        """Every known address, or the targets where none is known yet."""
        return ", ".join(self._known) or ", ".join(map(str, self._targets))

    @property
    def ready(self) -> Sequence[Endpoint[M]]:
        """The endpoints that are ready."""
        return self._ready

    async def wait_for_change(self, seconds: float) -> None:
        """Return after ``seconds``, or earlier when an endpoint becomes ready, is lost or has ended a suspect."""
        changed = asyncio.get_running_loop().create_future()
        self._waiting.add(changed)
        try:
            await asyncio.wait((changed,), timeout=seconds)
        finally:
            self._waiting.discard(changed)

    def notify_change(self) -> None:
        """Wake the callers of ``wait_for_change``."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def look_again(self) -> None:
        """Resolve the names again soon: an endpoint failed, so there may be new ones."""
        self._look_again.set()

    def release(self, endpoint: Endpoint[M]) -> None:
        """End a call on an endpoint that ``pick`` returned."""
        endpoint.outstanding -= 1
        if endpoint.removed and not endpoint.outstanding:
            self._run(endpoint.channel.close())

    async def close(self) -> None:
        """End the watches and close the channels; calls in progress are cancelled."""
        endpoints = list(self._known.values())
        tasks = [*self._tasks, *(endpoint.watch for endpoint in endpoints if endpoint.watch is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for endpoint in endpoints:
            await endpoint.channel.close()
        self._known.clear()
        self._refresh()

    async def _keep_looking_up(self) -> None:
        while True:
            await asyncio.sleep(min(LOOK_AGAIN_SECONDS, LOOK_UP_SECONDS))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0, LOOK_UP_SECONDS - LOOK_AGAIN_SECONDS)):
                    await self._look_again.wait()
            self._look_again.clear()
            await self._look_up()

    async def _look_up(self) -> None:
        if self._list_targets is not None:
            self._targets = [parse_target(target) for target in self._list_targets()]
            self._found = {target: found for target, found in self._found.items() if target in self._targets}
        for target in self._targets:
            try:
                self._found[target] = await look_up(target)
                self._not_found = ""
            except OSError as error:  # a short outage of the name server must not remove the endpoints
                self._not_found = f"{target} does not resolve: {error.strerror or error}"
        if self._certificate is not None and (pem := self._certificate.latest()) is not self._pem:
            self._pem = pem
            for address in tuple(self._known):
                self._remove(address)
        found = {address for addresses in self._found.values() for address in addresses}
        for address in found - self._known.keys():
            self._add(address)
        for address in self._known.keys() - found:
            self._remove(address)

    def _add(self, address: str) -> None:
        endpoint = Endpoint(address, self._method, self._pem)
        self._known[address] = endpoint
        endpoint.watch = asyncio.ensure_future(self._watch(endpoint))

    def _remove(self, address: str) -> None:
        endpoint = self._known.pop(address)
        endpoint.removed = endpoint.draining = True
        if endpoint.watch is not None:
            endpoint.watch.cancel()
        self._refresh()
        if not endpoint.outstanding:
            self._run(endpoint.channel.close())

    async def _watch(self, endpoint: Endpoint[M]) -> None:
        watch = endpoint.channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        pause = _FIRST_PAUSE
        while True:
            try:
                async for reply in watch(self._health_request):
                    endpoint.health = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
                    serving = reply.status == health_pb2.HealthCheckResponse.SERVING
                    endpoint.draining = not serving
                    self._set_ready(endpoint, serving)
                    pause = _FIRST_PAUSE
            except grpc.aio.AioRpcError as error:
                endpoint.health = f"{error.code().name}: {explain(error.details() or '', tls=self._pem is not None)}"
                self.look_again()
            # Without a watch the health is unknown: the endpoint counts as lost until the next report.
            self._set_ready(endpoint, False)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _set_ready(self, endpoint: Endpoint[M], ready: bool) -> None:
        if endpoint.ready != ready:
            endpoint.ready = ready
            self._refresh()

    def _refresh(self) -> None:
        self._ready = [endpoint for endpoint in self._known.values() if endpoint.ready]
        if self._ready:
            self._some_ready.set()
        else:
            self._some_ready.clear()
        self.notify_change()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _unavailable(self, seconds: float) -> ServiceUnavailable:
        reports = "; ".join(f"{endpoint.address}: {endpoint.health}" for endpoint in self._known.values())
        return ServiceUnavailable(
            self.service,
            self.addresses,
            f"no server was ready within {seconds:g} s ({reports or self._not_found}); is it running?",
        )
