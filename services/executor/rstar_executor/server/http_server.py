"""The executor over HTTP: SandboxFusion's ``POST /run_code`` in front of a ``LocalExecutor``, beside gRPC.

Codes: 200 for every program that ran, however it ended; 4xx with one sentence for a request that cannot be run; 429 with
Retry-After when the queue is full; 504 with Retry-After when a request has waited ``compile_timeout`` seconds for its turn:
verl's client sends a request again after 504 alone. A client that leaves ends its program.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog
from aiohttp import web

from rstar.interfaces import ExecutionStatus
from rstar.rpc.addresses import join_address
from rstar_executor.server import metrics, run_code
from rstar_executor.server.api_keys import tenant_of
from rstar_executor.server.local_executor import LocalExecutor
from rstar_executor.server.run_code import BODY_BYTES, BadRequestError, RunCodeRequest
from rstar_executor.server.slots import OverloadedError

TENANT_HEADER: Final = "X-Rstar-Tenant"
"""Names the caller for the fair queue where there are no API keys; without it, the caller is its address."""

RETRY_AFTER: Final = {"Retry-After": "1"}
BODIES_BYTES: Final = 128 << 20
"""Most bytes of the bodies of all requests at once. Each takes about three times as much memory while it waits."""

BODY_SECONDS: Final = 60.0
NOTICE_SECONDS: Final = 2.0
"""Seconds from the first 503 of ``/healthz`` to the closing of the port: load balancers need them to choose another server."""

RELOAD_SECONDS: Final = 60.0
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """``port`` 0 takes any free one. ``keys``: tenant and API key; empty: no key is needed. ``certificate`` and ``key``: TLS.

    ``drain_seconds``: how long requests in progress may take when the server ends.
    """

    host: str
    port: int
    drain_seconds: float
    keys: Mapping[str, bytes] = field(default_factory=dict)
    certificate: Path | None = None
    key: Path | None = None


class HttpServer:
    """Serves one executor; ``address`` is known after ``start``. Raises ``OSError`` for a certificate that cannot be used."""

    def __init__(self, executor: LocalExecutor, settings: HttpSettings) -> None:
        self._executor, self._settings = executor, settings
        self._tls = _tls_context(settings)
        self._pod = os.environ.get("MY_POD_NAME") or socket.gethostname()
        self._draining = False
        self._body_bytes = 0
        self._runner: web.AppRunner | None = None
        self._reloading: asyncio.Task[None] | None = None
        self.address = ""

    async def start(self) -> None:
        """Listen. Raises ``OSError`` with one sentence when the port is taken."""
        application = web.Application(client_max_size=BODY_BYTES, middlewares=[_errors_as_json])
        application.router.add_post("/run_code", self._run_code)
        application.router.add_get("/healthz", self._health)
        application.router.add_get("/v1/ping", self._ping)
        settings = self._settings
        self._runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=settings.drain_seconds
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, settings.host, settings.port, ssl_context=self._tls, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(
                f"cannot listen for HTTP on {join_address(settings.host, settings.port)}: {reason}; choose another --http-port or --host"
            ) from error
        self.address = join_address(settings.host, self._runner.addresses[0][1])
        if self._tls is not None:
            self._reloading = asyncio.create_task(self._reload_certificate(self._tls))
        _log.info("serving HTTP", address=self.address, tls=self._tls is not None, keys=len(settings.keys))

    async def drain(self) -> None:
        """Report to be draining, go on for a moment, then ``close``."""
        self._draining = True
        if self._runner is not None:
            await asyncio.sleep(min(NOTICE_SECONDS, self._settings.drain_seconds))
        await self.close()

    async def close(self) -> None:
        """Close the port and finish the requests in progress; those that take too long are cancelled."""
        if self._reloading is not None:
            self._reloading.cancel()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        if self._draining:
            return _problem(503, "this server is shutting down; call another one")
        return web.json_response({"status": "ok"})

    async def _ping(self, _: web.Request) -> web.Response:
        return web.json_response("pong")

    async def _run_code(self, request: web.Request) -> web.Response:
        tenant = self._tenant(request)
        if tenant is None:
            return _problem(401, "the API key is missing or wrong; send Authorization: Bearer KEY", _CHALLENGE)
        size = request.content_length if request.content_length is not None else BODY_BYTES
        if self._body_bytes and self._body_bytes + size > BODIES_BYTES:
            return _problem(429, "the bodies of waiting requests fill the memory for them; send it again", RETRY_AFTER)
        self._body_bytes += size
        try:
            with metrics.CALL_SECONDS.time():
                return await self._answer(request, tenant)
        finally:
            self._body_bytes -= size

    async def _answer(self, request: web.Request, tenant: str) -> web.Response:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await request.read()
        except TimeoutError:
            return _problem(408, f"the body did not arrive within {BODY_SECONDS:g} s")
        try:
            asked = run_code.read_request(body)
        except BadRequestError as error:
            return _problem(error.status, str(error))
        del body
        if asked.language != "python":
            return web.json_response(run_code.unsupported(asked.language))
        try:
            return await self._run(asked, tenant)
        except TimeoutError:
            sentence = f"no slot became free within compile_timeout ({asked.compile_seconds:g} s); send it again"
            return _problem(504, sentence, RETRY_AFTER)
        except OverloadedError as error:
            return _problem(429, str(error), RETRY_AFTER)

    async def _run(self, asked: RunCodeRequest, tenant: str) -> web.Response:
        """Run a program. Raises ``TimeoutError`` when it gets no slot in time, and ``OverloadedError``."""
        async with asyncio.timeout(asked.compile_seconds) as wait:

            async def started() -> None:
                wait.reschedule(None)

            execution = await self._executor.run_script(
                asked.code, asked.script, asked.limits, tenant=tenant, started=started
            )
        if execution.status is ExecutionStatus.INTERNAL:
            _log.warning("a program could not be run", reason=execution.reason)
        answer: dict[str, Any] = run_code.reply(asked, execution)
        return web.json_response({**answer, "executor_pod_name": self._pod})

    def _tenant(self, request: web.Request) -> str | None:
        if self._settings.keys:
            return tenant_of(request.headers.get("Authorization", ""), self._settings.keys)
        return request.headers.get(TENANT_HEADER) or request.remote or ""

    async def _reload_certificate(self, context: ssl.SSLContext) -> None:
        """Read the certificate again every minute: new connections use a renewed one."""
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            with contextlib.suppress(OSError):
                context.load_cert_chain(self._settings.certificate or "", self._settings.key)


def _tls_context(settings: HttpSettings) -> ssl.SSLContext | None:
    if settings.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except OSError as error:  # also ssl.SSLError
        raise OSError(
            f"the certificate {settings.certificate} and its key cannot be used: {error}; give both in PEM format, the key without a password"
        ) from error
    return context


_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="rstar", Bearer'}


@web.middleware
async def _errors_as_json(request: web.Request, handler: Any) -> web.StreamResponse:
    """Answer as SandboxFusion does, with ``detail``, and count the answers by code."""
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPRequestEntityTooLarge:
        response = _problem(413, f"the body has more than {BODY_BYTES} bytes; send less data per request")
    except web.HTTPMethodNotAllowed as error:
        response = _problem(error.status, f"{request.path} takes {', '.join(sorted(error.allowed_methods))} alone")
    except web.HTTPNotFound:
        response = _problem(404, "there is no such path here; send programs to POST /run_code")
    except asyncio.CancelledError:
        metrics.HTTP_REQUESTS.labels("left").inc()
        raise
    except Exception:
        _log.exception("a request failed")
        response = _problem(500, "the executor failed; its log says why")
    metrics.HTTP_REQUESTS.labels(str(response.status)).inc()
    return response


def _problem(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"detail": sentence}, status=status, headers=headers)
