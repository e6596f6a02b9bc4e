"""The clients of the models and the executor that one search needs, and one search with them.

``rstar solve`` and ``rstar.Solver`` share these functions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rstar.interfaces import State
from rstar.record import SearchRecord

if TYPE_CHECKING:
    from rstar.config import SearchConfig
    from rstar.interfaces import Executor, Policy, TrajectoryScorer, Verdict, Verifier
    from rstar.local.session import Addresses
    from rstar.problem import Problem
    from rstar.rpc.search_client import SearchClient
    from rstar.search.solve import OnProgress

    Searched = tuple[SearchRecord, tuple[float, ...] | None]
    """A record, and the PPM's score of each step of its chosen trajectory, where it has them."""


READY_SECONDS: Final = 60.0

CALL_SECONDS: Final = 3_600.0
"""How long a model may take for one call, from when its server begins with it. Longer than in a round, whose stages try again: on
a CPU, 256 solutions of 768 tokens by a model of 0.5 billion parameters take more than ten minutes."""


@dataclass(frozen=True, slots=True)
class ModelClients:
    """Connected clients; ``ppm`` is None when no PPM is used."""

    policy: Policy
    executor: Executor
    ppm: TrajectoryScorer | None


@asynccontextmanager
async def connected(
    addresses: Addresses, ready_seconds: float = READY_SECONDS, call_seconds: float = CALL_SECONDS
) -> AsyncIterator[ModelClients]:
    """Connect to servers that run. ``ready_seconds``: the wait for each; ``call_seconds``: the limit of a model's call.

    Raises ``ServiceUnavailable``.
    """
    from rstar.rpc.clients import ExecutorClient, PolicyClient, PreferenceModelClient

    async with AsyncExitStack() as stack:
        policy = await stack.enter_async_context(
            PolicyClient(addresses.policy, call_seconds=call_seconds, ready_seconds=ready_seconds)
        )
        executor = await stack.enter_async_context(ExecutorClient(addresses.executor, ready_seconds=ready_seconds))
        ppm = None
        if addresses.ppm:
            ppm = await stack.enter_async_context(
                PreferenceModelClient(addresses.ppm, call_seconds=call_seconds, ready_seconds=ready_seconds)
            )
        yield ModelClients(policy, executor, ppm)


async def search_here(
    problem: Problem,
    config: SearchConfig,
    models: ModelClients,
    *,
    verifier: str,
    judge: Verifier,
    seed: int,
    on_progress: OnProgress | None = None,
) -> Searched:
    """Search in this process with the services. Raises as ``rstar.solve``."""
    from rstar.rpc import tracing
    from rstar.rpc.search_client import record_attributes
    from rstar.rpc.spans import SEARCH
    from rstar.search.solve import solve
    from rstar.verify import equivalence

    with tracing.span(SEARCH, problem_id=problem.id, method=config.method) as span:
        record = await solve(
            problem,
            config,
            policy=models.policy,
            executor=models.executor,
            ppm=models.ppm,
            verifier=judge if config.stop_when_solved else None,
            same=equivalence(verifier),
            seed=seed,
            on_progress=on_progress,
        )
        span.set(**record_attributes(record))
    if models.ppm is None or record.chosen < 0:
        return record, None
    # Sampling methods score only the ends of trajectories.
    state = State(problem.id, problem.question, tuple(record.steps(record.chosen)))
    return record, (await models.ppm.score_steps(state)).values


async def search_there(
    problem: Problem,
    config: SearchConfig,
    coordinator: SearchClient,
    *,
    verifier: str,
    seed: int,
    on_progress: OnProgress | None = None,
) -> Searched:
    """Search in a coordinator that runs already; the scores are those that guided the search. Raises ``CallFailed``."""
    rewards = verifier if config.stop_when_solved else ""
    record: SearchRecord | None = None
    async for event in coordinator.solve(problem, config, seed=seed, verifier=rewards, equivalence=verifier):
        if isinstance(event, SearchRecord):
            record = event
        elif on_progress is not None:
            on_progress(event)
    assert record is not None, "a call that did not fail ends with its record"
    path = record.path(record.chosen) if record.chosen >= 0 else ()
    scores = tuple(score for node in path if (score := record.nodes[node].score) is not None)
    # Methods that draw whole solutions score only their ends.
    return record, scores if len(scores) == len(path) else None


async def verdict_on(problem: Problem, record: SearchRecord, judge: Verifier) -> Verdict | None:
    """Judge the chosen answer, where the problem has the expected one."""
    chosen = record.nodes[record.chosen] if record.chosen >= 0 else None
    if chosen is None or (problem.answer is None and not problem.data):
        return None
    return await judge.verify(problem, chosen.answer or "")
