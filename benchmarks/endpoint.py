"""Measures the OpenAI-compatible endpoint under load: ``python -m benchmarks.endpoint [--json]``.

Clients ask again as soon as they have an answer; a scripted search service answers after a fixed time, so the figures are
those of the endpoint. Half of the requests are streamed. Every request must be answered (200) or refused (429 with
Retry-After), and the memory of the endpoint must not grow.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated

import aiohttp
import psutil
import typer
from rich.console import Console
from rich.table import Table

from tests.support.rpc.servicers import service_process

LABELS = {
    "answered": "requests answered (200)",
    "refused": "requests refused (429 with Retry-After)",
    "lost": "requests with any other end",
    "answered_per_s": "answers per second",
    "p50_s": "median time of an answer, s",
    "p99_s": "its 99th percentile, s",
    "rss_start_mib": "memory of the endpoint after a tenth of the time, MiB",
    "rss_end_mib": "at the end, MiB",
}
MOST_PAUSE = 1.0
"""Clients wait for Retry-After, but no longer than this, in seconds: the load must last."""


@dataclass
class Load:
    """What the clients saw."""

    ends: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)


async def client(url: str, number: int, until: float, load: Load) -> None:
    async with aiohttp.ClientSession() as session:
        turn = number
        while time.monotonic() < until:
            turn += 1
            stream = turn % 2 == 0
            question = [{"role": "user", "content": f"What is {turn} + {number}?"}]
            started, pause = time.monotonic(), 0.0
            try:
                async with session.post(url, json={"model": "rstar", "messages": question, "stream": stream}) as reply:
                    body = await reply.read()
                    complete = body.endswith(b"data: [DONE]\n\n") if stream else b"#### 42" in body
                    if reply.status == 200 and complete:
                        load.ends["answered"] += 1
                        load.seconds.append(time.monotonic() - started)
                    elif reply.status == 429 and int(reply.headers["Retry-After"]) >= 1:
                        load.ends["refused"] += 1
                        pause = min(MOST_PAUSE, float(reply.headers["Retry-After"]))
                    else:
                        load.ends["lost"] += 1
            except (aiohttp.ClientError, ValueError, KeyError):
                load.ends["lost"] += 1
            await asyncio.sleep(pause)


async def measure(clients: int, seconds: float, search_seconds: float, slots: int, places: int) -> dict[str, float]:
    options = ("--port", "0", "--max-searches", str(slots), "--max-queue", str(places))
    async with (
        service_process("tests.support.rpc.scripted_search", "--seconds", str(search_seconds)) as search,
        service_process("rstar_openai", "--search", search.address, *options) as served,
    ):
        # The pipe of the logs would fill.
        assert served.process.stderr is not None
        reading = asyncio.ensure_future(_discard(served.process.stderr))
        program = psutil.Process(served.process.pid)
        load, started = Load(), time.monotonic()
        url = f"http://{served.address}/v1/chat/completions"
        asking = [asyncio.ensure_future(client(url, i, started + seconds, load)) for i in range(clients)]
        await asyncio.sleep(seconds / 10)
        first = program.memory_info().rss
        await asyncio.gather(*asking)
        took, last = time.monotonic() - started, program.memory_info().rss
        reading.cancel()
    return {
        "answered": load.ends["answered"],
        "refused": load.ends["refused"],
        "lost": load.ends["lost"],
        "answered_per_s": load.ends["answered"] / took,
        "p50_s": statistics.median(load.seconds),
        "p99_s": statistics.quantiles(load.seconds, n=100)[98],
        "rss_start_mib": first / 2**20,
        "rss_end_mib": last / 2**20,
    }


async def _discard(stream: asyncio.StreamReader) -> None:
    while await stream.read(65_536):
        pass


def main(
    clients: Annotated[int, typer.Option(help="Clients at once.")] = 200,
    seconds: Annotated[float, typer.Option(help="How long they ask.")] = 60.0,
    search_seconds: Annotated[float, typer.Option(help="Duration of a scripted search.")] = 1.0,
    max_searches: Annotated[int, typer.Option(help="Searches at once.")] = 64,
    max_queue: Annotated[int, typer.Option(help="Requests that wait.")] = 64,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the figures; exit code 1 when a request was neither answered nor refused."""
    figures = asyncio.run(measure(clients, seconds, search_seconds, max_searches, max_queue))
    if as_json:
        print(json.dumps(figures))
    else:
        table = Table("measure", "figure", title=f"{clients} clients for {seconds:g} s")
        for name, label in LABELS.items():
            table.add_row(label, f"{figures[name]:,.1f}" if figures[name] % 1 else f"{figures[name]:,.0f}")
        Console().print(table)
    if figures["lost"]:
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
