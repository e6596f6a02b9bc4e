"""The interface between the service and the model library: one protocol, and the check of a request.

The service depends only on ``Engine``; ``transformers_engine`` is one implementation.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Final, Protocol

from rstar.interfaces import Proposal, Sampling, State


class Engine(Protocol):
    """Generates candidates for many concurrent callers: a ``rstar.interfaces.Policy`` with a digest and ``close``."""

    @property
    def digest(self) -> str:
        """Digest of the checkpoint; every proposal carries it."""
        ...

    async def propose(
        self, state: State, n: int, sampling: Sampling, seed: int, begun: asyncio.Event | None = None
    ) -> Proposal:
        """Return n candidates; candidate k depends only on (state, sampling, seed, k).

        ``begun`` is set when the first of them leaves the queue. Cancelling the awaiting task frees the call's rows.
        Raises ``ValueError`` with one sentence for a request that can never be served, ``RuntimeError`` when the engine
        failed or is closed, ``RoleUnavailable`` when the server that it calls is lost.
        """
        ...

    async def failed(self) -> str:
        """Wait until the engine can answer no more calls, and return why; cancelled when the service ends first."""
        ...

    async def close(self) -> None:
        """End all calls and free the model."""
        ...


MOST_CANDIDATES: Final = 100_000
"""Most candidates of one request: as many as a search may sample."""


def check_request(n: int, sampling: Sampling, seed: int) -> None:
    """Raise ``ValueError`` unless all numbers are in their ranges."""
    if n < 1:
        raise ValueError(f"n is {n}: ask for at least 1 candidate")
    if n > MOST_CANDIDATES:
        raise ValueError(f"n is {n}: ask for at most {MOST_CANDIDATES} candidates")
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise ValueError(f"sampling.temperature is {sampling.temperature}: give 0 (greedy) or a positive number")
    if not 0 < sampling.top_p <= 1:
        raise ValueError(f"sampling.top_p is {sampling.top_p}: give a number above 0 and at most 1")
    if sampling.max_new_tokens < 1:
        raise ValueError(f"sampling.max_new_tokens is {sampling.max_new_tokens}: give at least 1")
    if "" in sampling.stop:
        raise ValueError("sampling.stop contains an empty text, which would end every candidate at once: remove it")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}: give a number from 0 to 2^64 - 1")


def room_after(prompt: Sequence[int], context: int) -> int:
    """Return how many tokens of the ``context`` are left after ``prompt``. Raises ``ValueError`` when there are none."""
    room = context - len(prompt)
    if room < 1 or not prompt:
        raise ValueError(
            f"the prompt has {len(prompt)} tokens and the model's context is {context}: "
            "shorten the question or the steps"
        )
    return room
