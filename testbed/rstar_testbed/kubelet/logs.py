"""The node's endpoint for ``kubectl logs``: the output of real pods, over HTTPS on loopback.

A pod's containers share one log. Options other than ``follow`` and ``tailLines`` are ignored.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from rstar_testbed.certificates import new_authority
from rstar_testbed.processes import free_port

_POLL_SECONDS: Final = 0.2


class LogServer:
    """Serves logs by namespace and pod. ``path_of`` returns the path of a log, ``runs`` whether the pod may still write to it."""

    def __init__(self, path_of: Callable[[str, str], Path], runs: Callable[[str, str], bool]) -> None:
        self._path_of = path_of
        self._runs = runs
        application = web.Application()
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0)

    async def start(self) -> int:
        """Listen, and return the port."""
        pair = new_authority("rstar-test-kubelet", hosts=("127.0.0.1",))
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        with tempfile.NamedTemporaryFile() as pem:  # ssl takes a certificate from a file only.
            pem.write(pair.certificate_pem + pair.key_pem)
            pem.flush()
            tls.load_cert_chain(pem.name)
        port = free_port()
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=tls).start()
        return port

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        namespace, pod = request.match_info["namespace"], request.match_info["pod"]
        path = self._path_of(namespace, pod)
        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await answer.prepare(request)
        sent = 0
        if tail := request.query.get("tailLines"):
            lines = _read(path, 0).splitlines(keepends=True)
            sent = sum(map(len, lines[: max(0, len(lines) - int(tail))]))
        while True:
            # Checked before reading, so that the last output before the pod's end is read.
            more = request.query.get("follow") == "true" and self._runs(namespace, pod)
            if chunk := _read(path, sent):
                await answer.write(chunk)
                sent += len(chunk)
            if not more:
                return answer
            await asyncio.sleep(_POLL_SECONDS)


def _read(path: Path, offset: int) -> bytes:
    if not path.exists():
        return b""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read()
