"""The command line of the endpoint.

Heavy libraries are imported when the service starts, so that listing the commands stays fast.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from rstar.distribution import extra
from rstar.rpc import service_options as options
from rstar.rpc.start_errors import exit_on_start_error

READY_SECONDS = 10.0
"""How long a request waits for a search coordinator that is ready before it ends with 503."""


def serve(
    search: Annotated[list[str], typer.Option(help="A search coordinator: HOST:PORT or dns:///HOST:PORT; repeatable.")],
    host: options.Host = options.DEFAULT_HOST,
    port: options.Port = 8_000,
    metrics_port: options.MetricsPort = None,
    ready_file: options.ReadyFile = None,
    drain_seconds: options.DrainSeconds = options.DEFAULT_DRAIN_SECONDS,
    model_name: Annotated[
        str, typer.Option(help="Name of the model; NAME-greedy and so on are the other search methods.")
    ] = "rstar",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A search setting of every model, KEY=VALUE; repeatable.")
    ] = None,
    equivalence: Annotated[
        str, typer.Option(help="Verifier that tells which answers are equal in a vote; empty: equal texts.")
    ] = "math-verify",
    steps: Annotated[
        Literal["text", "reasoning"],
        typer.Option(help="Where the steps of a solution are shown: in the content or in reasoning_content."),
    ] = "text",
    progress: Annotated[bool, typer.Option(help="Stream the progress of a search as reasoning_content.")] = True,
    timeout_seconds: Annotated[
        float, typer.Option(min=0.001, help="Deadline of a request, its wait included.")
    ] = 600.0,
    max_searches: Annotated[int, typer.Option(min=1, help="Searches at once; further requests wait.")] = 64,
    max_queue: Annotated[int, typer.Option(min=0, help="Requests that wait; further ones get 429.")] = 64,
    max_rollouts: Annotated[int, typer.Option(min=1, help="Most rollouts of a request.")] = 64,
    max_candidates: Annotated[int, typer.Option(min=1, help="Most candidates per expansion of a request.")] = 32,
    max_trajectories: Annotated[int, typer.Option(min=1, help="Most trees of a request.")] = 8,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Token budget of a search, and the most that a request may ask for.")
    ] = 1_000_000,
    max_choices: Annotated[int, typer.Option(min=1, help="Most choices (n) of a request.")] = 8,
    max_body_kib: Annotated[int, typer.Option(min=1, help="Size limit of a request, in KiB.")] = 256,
    api_keys: Annotated[
        Path | None, typer.Option(help="File with a line NAME KEY per key; read again when it changes.")
    ] = None,
    api_key_env: Annotated[str | None, typer.Option(help="Environment variable with the only key.")] = None,
    key_at_once: Annotated[int | None, typer.Option(min=1, help="Requests at once of a key.")] = None,
    key_requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Requests per minute of a key.")] = None,
    key_tokens_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Generated tokens per minute of a key.")
    ] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="Origin of pages that may call from a browser, or *; repeatable.")
    ] = None,
) -> None:
    """Serve OpenAI's chat completions over the search service until SIGTERM."""
    with exit_on_start_error("openai"):
        from rstar.rpc.search_client import SearchClient
        from rstar.verify import equivalence as known_equivalence
        from rstar_openai.admission import Admission
        from rstar_openai.keys import KeyRing
        from rstar_openai.limits import Limits
        from rstar_openai.models import Caps, Models, default_settings
        from rstar_openai.request import ChatDefaults

        try:
            from rstar_openai import server
            from rstar_openai.app import Endpoint, Settings
        except ModuleNotFoundError as error:
            raise ValueError(f"{error}; {extra('openai')}") from None

        caps = Caps(max_rollouts, max_candidates, max_trajectories, max_tokens, max_choices)
        models = Models(model_name, default_settings(settings or ()), caps)
        if equivalence:
            known_equivalence(equivalence)
        limits = Limits(key_at_once, key_requests_per_minute, key_tokens_per_minute)
        keys = KeyRing(api_keys, _key_in(api_key_env), limits)
        chosen = Settings(
            models,
            caps,
            ChatDefaults(steps, progress),
            equivalence,
            timeout_seconds,
            max_body_kib * 1024,
            frozenset(cors_origin or ()),
        )

        async def main() -> None:
            client = SearchClient(search, ready_seconds=READY_SECONDS)
            endpoint = Endpoint(client, chosen, keys, Admission(max_searches, max_queue))
            await server.run(
                endpoint,
                client,
                host=host,
                port=port,
                metrics_port=metrics_port,
                ready_file=ready_file,
                drain_seconds=drain_seconds,
            )

        asyncio.run(main())


def _key_in(variable: str | None) -> str | None:
    """Return the key in an environment variable. Raises ``ValueError`` when it is unset or too short."""
    from rstar_openai.keys import LEAST_CHARACTERS

    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(f"--api-key-env {variable}: the variable is empty; put the key into it")
    if len(key) < LEAST_CHARACTERS:
        raise ValueError(
            f"--api-key-env {variable}: the key has fewer than {LEAST_CHARACTERS} characters; make a longer one"
        )
    return key
