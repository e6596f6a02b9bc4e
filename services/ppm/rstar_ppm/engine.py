"""The interface between the service and the model library: ``transformers_ppm`` and ``vllm_ppm`` implement it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from rstar.interfaces import Scores, State


class Engine(Protocol):
    """Scores candidates for many concurrent callers: a ``rstar.interfaces.PreferenceModel`` with ``close``."""

    async def score(self, state: State, candidates: Sequence[str], begun: asyncio.Event | None = None) -> Scores:
        """Score each candidate as the next step of ``state``, in [-1, 1].

        ``begun`` is set when the call leaves the queue. Raises ``ValueError`` with one sentence for a request that can never
        be served, ``RuntimeError`` when the engine failed or is closed.
        """
        ...

    async def score_steps(self, state: State, begun: asyncio.Event | None = None) -> Scores:
        """Score each of the state's steps as the next one after those before it, in one pass; raises as ``score`` does."""
        ...

    async def failed(self) -> str:
        """Wait until the engine can answer no more calls, and return why; cancelled when the service ends first."""
        ...

    async def close(self) -> None:
        """End all calls and free the model."""
        ...


def check_length(longest: int, context: int) -> None:
    """Raise ``ValueError`` when the text of a score has more tokens, ``longest``, than the model's ``context``."""
    if longest > context:
        raise ValueError(
            f"prefix and candidate have {longest} tokens and the model's context is {context}: "
            "shorten the question, the steps or the candidates"
        )
