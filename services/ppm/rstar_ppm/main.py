"""The command line of the PPM service: load a checkpoint, warm up, serve.

Heavy libraries are imported when the service starts, so that listing the commands stays fast.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from rstar.models.free_memory import PREFIX_SHARE
from rstar.models.model_folder import ConventionName, model_folder
from rstar.models.vllm_runtime import VllmOptions
from rstar.prompt import PromptStyle
from rstar.rpc import service_options as options
from rstar.rpc.start_errors import exit_on_start_error
from rstar.rpc.tls import own_certificate

if TYPE_CHECKING:
    from rstar_ppm.engine import Engine


def serve(
    model: options.Model,
    store: options.Store = None,
    round: options.Round = None,
    cache: options.Cache = options.DEFAULT_CACHE,
    prompt: Annotated[PromptStyle, typer.Option(help="Prompt the PPM was trained with.")] = "trained",
    convention: Annotated[
        ConventionName, typer.Option(help="How the model reads steps: rstar, or that of a public process reward model.")
    ] = "rstar",
    threads: options.Threads = None,
    max_rows: Annotated[int, typer.Option(min=1, help="Most packed rows of one forward pass.")] = 256,
    engine: options.EngineOption = "transformers",
    tensor_parallel: options.TensorParallel = 1,
    memory_share: options.MemoryShare = None,
    prefix_share: options.PrefixShare = PREFIX_SHARE,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    host: options.Host = options.DEFAULT_HOST,
    port: options.Port = 50_052,
    metrics_port: options.MetricsPort = None,
    health_port: options.HealthPort = None,
    ready_file: options.ReadyFile = None,
    drain_seconds: options.DrainSeconds = options.DEFAULT_DRAIN_SECONDS,
) -> None:
    """Serve a process preference model over gRPC."""
    from rstar.interfaces import State
    from rstar.rpc import serving

    serving.end_at_once_on_sigterm()
    with exit_on_start_error("ppm"):
        own_certificate()  # a faulty one is reported before a model is loaded
        options.check_engine_options(engine, tensor_parallel, memory_share)
        folder = model_folder(model, store, cache, round)
        # Imported after the settings are checked: these take seconds to load.
        from rstar_ppm.service import FULL_NAME, PreferenceModelService

        ppm: Engine
        if engine == "vllm":
            if convention != "rstar":
                raise ValueError(f"--convention {convention} needs --engine transformers")
            from rstar_ppm.vllm_ppm import VllmPreferenceModel

            vllm_options = VllmOptions(dtype, tensor_parallel, memory_share, max_rows, threads)
            ppm = VllmPreferenceModel.load(folder, prompt=prompt, options=vllm_options)
        else:
            from rstar_ppm.transformers_ppm import TransformersPreferenceModel

            ppm = TransformersPreferenceModel.load(
                folder,
                prompt=prompt,
                convention=convention,
                threads=threads,
                max_rows=max_rows,
                prefix_share=prefix_share,
                device=device,
                dtype=dtype,
            )

        async def warm_up() -> None:
            await ppm.score(State("", "1 + 1 = ?"), ["2"])

        asyncio.run(
            serving.serve(
                "ppm",
                PreferenceModelService(ppm).register,
                [FULL_NAME],
                host=host,
                port=port,
                metrics_port=metrics_port,
                health_port=health_port,
                drain_seconds=drain_seconds,
                ready_file=ready_file,
                warm_up=warm_up,
                close=ppm.close,
                failed=ppm.failed,
            )
        )
