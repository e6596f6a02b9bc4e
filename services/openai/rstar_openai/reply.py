"""The reply to one chat completion: JSON at the end, or a stream of server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import Final

from aiohttp import web

from rstar.record import LeadingTrajectory, Progress, SearchRecord
from rstar_openai import replies
from rstar_openai.errors import ApiError
from rstar_openai.request import ChatRequest
from rstar_openai.searches import Searches
from rstar_openai.solution import Solution, leading_text, progress_line, solution_of

PROGRESS_SECONDS: Final = 2.0
"""Least time between two lines of progress."""

KEEP_ALIVE_SECONDS: Final = 10.0
"""A silent stream gets a comment, so that no proxy takes the connection for dead."""

LAST_WORD_SECONDS: Final = 5.0
"""How long a client may take to read the error that ends its stream."""

_STREAM_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would collect the events
}


class Reply:
    """Answers one request from its searches. The status is open until the first event of a search."""

    def __init__(self, http: web.Request, request: ChatRequest) -> None:
        self._http = http
        self._request = request
        self._identity = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._stream: web.StreamResponse | None = None
        self._said: dict[int, tuple[float, int]] = {}
        self._led: dict[int, LeadingTrajectory] = {}

    async def answer(self, searches: Searches) -> web.StreamResponse:
        """Follow the searches to their end and reply. Raises ``CallFailed``."""
        solutions: dict[int, Solution] = {}
        while not searches.ended:
            found = await searches.next(KEEP_ALIVE_SECONDS)
            if not self._request.stream:
                continue
            if self._stream is None:
                self._stream = await self._open()
            match found:
                case None:
                    await self._stream.write(replies.KEEP_ALIVE)
                case index, Progress() as progress:
                    await self._say_progress(self._stream, index, progress)
                case index, SearchRecord() as record if not record.error:
                    solutions[index] = self._solution(index, record)
                    await self._say_solution(self._stream, index, solutions[index])
        ordered = [solutions.get(i) or self._solution(i, searches.records[i]) for i in range(len(self._request.seeds))]
        if self._stream is None:
            body = replies.completion(self._identity, self._created, self._request, ordered, searches.tokens)
            return web.json_response(body)
        if self._request.include_usage:
            last = replies.usage_chunk(self._identity, self._created, self._request, ordered, searches.tokens)
            await self._stream.write(replies.event(last))
        await self._stream.write(replies.DONE)
        await self._stream.write_eof()
        return self._stream

    async def fail(self, error: ApiError) -> web.StreamResponse:
        """End the reply with ``error``: as its status, or as the last event of a stream that has begun."""
        if self._stream is None:
            raise error
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(LAST_WORD_SECONDS):
                await self._stream.write(replies.event(error.body))
                await self._stream.write_eof()
        return self._stream

    async def _open(self) -> web.StreamResponse:
        stream = web.StreamResponse(headers=_STREAM_HEADERS)
        await stream.prepare(self._http)
        for index in range(len(self._request.seeds)):
            await self._write(stream, index, {"role": "assistant", "content": ""})
        return stream

    async def _say_progress(self, stream: web.StreamResponse, index: int, progress: Progress) -> None:
        now, tokens = time.monotonic(), progress.usage.tokens
        at, before = self._said.get(index, (-PROGRESS_SECONDS, 0))
        if self._request.progress and now - at >= PROGRESS_SECONDS and tokens > before:
            self._said[index] = now, tokens
            text = progress_line(progress)
            if progress.leading is not None and progress.leading != self._led.get(index):
                self._led[index] = progress.leading
                text += leading_text(progress.leading)
            await self._write(stream, index, {"reasoning_content": text})

    async def _say_solution(self, stream: web.StreamResponse, index: int, solution: Solution) -> None:
        for delta in replies.solution_deltas(solution, self._request):
            await self._write(stream, index, delta)
        end = replies.chunk(
            self._identity, self._created, self._request, index, {}, solution.finish_reason, solution.facts
        )
        await stream.write(replies.event(end))

    async def _write(self, stream: web.StreamResponse, index: int, delta: dict[str, str]) -> None:
        await stream.write(replies.event(replies.chunk(self._identity, self._created, self._request, index, delta)))

    def _solution(self, index: int, record: SearchRecord) -> Solution:
        return solution_of(record, self._request, self._request.seeds[index])
