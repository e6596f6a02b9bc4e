"""The entry point: search one problem with a policy, an executor and, where given, a PPM and a verifier.

    config = SearchConfig(rollouts=16, guidance="ppm")
    record = await solve(problem, config, policy=policy, executor=executor, ppm=ppm, seed=0)
    print(record.nodes[record.chosen].answer)

In training a verifier gives each terminal its reward; at inference there is none and the reward is the PPM's score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from rstar.config import SearchConfig
from rstar.interfaces import Executor, Policy, PreferenceModel, Verifier
from rstar.problem import Problem
from rstar.record import NodeRecord, SearchRecord, Usage
from rstar.search.beam import beam
from rstar.search.expansion import SearchContext, gather_or_cancel
from rstar.search.mcts import mcts
from rstar.search.tree import Node, records
from rstar.search.whole_solutions import sample
from rstar.seeds import derive

OnProgress = Callable[[Usage, int, int], None]
"""Called with what was spent so far, the number of trajectories found and how many of them are correct."""


async def solve(
    problem: Problem,
    config: SearchConfig,
    *,
    policy: Policy,
    executor: Executor,
    ppm: PreferenceModel | None = None,
    verifier: Verifier | None = None,
    seed: int,
    on_progress: OnProgress | None = None,
) -> SearchRecord:
    """Search one problem and return its trees, their cost and the chosen answer.

    Raises ``ValueError`` when the settings need a PPM and none is given. An exception of a model ends the search
    and is raised unchanged.
    """
    if config.guidance == "ppm" and ppm is None:
        raise ValueError(f"problem {problem.id}: guidance is 'ppm' but there is no PPM; give one or set guidance: none")
    if config.method == "beam" and (ppm is None or config.guidance != "ppm"):
        raise ValueError(f"problem {problem.id}: beam search ranks steps by the PPM; give one and set guidance: ppm")
    context = SearchContext(
        problem,
        config,
        policy=policy,
        executor=executor,
        ppm=ppm if config.guidance == "ppm" else None,
        verifier=verifier,
    )

    def report() -> None:
        if on_progress is not None:
            on_progress(context.usage, context.trajectories, context.correct)

    async def grow(tree: int) -> Node:
        tree_seed = derive(seed, "tree", tree)
        match config.method:
            case "mcts":
                return await mcts(context, tree_seed, report)
            case "beam":
                return await beam(context, tree_seed, report)
            case "greedy":
                return await sample(context, 1, tree_seed)
            case "best_of_n" | "majority":
                return await sample(context, config.rollouts, tree_seed)

    roots = await gather_or_cancel(grow(tree) for tree in range(config.trees))
    report()
    rows = records(roots)
    return SearchRecord(
        problem_id=problem.id,
        nodes=tuple(rows),
        usage=context.usage,
        chosen=choose(rows, by_score=config.method != "majority", vote_top=config.vote_top),
        policy_digest=context.policy_digest,
        ppm_digest=context.ppm_digest,
    )


def choose(rows: Sequence[NodeRecord], by_score: bool, vote_top: int | None = None) -> int:
    """Return the position of the terminal whose answer is chosen, or -1 where there is none.

    ``by_score`` takes the trajectory with the highest PPM score. Otherwise, and where there are no scores, the answers
    are put to a majority vote, in which a terminal has as many votes as visits. With ``vote_top`` only so many
    trajectories with the highest scores vote.
    """
    terminals = [i for i, row in enumerate(rows) if row.terminal and row.answer is not None]
    if not terminals:
        return -1
    scored = [i for i in terminals if rows[i].score is not None]
    if by_score and scored and vote_top is None:
        return max(scored, key=lambda i: rows[i].score or 0.0)
    if vote_top is not None and scored:
        terminals = sorted(scored, key=lambda i: rows[i].score or 0.0, reverse=True)[:vote_top]
    votes: Counter[str] = Counter()
    for i in terminals:
        votes[(rows[i].answer or "").strip()] += rows[i].visits
    winner = max(votes, key=lambda answer: votes[answer])
    return next(i for i in terminals if (rows[i].answer or "").strip() == winner)
