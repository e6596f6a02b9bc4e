"""Bounds the searches at once and those that wait, in order of arrival; a request beyond both is refused at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from rstar_openai import metrics
from rstar_openai.errors import too_many

LONGEST_RETRY_SECONDS: Final = 60.0
_FIRST_GUESS_SECONDS: Final = 5.0
_SHARE: Final = 0.2
"""Weight of the newest duration in the moving mean."""


def retry_after(waiting: int, slots: int, mean_seconds: float) -> float:
    """Return the seconds until a place in the queue is likely to be free: the queue's length in turns of all slots."""
    return min(LONGEST_RETRY_SECONDS, max(1.0, mean_seconds * (waiting + 1) / slots))


class Admission:
    """``slots`` searches run at once and ``places`` requests wait. A request takes one slot for each of its choices."""

    def __init__(self, slots: int, places: int) -> None:
        self.slots = slots
        self._free = slots
        self._places = places
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._mean_seconds = _FIRST_GUESS_SECONDS

    @asynccontextmanager
    async def admit(self, searches: int) -> AsyncIterator[None]:
        """Hold ``searches`` slots, at most ``slots``; waits for them. Raises ``ApiError`` 429 when the queue is full."""
        if self._waiting or self._free < searches:
            await self._wait(searches)
        else:
            self._free -= searches
        loop = asyncio.get_running_loop()
        started = loop.time()
        metrics.ACTIVE.inc(searches)
        try:
            yield
        finally:
            metrics.ACTIVE.dec(searches)
            self._mean_seconds += _SHARE * (loop.time() - started - self._mean_seconds)
            self._release(searches)

    async def _wait(self, searches: int) -> None:
        if len(self._waiting) >= self._places:
            raise too_many(
                f"{self.slots - self._free} searches run and {len(self._waiting)} requests wait, the limits of this server; try again later",
                retry_after(len(self._waiting), self.slots, self._mean_seconds),
                code="overloaded",
            )
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((searches, turn))
        metrics.QUEUED.inc()
        try:
            await turn
        except asyncio.CancelledError:
            given = turn.done() and not turn.cancelled()  # its slots were given to it in the same moment
            if not given and (searches, turn) in self._waiting:
                self._waiting.remove((searches, turn))
            self._release(searches if given else 0)  # the request behind it may fit
            raise
        finally:
            metrics.QUEUED.dec()

    def _release(self, searches: int) -> None:
        self._free += searches
        while self._waiting:
            needed, turn = self._waiting[0]
            if not turn.cancelled():
                if self._free < needed:
                    return
                self._free -= needed
                turn.set_result(None)
            self._waiting.popleft()
