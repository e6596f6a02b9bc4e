"""Methods that choose among the same samples, with a scripted policy, executor and PPM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rstar_jobs.evaluate import evaluation_shards, search_and_grade
from rstar_jobs.progress import Progress
from rstar_jobs.shards import StoredShards

from rstar.interfaces import Proposal, Sampling, State
from rstar.problem import Problem
from rstar.rounds.evaluation import ProblemResult
from rstar.rounds.observed import Stage
from rstar.rounds.shared_samples import rechosen, sampled_by
from rstar.rounds.spec import EvaluationMethod
from rstar.rounds.stage import StageRun, stage_settings
from rstar.search.solve import solve
from rstar.store.folder_store import FolderStore
from tests.support.jobs.coordinator import coordinator
from tests.support.jobs.stage_workspace import StageWorkspace
from tests.support.scripted import ClosenessModel, DigitPolicy, SumExecutor, SumVerifier


def method(name: str, **settings: object) -> EvaluationMethod:
    return EvaluationMethod.model_validate({"name": name, "rollouts": 8, **settings})


MAJORITY = method("majority", method="majority")
BEST = method("best", method="best_of_n", guidance="ppm")


async def equal(first: str, second: str) -> bool:
    return first == second


@pytest.mark.parametrize("seed", range(8))
async def test_a_majority_of_shared_samples_is_that_of_a_search_of_its_own(seed: int) -> None:
    problem = Problem("p", "which digits add up?", "12")
    policy, executor = DigitPolicy(), SumExecutor()
    scored = await solve(problem, BEST, policy=policy, executor=executor, ppm=ClosenessModel(12), same=equal, seed=seed)
    alone = await solve(problem, MAJORITY, policy=policy, executor=executor, same=equal, seed=seed)
    assert scored.usage.scored > 0
    assert await rechosen(scored, MAJORITY, equal) == alone
    assert await rechosen(scored, BEST, equal) == scored


def test_samples_are_shared_by_the_methods_whose_sampling_is_the_same() -> None:
    others = (method("greedy", method="greedy"), method("tree", method="mcts", guidance="ppm"))
    warmer = method("warmer", method="majority", temperature=0.5)
    vote = method("vote", method="best_of_n", guidance="ppm", voteTop=4)
    methods = (*others, MAJORITY, warmer, BEST, vote)
    found = {each.name: sampled_by(each, methods).name for each in methods}
    assert found == {
        "greedy": "greedy",
        "tree": "tree",
        "majority": "best",  # whose samples are scored
        "warmer": "warmer",
        "best": "best",
        "vote": "best",
    }


class CountingPolicy(DigitPolicy):
    """Counts the samples that it draws."""

    drawn = 0

    async def propose(self, state: State, n: int, sampling: Sampling, seed: int) -> Proposal:
        self.drawn += n
        return await super().propose(state, n, sampling, seed)


async def evaluated(folder: Path, *methods: dict[str, Any]) -> tuple[dict[str, list[ProblemResult]], int]:
    """Return the results of an evaluation of two problems that is run twice, and the samples drawn in all."""
    problems = [Problem(f"p{i}", "which digits add up?", str(12 + i)) for i in range(2)]
    spec = StageWorkspace(folder, evaluate={"methods": list(methods)}).round.spec
    stage = StageRun(FolderStore(folder / "store"), "r1", Stage.EVALUATE, 3, stage_settings(spec, Stage.EVALUATE))
    policy, results = CountingPolicy(), {}
    async with coordinator(policy) as address:
        for _ in range(2):
            outputs, results = await search_and_grade(
                [address],
                evaluation_shards(spec, problems),
                StoredShards(stage),
                spec,
                SumVerifier(),
                Progress(None, "evaluate"),
            )
            assert len(outputs) == len(methods)
    return results, policy.drawn


async def test_an_evaluation_draws_shared_samples_once_and_its_results_are_those_of_apart(tmp_path: Path) -> None:
    for name in ("together", "first", "majority"):
        (tmp_path / name).mkdir()
    majority = {"name": "majority", "method": "majority", "rollouts": 6}
    first = {"name": "first", "method": "best_of_n", "rollouts": 6, "voteTop": 2}
    together, drawn = await evaluated(tmp_path / "together", first, majority)
    apart, drawn_apart = zip(
        await evaluated(tmp_path / "first", first), await evaluated(tmp_path / "majority", majority), strict=True
    )
    assert together == apart[0] | apart[1]
    assert drawn == drawn_apart[0] == drawn_apart[1]
