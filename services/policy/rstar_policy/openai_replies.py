"""From a server's reply to candidates: the text with its stop text, why it ended, its tokens and log-probability. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rstar.interfaces import Candidate, Finish
from rstar_policy.stopping import cut, stop_rule


@dataclass(slots=True)
class Written:
    """What a server wrote for one candidate, in one piece or as far as its stream was read.

    ``stop``: the stop text that the server names; ``tokens``: 0 where it is unknown; ``logprob``: in nats;
    ``parts``: pieces with text.
    """

    text: str = ""
    reason: str = ""
    stop: str = ""
    tokens: int = 0
    logprob: float = 0.0
    parts: int = 0

    def add(self, choice: Mapping[str, Any]) -> None:
        """Append a choice of a reply or of a stream's event."""
        text = str(choice.get("text") or "")
        self.text += text
        self.parts += bool(text)
        self.reason = str(choice.get("finish_reason") or self.reason)
        # vLLM's name and SGLang's; an integer is a token that ends the text.
        named = choice.get("stop_reason", choice.get("matched_stop"))
        self.stop = named if isinstance(named, str) else self.stop
        logprobs = token_logprobs(choice)
        self.tokens += len(logprobs)
        self.logprob += sum(logprobs)

    def candidate(self, stops: Sequence[str], tokens: int) -> Candidate:
        """Return the candidate; ``tokens`` counts those that its log-probabilities do not count.

        The stop text that the server cut off is appended where the server names it.
        """
        text, finish = self.text, Finish.LENGTH if self.reason == "length" else Finish.EOS
        if self.reason == "stop" and self.stop in stops and not text.endswith(self.stop):
            text += self.stop
        text, finish = cut(text, finish, stop_rule(stops, {}))
        return Candidate(text, self.tokens or tokens, self.logprob, finish)


def choices(reply: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the choices of a reply in the order of their ``index``; [] when it has none."""
    found = reply.get("choices")
    if not isinstance(found, list):
        return []
    entries = [choice for choice in found if isinstance(choice, dict)]
    return sorted(entries, key=lambda choice: choice.get("index") or 0)


def token_logprobs(choice: Mapping[str, Any]) -> list[float]:
    """Return the log-probability of each generated token, [] where the server gives none.

    Servers write them as ``token_logprobs`` (vLLM, SGLang, llama-cpp-python) or as a list of objects (llama.cpp).
    """
    given = choice.get("logprobs")
    if not isinstance(given, dict):
        return []
    listed = given.get("token_logprobs")
    if not isinstance(listed, list):
        content = given.get("content")
        listed = [entry.get("logprob") for entry in content] if isinstance(content, list) else []
    return [float(value) if value is not None else 0.0 for value in listed]


def read_candidates(reply: Mapping[str, Any], stops: Sequence[str]) -> list[Candidate]:
    """Return the candidates of a whole reply.

    Without log-probabilities a reply counts the tokens of all its choices together: each then gets its share by length.
    """
    written = []
    for choice in choices(reply):
        one = Written()
        one.add(choice)
        written.append(one)
    usage = reply.get("usage")
    total = int(usage.get("completion_tokens") or 0) if isinstance(usage, dict) else 0
    shares = _shares(total, [len(one.text) for one in written])
    return [one.candidate(stops, tokens) for one, tokens in zip(written, shares, strict=True)]


async def read_stream(events: AsyncIterator[Mapping[str, Any]], stops: Sequence[str]) -> Candidate:
    """Return the one candidate of a stream; the rest is left unread once a stop text is complete.

    Where nothing counts its tokens, each part with text counts as one: servers send a part per token.
    """
    written, longest = Written(), max(map(len, stops), default=0)
    async for event in events:
        for choice in choices(event)[:1]:
            before = len(written.text)
            written.add(choice)
            tail = written.text[max(0, before - longest) :]
            if any(stop in tail for stop in stops):
                return written.candidate(stops, written.parts)
    return written.candidate(stops, written.parts)


def _shares(total: int, lengths: Sequence[int]) -> list[int]:
    """Return whole numbers with the sum ``total``, in proportion to ``lengths``; at least 1 each where that is possible."""
    if not lengths:
        return []
    if total < len(lengths):
        return [1] * len(lengths)
    whole, spare = sum(lengths) + len(lengths), total - len(lengths)
    ends = [spare * (sum(lengths[: k + 1]) + k + 1) // whole for k in range(len(lengths))]
    return [1 + end - start for start, end in zip([0, *ends], ends, strict=False)]
