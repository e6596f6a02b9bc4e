"""What an OpenAI-compatible server can do, found out by a few short requests when the service starts.

Servers accept options that they ignore, so each ability is read from what a server writes: seeds repeat a text, the
candidates of one request equal single requests with seeds counted up, and a stop text taken from a text that the model
has just written ends that text when it is written again. The requests generate at most 16 tokens per candidate.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from rstar_policy.openai_http import RequestRefused
from rstar_policy.openai_replies import choices, token_logprobs

EXTENSIONS: Final[Mapping[str, Any]] = {
    # The markers of a trained policy are special tokens, and must stay in the text.
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
    # Sampling is by temperature and top_p alone; a server has its own defaults for these, often from the checkpoint.
    "top_k": 1 << 20,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}
"""Options beyond OpenAI's that vLLM, SGLang and llama.cpp know; a strict server refuses them."""

KEEP_STOP: Final[Mapping[str, Any]] = {"include_stop_str_in_output": True, "no_stop_trim": True}
"""Options that leave the stop text in the output: vLLM's and SGLang's."""

MOST_N: Final = (16, 4)
"""Numbers of candidates that are tried in one request, the largest first: as many as the paper's search expands at once.

More in one request gain nothing, because requests are in flight together, and would hold up a small server at start.
"""

Stops = Literal["named", "kept", "streamed"]
"""How a candidate gets the stop text that ended it: the server names it, leaves it in the text, or does neither; then
the reply is read as a stream without stop texts, up to the first of them."""

Complete = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]

_TOKENS: Final = 16
_SEED: Final = 20_250_108
_PROMPT: Final = "1 + 1 = 2\n1 + 2 = 3\n2 + 2 ="
_UNSEEN: Final = "<end_of_no_text>"
_PIECE: Final = re.compile(r"[!-~][ -~]{0,4}")


@dataclass(frozen=True, slots=True)
class Abilities:
    """``most_n``: candidates per request (1: single requests); ``seeds``: a seed repeats a candidate."""

    most_n: int
    seeds: bool
    stops: Stops
    logprobs: bool
    extensions: bool

    def missing(self) -> list[str]:
        """Return what the server cannot do and what is done instead, one clause each."""
        clauses = {
            "no options beyond OpenAI's: its own defaults of top_k and the like hold, special tokens may be missing in texts": self.extensions,
            "no repeatable seeds: results cannot be reproduced": self.seeds,
            "no n (or one whose candidates depend on n): one request per candidate": self.most_n > 1
            or self.stops == "streamed",
            "stop texts are cut off and not named: replies are read as streams up to the first stop text, one per candidate": self.stops
            != "streamed",
            "no log-probabilities: they are recorded as 0, and tokens are counted per reply": self.logprobs,
        }
        return [clause for clause, able in clauses.items() if not able]


async def probe(complete: Complete, model: str) -> Abilities:
    """Return the abilities of the server behind ``complete``, which raises ``RequestRefused`` for an unknown option.

    Raises ``ValueError`` with one sentence when it answers no plain request, and what ``complete`` raises.
    """
    plain: dict[str, Any] = {"model": model, "prompt": _PROMPT, "max_tokens": _TOKENS, "temperature": 0}
    extended = {**plain, **EXTENSIONS}
    reply = await _answer(complete, extended)
    extensions = reply is not None
    if reply is None:
        reply = await complete(plain)
    if not choices(reply):
        raise ValueError("the endpoint answers a completion without choices: is it an OpenAI-compatible server?")
    body = extended if extensions else plain
    logprobs = await _texts(complete, {**body, "logprobs": 1}, having_logprobs=True) is not None
    seeds, most_n = await _draws(complete, {**body, "temperature": 1.5})
    stops = await _stops(complete, body, str(choices(reply)[0].get("text") or ""))
    return Abilities(1 if stops == "streamed" else most_n, seeds, stops, logprobs, extensions)


async def _draws(complete: Complete, body: Mapping[str, Any]) -> tuple[bool, int]:
    """Return whether seeds repeat a text, and the most candidates of one request (1 where they depend on n)."""
    first, again, second = [await _texts(complete, {**body, "seed": seed}) for seed in (_SEED, _SEED, _SEED + 1)]
    seeds = first is not None and first == again
    if seeds and await _texts(complete, {**body, "seed": _SEED, "n": 2}) != [*(first or ()), *(second or ())]:
        return True, 1
    for n in MOST_N:
        texts = await _texts(complete, {**body, "n": n, "max_tokens": 1})
        if texts is not None:
            return seeds, n if len(texts) == n else 1
    return seeds, 1


async def _stops(complete: Complete, body: Mapping[str, Any], text: str) -> Stops:
    """Return how the server treats stop texts. ``text``: its answer to ``body`` without one."""
    pieces = sorted(_PIECE.findall(text[1:]), key=len)
    if not pieces:
        return "streamed"
    stop = pieces[-1]
    with_stop = {**body, "stop": [_UNSEEN, stop]}
    before = text[: text.find(stop)]
    reply = await _answer(complete, with_stop)
    for choice in choices(reply or {})[:1]:
        named = choice.get("stop_reason", choice.get("matched_stop"))
        if named == stop and str(choice.get("text") or "").removesuffix(stop) == before:
            return "named"
    kept = await _texts(complete, {**with_stop, **KEEP_STOP})
    return "kept" if kept == [before + stop] else "streamed"


async def _texts(complete: Complete, body: Mapping[str, Any], *, having_logprobs: bool = False) -> list[str] | None:
    """Return the texts of a reply, None when the request is refused or the log-probabilities are missing."""
    reply = await _answer(complete, body)
    if reply is None or (having_logprobs and not all(map(token_logprobs, choices(reply)))):
        return None
    return [str(choice.get("text") or "") for choice in choices(reply)]


async def _answer(complete: Complete, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    try:
        return await complete(body)
    except RequestRefused:
        return None
