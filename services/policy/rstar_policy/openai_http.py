"""Requests to an OpenAI-compatible server: retries, the reasons of failures, and streams that can be left early.

A request that a server refuses for its content raises ``RequestRefused``: it would be refused again. Everything else
(no connection, 429, 5xx, a wrong key) is tried again a few times where that can help, and then raises
``EndpointUnavailable``, so that a search ends instead of recording failed steps. Cancelling the awaiting task closes
the connection, on which servers abort the request.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import aiohttp

from rstar.interfaces import RoleUnavailable
from rstar.models.closing import ClosedOnExit
from rstar_policy import metrics

ATTEMPTS: Final = 6
"""Tries of one request: with the pauses between them, about a quarter of a minute without a connection."""

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 10.0
LONGEST_RETRY_AFTER: Final = 120.0
"""A server that asks for a longer pause is unavailable."""

CONNECT_SECONDS: Final = 10.0

_REFUSALS: Final = frozenset({400, 413, 422})
_RETRIED: Final = frozenset({408, 409, 425, 429})
_LONGEST_REASON: Final = 300

T = TypeVar("T")


class RequestRefused(ValueError):  # noqa: N818 - named after the event
    """The server refused the content of a request; the message has its reason."""


class EndpointUnavailable(RoleUnavailable):
    """The server gives no answer, or none to this key or at this address. ``status``: of its last reply, 0 without one."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


class _Failed(Exception):  # noqa: N818 - named after the event
    """One try failed. ``again``: another may succeed, not before ``after`` seconds."""

    def __init__(self, reason: str, *, status: int = 0, again: bool = True, after: float = 0.0) -> None:
        super().__init__(reason)
        self.status, self.again, self.after = status, again, after


def base_url(given: str) -> str:
    """Return the URL below which ``/completions`` is: ``/v1`` is added to an address without a path.

    Raises ``ValueError`` for anything but an http(s) URL, and for a key in the URL.
    """
    try:
        parts = urlsplit(given)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise ValueError(f"--endpoint {given!r} is not a URL: write http://HOST:PORT/v1 or https://HOST/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("--endpoint must be a plain URL without a key in it: name the key's variable by --api-key-env")
    return given.rstrip("/") + ("" if parts.path.strip("/") else "/v1")


class CompletionsServer(ClosedOnExit):
    """A client of the server at ``url`` (``base_url``). The connections belong to the event loop of the first request."""

    def __init__(self, url: str, key: str = "", attempts: int = ATTEMPTS) -> None:
        """``key`` is sent as a bearer token, and never appears in an error; '' sends none."""
        self.url = url
        self._key = key
        self._attempts = attempts
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def models(self) -> list[Mapping[str, Any]] | None:
        """Return the entries of ``/models``, None when the server has no such list. Raises ``EndpointUnavailable``."""
        try:
            content = await self._retried(lambda: self._json("GET", "models", None))
        except EndpointUnavailable as error:
            if error.status in {404, 405, 501}:
                return None
            raise
        entries = content.get("data")
        return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else None

    async def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the reply to one request. Raises ``RequestRefused`` or ``EndpointUnavailable``."""
        return await self._retried(lambda: self._json("POST", "completions", body))

    async def stream(self, body: Mapping[str, Any], read: Callable[[AsyncIterator[dict[str, Any]]], Awaitable[T]]) -> T:
        """Return what ``read`` makes of the events of a streamed reply; the connection is closed when it returns.

        A stream that breaks is begun again. Raises ``RequestRefused`` or ``EndpointUnavailable``.
        """

        async def once() -> T:
            async with self._open().post(
                f"{self.url}/completions", json={**body, "stream": True}, headers=self._headers()
            ) as response:
                await self._check(response)
                try:
                    return await read(_events(response))
                finally:
                    # Not released to the pool: the server must see that nobody reads the rest.
                    response.close()

        return await self._retried(once)

    async def _json(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        async with self._open().request(method, f"{self.url}/{path}", json=body, headers=self._headers()) as response:
            await self._check(response)
            content = _object(await response.read())
            if content is None:
                raise _Failed("does not answer with a JSON object: is it an OpenAI-compatible server?", again=False)
            return content

    async def _retried(self, once: Callable[[], Awaitable[T]]) -> T:
        for attempt in range(1, self._attempts + 1):
            try:
                return await once()
            except _Failed as error:
                failure = error
            except (aiohttp.ClientError, OSError) as error:
                failure = _Failed(f"cannot be reached: {_one_line(str(error) or type(error).__name__)}")
            if not failure.again or attempt == self._attempts or failure.after > LONGEST_RETRY_AFTER:
                raise EndpointUnavailable(f"the endpoint {self.url} {failure}", failure.status) from None
            metrics.ENDPOINT_RETRIES.inc()
            await asyncio.sleep(max(failure.after, pause(attempt)))
        raise AssertionError("no attempts")

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raise ``RequestRefused`` or ``_Failed`` unless the server answers the request."""
        if response.status < 300:
            return
        reason = self._reason(await response.read())
        if response.status in _REFUSALS:
            raise RequestRefused(f"the endpoint {self.url} refuses the request: {reason}")
        if response.status in {401, 403}:
            sent = "refuses the key" if self._key else "asks for a key, and none was given"
            raise _Failed(f"{sent}: {reason}", status=response.status, again=False)
        again = response.status in _RETRIED or response.status >= 500
        after = retry_after(response.headers.get("Retry-After", ""), datetime.now(UTC))
        raise _Failed(f"answers {response.status}: {reason}", status=response.status, again=again, after=after)

    def _reason(self, data: bytes) -> str:
        content = _object(data) or {}
        error = content.get("error", content)
        found = error.get("message") or error.get("detail") if isinstance(error, dict) else error
        text = _one_line(str(found or data.decode(errors="replace") or "no reason given"))
        return text.replace(self._key, "***") if self._key else text

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # The policy limits the requests in flight, and its callers the time of each.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                trust_env=True,
            )
        return self._session


def pause(attempt: int) -> float:
    """Return the seconds to wait after failed try ``attempt`` (from 1): doubled each time, random, so that clients spread."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)


def retry_after(header: str, now: datetime) -> float:
    """Return the seconds that a ``Retry-After`` header asks for (a number or a date); 0 when it is neither."""
    if header.strip().isdigit():
        return float(header)
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - now).total_seconds())


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """Yield the JSON objects of a stream of server-sent events until ``[DONE]``."""
    async for line in response.content:
        field, _, data = line.decode(errors="replace").partition(":")
        if field != "data":
            continue
        if data.strip() == "[DONE]":
            return
        event = _object(data.encode())
        if event is not None and "error" in event:
            raise _Failed(f"ended a stream with an error: {_one_line(str(event['error']))}")
        if event is not None:
            yield event


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(data)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_REASON]
