"""``POST /run_code`` of a real server process: ``python -m benchmarks.sandbox [--json] [--seconds 5]``.

Requests per second and latency by concurrency, for a light program and for one with sympy, beside a cold interpreter per
program in the same run. Compare only figures of one run: other machines and other load give other figures. SandboxFusion's own
figures were measured elsewhere, with programs of its own suite; they are shown for their order of magnitude.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import aiohttp
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.executor import HEAVY, LIGHT

CONCURRENCY = (1, 4, 48)
COLD_CONCURRENCY = (1, 4)
COLD_PROGRAMS = {"light": 12, "sympy": 4}
PROGRAMS = {"light": LIGHT, "sympy": HEAVY}
SANDBOX_FUSION_MS = {1: 588.0, 4: 289.0}
"""SandboxFusion with isolation none, on two cores: milliseconds per program at a concurrency."""

Run = Callable[[str], Awaitable[None]]


class Load(NamedTuple):
    """Figures of one load: milliseconds from request to reply (median, 95th percentile), and programs per second."""

    median_ms: float
    p95_ms: float
    per_s: float

    @property
    def ms_per_program(self) -> float:
        """Wall milliseconds per program, as in a table of throughput."""
        return 1000 / self.per_s


@asynccontextmanager
async def server(slots: int) -> AsyncIterator[str]:
    """Start an executor with HTTP; yield the URL of ``/run_code``."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder, "ready")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "rstar_executor", "--slots", str(slots), "--port", "0", "--ready-file", str(ready)),
            *("--http-port", str(port), "--drain-seconds", "1"),
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            while not await asyncio.to_thread(ready.exists):
                if process.returncode is not None:
                    raise RuntimeError("the executor did not start; 'rstar executor doctor' says why")
                await asyncio.sleep(0.05)
            yield f"http://127.0.0.1:{port}/run_code"
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                await process.wait()


async def load(run: Run, program: str, concurrency: int, seconds: float, most: int | None = None) -> Load:
    """Keep ``concurrency`` programs running for ``seconds``, or until ``most`` have run; each has a text of its own."""
    numbers = itertools.count() if most is None else iter(range(most))
    until = time.perf_counter() + seconds
    latencies: list[float] = []

    async def client() -> None:
        for number in numbers:
            if most is None and time.perf_counter() > until:
                return
            began = time.perf_counter()
            await run(program.format(number))
            latencies.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    elapsed = time.perf_counter() - began
    latencies.sort()
    return Load(
        statistics.median(latencies),
        latencies[min(len(latencies) - 1, int(0.95 * len(latencies)))],
        len(latencies) / elapsed,
    )


async def cold(program: str) -> None:
    """Run a program in a new interpreter."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, printed = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"a benchmark's program failed: {printed.decode()}")


async def measure(seconds: float, slots: int) -> dict[str, dict[str, dict[int, Load]]]:
    """Return loads by method, program and concurrency."""
    figures: dict[str, dict[str, dict[int, Load]]] = {"run_code": {}, "cold": {}}
    async with server(slots) as url, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def run(program: str) -> None:
            request = {"code": program, "language": "python", "compile_timeout": 60, "run_timeout": 60}
            async with session.post(url, json=request) as response:
                reply: dict[str, Any] = await response.json()
            if reply.get("status") != "Success":
                raise RuntimeError(f"a benchmark's program failed: {reply}")

        for name, program in PROGRAMS.items():
            await load(run, program, 2 * slots, 60, most=8 * slots)  # loads the zygotes
            figures["run_code"][name] = {at: await load(run, program, at, seconds) for at in CONCURRENCY}
    for name, program in PROGRAMS.items():
        figures["cold"][name] = {at: await load(cold, program, at, 60, COLD_PROGRAMS[name]) for at in COLD_CONCURRENCY}
    return figures


def show(figures: dict[str, dict[str, dict[int, Load]]], slots: int) -> None:
    """Print the table."""
    table = Table(title=f"POST /run_code, {slots} slots on {os.cpu_count()} cores")
    for heading in ("method", "program", "at once", "ms/program", "programs/s", "latency ms", "95 %"):
        table.add_column(heading, justify="left" if heading in ("method", "program") else "right")
    for method, programs in figures.items():
        for program, loads in programs.items():
            for at, found in loads.items():
                cells = (found.ms_per_program, found.per_s, found.median_ms, found.p95_ms)
                table.add_row(method, program, str(at), *(f"{cell:,.1f}" for cell in cells))
    for at, ms in SANDBOX_FUSION_MS.items():
        table.add_row("SandboxFusion, elsewhere", "its own", str(at), f"{ms:,.0f}", f"{1000 / ms:,.1f}", "", "")
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def main(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object of figures.")] = False,
    seconds: Annotated[float, typer.Option(min=0.1, help="Seconds per load.")] = 5.0,
    slots: Annotated[int | None, typer.Option(min=1, help="Slots of the executor; unset: one per core.")] = None,
) -> None:
    """Measure /run_code and cold interpreters."""
    count = slots or os.cpu_count() or 1
    figures = asyncio.run(measure(seconds, count))
    if as_json:
        rows = {
            method: {
                program: {
                    at: {key: round(value, 3) for key, value in found._asdict().items()} for at, found in loads.items()
                }
                for program, loads in programs.items()
            }
            for method, programs in figures.items()
        }
        print(json.dumps({"slots": count, "cores": os.cpu_count(), "sandbox_fusion_ms": SANDBOX_FUSION_MS, **rows}))
    else:
        show(figures, count)


if __name__ == "__main__":
    typer.run(main)
