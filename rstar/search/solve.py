"""The entry point: search one problem with a policy, an executor and, where given, a PPM and a verifier.

    config = SearchConfig(rollouts=16, guidance="ppm")
    record = await solve(problem, config, policy=policy, executor=executor, ppm=ppm, seed=0)
    print(record.nodes[record.chosen].answer)

In training a verifier gives each terminal its reward; at inference there is none and the reward is the PPM's score.
"""

from __future__ import annotations

from collections.abc import Callable

from rstar.config import SearchConfig
from rstar.interfaces import Executor, Policy, PreferenceModel, Verifier
from rstar.problem import Problem
from rstar.record import LeadingTrajectory, Progress, SearchRecord, Usage
from rstar.search.beam import beam
from rstar.search.choice import Same, chosen_by
from rstar.search.expansion import SearchContext, gather_or_cancel
from rstar.search.mcts import mcts
from rstar.search.tree import records
from rstar.search.whole_solutions import sample
from rstar.seeds import derive

OnProgress = Callable[[Progress], None]
"""Called after each rollout or sample."""


class SearchFailed(Exception):  # noqa: N818 - named after the event
    """A search ended before its time. ``record`` has what was found and spent, and the reason as its ``error``.

    The exception of the model is the cause (``__cause__``).
    """

    def __init__(self, record: SearchRecord) -> None:
        super().__init__(record.error)
        self.record = record


async def solve(
    problem: Problem,
    config: SearchConfig,
    *,
    policy: Policy,
    executor: Executor,
    ppm: PreferenceModel | None = None,
    verifier: Verifier | None = None,
    same: Same | None = None,
    seed: int,
    on_progress: OnProgress | None = None,
) -> SearchRecord:
    """Search one problem and return its trees, their cost and the chosen answer.

    ``same`` tells whether two answers are equal, for votes (``rstar.verify.equivalence``); None compares texts.
    ``config.trajectories`` trees grow side by side; one after the other with ``stop_when_solved``, so that the result
    does not depend on timing. Raises ``ValueError`` when the settings need a PPM and none is given, and
    ``SearchFailed`` when a role cannot be called any more or the policy proposes nothing at all for the question.
    """
    if config.guidance == "ppm" and ppm is None:
        raise ValueError(f"problem {problem.id}: guidance is 'ppm' but there is no PPM; give one or set guidance: none")
    if config.method == "beam" and (ppm is None or config.guidance != "ppm"):
        raise ValueError(f"problem {problem.id}: beam search ranks steps by the PPM; give one and set guidance: ppm")
    trees = [
        SearchContext(
            problem,
            config,
            policy=policy,
            executor=executor,
            ppm=ppm if config.guidance == "ppm" else None,
            verifier=verifier,
            token_budget=budget_share(config.token_budget, config.trajectories, tree),
        )
        for tree in range(config.trajectories)
    ]

    def report() -> None:
        if on_progress is not None:
            trajectories, correct = sum(tree.trajectories for tree in trees), sum(tree.correct for tree in trees)
            on_progress(Progress(_usage(trees), trajectories, correct, _leading(trees)))

    async def grow(number: int) -> None:
        tree, tree_seed = trees[number], derive(seed, "tree", number)
        match config.method:
            case "mcts":
                await mcts(tree, tree_seed, report)
            case "beam":
                await beam(tree, tree_seed, report)
            case "greedy":
                await sample(tree, 1, tree_seed, report)
            case "best_of_n" | "majority":
                await sample(tree, config.rollouts, tree_seed, report)

    try:
        if config.stop_when_solved:
            for number, tree in enumerate(trees):
                await grow(number)
                if tree.correct:
                    break
        else:
            await gather_or_cancel(grow(number) for number in range(len(trees)))
    except Exception as error:
        raise SearchFailed(_record(problem, trees, error=str(error) or type(error).__name__)) from error
    report()
    return await chosen_by(_record(problem, trees), config, same)


def budget_share(budget: int | None, trees: int, tree: int) -> int | None:
    """Return the token budget of one of ``trees`` trees: equal shares, the remainder to the first ones."""
    return None if budget is None else budget // trees + (tree < budget % trees)


def _usage(trees: list[SearchContext]) -> Usage:
    return sum((tree.usage for tree in trees), Usage())


def _leading(trees: list[SearchContext]) -> LeadingTrajectory | None:
    found = [tree.leading for tree in trees if tree.leading is not None]
    if not found:
        return None
    best = max(found, key=lambda node: float("-inf") if node.score is None else node.score)
    return LeadingTrajectory(best.steps(), best.answer or "", best.score)


def _record(problem: Problem, trees: list[SearchContext], error: str = "") -> SearchRecord:
    """Return what the trees hold; no answer is chosen yet."""
    return SearchRecord(
        problem_id=problem.id,
        nodes=tuple(records([tree.root for tree in trees])),
        usage=_usage(trees),
        policy_digest=next((tree.policy_digest for tree in trees if tree.policy_digest), ""),
        ppm_digest=next((tree.ppm_digest for tree in trees if tree.ppm_digest), ""),
        error=error,
    )
