"""The queue in front of an engine: first come, first served, with a bound on what may wait.

vLLM accepts every request at once and keeps it in a queue of its own. A request that waits here instead has not begun, so
its deadline does not pass, and a client whose request is refused takes another server.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from rstar_policy import metrics

MOST_WAITING_TOKENS: Final = 8_000_000
"""Most tokens that may wait: of the prompts, and what their candidates may generate. 64 searches of the paper's ask for 2 million."""


class Overloaded(Exception):  # noqa: N818 - named after the state
    """Too much waits already: another server, or this one later."""


@dataclass(eq=False, slots=True)
class _Waiting:
    candidates: int
    tokens: int
    admitted: asyncio.Future[None]


class Admission:
    """Admits requests in order while at most ``most_candidates`` are being generated; a larger one is admitted alone."""

    def __init__(self, most_candidates: int, most_waiting_tokens: int = MOST_WAITING_TOKENS) -> None:
        self._most_candidates = most_candidates
        self._most_waiting_tokens = most_waiting_tokens
        self._waiting: deque[_Waiting] = deque()
        self._waiting_tokens = 0
        self.running = 0
        """Candidates being generated."""

    @property
    def waiting(self) -> int:
        """Candidates that wait."""
        return sum(request.candidates for request in self._waiting)

    @asynccontextmanager
    async def admitted(self, candidates: int, tokens: int) -> AsyncIterator[None]:
        """Wait for the request's turn, and count it as running inside. Raises ``Overloaded`` at once when too much waits."""
        request = _Waiting(candidates, tokens, asyncio.get_running_loop().create_future())
        if self._waiting and self._waiting_tokens + tokens > self._most_waiting_tokens:
            raise Overloaded(f"{self._waiting_tokens} tokens wait already: try another server, or this one later")
        self._waiting.append(request)
        self._waiting_tokens += tokens
        self._admit()
        try:
            await request.admitted
            yield
        finally:
            if request in self._waiting:
                self._waiting.remove(request)
                self._waiting_tokens -= tokens
            else:
                self.running -= candidates
            self._admit()

    def _admit(self) -> None:
        while self._waiting and (
            not self.running or self.running + self._waiting[0].candidates <= self._most_candidates
        ):
            request = self._waiting.popleft()
            self._waiting_tokens -= request.tokens
            self.running += request.candidates
            if not request.admitted.done():
                request.admitted.set_result(None)
        metrics.QUEUED.set(self.waiting)
        metrics.QUEUED_TOKENS.set(self._waiting_tokens)
        metrics.RUNNING.set(self.running)
