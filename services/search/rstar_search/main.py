"""The command line of the search coordinator: reads flags, connects the clients, serves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

FULL_NAME = "rstar.v1.SearchService"


def serve(
    policy: Annotated[list[str], typer.Option(help="A policy server: HOST:PORT or dns:///HOST:PORT; repeatable.")],
    executor: Annotated[list[str], typer.Option(help="An executor: HOST:PORT or dns:///HOST:PORT; repeatable.")],
    ppm: Annotated[
        list[str] | None, typer.Option(help="A PPM server: HOST:PORT or dns:///HOST:PORT; repeatable.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes any free one.")] = 50_054,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port of the Prometheus metrics; unset: none.")
    ] = None,
    ready_file: Annotated[Path | None, typer.Option(help="File that gets host:port once the service is ready.")] = None,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="How long searches under way may still take after SIGTERM.")
    ] = 30.0,
    max_searches: Annotated[int, typer.Option(min=1, help="Searches at once; more are sent away.")] = 256,
    tenant: Annotated[str, typer.Option(help="Whom executors see calling; tenants take turns there.")] = "",
) -> None:
    """Serve the search coordinator until SIGTERM."""
    try:
        asyncio.run(
            _serve(
                policy, executor, ppm or [], host, port, metrics_port, ready_file, drain_seconds, max_searches, tenant
            )
        )
    except ValueError as error:
        typer.echo(f"search: {error}", err=True)
        raise typer.Exit(2) from None


async def _serve(
    policy: list[str],
    executor: list[str],
    ppm: list[str],
    host: str,
    port: int,
    metrics_port: int | None,
    ready_file: Path | None,
    drain_seconds: float,
    max_searches: int,
    tenant: str,
) -> None:
    import grpc

    from rstar.rpc import serving
    from rstar.rpc.clients import ExecutorClient, PolicyClient, PreferenceModelClient
    from rstar.v1 import search_pb2_grpc
    from rstar_search.servicer import SearchServicer

    policies, executors = PolicyClient(policy), ExecutorClient(executor, tenant=tenant)
    scorers = PreferenceModelClient(ppm) if ppm else None
    clients = [client for client in (policies, executors, scorers) if client is not None]

    async def connect() -> None:
        await asyncio.gather(*(client.connect() for client in clients))

    async def close() -> None:
        await asyncio.gather(*(client.close() for client in clients))

    def register(server: grpc.aio.Server) -> None:
        servicer = SearchServicer(policies, executors, scorers, max_searches)
        search_pb2_grpc.add_SearchServiceServicer_to_server(servicer, server)

    await serving.serve(
        "search",
        register,
        [FULL_NAME],
        host=host,
        port=port,
        metrics_port=metrics_port,
        drain_seconds=drain_seconds,
        ready_file=ready_file,
        warm_up=connect,
        close=close,
    )
