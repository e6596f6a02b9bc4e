"""The searches of one request: a client that leaves ends them at any moment."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from rstar_openai.searches import Searches

from rstar.rpc.errors import CallFailed


class NoRequest:
    """A request without searches: the test gives the events."""

    question = "What is 6 times 7?"
    config: Any = None
    seeds = ()


@pytest.mark.parametrize("turns", range(5))
async def test_a_cancellation_that_comes_with_an_event_is_not_lost(turns: int) -> None:
    client: Any = None
    searches = Searches(client, NoRequest(), equivalence="", seconds=60)

    async def follow() -> None:
        while True:
            with contextlib.suppress(CallFailed):
                await searches.next(60)

    waiting = asyncio.ensure_future(follow())
    await asyncio.sleep(0.01)
    searches._events.put_nowait(CallFailed("search service", "", "lost"))
    for _ in range(turns):
        await asyncio.sleep(0)
    waiting.cancel()
    done, _ = await asyncio.wait([waiting], timeout=10)
    assert done
    assert waiting.cancelled()
