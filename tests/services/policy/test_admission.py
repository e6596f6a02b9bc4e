"""The queue in front of an engine: order, bounds, and nothing lost to cancelled requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rstar_policy.admission import Admission, Overloaded


class Load:
    """Requests against one queue; a request runs until it is released or cancelled."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.begun: list[int] = []
        self.release: dict[int, asyncio.Event] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}

    async def start(self, number: int, candidates: int, tokens: int = 1) -> None:
        self.release[number] = asyncio.Event()
        self.tasks[number] = asyncio.ensure_future(self._run(number, candidates, tokens))
        await asyncio.sleep(0)

    async def _run(self, number: int, candidates: int, tokens: int) -> None:
        async with self.admission.admitted(candidates, tokens):
            self.begun.append(number)
            await self.release[number].wait()

    async def end(self, number: int, how: Callable[[int], object]) -> None:
        how(number)
        await asyncio.gather(self.tasks[number], return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)


async def test_requests_begin_in_order_as_rows_become_free() -> None:
    load = Load(Admission(4))
    for number, candidates in enumerate((3, 2, 1)):
        await load.start(number, candidates)
    assert load.begun == [0], "a small request has overtaken a larger one"
    assert load.admission.waiting == 3
    await load.end(0, lambda number: load.release[number].set())
    assert load.begun == [0, 1, 2]


async def test_a_request_larger_than_the_engine_runs_alone() -> None:
    load = Load(Admission(4))
    await load.start(0, 9)
    await load.start(1, 1)
    assert load.begun == [0]


async def test_a_request_beyond_the_waiting_tokens_is_refused_at_once() -> None:
    load = Load(Admission(1, most_waiting_tokens=100))
    await load.start(0, 1, 1_000)
    await load.start(1, 1, 90)
    await load.start(2, 1, 20)
    with pytest.raises(Overloaded, match="90 tokens wait already"):
        await load.tasks[2]
    await load.end(0, lambda number: load.release[number].set())
    assert load.begun == [0, 1]


@given(st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=12))
def test_no_candidate_is_lost_or_counted_twice(requests: list[tuple[int, bool]]) -> None:
    async def run() -> None:
        load = Load(Admission(4))
        for number, (candidates, _) in enumerate(requests):
            await load.start(number, candidates)
        for number, (_, cancelled) in enumerate(requests):
            await load.end(number, lambda i: load.tasks[i].cancel() if cancelled else load.release[i].set())  # noqa: B023
            assert load.admission.running <= 6
        assert (load.admission.running, load.admission.waiting) == (0, 0)

    asyncio.run(run())
