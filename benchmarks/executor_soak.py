"""Many mixed programs in a row on one executor: ``python -m benchmarks.executor_soak [--programs 100000] [--json]``.

Every result is known and checked. Afterwards the executor must hold no more processes, descriptors, memory and files than
after the first thousand programs, and it must be as fast as a fresh one. The two are timed in turns, because the speed of
a machine drifts.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import psutil
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rstar_executor.server.local_executor import LocalExecutor

from rstar.interfaces import ExecutionLimits, State
from rstar.interfaces import ExecutionStatus as S

LIMITS: Final = ExecutionLimits(seconds=1, memory_mib=128)
BATCH: Final = 8
AT_ONCE: Final = 8
WARM: Final = 1_000
TURNS: Final = 9
PER_TURN: Final = 400

# Weight, program ({0} is replaced by a number), status, output.
MIX: Final = (
    (880, "import math\nprint(math.isqrt({0} ** 2))", S.OK, "{0}\n"),
    (30, "import sympy\nx = sympy.Symbol('x')\nprint(sympy.expand((x + {0}) * 1) - {0})", S.OK, "x\n"),
    (40, "print({0})\nprint(1 / 0)", S.EXCEPTION, "{0}\n"),
    (10, "print({0}, flush=True)\nimport os\nos._exit(3)", S.CRASHED, "{0}\n"),
    (10, "open('left-{0}', 'w').write('x' * 100_000)\nprint({0})", S.OK, "{0}\n"),
    (10, "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(600)\nprint({0})", S.OK, "{0}\n"),
    (
        *(10, "import threading\nt = threading.Thread(target=print, args=({0},))\nt.start()\nt.join()"),
        *(S.OK, "{0}\n"),
    ),
    (
        5,
        "import tempfile, socket\na, b = socket.socketpair()\na.send(b'{0}')\nprint(b.recv(9).decode())",
        S.OK,
        "{0}\n",
    ),
    (4, "x = [{0}]\nwhile True: x.append(bytes(1 << 24))", S.MEMORY, ""),
    (1, "print({0}, flush=True)\nwhile True: pass", S.TIMEOUT, "{0}\n"),
)


def drawn(rng: random.Random, number: int) -> tuple[str, S, str]:
    """Return a program, its status and its output."""
    _, program, status, output = rng.choices(MIX, weights=[weight for weight, *_ in MIX])[0]
    return program.replace("{0}", str(number)), status, output.replace("{0}", str(number))


async def run_all(executor: LocalExecutor, programs: Sequence[tuple[str, S, str]]) -> None:
    """Run programs. Raises ``RuntimeError`` when one has a wrong result."""
    executions = await executor.execute(State("", "", ()), [program for program, _, _ in programs], LIMITS)
    for (program, status, output), execution in zip(programs, executions, strict=True):
        if (execution.status, execution.stdout) != (status, output):
            raise RuntimeError(f"{program!r} ended as {execution}")


async def soak(executor: LocalExecutor, first: int, programs: int, progress: Progress | None) -> None:
    """Run ``programs`` programs, several calls at once."""
    rng = random.Random(first)
    task = progress.add_task("programs", total=programs) if progress is not None else None
    calls = iter(range(first, first + programs, BATCH))

    async def worker() -> None:
        for number in calls:
            await run_all(executor, [drawn(rng, number + k) for k in range(BATCH)])
            if progress is not None and task is not None:
                progress.advance(task, BATCH)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())


def usage(executor: LocalExecutor, folder: Path) -> dict[str, int]:
    """Return an executor's processes, descriptors of wardens and caller, MiB, directory entries and bytes on disk."""
    parents = [psutil.Process(pid) for pid in executor.warden_pids()]
    wardens = [child for parent in parents for child in parent.children()]
    processes = [process for parent in parents for process in (parent, *parent.children(recursive=True))]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        "processes": len(processes),
        "descriptors": sum(process.num_fds() for process in (psutil.Process(), *parents, *wardens)),
        "warden_mib": sum(process.memory_full_info().uss for process in wardens) >> 20,
        "caller_mib": psutil.Process().memory_full_info().uss >> 20,
        "entries": sum(1 for _ in folder.iterdir()),
        "disk_bytes": sum(path.stat().st_size for path in files),
    }


async def seconds_of(executor: LocalExecutor, turn: int) -> float:
    """Return the seconds of one turn of light programs; every executor runs the same ones in a turn."""
    began = time.perf_counter()
    for call in range(PER_TURN // BATCH):
        number = 10_000_000 + turn * PER_TURN + call * BATCH
        await run_all(executor, [(f"print({number + k})", S.OK, f"{number + k}\n") for k in range(BATCH)])
    return time.perf_counter() - began


async def measure(programs: int, slots: int | None, progress: Progress | None) -> dict[str, float]:
    """Run programs on an executor and compare it with its own start and with a fresh one."""
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        async with LocalExecutor(slots, cache_mib=0) as aged:
            await soak(aged, 0, WARM, None)
            before = usage(aged, Path(folder))
            began = time.perf_counter()
            await soak(aged, WARM, programs, progress)
            seconds = time.perf_counter() - began
            after = usage(aged, Path(folder))
            async with LocalExecutor(slots, cache_mib=0) as fresh:
                await soak(fresh, 0, WARM, None)
                ratios = []
                for turn in range(TURNS):
                    fresh_seconds = await seconds_of(fresh, turn)
                    ratios.append(fresh_seconds / await seconds_of(aged, turn))
        tempfile.tempdir = None
    figures = {
        "programs": float(programs),
        "programs_per_s": programs / seconds,
        "aged_to_fresh": statistics.median(ratios),
    }
    for key, value in before.items():
        figures |= {f"{key}_before": value, f"{key}_after": after[key]}
    return {key: round(value, 3) for key, value in figures.items()}


def main(
    programs: Annotated[int, typer.Option(min=1, help="Number of programs.")] = 100_000,
    slots: Annotated[int | None, typer.Option(min=1, help="Batches that run at once; unset: one per core.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object of figures.")] = False,
) -> None:
    """Run many mixed programs and look for leftovers."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        figures = asyncio.run(measure(programs, slots, progress))
    if as_json:
        print(json.dumps(figures))
        return
    table = Table("figure", "value", title="Mixed programs in a row")
    for key, value in figures.items():
        table.add_row(key.replace("_", " "), f"{value:,.10g}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
