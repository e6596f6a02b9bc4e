"""A thin asynchronous client of the Kubernetes API: plain dictionaries, and watches that reconnect by themselves.

One connection pool on one event loop, without a rate limit: the kubelet drives hundreds of pods at once.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import yaml

_BUSY: Final = (429, 503)
_PAUSE: Final = 0.2
_MERGE_PATCH: Final = "application/merge-patch+json"
_STRATEGIC_MERGE_PATCH: Final = "application/strategic-merge-patch+json"


class ApiError(Exception):
    """The API server refused a request. ``status`` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """A connection to an API server, by a kubeconfig with embedded certificates."""

    def __init__(self, kubeconfig: Path) -> None:
        self.tries = 100
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        user = config["users"][0]["user"]
        self._server: str = cluster["server"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._tls = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as pem:  # ssl takes a client's certificate from a file only.
            pem.write(base64.b64decode(user["client-certificate-data"]))
            pem.write(base64.b64decode(user["client-key-data"]))
            pem.flush()
            self._tls.load_cert_chain(pem.name)

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        self._session = aiohttp.ClientSession(
            base_url=self._server,
            headers={"User-Agent": "rstar-test-kubelet"},
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=32),
            timeout=aiohttp.ClientTimeout(total=30),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection pool."""
        await self._session.close()

    async def call(self, method: str, path: str, body: Any = None, *, content_type: str = "application/json") -> Any:
        """Send one request, again while the API server is down or busy. Raises :class:`ApiError`."""
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type}
        attempt = 0
        while True:
            attempt += 1
            try:
                async with self._session.request(method, path, data=data, headers=headers) as answer:
                    text = await answer.text()
                    if answer.status < 400:
                        return json.loads(text)
                    if answer.status not in _BUSY or attempt >= self.tries:
                        raise ApiError(answer.status, text)
            except aiohttp.ClientConnectionError:
                if attempt >= self.tries:
                    raise
            await asyncio.sleep(_PAUSE)

    async def patch(self, path: str, body: Any, *, strategic: bool = False) -> Any:
        """Merge ``body`` into the object. ``strategic``: lists of a built-in kind are merged by their key, not replaced."""
        kind = _STRATEGIC_MERGE_PATCH if strategic else _MERGE_PATCH
        return await self.call("PATCH", path, body, content_type=kind)

    async def watch(self, path: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield all objects of a collection as ADDED, then each change, for ever.

        After a broken watch, objects that are gone meanwhile are DELETED.
        """
        known: dict[str, dict[str, Any]] = {}
        while True:
            listed = await self.call("GET", path)
            now = {item["metadata"]["uid"]: item for item in listed["items"]}
            for uid in known.keys() - now.keys():
                yield "DELETED", known.pop(uid)
            for uid, item in now.items():
                kind = "MODIFIED" if uid in known else "ADDED"
                known[uid] = item
                yield kind, item
            async for kind, item in self._stream(path, listed["metadata"]["resourceVersion"]):
                if kind == "DELETED":
                    known.pop(item["metadata"]["uid"], None)
                else:
                    known[item["metadata"]["uid"]] = item
                yield kind, item

    async def _stream(self, path: str, version: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield changes after ``version``, over as many requests as needed; end when that version has expired."""
        while True:
            query = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
            try:
                async with self._session.get(
                    path, params=query, timeout=aiohttp.ClientTimeout(sock_connect=5)
                ) as answer:
                    if answer.status >= 400:
                        return
                    async for line in _lines(answer):
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            return
                        version = event["object"]["metadata"]["resourceVersion"]
                        if event["type"] != "BOOKMARK":
                            yield event["type"], event["object"]
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(_PAUSE)


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield lines of any length; aiohttp's own iterator refuses long ones."""
    rest = b""
    async for chunk in answer.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line
