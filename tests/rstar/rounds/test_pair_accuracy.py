"""The held-out pair accuracy of a PPM, and the lower bound that decides whether it guides."""

from __future__ import annotations

from math import nextafter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar.rounds.evaluation import wilson
from rstar.rounds.pair_accuracy import Z_ONE_SIDED_95, PairAccuracy, pair_accuracy, problems_needed, read_pair_accuracy

HITS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), min_size=1, max_size=80)


@given(HITS)
def test_the_accuracy_is_the_share_of_the_pairs_and_the_bound_lies_below_it(hits: list[tuple[str, bool]]) -> None:
    found = pair_accuracy(hits)
    assert found is not None
    assert found.accuracy == sum(hit for _, hit in hits) / len(hits)
    assert (found.pairs, found.problems) == (len(hits), len({problem for problem, _ in hits}))
    assert 0 <= found.low <= found.accuracy + 1e-12
    written = read_pair_accuracy(found.metrics())
    assert written is not None
    assert written.low == pytest.approx(found.low, abs=1e-6)


@given(HITS, st.integers(2, 5))
def test_more_pairs_of_the_same_problems_are_no_more_evidence(hits: list[tuple[str, bool]], times: int) -> None:
    once, often = pair_accuracy(hits), pair_accuracy(hits * times)
    assert once is not None
    assert often is not None
    assert often.low == pytest.approx(once.low)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 40))
def test_problems_with_equally_many_pairs_count_as_one_observation_each(problems: int, pairs: int, right: int) -> None:
    right = min(right, problems)
    found = pair_accuracy((f"p{i}", i < right) for i in range(problems) for _ in range(pairs))
    assert found is not None
    assert found.low == pytest.approx(wilson(right, problems, Z_ONE_SIDED_95)[0])


def test_a_problem_with_many_more_pairs_than_the_others_leaves_less_than_one_observation_per_problem() -> None:
    even = pair_accuracy((f"p{i}", True) for i in range(10))
    uneven = pair_accuracy((f"p{max(i, 0)}", True) for i in range(-90, 10))
    assert even is not None
    assert uneven is not None
    assert (even.problems, uneven.problems) == (10, 10)
    assert uneven.low < 0.35
    assert even.low > 0.75


def measured(accuracy: float, problems: int = 1) -> PairAccuracy:
    """Return the accuracy on as many pairs as problems."""
    return PairAccuracy(accuracy, wilson(accuracy * problems, problems, Z_ONE_SIDED_95)[0], problems, problems)


@given(st.floats(0.5, 0.95), st.floats(0.01, 0.5))
def test_the_number_of_problems_needed_is_the_least_that_reaches_the_bar(bar: float, more: float) -> None:
    accuracy = min(1.0, bar + more)
    needed = problems_needed(measured(accuracy), bar)
    assert needed is not None
    assert measured(accuracy, needed).low >= bar - 1e-9
    assert needed == 1 or measured(accuracy, needed - 1).low < bar + 1e-9


def test_small_rounds_can_pass_with_a_good_ppm() -> None:
    assert {accuracy: problems_needed(measured(accuracy), 0.6) for accuracy in (0.7, 0.75, 0.8, 0.9, 1.0)} == {
        0.7: 65,
        0.75: 29,
        0.8: 17,
        0.9: 8,
        1.0: 5,
    }


@given(HITS)
def test_more_problems_are_needed_than_the_bound_was_measured_on(hits: list[tuple[str, bool]]) -> None:
    found = pair_accuracy(hits)
    assert found is not None
    needed = problems_needed(found, 0.6)
    assert (needed is None) == (found.accuracy <= 0.6)
    if needed is not None and found.low < 0.6 - 1e-9:
        assert needed > found.problems


def test_no_number_of_problems_lifts_an_accuracy_at_the_bar() -> None:
    assert problems_needed(measured(0.6), 0.6) is None
    assert problems_needed(measured(nextafter(0.6, 0)), 0.6) is None


def test_without_pairs_nothing_is_measured() -> None:
    assert pair_accuracy([]) is None
    assert read_pair_accuracy({"pair_accuracy": None, "pair_accuracy_low": 0.4}) is None
    assert read_pair_accuracy({"pair_accuracy": 0.9}) is None
