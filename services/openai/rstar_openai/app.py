"""The HTTP side of the endpoint: routes, keys, limits, deadlines and errors.

Not covered: TLS of the HTTP side, which an Ingress or a Gateway ends; the calls to the search service have mutual TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final

import structlog
from aiohttp import web

from rstar.rpc.errors import CallFailed, ServiceUnavailable
from rstar.rpc.search_client import SearchClient
from rstar_openai import metrics
from rstar_openai.admission import Admission
from rstar_openai.errors import ApiError, bad_request, draining, internal, search_error, timed_out, too_many
from rstar_openai.keys import Key, KeyRing
from rstar_openai.models import Caps, Models, model_object
from rstar_openai.reply import LAST_WORD_SECONDS, Reply
from rstar_openai.request import ChatDefaults, ChatRequest, read_body, read_request
from rstar_openai.searches import Searches

BODY_SECONDS: Final = 30.0
"""How long a client may take to send its request."""

CLIENT_LEFT: Final = 499
"""The status in metrics and logs of a request whose client left, as nginx has it."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Settings:
    """The endpoint's settings: ``seconds`` bounds a request with its wait, ``body_bytes`` its size."""

    models: Models
    caps: Caps
    defaults: ChatDefaults
    equivalence: str = "math-verify"
    seconds: float = 600.0
    body_bytes: int = 262_144
    cors_origins: Collection[str] = ()


@dataclass(slots=True)
class Spent:
    """What a request used, for its log line and the limits of its key."""

    tokens: int = 0
    model: str = ""


