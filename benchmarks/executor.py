"""The cost of one execution, by method: ``python -m benchmarks.executor [--json]``.

Compares the executor, with every layer that this machine allows, with other ways to run the same programs in the same run:
a cold interpreter per program, a pool of worker processes, ``exec`` in the caller's process. Compare only figures of one
run: other machines and other load give other figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rstar_executor.server.local_executor import LocalExecutor

from rstar.interfaces import Execution, ExecutionLimits, ExecutionStatus, State

START = State("", "", ())
LIMITS = ExecutionLimits(seconds=30, memory_mib=1024)
LIGHT = "import math\nx = {0}\nprint(math.sqrt(x))"
HEAVY = "import sympy as sp\nx = sp.Symbol('x')\nprint(x + {0})"
HEAVY_PATH = (
    "import sympy as sp\nx = sp.symbols('x')",
    "e{0} = sp.integrate(sp.sin(x) * x ** ({0} % 3 + 1) + {0}, x)\nprint(e{0})",
)
STEPS = 16
LABELS = {
    "light_ms": "executor, light program, every layer",
    "heavy_ms": "executor, heavy program (sympy), every layer",
    "fork_floor_ms": "fork + exit + wait of a small process",
    "heavy_fork_floor_ms": "fork + exit + wait of a process with sympy loaded",
    "cold_light_ms": "cold python per program, light",
    "cold_heavy_ms": "cold python per program, sympy",
    "pool_light_ms": "pool of worker processes, light, no isolation",
    "pool_heavy_ms": "pool of worker processes, sympy, no isolation",
    "in_process_light_ms": "exec in the caller's process, light, no isolation",
    "in_process_heavy_ms": "exec in the caller's process, sympy, no isolation",
    "light_per_s": "executor, light programs per second, a slot per core",
    "snapshot_speedup_heavy16": "16-step heavy path: time without snapshots / time with snapshots",
}

_FORKS = """
import gc, os, statistics, sys, time
if len(sys.argv) > 1:
    import sympy
gc.collect(); gc.disable(); gc.freeze()
times = []
for _ in range(200):
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    times.append(time.perf_counter() - began)
print(statistics.median(times) * 1000)
"""


def checked(executions: Sequence[Execution]) -> list[str]:
    """Return the outputs. Raises ``RuntimeError`` when a program failed: its time would mean nothing."""
    failed = [execution for execution in executions if execution.status != ExecutionStatus.OK]
    if failed:
        raise RuntimeError(f"a benchmark's program failed: {failed[0]}")
    return [execution.stdout for execution in executions]


async def per_program_ms(executor: LocalExecutor, program: str, batches: int) -> float:
    """Return the wall milliseconds of one program, the median over batches of eight siblings."""
    times = []
    for batch in range(batches):
        candidates = [program.format(8 * batch + k) for k in range(8)]
        began = time.perf_counter()
        checked(await executor.execute(START, candidates, LIMITS))
        times.append((time.perf_counter() - began) / len(candidates))
    return statistics.median(times) * 1000


async def light_per_s(programs: int) -> float:
    """Return light programs per second with a slot per core."""
    async with LocalExecutor(cache_mib=0) as executor:
        calls = [[LIGHT.format(8 * call + k) for k in range(8)] for call in range(programs // 8)]
        began = time.perf_counter()
        for chunk in range(0, len(calls), 64):
            await asyncio.gather(*(executor.execute(START, call, LIMITS) for call in calls[chunk : chunk + 64]))
        return programs // 8 * 8 / (time.perf_counter() - began)


async def path_seconds(path: tuple[str, str], snapshot_mib: int) -> tuple[float, list[str]]:
    """Run a path step by step, as a search does; return its seconds and its outputs."""
    async with LocalExecutor(slots=1, cache_mib=0, snapshot_mib=snapshot_mib) as executor:
        first, more = path
        checked(await executor.execute(START, [f"{first}\nprint(0)"], LIMITS))
        steps, printed = [first], []
        began = time.perf_counter()
        for number in range(STEPS):
            step = more.format(number + 1)
            printed += checked(await executor.execute(State("", "", tuple(steps)), [step], LIMITS))
            steps.append(step)
        return time.perf_counter() - began, printed


async def speedup(path: tuple[str, str]) -> float:
    """Return the time of a path without snapshots over that with them; the outputs must be equal."""
    with_snapshots, printed = await path_seconds(path, 128)
    without_snapshots, printed_again = await path_seconds(path, 0)
    if printed != printed_again:
        raise RuntimeError("a path ended differently with and without snapshots")
    return without_snapshots / with_snapshots


def timed_ms(run: Callable[[str], object], program: str, times: int) -> float:
    """Return the median milliseconds of ``run`` over different programs."""
    seconds = []
    for k in range(times):
        began = time.perf_counter()
        run(program.format(k))
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) * 1000


def cold(program: str) -> None:
    """Run a program in a new interpreter."""
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def in_process(program: str) -> str:
    """Run a program in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
    return output.getvalue()


