"""The figures of an evaluation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar.problem import Problem
from rstar.record import NodeRecord, SearchRecord, Usage
from rstar.rounds.evaluation import ProblemResult, compared, grade, mcnemar, summarise, wilson
from tests.support.scripted import SumVerifier


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilsons_interval_agrees_with_published_values(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_contains_the_share_and_stays_between_0_and_1(counts: tuple[int, int]) -> None:
    successes, trials = counts
    low, high = wilson(successes, trials)
    assert 0 <= low <= successes / trials + 1e-12
    assert successes / trials - 1e-12 <= high <= 1


def record(answers: list[str], chosen: int) -> SearchRecord:
    nodes = (NodeRecord(-1), *(NodeRecord(0, terminal=True, answer=answer) for answer in answers))
    return SearchRecord("p", nodes, Usage(nodes=len(answers), tokens=7), chosen)


@pytest.mark.parametrize(
    ("answers", "chosen", "correct", "found"),
    [(["4", "5"], 1, True, True), (["5", "4"], 1, False, True), (["5"], 1, False, False), ([], -1, False, False)],
)
async def test_the_chosen_answer_and_any_answer_are_graded_apart(
    answers: list[str], chosen: int, correct: bool, found: bool
) -> None:
    result = await grade(Problem("p", "2+2?", "4"), record(answers, chosen), SumVerifier())
    assert (result.correct, result.any, result.tokens) == (correct, found, 7)


def test_a_summary_has_means_per_problem_and_counts_failed_searches_as_wrong() -> None:
    results = [
        ProblemResult("a", correct=True, any=True, tokens=10),
        ProblemResult("b", correct=False, any=True, tokens=30),
        ProblemResult("c", correct=False, any=False, tokens=0, error="the policy went away"),
        ProblemResult("d", correct=True, any=True, tokens=0),
    ]
    row = summarise("mcts", results).metrics()
    assert (row["accuracy"], row["any"], row["tokens"], row["problems"], row["errors"]) == (0.5, 0.75, 10.0, 4, 1)
    assert row["low"] < 0.5 < row["high"]


def test_a_summary_of_no_problems_has_the_widest_interval() -> None:
    row = summarise("mcts", [])
    assert (row.accuracy, row.low, row.high, row.tokens) == (0.0, 0.0, 1.0, 0.0)


def outcomes(flags: list[bool]) -> list[ProblemResult]:
    return [ProblemResult(f"p{i}", correct=flag, any=flag, tokens=1) for i, flag in enumerate(flags)]


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    # scipy.stats.binomtest(min(better, worse), better + worse).pvalue
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (9, 2, 0.065430), (12, 5, 0.143463), (20, 4, 0.001544)],
)
def test_mcnemars_test_agrees_with_the_binomial_test(better: int, worse: int, p: float) -> None:
    before = outcomes([False] * better + [True] * worse + [True, False])
    after = outcomes([True] * better + [False] * worse + [True, False])
    found = mcnemar("greedy", before, after)
    assert (found.better, found.worse, found.p) == (better, worse, pytest.approx(p, abs=1e-6))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_mcnemars_test_is_symmetric_and_ignores_problems_on_which_both_agree(pairs: list[tuple[bool, bool]]) -> None:
    one, other = outcomes([a for a, _ in pairs]), outcomes([b for _, b in pairs])
    assert mcnemar("a", one, other).p == mcnemar("b", other, one).p
    differing = [(a, b) for a, b in pairs if a != b]
    assert (
        mcnemar("a", one, other).p
        == mcnemar("a", outcomes([a for a, _ in differing]), outcomes([b for _, b in differing])).p
    )


def test_every_method_is_compared_with_the_first() -> None:
    rows = compared({"greedy": outcomes([True, False, False]), "mcts": outcomes([False, True, True])})
    assert rows[0].paired is None
    assert rows[1].metrics()["paired"] == {"baseline": "greedy", "better": 2, "worse": 1, "p": 1.0}
