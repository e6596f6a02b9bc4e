"""An engine whose model was not trained on the grammar: its candidates become steps (``rstar.instruct``)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from rstar.instruct import as_step
from rstar.interfaces import Proposal, Sampling, State
from rstar_policy.engine import Engine


class InstructPolicy:
    """An ``Engine`` around another one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def digest(self) -> str:
        """Digest of the model."""
        return self._engine.digest

    async def propose(
        self, state: State, n: int, sampling: Sampling, seed: int, begun: asyncio.Event | None = None
    ) -> Proposal:
        """Return n candidates. Their tokens and log-probabilities are those of all that the model wrote."""
        proposal = await self._engine.propose(state, n, sampling, seed, begun)
        steps = (replace(found, text=as_step(found.text, state.steps)) for found in proposal.candidates)
        return replace(proposal, candidates=tuple(steps))

    async def failed(self) -> str:
        """Wait until the engine can answer no more calls, and return why."""
        return await self._engine.failed()

    async def close(self) -> None:
        """Close the engine."""
        await self._engine.close()
