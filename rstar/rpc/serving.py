"""The one skeleton of every service: listen, warm up, serve, drain.

A server reports NOT_SERVING until its warm-up is done, and again as the first thing after SIGTERM or
SIGINT; then it waits until clients have noticed, turns away those that have not, finishes the calls it has,
and ends. A second signal ends it at once. The module refuses to know what is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from rstar.rpc.addresses import join_address
from rstar.rpc.call_failures import pushback
from rstar.rpc.logs import configure_logs
from rstar.rpc.transport import SERVER_OPTIONS

DRAIN_SECONDS: Final = 30.0
NOTICE_SECONDS: Final = 0.5
"""Between NOT_SERVING and refusing new calls: clients that watch the health need a moment to turn away.

As long again new calls are told so, with UNAVAILABLE and when to come back; then the port is closed, which leaves a client
to guess what became of a call that crossed it.
"""

COME_BACK_SECONDS: Final = 1.0
"""What a call is told that is refused at the end: elsewhere at once, here when there may be a new server."""


async def serve(
    name: str,
    register: Callable[[grpc.aio.Server], None],
    full_names: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    metrics_port: int | None = None,
    drain_seconds: float = DRAIN_SECONDS,
    ready_file: Path | None = None,
    warm_up: Callable[[], Awaitable[None]] | None = None,
    close: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    ``register`` adds the servicers; ``full_names`` are their full names (``rstar.v1.PolicyService``), for health
    and reflection. ``port`` 0 takes any free port. ``ready_file`` gets ``host:port`` once the state is SERVING.
    ``metrics_port`` serves Prometheus metrics over HTTP; None turns them off. ``drain_seconds`` is how long calls in flight
    may still take after a signal. ``warm_up`` runs before SERVING, ``close`` after the last call.

    Raises ``OSError`` when a port is taken, and whatever ``warm_up`` raises.
    """
    configure_logs(name)
    log = structlog.get_logger()
    stopping = _stop_on_signals()
    _withdraw(ready_file)
    gate = Gate()
    server = grpc.aio.server(options=SERVER_OPTIONS, interceptors=[gate])
    host = host.strip("[]")
    register(server)
    state = Health(full_names)
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    reflection.enable_server_reflection((*full_names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    bound = _bind(server, name, host, port)
    address = join_address(host, bound)
    with _metrics(name, host, metrics_port):
        await server.start()
        log.info("listening", address=address, metrics_port=metrics_port)
        try:
            if await _warmed_up(warm_up, stopping):
                await state.serving()
                if ready_file is not None:
                    _write_atomically(ready_file, address)
                log.info("serving", address=address)
                await stopping.wait()
            log.info("draining", seconds=drain_seconds)
            await drain(server, state, gate, drain_seconds)
        finally:
            await server.stop(0)
            if close is not None:
                await close()
    log.info("stopped")


class Health(health.aio.HealthServicer):
    """Standard health whose watches end with the drain: an open watch would hold the server until the grace is over."""

    def __init__(self, full_names: Sequence[str]) -> None:
        super().__init__()
        self._names = ("", *full_names)
        self._over = asyncio.Event()
        self._server_status = dict.fromkeys(self._names, health_pb2.HealthCheckResponse.NOT_SERVING)

    async def serving(self) -> None:
        """Report SERVING for the server and for each of its services."""
        for name in self._names:
            await self.set(name, health_pb2.HealthCheckResponse.SERVING)

    def end_watches(self) -> None:
        """End every open watch and all that are still to come."""
        self._over.set()

    async def Watch(  # noqa: N802 - gRPC names it
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Stream the state of one service until it changes no more."""
        watch = asyncio.ensure_future(super().Watch(request, context))
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait((watch, over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            watch.cancel()
            over.cancel()


class Gate(grpc.aio.ServerInterceptor):
    """Lets calls in until it is closed; from then on all but health and reflection are refused, and were not begun."""

    def __init__(self) -> None:
        self.closed = False

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Return the handler of a call."""
        if self.closed and not details.method.startswith("/grpc."):
            return grpc.unary_unary_rpc_method_handler(_turn_away)
        return await continuation(details)


async def _turn_away(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> NoReturn:
    words = "this server is about to end; call another one"
    await context.abort(grpc.StatusCode.UNAVAILABLE, words, pushback(COME_BACK_SECONDS))


async def drain(server: grpc.aio.Server, state: Health, gate: Gate, seconds: float) -> None:
    """Turn clients away, then finish the calls in flight; those that take longer than ``seconds`` are cancelled."""
    # A client that does not read its watch must not hold up the drain.
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(state.enter_graceful_shutdown(), NOTICE_SECONDS)
    await asyncio.sleep(NOTICE_SECONDS)
    gate.closed = True
    await asyncio.sleep(NOTICE_SECONDS)
    state.end_watches()
    await server.stop(seconds)


def end_at_once_on_sigterm() -> None:
    """End at once on SIGTERM, from now until ``serve`` takes over: a container's first process would go on loading."""
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))


async def refuse(context: grpc.aio.ServicerContext[Any, Any], sentence: str) -> NoReturn:
    """End the call with INVALID_ARGUMENT. ``sentence`` says what is wrong, where, and how to mend it."""
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, sentence)


def _stop_on_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    return stopping


def _bind(server: grpc.aio.Server, name: str, host: str, port: int) -> int:
    try:
        return server.add_insecure_port(join_address(host, port))
    except RuntimeError as error:
        raise OSError(
            f"{name} cannot listen on {join_address(host, port)}: the port is taken or the address is not this machine's; choose another --port or --host"
        ) from error


@contextlib.contextmanager
def _metrics(name: str, host: str, port: int | None) -> Iterator[None]:
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
    """Run the warm-up; False when a signal came first."""
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


def _withdraw(ready_file: Path | None) -> None:
    # What a killed predecessor left behind would send clients to a port that is gone.
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)
