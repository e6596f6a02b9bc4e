"""The server program: listen, reach the search service, serve, drain. As the gRPC services do it (``rstar.rpc.serving``)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from rstar.rpc.addresses import join_address
from rstar.rpc.errors import ServiceUnavailable
from rstar.rpc.logs import configure_logs
from rstar.rpc.search_client import SearchClient
from rstar.rpc.serving import NOTICE_SECONDS, metrics_served, remove_stale, stop_on_signals
from rstar.store.atomic import atomic_write
from rstar_openai.app import Endpoint

_CLOSE_SECONDS: Final = 1.0
"""How long idle connections of clients may delay the end."""


async def run(
    endpoint: Endpoint,
    client: SearchClient,
    *,
    host: str,
    port: int,
    metrics_port: int | None,
    ready_file: Path | None,
    drain_seconds: float,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises ``OSError`` when a port is taken."""
    configure_logs("openai")
    log = structlog.get_logger()
    stopping = stop_on_signals()
    remove_stale(ready_file)
    host = host.strip("[]")
    # A client that leaves cancels its handler, and so its searches.
    runner = web.AppRunner(
        endpoint.application(), handler_cancellation=True, access_log=None, shutdown_timeout=_CLOSE_SECONDS
    )
    with metrics_served("openai", host, metrics_port):
        connecting: asyncio.Task[None] | None = None
        try:
            await runner.setup()
            address = await _listen(runner, host, port)
            log.info("listening", address=address, metrics_port=metrics_port)
            connecting = asyncio.ensure_future(_connect(client, endpoint, address, ready_file))
            stopped = asyncio.ensure_future(stopping.wait())
            await asyncio.wait((stopped, connecting), return_when=asyncio.FIRST_COMPLETED)
            if connecting.done():
                connecting.result()
            await stopped
            log.info("draining", seconds=drain_seconds)
            # Clients that begin now are told to go elsewhere, not refused by a closed port.
            await asyncio.gather(endpoint.drain(drain_seconds), asyncio.sleep(NOTICE_SECONDS))
        finally:
            if connecting is not None:
                connecting.cancel()
            await runner.cleanup()
            await client.close()
    log.info("stopped")


async def _listen(runner: web.AppRunner, host: str, port: int) -> str:
    try:
        await web.TCPSite(runner, host, port, backlog=1_024).start()
    except OSError as error:
        raise OSError(
            f"openai cannot listen on {join_address(host, port)}: the port is taken or the address is not this machine's; choose another --port or --host"
        ) from error
    return join_address(host, runner.addresses[0][1])


async def _connect(client: SearchClient, endpoint: Endpoint, address: str, ready_file: Path | None) -> None:
    """Wait for the first search coordinator, however long it takes: it may still wait for a model."""
    log = structlog.get_logger()
    while not endpoint.ready:
        try:
            await client.connect()
            endpoint.ready = True
        except ServiceUnavailable as error:
            log.warning("search service not reached", reason=str(error))
    if ready_file is not None:
        with atomic_write(ready_file) as file:
            file.write(address.encode())
    log.info("serving", address=address)
