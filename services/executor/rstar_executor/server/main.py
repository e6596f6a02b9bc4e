"""The executor service's command line: starts the wardens and serves calls."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from rstar.rpc import service_options as options
from rstar.rpc.start_errors import exit_on_start_error


def serve(
    slots: Annotated[int | None, typer.Option(min=1, help="Batches that run at once; unset: one per core.")] = None,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Longest wall time of a program.")] = 60.0,
    max_memory_mib: Annotated[int, typer.Option(min=16, help="Most memory of a program.")] = 4096,
    cache_mib: Annotated[int, typer.Option(min=0, help="Memory for results of earlier programs; 0: none.")] = 64,
    snapshot_mib: Annotated[
        int,
        typer.Option(
            min=0,
            help="Memory per slot for snapshots, paused interpreters from which later steps with numpy, sympy or scipy continue; 0: none.",
        ),
    ] = 128,
    canary_every: Annotated[
        int, typer.Option(min=0, help="One program in this many is run twice, to count results that differ; 0: none.")
    ] = 256,
    host: options.Host = options.DEFAULT_HOST,
    port: options.Port = 50_053,
    metrics_port: options.MetricsPort = None,
    health_port: options.HealthPort = None,
    ready_file: options.ReadyFile = None,
    drain_seconds: options.DrainSeconds = options.DEFAULT_DRAIN_SECONDS,
) -> None:
    """Serve a code executor over gRPC."""
    import sys
    from dataclasses import replace

    from rstar.rpc import serving
    from rstar_executor.server.local_executor import MAXIMUM, LocalExecutor, UnsafeError
    from rstar_executor.server.service import FULL_NAME, ExecutorService
    from rstar_executor.server.warden_client import WardenFailedError

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
            health_port=health_port,
            drain_seconds=drain_seconds,
            ready_file=ready_file,
            warm_up=executor.start,
            close=executor.close,
        )

    with exit_on_start_error("executor"):
        try:
            asyncio.run(main())
        except (UnsafeError, WardenFailedError) as error:
            print(f"rstar: {error}; 'rstar executor doctor' shows all checks", file=sys.stderr)
            raise typer.Exit(1) from None
