"""Measures the speed of the search itself: ``python -m benchmarks.search [--json]``.

The figures are nodes per second in one process and over real gRPC, with models that answer at once; the throughput at
48 rollouts relative to 4; nodes per second with the real executor; and the memory of a tree node beyond its text. For
comparison: the paper's release falls from 69 to 36 nodes/s between 4 and 16 rollouts, with an executor without isolation.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rstar_executor.server.local_executor import LocalExecutor

from benchmarks.scripted import InstantExecutor, InstantPolicy, InstantPreferenceModel, InstantVerifier
from rstar.config import SearchConfig
from rstar.interfaces import Executor, Policy, PreferenceModel
from rstar.problem import Problem
from rstar.rpc.clients import ExecutorClient, PolicyClient, PreferenceModelClient
from rstar.search.expansion import SearchContext
from rstar.search.mcts import mcts
from rstar.search.solve import solve

CANDIDATES = 8
CONCURRENCY = 32
LABELS = {
    "in_process_nodes_per_s": "search core, nodes/s",
    "grpc_nodes_per_s": "through real gRPC services (policy, PPM, executor), nodes/s",
    "throughput_48_vs_4": "throughput at 48 rollouts / at 4",
    "executor_nodes_per_s": "with the real executor, light programs, nodes/s",
    "bytes_per_node": "memory per tree node beyond its text, bytes",
}


async def nodes_per_s(
    problems: int, rollouts: int, policy: Policy, executor: Executor, ppm: PreferenceModel | None = None
) -> float:
    """Search ``problems`` problems, up to 32 at once, and return the tree nodes per second."""
    config = SearchConfig(
        rollouts=rollouts, candidates=CANDIDATES, answer="output", guidance="ppm" if ppm is not None else "none"
    )
    gate = asyncio.Semaphore(CONCURRENCY)

    async def search(i: int) -> int:
        async with gate:
            record = await solve(
                Problem(f"p{i}", "?", "1"),
                config,
                policy=policy,
                executor=executor,
                ppm=ppm,
                verifier=InstantVerifier(),
                seed=i,
            )
            return record.usage.nodes

    start = time.perf_counter()
    nodes = sum(await asyncio.gather(*(search(i) for i in range(problems))))
    return nodes / (time.perf_counter() - start)


async def over_grpc(problems: int) -> float:
    """Return the nodes per second with the scripted models served by a separate process."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready"
        server = subprocess.Popen([sys.executable, "-m", "benchmarks.scripted", str(ready)], stderr=subprocess.DEVNULL)
        try:
            while not ready.exists():
                if server.poll() is not None:
                    raise RuntimeError(
                        "the scripted services ended before they were ready; run python -m benchmarks.scripted READY_FILE to see why"
                    )
                await asyncio.sleep(0.05)
            address = ready.read_text().strip()
            async with (
                PolicyClient([address]) as policy,
                ExecutorClient([address]) as executor,
                PreferenceModelClient([address]) as ppm,
            ):
                return await nodes_per_s(problems, 16, policy, executor, ppm)
        finally:
            server.terminate()
            server.wait()


async def bytes_per_node() -> float:
    """Return the memory that a tree takes per node, without its texts."""
    gc.collect()
    tracemalloc.start()
    context = SearchContext(
        Problem("p", "?", "1"),
        SearchConfig(rollouts=200, candidates=CANDIDATES, answer="output"),
        policy=InstantPolicy(),
        executor=InstantExecutor(),
        verifier=InstantVerifier(),
    )
    before, _ = tracemalloc.get_traced_memory()
    await mcts(context, 0, lambda: None)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    nodes = list(context.root.walk())
    return (after - before - sum(len(node.text) for node in nodes)) / len(nodes)


async def measure() -> dict[str, float]:
    """Run all measurements, in about half a minute."""
    policy, executor = InstantPolicy(), InstantExecutor()
    figures = {"in_process_nodes_per_s": await nodes_per_s(200, 16, policy, executor, InstantPreferenceModel())}
    figures["grpc_nodes_per_s"] = await over_grpc(64)
    few, many = await nodes_per_s(400, 4, policy, executor), await nodes_per_s(60, 48, policy, executor)
    figures["throughput_48_vs_4"] = many / few
    async with LocalExecutor() as real:
        figures["executor_nodes_per_s"] = await nodes_per_s(32, 4, policy, real)
    figures["bytes_per_node"] = await bytes_per_node()
    return figures


def main(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Measure the search."""
    figures = asyncio.run(measure())
    if as_json:
        print(json.dumps({key: round(value, 3) for key, value in figures.items()}))
        return
    table = Table("what", "figure")
    for key, value in figures.items():
        table.add_row(LABELS[key], f"{value:,.2f}" if value < 100 else f"{value:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
