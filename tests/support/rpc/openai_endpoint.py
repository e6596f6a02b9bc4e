"""An endpoint in this process, over a scripted search service on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from rstar_openai.admission import Admission
from rstar_openai.app import Endpoint, Settings
from rstar_openai.keys import KeyRing
from rstar_openai.limits import Limits
from rstar_openai.models import Caps, Models
from rstar_openai.request import ChatDefaults

from rstar.rpc.search_client import SearchClient
from rstar.v1 import search_pb2_grpc
from tests.support.rpc.scripted_search import ScriptedSearch
from tests.support.rpc.servicers import running


@dataclass
class RunningEndpoint:
    """The endpoint, its URL and the search service behind it."""

    url: str
    endpoint: Endpoint
    search: ScriptedSearch


@asynccontextmanager
async def endpoint(
    search: search_pb2_grpc.SearchServiceServicer | None = None,
    *,
    keys: Path | None = None,
    limits: Limits | None = None,
    admission: tuple[int, int] = (8, 8),
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[RunningEndpoint]:
    """Serve on loopback over a scripted search service or ``search``; ``options`` are those of ``Settings``."""
    service = search or ScriptedSearch()
    scripted = service if isinstance(service, ScriptedSearch) else ScriptedSearch()
    caps = Caps()
    chosen = Settings(Models("rstar", settings or {}, caps), caps, ChatDefaults(), **options)
    async with running(service) as behind, SearchClient([behind.address], ready_seconds=10) as client:
        served = Endpoint(client, chosen, KeyRing(keys, None, limits or Limits()), Admission(*admission))
        served.ready = True
        runner = web.AppRunner(served.application(), handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield RunningEndpoint(f"http://127.0.0.1:{runner.addresses[0][1]}", served, scripted)
        finally:
            await runner.cleanup()
