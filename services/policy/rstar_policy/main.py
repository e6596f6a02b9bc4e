"""The command line of the policy service: load a checkpoint or ask a running server, warm up, serve.

Heavy libraries are imported when the service starts, so that listing the commands stays fast.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer

from rstar.models.free_memory import PREFIX_SHARE
from rstar.models.model_folder import adapter_folder, model_folder
from rstar.models.prompt_file import few_shot_file
from rstar.models.vllm_runtime import VllmOptions
from rstar.prompt import FEW_SHOT, PromptStyle
from rstar.rpc import service_options as options
from rstar.rpc.start_errors import exit_on_start_error
from rstar.rpc.tls import own_certificate
from rstar.store.open import open_store
from rstar_policy.engine import Engine
from rstar_policy.instruct_engine import InstructPolicy

ROWS: Final = 1_024
VLLM_ROWS: Final = 256
"""vLLM reserves memory for its rows when it starts."""


def serve(
    model: Annotated[
        str | None,
        typer.Option(help="Checkpoint: a local folder, hf:ORG/NAME@REVISION, or store:PREFIX.", show_default=False),
    ] = None,
    store: options.Store = None,
    round: options.Round = None,
    cache: options.Cache = options.DEFAULT_CACHE,
    prompt: Annotated[
        PromptStyle,
        typer.Option(
            help="Prompt of a trained policy, few-shot for a general LLM (bootstrap), or that in a chat template (chat)."
        ),
    ] = "trained",
    prompt_file: Annotated[
        str | None,
        typer.Option(
            help="Few-shot prompt of your own with {question} in it: a file or store:PATH.", show_default=False
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(help="URL of a running server with OpenAI's completions, such as vllm serve; instead of --model."),
    ] = None,
    model_name: Annotated[
        str | None, typer.Option(help="Name of the endpoint's model; unset: its only one.", show_default=False)
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="Environment variable with the endpoint's key; unset: none.", show_default=False)
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Folder or hf:ORG/NAME@REVISION with the endpoint's chat template.", show_default=False),
    ] = None,
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
    prefix_share: options.PrefixShare = PREFIX_SHARE,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    host: options.Host = options.DEFAULT_HOST,
    port: options.Port = 50_051,
    metrics_port: options.MetricsPort = None,
    health_port: options.HealthPort = None,
    ready_file: options.ReadyFile = None,
    drain_seconds: options.DrainSeconds = options.DEFAULT_DRAIN_SECONDS,
) -> None:
    """Serve a policy model over gRPC: a checkpoint, or the model of a running server."""
    from rstar.interfaces import Sampling, State
    from rstar.rpc import serving

    serving.end_at_once_on_sigterm()
    with exit_on_start_error("policy"):
        if (model is None) == (endpoint is None):
            raise ValueError("give either --model, a checkpoint, or --endpoint, the URL of a running server")
        own_certificate()  # a faulty one is reported before a model is loaded
        options.check_engine_options(engine, tensor_parallel, memory_share, adapter)
        opened = None if store is None else open_store(store)
        few_shot = FEW_SHOT if prompt_file is None else few_shot_file(prompt_file, opened, cache)
        # Imported after the settings are checked: they take seconds to load.
        from rstar_policy.service import FULL_NAME, PolicyService

        loaded: Engine
        if endpoint is not None:
            from rstar_policy.openai_engine import open_endpoint
            from rstar_policy.openai_prompt import endpoint_prompt

            render = endpoint_prompt(prompt, few_shot, tokenizer, opened, cache, round)
            loaded = open_endpoint(endpoint, model_name, api_key_env, render, max_rows or ROWS)
        elif engine == "vllm":
            from rstar_policy.vllm_engine import VllmPolicy

            loaded = VllmPolicy.load(
                model_folder(model or "", store, cache, round),
                prompt=prompt,
                few_shot=few_shot,
                options=VllmOptions(dtype, tensor_parallel, memory_share, max_rows or VLLM_ROWS, threads),
                adapter=None if adapter is None else adapter_folder(adapter, store, cache),
            )
        else:
            from rstar_policy.transformers_engine import TransformersPolicy

            loaded = TransformersPolicy.load(
                model_folder(model or "", store, cache, round),
                prompt=prompt,
                few_shot=few_shot,
                threads=threads,
                max_rows=max_rows or ROWS,
                prefix_share=prefix_share,
                device=device,
                dtype=dtype,
            )
        if prompt != "trained":
            loaded = InstructPolicy(loaded)

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
                health_port=health_port,
                drain_seconds=drain_seconds,
                ready_file=ready_file,
                warm_up=warm_up,
                close=loaded.close,
                failed=loaded.failed,
            )
        )
