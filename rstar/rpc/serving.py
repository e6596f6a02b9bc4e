"""The server program of every service: listen, warm up, serve, drain.

A server reports NOT_SERVING until its warm-up is done. After SIGTERM or SIGINT it reports NOT_SERVING again, waits for
clients to notice, refuses new calls, finishes the calls in progress, and exits. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from rstar.rpc import tracing
from rstar.rpc.addresses import join_address
from rstar.rpc.call_context import CallContext
from rstar.rpc.call_failures import pushback
from rstar.rpc.errors import NOT_ANSWERED
from rstar.rpc.logs import configure_logs
from rstar.rpc.service_options import DEFAULT_DRAIN_SECONDS, DEFAULT_HOST
from rstar.rpc.tls import Certificate, own_certificate
from rstar.rpc.transport import SERVER_OPTIONS
from rstar.store.atomic import atomic_write

T = TypeVar("T")

NOTICE_SECONDS: Final = 0.5
"""From NOT_SERVING to the refusal of new calls: clients that watch the health need a moment to choose another server.

New calls are refused, with UNAVAILABLE and a pushback, for as long again before the port is closed. A client whose call
meets the closing port cannot know whether the call ran.
"""

PUSHBACK_SECONDS: Final = 1.0
"""The pushback of a refused call: another server at once, this address when a new server may run there."""


async def serve(
    name: str,
    register: Callable[[grpc.aio.Server], None],
    full_names: Sequence[str],
    *,
    host: str = DEFAULT_HOST,
    port: int = 0,
    metrics_port: int | None = None,
    health_port: int | None = None,
    drain_seconds: float = DEFAULT_DRAIN_SECONDS,
    ready_file: Path | None = None,
    warm_up: Callable[[], Awaitable[None]] | None = None,
    drain_beside: Callable[[], Awaitable[None]] | None = None,
    close: Callable[[], Awaitable[None]] | None = None,
    failed: Callable[[], Awaitable[str]] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    ``register`` adds the servicers; ``full_names`` are their full names (``rstar.v1.PolicyService``), for health
    and reflection. ``port`` 0 takes any free port. ``ready_file`` gets ``host:port`` once the server reports SERVING.
    ``metrics_port`` serves Prometheus metrics over HTTP; None turns them off. ``health_port`` serves the health alone and
    without TLS, because the probes of Kubernetes have none; None turns it off. ``drain_seconds`` is how long calls in
    progress may still take after a signal. ``warm_up`` runs before SERVING, ``close`` after the last call.
    ``drain_beside`` drains another server of this process at the same time.
    ``failed`` waits until the service can answer no more calls, and returns why.

    Raises ``OSError`` when a port is taken, ``TracingError``, the errors of ``own_certificate``, every exception of ``warm_up``, and
    ``ServiceFailed`` after ``failed``.
    """
    configure_logs(name)
    tracing.start(name)
    log = structlog.get_logger()
    certificate = own_certificate()
    stopping = stop_on_signals()
    remove_stale(ready_file)
    gate = DrainGate()
    server = grpc.aio.server(options=SERVER_OPTIONS, interceptors=[gate, CallContext()])
    host = host.strip("[]")
    register(server)
    health_service = Health(full_names)
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    reflection.enable_server_reflection((*full_names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    bound = _bind(server, name, host, port, certificate=certificate)
    address = join_address(host, bound)
    with metrics_served(name, host, metrics_port):
        probed = await _serve_health(health_service, name, host, health_port)
        await server.start()
        log.info("listening", address=address, metrics_port=metrics_port, tls=certificate is not None)
        try:
            if await _warmed_up(warm_up, stopping):
                await health_service.report_serving()
                if ready_file is not None:
                    with atomic_write(ready_file) as file:
                        file.write(address.encode())
                log.info("serving", address=address)
                await _stopped(stopping, failed)
            log.info("draining", seconds=drain_seconds)
            beside = () if drain_beside is None else (drain_beside(),)
            await asyncio.gather(drain(server, health_service, gate, drain_seconds), *beside)
        finally:
            await server.stop(0)
            if probed is not None:
                await probed.stop(0)
            if close is not None:
                await close()
            await asyncio.to_thread(tracing.stop)
    log.info("stopped")


class ServiceFailed(Exception):  # noqa: N818 - named after the event
    """The service can answer no more calls; a new process may."""


class Health(health.aio.HealthServicer):
    """Standard health whose watches end with the drain: an open watch would delay the end of the server."""

    def __init__(self, full_names: Sequence[str]) -> None:
        super().__init__()
        self._names = ("", *full_names)
        self._ended = asyncio.Event()
        self._server_status = dict.fromkeys(self._names, health_pb2.HealthCheckResponse.NOT_SERVING)

    async def report_serving(self) -> None:
        """Report SERVING for the server and for each of its services."""
        for name in self._names:
            await self.set(name, health_pb2.HealthCheckResponse.SERVING)

    def end_watches(self) -> None:
        """End every open watch, and every later one at once."""
        self._ended.set()

    async def Watch(  # noqa: N802 - gRPC names it
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Stream the health of one service until the drain ends the watches."""
        watch = asyncio.ensure_future(super().Watch(request, context))
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait((watch, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            watch.cancel()
            ended.cancel()


class DrainGate(grpc.aio.ServerInterceptor):
    """Lets calls in until it is closed; then it refuses all but health and reflection before they start."""

    def __init__(self) -> None:
        self.closed = False

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Return the handler of a call."""
        if self.closed and not details.method.startswith("/grpc."):
            return grpc.unary_unary_rpc_method_handler(_refuse_draining)
        return await continuation(details)


async def _refuse_draining(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> NoReturn:
    sentence = "this server is shutting down; call another one"
    await context.abort(grpc.StatusCode.UNAVAILABLE, sentence, pushback(PUSHBACK_SECONDS))


async def drain(server: grpc.aio.Server, health_service: Health, gate: DrainGate, seconds: float) -> None:
    """Refuse new calls, then finish the calls in progress; those that take longer than ``seconds`` are cancelled."""
    # A client that does not read its watch must not delay the drain.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(NOTICE_SECONDS):
            await health_service.enter_graceful_shutdown()
    await asyncio.sleep(NOTICE_SECONDS)
    gate.closed = True
    await asyncio.sleep(NOTICE_SECONDS)
    health_service.end_watches()
    await server.stop(seconds)


def end_at_once_on_sigterm() -> None:
    """End at once on SIGTERM until ``serve`` installs its handlers: without one, a container's first process ignores it."""
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))


async def refuse(context: grpc.aio.ServicerContext[Any, Any], sentence: str) -> NoReturn:
    """End the call with INVALID_ARGUMENT. ``sentence`` states what is wrong, where, and how to mend it."""
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, sentence)


async def bounded(
    context: grpc.aio.ServicerContext[Any, Any], work: Coroutine[Any, Any, T], begun: asyncio.Event, seconds: float
) -> T:
    """Return the result of ``work``, or end the call with DEADLINE_EXCEEDED ``seconds`` after ``begun`` is set (0: never).

    So the time that a call waits in the queue of a model does not count.
    """
    arrived = asyncio.get_running_loop().time()
    task, begins = asyncio.ensure_future(work), asyncio.ensure_future(begun.wait())
    try:
        await asyncio.wait((task, begins), return_when=asyncio.FIRST_COMPLETED)
        tracing.annotate(queue_seconds=asyncio.get_running_loop().time() - arrived)
        await asyncio.wait((task,), timeout=seconds or None)
        if not task.done():
            reason = f"{NOT_ANSWERED} {seconds:g} s from when it began"
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, reason)
        return task.result()
    finally:
        begins.cancel()
        task.cancel()


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set; a second signal ends the program at once."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    return stopping


