from __future__ import annotations

import asyncio

import pytest

from rstar.models.futures import settle_from_thread


async def test_a_result_and_an_exception_reach_the_event_loop_from_a_thread() -> None:
    loop = asyncio.get_running_loop()
    good: asyncio.Future[int] = loop.create_future()
    bad: asyncio.Future[int] = loop.create_future()
    await asyncio.to_thread(settle_from_thread, good, 1)
    await asyncio.to_thread(settle_from_thread, bad, ValueError("no"))
    assert await good == 1
    with pytest.raises(ValueError, match="no"):
        await bad


async def test_a_future_that_is_cancelled_or_settled_keeps_its_state() -> None:
    loop = asyncio.get_running_loop()
    cancelled: asyncio.Future[int] = loop.create_future()
    settled: asyncio.Future[int] = loop.create_future()
    cancelled.cancel()
    settled.set_result(1)
    for future in (cancelled, settled):
        await asyncio.to_thread(settle_from_thread, future, 2)
    await asyncio.sleep(0)
    assert cancelled.cancelled()
    assert settled.result() == 1


def test_a_closed_event_loop_is_no_error() -> None:
    loop = asyncio.new_event_loop()
    future: asyncio.Future[int] = loop.create_future()
    loop.close()
    settle_from_thread(future, 1)
    assert not future.done()
