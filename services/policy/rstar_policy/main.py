"""The policy service's command line: load a checkpoint, warm up, serve.

Heavy libraries are imported when the service starts, so that listing the commands stays fast. The module
refuses to generate and to know the wire format.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from rstar.models.model_folder import DeviceName, Precision, model_folder
from rstar.prompt import PromptStyle


def serve(
    model: Annotated[str, typer.Option(help="Checkpoint: a local folder, hf:ORG/NAME, or store:PREFIX.")],
    store: Annotated[str | None, typer.Option(help="Store of store: models: a folder or s3://BUCKET/PREFIX.")] = None,
    cache: Annotated[Path, typer.Option(help="Folder for fetched checkpoints.")] = Path(".rstar/cache"),
    prompt: Annotated[
        PromptStyle, typer.Option(help="Prompt of a trained policy, or few-shot for a general LLM.")
    ] = "trained",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of torch; unset: torch decides.")] = None,
    max_rows: Annotated[int, typer.Option(min=1, help="Most candidates decoded at once; others wait.")] = 1_024,
    device: Annotated[
        DeviceName, typer.Option(help="Where the model runs; auto takes a GPU if there is one.")
    ] = "auto",
    dtype: Annotated[
        Precision, typer.Option(help="Precision of the model; auto: the checkpoint's, float32 on CPU.")
    ] = "auto",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes any free one.")] = 50_051,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port of the Prometheus metrics; unset: none.")
    ] = None,
    ready_file: Annotated[Path | None, typer.Option(help="File that gets host:port once the service is ready.")] = None,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="How long calls under way may still take after SIGTERM.")
    ] = 30.0,
) -> None:
    """Serve a policy model over gRPC."""
    from rstar.interfaces import Sampling, State
    from rstar.rpc import serving
    from rstar.store.store import StoreError

    serving.end_at_once_on_sigterm()
    try:
        folder = model_folder(model, store, cache)
        # Here, so that bad settings are refused before the seconds that these take to load.
        from rstar_policy.service import FULL_NAME, PolicyService
        from rstar_policy.transformers_engine import TransformersPolicy

        engine = TransformersPolicy.load(
            folder,
            prompt=prompt,
            threads=threads,
            max_rows=max_rows,
            device=device,
            dtype=dtype,
        )
    except (ValueError, OSError) as error:
        typer.echo(f"policy: {error}", err=True)
        raise typer.Exit(2) from None
    except StoreError as error:
        typer.echo(f"policy: {error}", err=True)
        raise typer.Exit(1) from None

    async def warm_up() -> None:
        await engine.propose(State("", "1 + 1 = ?"), 1, Sampling(max_new_tokens=1), 0)

    asyncio.run(
        serving.serve(
            "policy",
            PolicyService(engine).register,
            [FULL_NAME],
            host=host,
            port=port,
            metrics_port=metrics_port,
            drain_seconds=drain_seconds,
            ready_file=ready_file,
            warm_up=warm_up,
            close=engine.close,
        )
    )
