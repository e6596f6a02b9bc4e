"""A real HTTP server with OpenAI's completions on top of the transformers engine; each ability can be taken away.

Candidate k of a request with n is the one of a single request with the seed plus k, as in vLLM.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web
from rstar_policy.loading import load_model
from rstar_policy.policy_tokenizer import PolicyTokenizer
from rstar_policy.transformers_engine import TransformersPolicy

from rstar.interfaces import Candidate, Finish, Sampling, State

OPENAI = {"model", "prompt", "max_tokens", "temperature", "top_p", "stop", "n", "seed", "logprobs", "stream"}
NAME = "tiny"


class WholeText(PolicyTokenizer):
    """Encodes the question alone, which is the whole prompt."""

    def encode(self, question: str, steps: Sequence[str]) -> list[int]:
        return self._tokenizer.prompt(question)


@dataclass
class Switches:
    """What the server can do and how it fails; ``failures`` are (status, headers) of the next replies."""

    most_n: int | None = 16
    n_ignored: bool = False
    seeds: bool = True
    stops: str = "named"
    logprobs: bool = True
    strict: bool = False
    key: str = ""
    models: tuple[str, ...] | None = (NAME,)
    context: int | None = None
    failures: list[tuple[int, dict[str, str]]] = field(default_factory=list)


@dataclass
class Server:
    """The server's base URL, its switches, and the requests that it answered or refused."""

    url: str
    switches: Switches
    policy: TransformersPolicy
    bodies: list[dict[str, Any]] = field(default_factory=list)
    aborted: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    draws: int = 0


@asynccontextmanager
async def completions_server(checkpoint: Path, switches: Switches | None = None) -> AsyncIterator[Server]:
    """Serve the checkpoint on a free port of this machine."""
    loaded = load_model(checkpoint, device="cpu", dtype="auto", threads=1)
    tokenizer = WholeText(loaded.tokenizer, "trained", loaded.eos_ids)
    async with TransformersPolicy(loaded.model, tokenizer, loaded.context, "digest") as policy:
        server = Server("", switches or Switches(), policy)
        app = web.Application()
        app.add_routes(
            [
                web.get("/v1/models", partial(_models, server)),
                web.post("/v1/completions", partial(_completions, server)),
            ]
        )
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield server
        finally:
            await runner.cleanup()


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": message, "code": status}}, status=status, headers=headers)


def _denied(server: Server, request: web.Request) -> web.Response | None:
    key = server.switches.key
    if key and request.headers.get("Authorization") != f"Bearer {key}":
        return _error(401, f"invalid key {request.headers.get('Authorization', 'none')}")
    return None


async def _models(server: Server, request: web.Request) -> web.Response:
    if denied := _denied(server, request):
        return denied
    models = server.switches.models
    if models is None:
        return _error(404, "not found")
    return web.json_response({"object": "list", "data": [{"id": name, "owned_by": "tests"} for name in models]})


async def _completions(server: Server, request: web.Request) -> web.StreamResponse:
    switches = server.switches
    if denied := _denied(server, request):
        return denied
    body = await request.json()
    server.bodies.append(body)
    if switches.failures:
        status, headers = switches.failures.pop(0)
        if not status:
            assert request.transport is not None
            request.transport.abort()
        return _error(status or 500, "a failure was asked for", headers)
    if refusal := _refusal(server, body):
        return _error(400, refusal)
    server.in_flight += body.get("n", 1)
    server.most_in_flight = max(server.most_in_flight, server.in_flight)
    try:
        candidates = await _candidates(server, body)
        if body.get("stream"):
            return await _stream(request, candidates[0])
    except asyncio.CancelledError:
        server.aborted += 1
        raise
    finally:
        server.in_flight -= body.get("n", 1)
    choices = [
        {"index": k, **_choice(switches, body, candidate)} for k, candidate in reversed(list(enumerate(candidates)))
    ]
    usage = {"completion_tokens": sum(candidate.tokens for candidate in candidates)}
    return web.json_response({"choices": choices, "usage": usage})


def _refusal(server: Server, body: dict[str, Any]) -> str:
    switches = server.switches
    if switches.strict and (unknown := set(body) - OPENAI):
        return f"unrecognized arguments: {', '.join(sorted(unknown))}"
    if len(body.get("stop", ())) > 4:
        return "a list of at most 4 stop texts is expected"
    if switches.most_n is not None and body.get("n", 1) > switches.most_n:
        return f"n must be at most {switches.most_n}"
    if switches.context is not None and len(body["prompt"].encode()) + body["max_tokens"] > switches.context:
        return f"the context is {switches.context} tokens"
    return ""


async def _candidates(server: Server, body: dict[str, Any]) -> list[Candidate]:
    switches = server.switches
    server.draws += 1
    seed = body.get("seed", 0) if switches.seeds else server.draws * 1_000
    sampling = Sampling(body["temperature"], body.get("top_p", 1.0), body["max_tokens"], tuple(body.get("stop", ())))
    n = 1 if switches.n_ignored else body.get("n", 1)
    proposals = await asyncio.gather(
        *(server.policy.propose(State("", body["prompt"]), 1, sampling, seed + k) for k in range(n))
    )
    return [proposal.candidates[0] for proposal in proposals]


def _choice(switches: Switches, body: dict[str, Any], candidate: Candidate) -> dict[str, Any]:
    text, stop = candidate.text, None
    if candidate.finish is Finish.STOP:
        stop = next(text_ for text_ in body["stop"] if text.endswith(text_))
        kept = switches.stops == "kept" and body.get("include_stop_str_in_output")
        text = text if kept else text.removesuffix(stop)
    choice: dict[str, Any] = {
        "text": text,
        "finish_reason": "length" if candidate.finish is Finish.LENGTH else "stop",
        "logprobs": None,
    }
    if switches.stops == "named":
        choice["stop_reason"] = stop
    if switches.logprobs and body.get("logprobs"):
        choice["logprobs"] = {"token_logprobs": [candidate.logprob / candidate.tokens] * candidate.tokens}
    return choice


async def _stream(request: web.Request, candidate: Candidate) -> web.StreamResponse:
    """Send the text letter by letter, slowly enough that a client may leave."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for letter in candidate.text:
        event = {"choices": [{"index": 0, "text": letter, "finish_reason": None}]}
        await response.write(f"data: {json.dumps(event)}\n\n".encode())
        await asyncio.sleep(0)
    reason = "length" if candidate.finish is Finish.LENGTH else "stop"
    event = {"choices": [{"index": 0, "text": "", "finish_reason": reason}]}
    await response.write(f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n".encode())
    return response