class Endpoint:
    """Answers chat completions from the search service."""

    def __init__(self, client: SearchClient, settings: Settings, keys: KeyRing, admission: Admission) -> None:
        self._client = client
        self._settings = settings
        self._keys = keys
        self._admission = admission
        self._created = int(time.time())
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._deadlines: set[asyncio.Timeout] = set()
        self._draining = False
        self._ending = False
        self.ready = False

    def application(self) -> web.Application:
        """Return the application with its routes."""
        app = web.Application(middlewares=[self._errors_as_json], client_max_size=self._settings.body_bytes)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/models/{model}", self._model)
        app.router.add_get("/healthz", self._health)
        app.on_response_prepare.append(self._allow_origin)
        return app

    async def drain(self, seconds: float) -> None:
        """Refuse new requests, wait for those in progress, and end those that take longer than ``seconds``."""
        self._draining = True
        if await self._idle_within(seconds):
            return
        self._ending = True
        for deadline in self._deadlines:
            deadline.reschedule(asyncio.get_running_loop().time())
        await self._idle_within(LAST_WORD_SECONDS)

    async def _idle_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        return self._idle.is_set()

    async def _health(self, _: web.Request) -> web.StreamResponse:
        status = "draining" if self._draining else "ok" if self.ready else "starting"
        return web.json_response({"status": status}, status=200 if status == "ok" else 503)

    async def _models(self, http: web.Request) -> web.StreamResponse:
        self._key_of(http)
        data = [model_object(name, self._created) for name in self._settings.models.names]
        return web.json_response({"object": "list", "data": data})

    async def _model(self, http: web.Request) -> web.StreamResponse:
        self._key_of(http)
        name = http.match_info["model"]
        if self._settings.models.settings_of(name) is None:
            raise ApiError(404, f"the model {name[:64]!r} does not exist", param="model", code="model_not_found")
        return web.json_response(model_object(name, self._created))

    async def _chat(self, http: web.Request) -> web.StreamResponse:
        started, spent = time.monotonic(), Spent()
        status, name = CLIENT_LEFT, ""
        try:
            key = self._key_of(http)
            name = key.name
            response = await self._limited(http, key, spent)
            status = response.status
            metrics.SECONDS.observe(time.monotonic() - started)
            return response
        except (ApiError, web.HTTPException) as error:
            status = error.status
            raise
        except ConnectionError:  # a write to a client that has left
            raise asyncio.CancelledError from None
        except Exception:
            status = 500
            raise
        finally:
            metrics.REQUESTS.labels(str(status)).inc()
            if spent.tokens:
                metrics.TOKENS.labels(name).inc(spent.tokens)
            seconds = round(time.monotonic() - started, 3)
            structlog.get_logger().info(
                "request ended", status=status, key=name, model=spent.model, seconds=seconds, tokens=spent.tokens
            )

    async def _limited(self, http: web.Request, key: Key, spent: Spent) -> web.StreamResponse:
        """Answer a request within the limits of its key."""
        if self._draining:
            raise draining()
        if not self.ready:
            raise search_error(ServiceUnavailable("search service", "", "not reached yet"), 0)
        use = self._keys.use_of(key, time.monotonic())
        if (refusal := use.begin(time.monotonic())) is not None:
            raise too_many(f"{refusal.reason}; try again in {math.ceil(refusal.retry_after)} s", refusal.retry_after)
        self._requests += 1
        self._idle.clear()
        try:
            return await self._answer(http, spent)
        finally:
            self._requests -= 1
            if not self._requests:
                self._idle.set()
            use.end(time.monotonic(), spent.tokens)

    async def _answer(self, http: web.Request, spent: Spent) -> web.StreamResponse:
        """Read the request, search and reply before the deadline, which the call to the search service has too."""
        settings = self._settings
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await http.read()
        except TimeoutError:
            raise ApiError(408, "the request did not arrive in time; send it again") from None
        request = read_request(read_body(body), settings.models, settings.caps, settings.defaults, secrets.randbits(31))
        if len(request.seeds) > self._admission.slots:
            raise bad_request(f"n: this server runs at most {self._admission.slots} searches at once", "n")
        spent.model = request.model
        seconds = min(settings.seconds, request.timeout or settings.seconds)
        reply = Reply(http, request)
        try:
            async with asyncio.timeout(0 if self._ending else seconds) as deadline:
                self._deadlines.add(deadline)
                return await self._follow(reply, request, deadline, spent)
        except ApiError as error:
            return await reply.fail(error)
        except CallFailed as failed:
            structlog.get_logger().warning("search failed", reason=str(failed))
            return await reply.fail(search_error(failed, seconds))
        except TimeoutError:
            return await reply.fail(draining() if self._ending else timed_out(seconds))
        finally:
            self._deadlines.discard(deadline)

    async def _follow(
        self, reply: Reply, request: ChatRequest, deadline: asyncio.Timeout, spent: Spent
    ) -> web.StreamResponse:
        async with self._admission.admit(len(request.seeds)):
            left = (deadline.when() or 0) - asyncio.get_running_loop().time()
            async with Searches(
                self._client, request, equivalence=self._settings.equivalence, seconds=max(left, 0.001)
            ) as searches:
                try:
                    return await reply.answer(searches)
                finally:
                    spent.tokens = searches.tokens

    def _key_of(self, http: web.Request) -> Key:
        key = self._keys.key_of(http.headers)
        if key is None:
            raise ApiError(
                401,
                "a valid API key is needed; send it as Authorization: Bearer KEY",
                kind="authentication_error",
                code="invalid_api_key",
            )
        return key

    @web.middleware
    async def _errors_as_json(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer preflight requests of browsers, and every error in OpenAI's format."""
        if request.method == "OPTIONS" and self._settings.cors_origins:
            return web.Response(status=204)
        try:
            return await handler(request)
        except ApiError as error:
            failed = error
        except web.HTTPRequestEntityTooLarge:
            limit = self._settings.body_bytes
            failed = ApiError(413, f"the request is larger than {limit} bytes; send a shorter question")
        except web.HTTPException as error:
            failed = ApiError(error.status, f"{request.method} {request.path[:128]}: {error.reason}")
        except Exception:
            structlog.get_logger().exception("request failed")
            failed = internal()
        headers = failed.headers | ({"WWW-Authenticate": "Bearer"} if failed.status == 401 else {})
        return web.json_response(failed.body, status=failed.status, headers=headers)

    async def _allow_origin(self, http: web.Request, response: web.StreamResponse) -> None:
        origin, allowed = http.headers.get("Origin", ""), self._settings.cors_origins
        if origin and ("*" in allowed or origin in allowed):
            response.headers["Access-Control-Allow-Origin"] = "*" if "*" in allowed else origin
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
            # The headers of the official clients in a browser (x-stainless-*) vary by version.
            asked = http.headers.get("Access-Control-Request-Headers", "")
            response.headers["Access-Control-Allow-Headers"] = asked or "Authorization, Content-Type"
            response.headers["Access-Control-Expose-Headers"] = "Retry-After"
            response.headers["Vary"] = "Origin"
