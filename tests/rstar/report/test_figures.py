"""The figures of a report, on plain data."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rstar.problem import Problem
from rstar.report.charts import charts
from rstar.report.choice import shown_problems, within_budget
from rstar.report.data import ROLLOUT, Report
from rstar.report.figures import (
    Calibration,
    TreeTally,
    add_to_calibration,
    answered_within,
    bin_of,
    difficulty_figures,
    most_common,
    reason_group,
    share,
)
from rstar.report.sampling import sample, shortened
from rstar.rounds.evaluation import ProblemResult
from tests.support.rounds.stored_rounds import tree

PROBLEM = Problem("p", "question", "24")
RESULTS = st.lists(
    st.builds(ProblemResult, st.text(max_size=3), st.booleans(), st.booleans(), st.integers(0, 10_000)), max_size=200
)


@given(st.integers(0, 500), st.integers(0, 500))
def test_an_interval_holds_its_share(right: int, wrong: int) -> None:
    found = share(right, right + wrong)
    assert 0 <= found.low <= found.share + 1e-12
    assert found.share - 1e-12 <= found.high <= 1


@given(st.floats(-1, 1), st.integers(1, 50))
def test_a_bin_holds_its_value(value: float, bins: int) -> None:
    number = bin_of(value, bins)
    assert 0 <= number < bins
    assert -1 + 2 * number / bins - 1e-9 <= value <= -1 + 2 * (number + 1) / bins + 1e-9


@given(RESULTS)
def test_a_token_curve_rises_to_the_accuracy_in_few_points(results: list[ProblemResult]) -> None:
    points = answered_within(results, points=20)
    assert len(points) <= 20
    assert list(points) == sorted(points)
    if results:
        assert points[-1][1] == sum(r.correct for r in results) / len(results)
        assert all(share == sum(r.correct and r.tokens <= n for r in results) / len(results) for n, share in points)


def test_reasons_are_grouped_by_the_class_of_the_exception() -> None:
    assert reason_group("exception: ZeroDivisionError: division by zero (line 3)") == "exception: ZeroDivisionError"
    assert reason_group("the text ended without a marker") == "the text ended without a marker"
    assert reason_group("") == "unknown"
    assert most_common([{"a": 1, "b": 2}, {"a": 2}], 1) == ["a"]


def test_coverage_is_by_the_class_of_the_first_round() -> None:
    found = difficulty_figures({"a": "easy", "b": "hard", "c": "medium"}, {"a": "hard", "b": "hard", "c": "medium"})
    assert (found.coverage["hard"].right, found.coverage["hard"].total) == (1, 2)
    assert found.counts == {"easy": 1, "medium": 1, "hard": 1}


def test_of_an_evaluation_only_graded_answers_calibrate() -> None:
    record = tree(PROBLEM, correct=None, ppm="d" * 64)
    calibration = Calibration()
    add_to_calibration(calibration, record, "greedy", None)
    assert calibration.bins() == ()
    add_to_calibration(calibration, record, "greedy", ProblemResult("p", True, True, 1))
    [one] = calibration.bins()
    assert (one.kind, one.count, one.share, one.mean_score) == ("answers", 1, 1.0, 0.5)


def test_of_a_training_search_trajectories_and_steps_calibrate() -> None:
    calibration = Calibration()
    add_to_calibration(calibration, tree(PROBLEM, correct=False, ppm="d" * 64), ROLLOUT, None)
    assert {(one.kind, one.count, one.share) for one in calibration.bins()} == {
        ("trajectories", 1, 0.0),
        ("steps", 1, 0.0),
    }


def test_nodes_are_counted_by_kind_and_reason() -> None:
    tally = TreeTally(ROLLOUT)
    tally.add(tree(PROBLEM, correct=True))
    found = tally.figures()
    assert {kind: sum(bins) for kind, bins in found.q.items()} == {"failed": 1, "right": 1, "step": 1}
    assert found.failures == {"exception: ValueError": 1}
    assert (found.problems, found.solved, found.tokens) == (1, 1, 17)


@given(st.dictionaries(st.text(max_size=4), st.lists(st.booleans(), min_size=1, max_size=4)), st.integers(0, 8))
def test_the_choice_of_problems_does_not_depend_on_their_order(outcomes: dict[str, list[bool]], limit: int) -> None:
    chosen = shown_problems(outcomes, limit)
    assert chosen == shown_problems(dict(reversed(outcomes.items())), limit)
    assert len(chosen) == len(set(chosen)) == min(limit, len(outcomes))


def test_problems_on_which_rounds_differ_come_first() -> None:
    chosen = shown_problems({"never": [False, False], "always": [True, True], "mixed": [True, False]}, 1)
    assert chosen == ["mixed"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 100)), max_size=20), st.integers(0, 300))
def test_kept_trees_fit_the_budget_with_whole_problems(sizes: list[tuple[str, int]], budget: int) -> None:
    kept = within_budget(sizes, budget)
    assert sum(size for problem_id, size in sizes if problem_id in kept) <= budget


def test_a_sample_of_a_training_search_without_a_right_trajectory_is_wrong() -> None:
    found = sample("r1", ROLLOUT, PROBLEM, tree(PROBLEM, correct=False), None)
    assert (found.right, found.answer, len(found.steps)) == (False, "24", 2)
    assert sample("r1", "greedy", PROBLEM, tree(PROBLEM, correct=None), None).right is None


def test_long_texts_keep_both_ends() -> None:
    assert shortened("a" * 10 + "b" * 10, 4) == "aa\n...\nbb"


def test_a_report_without_figures_has_charts_with_nothing_to_draw() -> None:
    assert all(chart.spec is None and not chart.table.rows for chart in charts(Report("s", (), (), ())).values())
