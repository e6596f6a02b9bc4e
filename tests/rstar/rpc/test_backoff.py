from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from rstar.rpc.backoff import (
    LONGEST_SECONDS,
    NO_BACKOFF,
    backoff_after_answer,
    backoff_after_failure,
    backoff_after_pushback,
)

rolls = st.floats(0, 1, exclude_max=True)
seconds = st.floats(0, 100)


@given(st.lists(rolls, min_size=2, max_size=40))
# Here until - now is 10.000000000000002 for a backoff of 10 s: the sum until = now + 10.0 is rounded.
@example([0.9038548857574035, 0.12596770202385987, 0, 0.9038548857574035, 0, 0.12596770202385987, 0.9999999999999999])
# And here the next one, of 5 s, would be less than half as long.
@example([0.15832716489659482, 0.5474748459343444, 0.0, 0.0, 0.0, 0.0, 0.9999999999999999, 0.0])
def test_the_backoff_grows_with_each_failure_and_never_exceeds_its_bound(rolls: list[float]) -> None:
    backoff, now, before = NO_BACKOFF, 0.0, 0.0
    for roll in rolls:
        backoff = backoff_after_failure(backoff, now, now, roll)
        # Each doubles and its spread halves it at most: only at the bound can one be shorter than the last.
        assert before / 2 <= backoff.seconds <= LONGEST_SECONDS
        assert backoff.until == now + backoff.seconds
        now, before = backoff.until, backoff.seconds
    assert backoff.failures == len(rolls)


@given(st.lists(st.tuples(st.floats(0, 20), rolls), min_size=1, max_size=40))
@example([(25.188, 0.0)] + [(0.0, 0.9999999999999999)] * 8)
def test_the_bound_holds_for_failures_at_any_time(failures: list[tuple[float, float]]) -> None:
    backoff, now = NO_BACKOFF, 0.0
    for pause, roll in failures:
        now += pause
        backoff = backoff_after_failure(backoff, now, now, roll)
        assert 0 < backoff.seconds <= LONGEST_SECONDS


@given(st.integers(1, 50), rolls)
def test_of_several_calls_in_progress_only_the_first_failure_counts(calls: int, roll: float) -> None:
    backoff = NO_BACKOFF
    for i in range(calls):
        backoff = backoff_after_failure(backoff, sent=0.0, now=1.0 + i / 100, roll=roll)
    assert backoff == backoff_after_failure(NO_BACKOFF, 0.0, 1.0, roll)


@given(rolls, seconds)
def test_an_answer_ends_the_backoff_unless_its_call_was_sent_before_the_failure(roll: float, later: float) -> None:
    backoff = backoff_after_failure(NO_BACKOFF, sent=5.0, now=6.0, roll=roll)
    assert backoff_after_answer(backoff, sent=5.5) is backoff
    assert backoff_after_answer(backoff, sent=6.0 + later) == NO_BACKOFF


@given(seconds, seconds)
def test_a_pushback_counts_as_no_failure_and_never_shortens_the_backoff(first: float, second: float) -> None:
    backoff = backoff_after_pushback(backoff_after_pushback(NO_BACKOFF, 10.0, first), 10.0, second)
    assert (backoff.failures, backoff.until) == (0, 10.0 + max(first, second))