def fork_ms(*modules: str) -> float:
    """Return the milliseconds of a bare fork, exit and wait."""
    command = [sys.executable, "-c", _FORKS, *modules]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


async def measure(quick: bool) -> dict[str, float]:
    """Measure everything, one after the other."""
    batches = 10 if quick else 60
    figures: dict[str, float] = {}
    async with LocalExecutor(slots=1, cache_mib=0) as executor:
        for key, program in (("light_ms", LIGHT), ("heavy_ms", HEAVY)):
            await per_program_ms(executor, program.replace("{0}", "-{0}"), 1) if key == "heavy_ms" else None
            figures[key] = await per_program_ms(executor, program, batches)
    figures["fork_floor_ms"] = fork_ms()
    figures["heavy_fork_floor_ms"] = fork_ms("sympy")
    figures["cold_light_ms"] = timed_ms(cold, LIGHT, 5)
    figures["cold_heavy_ms"] = timed_ms(cold, HEAVY, 3)
    with ProcessPoolExecutor(os.cpu_count()) as pool:

        def pooled(program: str) -> None:
            pool.submit(in_process, program).result()

        for key, program in (("pool_light_ms", LIGHT), ("pool_heavy_ms", HEAVY)):
            timed_ms(pooled, program, 8)
            figures[key] = timed_ms(pooled, program, 50)
    for key, program in (("in_process_light_ms", LIGHT), ("in_process_heavy_ms", HEAVY)):
        timed_ms(in_process, program, 1)
        figures[key] = timed_ms(in_process, program, 50)
    figures["light_per_s"] = await light_per_s(400 if quick else 4000)
    figures["snapshot_speedup_heavy16"] = await speedup(HEAVY_PATH)
    return {key: round(figures[key], 3) for key in LABELS}


def show(figures: dict[str, float], layers: Sequence[str]) -> None:
    """Print the table."""
    table = Table(title=f"One execution; layers in force: {', '.join(layers)}")
    table.add_column("method")
    table.add_column("ms, /s or ratio", justify="right")
    for key, value in figures.items():
        table.add_row(LABELS[key], f"{value:,.2f}")
    Console().print(table)


async def layers_in_force() -> list[str]:
    """Return the names of the layers that this machine allows."""
    async with LocalExecutor(slots=1) as executor:
        return [layer.name for layer in executor.layers if layer.in_force]


def main(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object of figures.")] = False,
    quick: Annotated[bool, typer.Option(help="Fewer repetitions.")] = False,
) -> None:
    """Measure the executor and the other methods."""

    async def both() -> tuple[dict[str, float], list[str]]:
        layers = await layers_in_force()
        return await measure(quick), layers

    work: Coroutine[Any, Any, tuple[dict[str, float], list[str]]] = both()
    figures, layers = asyncio.run(work)
    if as_json:
        print(json.dumps({**figures, "layers": layers}))
    else:
        show(figures, layers)


if __name__ == "__main__":
    typer.run(main)
