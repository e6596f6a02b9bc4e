"""The benchmark of the sandbox: what it counts as a load."""

from __future__ import annotations

import asyncio

from benchmarks.sandbox import load


async def test_a_load_runs_different_programs_at_most_so_many_at_once() -> None:
    running, most, seen = 0, 0, []

    async def run(program: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        seen.append(program)
        await asyncio.sleep(0.001)
        running -= 1

    found = await load(run, "print({0})", concurrency=4, seconds=60, most=20)
    assert sorted(seen) == sorted(f"print({k})" for k in range(20))
    assert most == 4
    assert 1 <= found.median_ms <= found.p95_ms
    assert abs(found.ms_per_program * found.per_s - 1000) < 1e-6


async def test_a_load_ends_after_its_seconds() -> None:
    async def run(_: str) -> None:
        await asyncio.sleep(0.001)

    assert (await load(run, "", concurrency=2, seconds=0.05)).per_s > 0
