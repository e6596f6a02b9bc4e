"""The executor service's command line: starts the wardens and serves calls."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rstar.rpc import service_options as options
from rstar.rpc.start_errors import exit_on_start_error

if TYPE_CHECKING:
    from rstar_executor.server.http_server import HttpServer
    from rstar_executor.server.local_executor import LocalExecutor


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
    waiting_per_slot: Annotated[
        int, typer.Option(min=1, help="Batches per slot that may wait; more are refused, over HTTP with code 429.")
    ] = 64,
    http_port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Port of POST /run_code, as of SandboxFusion, over HTTP; unset: none."),
    ] = None,
    http_keys: Annotated[
        Path | None, typer.Option(help="File with one TENANT:KEY per line that HTTP clients need; unset: none needed.")
    ] = None,
    http_cert: Annotated[
        Path | None, typer.Option(help="Certificate for HTTPS, in PEM format; unset: HTTP without TLS.")
    ] = None,
    http_cert_key: Annotated[Path | None, typer.Option(help="Its key; unset: in the certificate's file.")] = None,
    host: options.Host = options.DEFAULT_HOST,
    port: options.Port = 50_053,
    metrics_port: options.MetricsPort = None,
    health_port: options.HealthPort = None,
    ready_file: options.ReadyFile = None,
    drain_seconds: options.DrainSeconds = options.DEFAULT_DRAIN_SECONDS,
) -> None:
    """Serve a code executor over gRPC, and with --http-port over HTTP too.

    Example: `rstar serve executor --http-port 8080`
    """
    import sys
    from dataclasses import replace

    from rstar.rpc import serving
    from rstar_executor.server.local_executor import MAXIMUM, LocalExecutor, UnsafeError
    from rstar_executor.server.service import FULL_NAME, ExecutorService
    from rstar_executor.server.warden_client import WardenFailedError

    async def main() -> None:
        maximum = replace(MAXIMUM, seconds=max_seconds, memory_mib=max_memory_mib)
        executor = LocalExecutor(
            slots,
            maximum=maximum,
            cache_mib=cache_mib,
            snapshot_mib=snapshot_mib,
            canary_every=canary_every,
            waiting_per_slot=waiting_per_slot,
        )
        http = _http_server(executor, host, http_port, drain_seconds, http_keys, http_cert, http_cert_key)

        async def start() -> None:
            await executor.start()
            if http is not None:
                await http.start()

        async def close() -> None:
            if http is not None:
                await http.close()
            await executor.close()

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
            warm_up=start,
            drain_beside=None if http is None else http.drain,
            close=close,
        )

    with exit_on_start_error("executor"):
        try:
            asyncio.run(main())
        except (UnsafeError, WardenFailedError) as error:
            print(f"rstar: {error}; 'rstar executor doctor' shows all checks", file=sys.stderr)
            raise typer.Exit(1) from None


def _http_server(
    executor: LocalExecutor,
    host: str,
    port: int | None,
    drain_seconds: float,
    keys: Path | None,
    certificate: Path | None,
    key: Path | None,
) -> HttpServer | None:
    """Return the HTTP server that the options ask for. Raises ``ValueError`` and ``OSError`` for options that cannot be."""
    if port is None:
        if keys or certificate or key:
            raise ValueError("--http-keys, --http-cert and --http-cert-key need --http-port")
        return None
    if key and not certificate:
        raise ValueError("--http-cert-key needs --http-cert")
    try:
        from rstar_executor.server.http_server import HttpServer, HttpSettings
    except ModuleNotFoundError as error:
        raise ValueError(
            f"--http-port needs the extra executor ({error}): pip install 'rstar-math[executor]'"
        ) from None
    from rstar_executor.server.api_keys import read_keys

    tenants = {} if keys is None else read_keys(keys)
    return HttpServer(executor, HttpSettings(host.strip("[]"), port, drain_seconds, tenants, certificate, key))
