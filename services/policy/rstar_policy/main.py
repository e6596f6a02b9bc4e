"""The command line of the policy service: load a checkpoint, warm up, serve.

Heavy libraries are imported when the service starts, so that listing the commands stays fast.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import typer

from rstar.models.model_folder import adapter_folder, model_folder
from rstar.models.vllm_runtime import VllmOptions
from rstar.prompt import PromptStyle
from rstar.rpc import service_options as options
from rstar.rpc.start_errors import exit_on_start_error

if TYPE_CHECKING:
    from rstar_policy.engine import Engine

VLLM_ROWS: Final = 256
"""vLLM reserves memory for its rows when it starts."""


def serve(
    model: options.Model,
    store: options.Store = None,
    round: options.Round = None,
    cache: options.Cache = options.DEFAULT_CACHE,
    prompt: Annotated[
        PromptStyle, typer.Option(help="Prompt of a trained policy, or few-shot for a general LLM.")
    ] = "trained",
    threads: options.Threads = None,
    max_rows: Annotated[
        int | None,
        typer.Option(
            min=1, help="Most candidates decoded at once; others wait. Unset: 1024, with the engine vllm 256."
        ),
    ] = None,
    engine: options.EngineOption = "transformers",
    tensor_parallel: options.TensorParallel = 1,
    memory_share: options.MemoryShare = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            help="LoRA adapter on the model, as PEFT writes it (engine vllm): a local folder or store:PREFIX."
        ),
    ] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    host: options.Host = options.DEFAULT_HOST,
    port: options.Port = 50_051,
    metrics_port: options.MetricsPort = None,
    ready_file: options.ReadyFile = None,
    drain_seconds: options.DrainSeconds = options.DEFAULT_DRAIN_SECONDS,
) -> None:
    """Serve a policy model over gRPC."""
    from rstar.interfaces import Sampling, State
    from rstar.rpc import serving

    serving.end_at_once_on_sigterm()
    with exit_on_start_error("policy"):
        options.check_engine_options(engine, tensor_parallel, memory_share, adapter)
        folder = model_folder(model, store, cache, round)
        # Imported after the settings are checked: these take seconds to load.
        from rstar_policy.service import FULL_NAME, PolicyService

        loaded: Engine
        if engine == "vllm":
            from rstar_policy.vllm_engine import VllmPolicy

            vllm_options = VllmOptions(dtype, tensor_parallel, memory_share, max_rows or VLLM_ROWS, threads)
            added = None if adapter is None else adapter_folder(adapter, store, cache)
            loaded = VllmPolicy.load(folder, prompt=prompt, options=vllm_options, adapter=added)
        else:
            from rstar_policy.transformers_engine import MAX_ROWS, TransformersPolicy

            loaded = TransformersPolicy.load(
                folder, prompt=prompt, threads=threads, max_rows=max_rows or MAX_ROWS, device=device, dtype=dtype
            )

        async def warm_up() -> None:
            await loaded.propose(State("", "1 + 1 = ?"), 1, Sampling(max_new_tokens=1), 0)

        asyncio.run(
            serving.serve(
                "policy",
                PolicyService(loaded).register,
                [FULL_NAME],
                host=host,
                port=port,
                metrics_port=metrics_port,
                drain_seconds=drain_seconds,
                ready_file=ready_file,
                warm_up=warm_up,
                close=loaded.close,
                failed=loaded.failed,
            )
        )
