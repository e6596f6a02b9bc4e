"""The engine for a server that runs already: any with OpenAI's completions (``vllm serve``, SGLang, llama.cpp, a hosted one).

What the server cannot do is found out at start (``openai_abilities``) and worked around. Candidate k has the seed of
the call plus k, so it depends only on (state, sampling, seed, k) where the server repeats seeds. The server encodes the
prompt's text as a whole, and not step by step as ``TrajectoryTokenizer`` does.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog

from rstar.interfaces import Candidate, Proposal, Sampling, State
from rstar.models.closing import ClosedOnExit
from rstar.rpc.logs import configure_logs
from rstar.search.expansion import gather_or_cancel
from rstar.seeds import derive
from rstar_policy import metrics
from rstar_policy.engine import MOST_CANDIDATES, check_request
from rstar_policy.openai_abilities import EXTENSIONS, KEEP_STOP, Abilities, probe
from rstar_policy.openai_http import CompletionsServer, EndpointUnavailable, RequestRefused, base_url
from rstar_policy.openai_replies import read_candidates, read_stream

START_ATTEMPTS: Final = 3
"""Tries of each request at start: a server that is not there is said within seconds."""

MOST_STOPS: Final = 4
"""Most stop texts of a request, in OpenAI's interface and in vLLM; for more, the reply is read as a stream."""

FEWEST_TOKENS: Final = 16
"""A request that is refused even with so few new tokens cannot be served."""

_SEEDS: Final = 2**31 - MOST_CANDIDATES
"""Seeds of candidates fit into 31 bits, the fewest that a server is known to take (llama.cpp's are 32 bits)."""

