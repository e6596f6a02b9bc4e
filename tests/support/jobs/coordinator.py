"""A real search coordinator with a scripted policy, whose answers a test can delay or fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from rstar_search.service import SearchService

from rstar.interfaces import Policy, PreferenceModel, Proposal, Sampling, State
from tests.support.rpc.servicers import running
from tests.support.scripted import DigitPolicy, SumExecutor


class GatedPolicy:
    """Answers as ``DigitPolicy``, but waits for ``gate`` for the ``delayed`` problems and raises for the ``failing`` ones.

    It raises for each problem of ``failing_once`` at its first call only.
    """

    def __init__(
        self, delayed: Sequence[str] = (), failing: Sequence[str] = (), failing_once: Sequence[str] = ()
    ) -> None:
        self.gate, self.waiting = asyncio.Event(), asyncio.Event()
        self.asked: set[str] = set()
        self._policy = DigitPolicy()
        self.failing = set(failing)
        self._delayed, self._failing_once = delayed, set(failing_once)

    async def propose(self, state: State, n: int, sampling: Sampling, seed: int) -> Proposal:
        """Return the scripted candidates."""
        self.asked.add(state.problem_id)
        once = state.problem_id in self._failing_once
        self._failing_once.discard(state.problem_id)
        if once or state.problem_id in self.failing:
            raise RuntimeError("the model is broken")
        if state.problem_id in self._delayed:
            self.waiting.set()
            await self.gate.wait()
        return await self._policy.propose(state, n, sampling, seed)


@asynccontextmanager
async def coordinator(policy: Policy | None = None, ppm: PreferenceModel | None = None) -> AsyncIterator[str]:
    """Run a coordinator and give its address."""
    async with running(SearchService(policy or GatedPolicy(), SumExecutor(), ppm)) as server:
        yield server.address
