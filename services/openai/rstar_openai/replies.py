"""Replies in OpenAI's format: completions, chunks of a stream, and their encoding as server-sent events. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rstar_openai.request import ChatRequest
from rstar_openai.solution import Solution

DONE: Final = b"data: [DONE]\n\n"
KEEP_ALIVE: Final = b": the search goes on\n\n"
"""A comment: clients skip it, and proxies see that the connection lives."""


def event(content: Any) -> bytes:
    """Encode one server-sent event. JSON escapes line breaks, so the event is one line of data."""
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


def usage_of(tokens: int, solutions: Sequence[Solution]) -> dict[str, Any]:
    """Return the usage of a request: ``tokens`` generated in all. Prompt tokens are not known here: 0."""
    shown = min(tokens, sum(solution.tokens for solution in solutions))
    return {
        "prompt_tokens": 0,
        "completion_tokens": tokens,
        "total_tokens": tokens,
        "completion_tokens_details": {"reasoning_tokens": tokens - shown},
    }


def completion(
    identity: str, created: int, request: ChatRequest, solutions: Sequence[Solution], tokens: int
) -> dict[str, Any]:
    """Return a finished chat completion; ``created`` in seconds since 1970."""
    choices = []
    for index, solution in enumerate(solutions):
        steps = "".join(solution.steps)
        apart = request.steps == "reasoning"
        message: dict[str, Any] = {
            "role": "assistant",
            "content": solution.final if apart else steps + solution.final,
            "refusal": None,
        }
        if apart:
            message["reasoning_content"] = steps
        choices.append(
            {
                "index": index,
                "message": message,
                "logprobs": None,
                "finish_reason": solution.finish_reason,
                "rstar": solution.facts,
            }
        )
    return {
        "id": identity,
        "object": "chat.completion",
        "created": created,
        "model": request.model,
        "system_fingerprint": fingerprint(solutions),
        "choices": choices,
        "usage": usage_of(tokens, solutions),
    }


def fingerprint(solutions: Sequence[Solution]) -> str | None:
    """Return the digests of the models behind an answer, shortened."""
    digests = {(s.facts["policyDigest"], s.facts["ppmDigest"]) for s in solutions}
    names = sorted("-".join(digest[:12] for digest in pair if digest) for pair in digests)
    return "fp_" + names[0] if names and names[0] else None


def chunk(
    identity: str,
    created: int,
    request: ChatRequest,
    index: int,
    delta: dict[str, Any],
    finish_reason: str | None = None,
    facts: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return one chunk of a stream with one choice. ``facts`` come with its last chunk."""
    choice: dict[str, Any] = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    if facts is not None:
        choice["rstar"] = facts
    return _chunk(identity, created, request, [choice]) | ({"usage": None} if request.include_usage else {})


def usage_chunk(
    identity: str, created: int, request: ChatRequest, solutions: Sequence[Solution], tokens: int
) -> dict[str, Any]:
    """Return the last chunk of a stream with ``stream_options.include_usage``."""
    return _chunk(identity, created, request, []) | {"usage": usage_of(tokens, solutions)}


def _chunk(identity: str, created: int, request: ChatRequest, choices: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": identity,
        "object": "chat.completion.chunk",
        "created": created,
        "model": request.model,
        "choices": list(choices),
    }


def solution_deltas(solution: Solution, request: ChatRequest) -> list[dict[str, Any]]:
    """Return the deltas of one choice: one per step, then the answer."""
    field = "reasoning_content" if request.steps == "reasoning" else "content"
    deltas = [{field: step} for step in solution.steps if step]
    return [*deltas, {"content": solution.final}] if solution.final else deltas
