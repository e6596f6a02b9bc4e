"""A proxy before the API server that calls a function for every answered write, and can withhold the answer.

So a client can be killed after the server has made a change and before the client has the answer. Clients connect without
TLS; the proxy sends its own kubeconfig's credentials. Requests and answers pass unchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml
from aiohttp import web
from kubernetes.client import Configuration
from kubernetes.config import load_kube_config
from yarl import URL

_WRITES: Final = {"POST", "PUT", "PATCH", "DELETE"}
_HOP_BY_HOP: Final = {"connection", "content-length", "host", "keep-alive", "transfer-encoding", "upgrade"}


@dataclass(frozen=True, slots=True)
class AnsweredWrite:
    """A write that the server has answered with ``code``. ``kind`` is a plural, with the subresource if there is one."""

    method: str
    kind: str
    name: str
    code: int

    @classmethod
    def read(cls, method: str, path: str, body: Mapping[str, Any] | None, code: int) -> AnsweredWrite:
        """Parse a request for a namespaced object; a new object's name is in its body."""
        kind, name, subresource, *_ = [*path.partition("/namespaces/")[2].split("/")[1:], "", "", ""]
        named = name or str((body or {}).get("metadata", {}).get("name", ""))
        return cls(method, f"{kind}/{subresource}" if subresource else kind, named, code)


class Proxy(contextlib.AbstractContextManager["Proxy"]):
    """Calls ``after_write`` for every write once the server has answered it; False: the answer is discarded."""

    def __init__(self, kubeconfig: Path, folder: Path, after_write: Callable[[AnsweredWrite], bool]) -> None:
        self._upstream = Configuration()
        load_kube_config(str(kubeconfig), client_configuration=self._upstream)
        self._after_write = after_write
        self._folder = folder
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of clients of the proxy."""
        return self._folder / "proxy.kubeconfig"

    def __enter__(self) -> Proxy:
        """Return once it listens."""
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and abort the requests under way."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=_tls(self._upstream), limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        ) as self._session:
            app = web.Application(client_max_size=2**24)
            app.router.add_route("*", "/{path:.*}", self._forward)
            # The watches of a client that has gone are cancelled.
            runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            _write_kubeconfig(self.kubeconfig, runner.addresses[0][1])
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        url = URL(f"{self._upstream.host}{request.raw_path}", encoded=True)
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP}
        if token := self._upstream.get_api_key_with_prefix("authorization"):
            headers["Authorization"] = token
        body = await request.read()
        async with self._session.request(request.method, url, data=body, headers=headers) as answer:
            kept = {key: value for key, value in answer.headers.items() if key.lower() not in _HOP_BY_HOP}
            if request.method not in _WRITES:
                return await _stream(request, answer, kept)
            data = await answer.read()
        write = AnsweredWrite.read(request.method, request.path, json.loads(body) if body else None, answer.status)
        if not self._after_write(write) and request.transport:
            request.transport.abort()
        return web.Response(body=data, status=answer.status, headers=kept)


async def _stream(request: web.Request, answer: aiohttp.ClientResponse, headers: dict[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=headers)
    await response.prepare(request)
    async for chunk in answer.content.iter_any():
        await response.write(chunk)
    await response.write_eof()
    return response


def _tls(upstream: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=upstream.ssl_ca_cert)
    if upstream.cert_file:
        context.load_cert_chain(upstream.cert_file, upstream.key_file)
    return context


def _write_kubeconfig(path: Path, port: int) -> None:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "anybody", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "anybody"}}],
        "current-context": "proxy",
    }
    path.write_text(yaml.safe_dump(content))
