"""The executor service's command line: start the wardens, serve.

The module refuses to run programs and to know the wire format.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer


def serve(
    slots: Annotated[int | None, typer.Option(min=1, help="Batches that run at once; unset: one per core.")] = None,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Longest wall time of a program.")] = 60.0,
    max_memory_mib: Annotated[int, typer.Option(min=16, help="Most memory of a program.")] = 4096,
    cache_mib: Annotated[int, typer.Option(min=0, help="Memory for results of earlier programs; 0: none.")] = 64,
    snapshot_mib: Annotated[
        int, typer.Option(min=0, help="Memory per slot for interpreters that later steps go on from; 0: none.")
    ] = 128,
    canary_every: Annotated[
        int, typer.Option(min=0, help="One program in so many runs twice, to count ends that differ; 0: none.")
    ] = 256,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes any free one.")] = 50_053,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port of the Prometheus metrics; unset: none.")
    ] = None,
    ready_file: Annotated[Path | None, typer.Option(help="File that gets host:port once the service is ready.")] = None,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="How long calls under way may still take after SIGTERM.")
    ] = 30.0,
) -> None:
    """Serve a code executor over gRPC."""
    from dataclasses import replace

    from rstar.rpc import serving
    from rstar_executor.server.local_executor import MAXIMUM, LocalExecutor
    from rstar_executor.server.service import FULL_NAME, ExecutorService

    async def main() -> None:
        maximum = replace(MAXIMUM, seconds=max_seconds, memory_mib=max_memory_mib)
        executor = LocalExecutor(
            slots, maximum=maximum, cache_mib=cache_mib, snapshot_mib=snapshot_mib, canary_every=canary_every
        )
        await serving.serve(
            "executor",
            ExecutorService(executor).register,
            [FULL_NAME],
            host=host,
            port=port,
            metrics_port=metrics_port,
            drain_seconds=drain_seconds,
            ready_file=ready_file,
            warm_up=executor.start,
            close=executor.close,
        )

    asyncio.run(main())