def _bind(
    server: grpc.aio.Server,
    name: str,
    host: str,
    port: int,
    option: str = "--port",
    certificate: Certificate | None = None,
) -> int:
    address = join_address(host, port)
    try:
        if certificate is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, certificate.server_credentials())
    except RuntimeError as error:
        raise OSError(
            f"{name} cannot listen on {address}: the port is taken or the address is not this machine's; choose another {option} or --host"
        ) from error


async def _serve_health(service: Health, name: str, host: str, port: int | None) -> grpc.aio.Server | None:
    """Serve the health, and nothing else, without TLS. Returns None without a port."""
    if port is None:
        return None
    server = grpc.aio.server(options=SERVER_OPTIONS)
    health_pb2_grpc.add_HealthServicer_to_server(service, server)
    _bind(server, name, host, port, "--health-port")
    await server.start()
    return server


@contextlib.contextmanager
def metrics_served(name: str, host: str, port: int | None) -> Iterator[None]:
    """Serve the Prometheus metrics of service ``name`` over HTTP; None: not. Raises ``OSError`` when the port is taken."""
    if port is None:
        yield
        return
    try:
        server, thread = start_http_server(port, host)
    except OSError as error:
        raise OSError(
            f"{name} cannot serve metrics on {join_address(host, port)}: {error.strerror}; choose another --metrics-port"
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def _warmed_up(warm_up: Callable[[], Awaitable[None]] | None, stopping: asyncio.Event) -> bool:
    """Run the warm-up. Returns False if a signal came first."""
    if warm_up is None:
        return True
    warming = asyncio.ensure_future(warm_up())
    signalled = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((warming, signalled), return_when=asyncio.FIRST_COMPLETED)
        if not warming.done():
            return False
        await warming
        return True
    finally:
        signalled.cancel()
        warming.cancel()


async def _stopped(stopping: asyncio.Event, failed: Callable[[], Awaitable[str]] | None) -> None:
    """Wait for a signal. Raises ``ServiceFailed`` when the service fails first."""
    if failed is None:
        await stopping.wait()
        return
    signalled, failure = asyncio.ensure_future(stopping.wait()), asyncio.ensure_future(failed())
    try:
        await asyncio.wait((signalled, failure), return_when=asyncio.FIRST_COMPLETED)
        if failure.done():
            raise ServiceFailed(failure.result())
    finally:
        signalled.cancel()
        failure.cancel()


def remove_stale(ready_file: Path | None) -> None:
    """Remove the ready file of an earlier server."""
    # The file of a killed server would send clients to a closed port.
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)