_SHOWN_MODELS: Final = 8


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model behind an endpoint: its name there, its entry in the server's list, and what the server can do."""

    name: str
    entry: Mapping[str, Any]
    abilities: Abilities

    @property
    def digest(self) -> str:
        """The sha256 of the name and of what the server says about the model.

        Weaker than a checkpoint's: it contains no weights. It does not contain the server's address.
        """
        said = {key: self.entry.get(key) for key in ("id", "root", "owned_by", "max_model_len")}
        identity = json.dumps({"name": self.name, "said": said}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(identity.encode()).hexdigest()

    @property
    def context(self) -> int | None:
        """Most tokens of prompt and continuation, where the server says it (vLLM, SGLang)."""
        length = self.entry.get("max_model_len")
        return length if isinstance(length, int) and length > FEWEST_TOKENS else None


class OpenAIPolicy(ClosedOnExit):
    """An ``Engine`` on a running server. ``render`` returns the text that the model continues for a state."""

    def __init__(
        self, server: CompletionsServer, model: ServedModel, render: Callable[[State], str], max_rows: int
    ) -> None:
        """Send at most ``max_rows`` candidates to the server at once; further calls wait in order."""
        self._server = server
        self._model = model
        self._render = render
        self._most_n = min(model.abilities.most_n, max_rows)
        self._turn = asyncio.Lock()
        self._free = asyncio.Semaphore(max_rows)
        self._running: set[asyncio.Task[list[Candidate]]] = set()
        self._closed = False

    @property
    def digest(self) -> str:
        """Digest of the endpoint's model (``ServedModel.digest``)."""
        return self._model.digest

    async def propose(
        self, state: State, n: int, sampling: Sampling, seed: int, begun: asyncio.Event | None = None
    ) -> Proposal:
        """Return n candidates. Raises as ``Engine.propose`` does, and ``RoleUnavailable`` when the server is lost."""
        check_request(n, sampling, seed)
        if self._closed:
            raise RuntimeError("the policy engine is closed")
        work = asyncio.ensure_future(self._candidates(self._render(state), n, sampling, seed, begun))
        self._running.add(work)
        try:
            candidates = await work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                raise RuntimeError("the policy engine was closed during the call") from None
            work.cancel()
            raise
        finally:
            self._running.discard(work)
        metrics.TOKENS.inc(sum(candidate.tokens for candidate in candidates))
        return Proposal(tuple(candidates), self.digest)

    async def failed(self) -> str:
        """Wait for ever: a server that is lost may come back, and each call says so until then."""
        await asyncio.Event().wait()
        return ""

    async def close(self) -> None:
        """End all calls and close the connections."""
        self._closed = True
        for work in self._running:
            work.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._server.close()

    async def _candidates(
        self, prompt: str, n: int, sampling: Sampling, seed: int, begun: asyncio.Event | None
    ) -> list[Candidate]:
        """Return n candidates, from requests of as many as the server takes at once."""
        first_seed = derive(seed, "endpoint") % _SEEDS
        limit = sampling.max_new_tokens
        if self._model.context is not None:
            limit = min(limit, self._model.context - 1)

        most_n = 1 if streams(self._model, sampling.stop) else self._most_n

        async def part(first: int) -> list[Candidate]:
            size = min(most_n, n - first)
            async with self._places(size, size * limit):
                if begun is not None:
                    begun.set()
                return await self._part(prompt, size, sampling, first_seed + first, limit)

        parts = await gather_or_cancel(part(first) for first in range(0, n, most_n))
        return [candidate for candidates in parts for candidate in candidates]

    async def _part(self, prompt: str, size: int, sampling: Sampling, seed: int, limit: int) -> list[Candidate]:
        """Return the candidates of one request.

        A server refuses a request for more tokens than its context has left after the prompt. Their number is unknown
        here, so half as many are asked for until the server accepts.
        """
        body = request_body(self._model, prompt, size, sampling, seed)
        while True:
            try:
                return await self._answer({**body, "max_tokens": limit}, size, sampling.stop)
            except RequestRefused:
                if limit <= FEWEST_TOKENS:
                    raise
                limit = max(FEWEST_TOKENS, limit // 2)

    async def _answer(self, body: Mapping[str, Any], size: int, stops: Sequence[str]) -> list[Candidate]:
        if streams(self._model, stops):
            return [await self._server.stream(body, lambda events: read_stream(events, stops))]
        candidates = read_candidates(await self._server.complete(body), stops)
        if len(candidates) != size:
            raise RuntimeError(f"the endpoint {self._server.url} sent {len(candidates)} candidates instead of {size}")
        return candidates

    @asynccontextmanager
    async def _places(self, count: int, tokens: int) -> AsyncIterator[None]:
        """Hold ``count`` of the places for candidates in flight; calls get them in order.

        ``tokens``: what the candidates may generate; the tokens of the prompt are unknown here.
        """
        taken = 0
        metrics.QUEUED.inc(count)
        metrics.QUEUED_TOKENS.inc(tokens)
        try:
            try:
                async with self._turn:
                    while taken < count:
                        await self._free.acquire()
                        taken += 1
            finally:
                metrics.QUEUED.dec(count)
                metrics.QUEUED_TOKENS.dec(tokens)
            yield
        finally:
            for _ in range(taken):
                self._free.release()


def request_body(model: ServedModel, prompt: str, n: int, sampling: Sampling, seed: int) -> dict[str, Any]:
    """Return a request for ``n`` candidates with the seeds ``seed``, ``seed`` + 1, ...; ``max_tokens`` is not in it."""
    able = model.abilities
    body: dict[str, Any] = {
        "model": model.name,
        "prompt": prompt,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if n > 1:
        body["n"] = n
    if able.seeds:
        body["seed"] = seed
    if able.logprobs:
        body["logprobs"] = 1
    if able.extensions:
        body |= EXTENSIONS
    if sampling.stop and not streams(model, sampling.stop):
        body["stop"] = list(sampling.stop)
        body |= KEEP_STOP if able.stops == "kept" else {}
    return body


def streams(model: ServedModel, stops: Sequence[str]) -> bool:
    """Return whether a reply is read as a stream, up to the first of ``stops``."""
    return bool(stops) and (model.abilities.stops == "streamed" or len(stops) > MOST_STOPS)


def open_endpoint(
    url: str, name: str | None, key_variable: str | None, render: Callable[[State], str], max_rows: int
) -> OpenAIPolicy:
    """Ask the server at ``url`` for its models and abilities, log them in one line, and return the engine.

    ``name`` None: the only model of the server; ``key_variable``: the environment variable with the key. Raises
    ``ValueError`` or ``OSError`` with one sentence.
    """
    url, key = base_url(url), api_key(key_variable)
    try:
        model = asyncio.run(inspect_endpoint(CompletionsServer(url, key, START_ATTEMPTS), name))
    except EndpointUnavailable as error:
        raise OSError(str(error)) from None
    configure_logs("policy")
    missing = model.abilities.missing()
    log = structlog.get_logger().info if model.abilities.seeds else structlog.get_logger().warning
    log(
        "endpoint",
        url=url,
        model=model.name,
        digest=model.digest,
        candidates_per_request=model.abilities.most_n,
        stop_texts=model.abilities.stops,
        missing=missing or "nothing",
    )
    return OpenAIPolicy(CompletionsServer(url, key), model, render, max_rows)


def api_key(variable: str | None) -> str:
    """Return the key in an environment variable, '' for none. Raises ``ValueError`` when it is not set."""
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(
            f"--api-key-env {variable}: this environment variable is not set; put the endpoint's key into it"
        )
    return key


async def inspect_endpoint(server: CompletionsServer, name: str | None) -> ServedModel:
    """Return the model ``name`` of a server (None: its only one) and its abilities; closes ``server``.

    Raises ``ValueError`` or ``EndpointUnavailable``.
    """
    async with server:
        entry = model_entry(await server.models(), name, server.url)
        chosen = str(entry["id"])
        try:
            abilities = await probe(server.complete, chosen)
        except RequestRefused as error:
            raise ValueError(f"{error}; does it serve completions of the model {chosen}?") from None
        return ServedModel(chosen, entry, abilities)


def model_entry(entries: Sequence[Mapping[str, Any]] | None, name: str | None, url: str) -> Mapping[str, Any]:
    """Return the entry of the model ``name``, or of the only one when it is None.

    A server without a list (None) is believed to have ``name``. Raises ``ValueError`` with the names that there are.
    """
    if entries is None:
        if name is None:
            raise ValueError(f"the endpoint {url} has no list of models: give --model-name")
        return {"id": name}
    names = [str(entry.get("id")) for entry in entries]
    shown = ", ".join(names[:_SHOWN_MODELS]) + (", ..." if len(names) > _SHOWN_MODELS else "")
    if name is None and len(names) != 1:
        raise ValueError(f"the endpoint {url} has {len(names)} models ({shown}): choose one by --model-name")
    if name is not None and name not in names:
        raise ValueError(f"the endpoint {url} has no model {name!r}; it has {shown or 'none'}: change --model-name")
    return entries[0 if name is None else names.index(name)]
