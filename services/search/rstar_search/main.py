"""The command line of the search coordinator: connect the clients, serve.

Heavy libraries are imported when the service starts, so that listing the commands stays fast.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from rstar.rpc import service_options as options
from rstar.rpc.start_errors import exit_on_start_error


def serve(
    policy: Annotated[list[str], typer.Option(help="A policy server: HOST:PORT or dns:///HOST:PORT; repeatable.")],
    executor: Annotated[list[str], typer.Option(help="An executor: HOST:PORT or dns:///HOST:PORT; repeatable.")],
    ppm: Annotated[
        list[str] | None, typer.Option(help="A PPM server: HOST:PORT or dns:///HOST:PORT; repeatable.")
    ] = None,
    host: options.Host = options.DEFAULT_HOST,
    port: options.Port = 50_054,
    metrics_port: options.MetricsPort = None,
    health_port: options.HealthPort = None,
    ready_file: options.ReadyFile = None,
    drain_seconds: options.DrainSeconds = options.DEFAULT_DRAIN_SECONDS,
    max_searches: Annotated[int, typer.Option(min=1, help="Searches at once; further calls are refused.")] = 256,
    call_seconds: Annotated[
        float, typer.Option(min=0.001, help="How long a model may take for one call, from when its server begins.")
    ] = 600.0,
    tenant: Annotated[str, typer.Option(help="Name of the caller for executors, which serve tenants in turn.")] = "",
) -> None:
    """Serve the search coordinator until SIGTERM."""
    from rstar.rpc import serving
    from rstar.rpc.clients import ExecutorClient, PolicyClient, PreferenceModelClient
    from rstar_search.service import FULL_NAME, SearchService

    async def main() -> None:
        policies = PolicyClient(policy, call_seconds=call_seconds)
        executors = ExecutorClient(executor, tenant=tenant)
        ppms = PreferenceModelClient(ppm, call_seconds=call_seconds) if ppm else None
        clients = [client for client in (policies, executors, ppms) if client is not None]

        async def connect() -> None:
            await asyncio.gather(*(client.connect() for client in clients))

        async def close() -> None:
            await asyncio.gather(*(client.close() for client in clients))

        await serving.serve(
            "search",
            SearchService(policies, executors, ppms, max_searches).register,
            [FULL_NAME],
            host=host,
            port=port,
            metrics_port=metrics_port,
            health_port=health_port,
            drain_seconds=drain_seconds,
            ready_file=ready_file,
            warm_up=connect,
            close=close,
        )

    with exit_on_start_error("search"):
        asyncio.run(main())
