"""The searches of one request, side by side on the search service; leaving the context ends those that run."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import aclosing
from types import TracebackType
from typing import Protocol, Self

from rstar.config import SearchConfig
from rstar.problem import Problem
from rstar.record import Progress, SearchRecord
from rstar.rpc.errors import CallFailed
from rstar.rpc.search_client import SearchClient


class Searched(Protocol):
    """What of a request the searches need."""

    @property
    def question(self) -> str:
        """The question."""
        ...

    @property
    def config(self) -> SearchConfig:
        """The settings of every search."""
        ...

    @property
    def seeds(self) -> tuple[int, ...]:
        """One seed per search."""
        ...


def problem_of(question: str) -> Problem:
    """Return the question as a problem. Its id is that of its text: a seed then gives the same search again."""
    text = question.encode("utf-8", "surrogatepass")
    return Problem(f"question-{hashlib.sha256(text).hexdigest()[:16]}", question)


class Searches:
    """``async with Searches(...) as searches``, then ``next`` until ``records`` has one record per seed."""

    def __init__(self, client: SearchClient, request: Searched, *, equivalence: str, seconds: float) -> None:
        self._client = client
        self._request = request
        self._equivalence = equivalence
        self._seconds = seconds
        self._events: asyncio.Queue[tuple[int, Progress | SearchRecord] | CallFailed] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._tokens = [0] * len(request.seeds)
        self.records: dict[int, SearchRecord] = {}

    @property
    def tokens(self) -> int:
        """Tokens generated so far, by all searches."""
        return sum(self._tokens)

    @property
    def ended(self) -> bool:
        """Whether every search has its record."""
        return len(self.records) == len(self._request.seeds)

    async def __aenter__(self) -> Self:
        problem = problem_of(self._request.question)
        self._tasks = [
            asyncio.ensure_future(self._search(index, problem, seed)) for index, seed in enumerate(self._request.seeds)
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def next(self, seconds: float) -> tuple[int, Progress | SearchRecord] | None:
        """Return the next event with the number of its search; None when none came within ``seconds``.

        Raises ``CallFailed`` for the first search that fails.
        """
        try:
            # Not wait_for: in Python 3.11 it loses a cancellation that comes together with the event.
            async with asyncio.timeout(seconds):
                found = await self._events.get()
        except TimeoutError:
            return None
        if isinstance(found, CallFailed):
            raise found
        index, event = found
        self._tokens[index] = max(self._tokens[index], event.usage.tokens)
        if isinstance(event, SearchRecord) and not event.error:
            self.records[index] = event
        return found

    async def _search(self, index: int, problem: Problem, seed: int) -> None:
        events = self._client.solve(
            problem, self._request.config, seed=seed, equivalence=self._equivalence, call_seconds=self._seconds
        )
        try:
            async with aclosing(events):
                async for event in events:
                    self._events.put_nowait((index, event))
        except CallFailed as failed:
            self._events.put_nowait(failed)
        except Exception as error:  # the request must end, whatever failed
            self._events.put_nowait(CallFailed("search service", "", f"{type(error).__name__}: {error}"))
