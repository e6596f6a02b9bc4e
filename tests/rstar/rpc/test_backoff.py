from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rstar.rpc.backoff import AWAKE, LONGEST_SECONDS, after_answer, after_failure, after_refusal

rolls = st.floats(0, 1, exclude_max=True)
seconds = st.floats(0, 100)


@given(st.lists(rolls, min_size=2, max_size=40))
def test_a_server_that_keeps_failing_rests_longer_each_time_up_to_a_bound(rolls: list[float]) -> None:
    rest, now, before = AWAKE, 0.0, 0.0
    for roll in rolls:
        rest = after_failure(rest, now, now, roll)
        length = rest.until - now
        # Twice as long at least half as spread: never less than the time before, but at the bound.
        assert before / 2 <= length <= LONGEST_SECONDS
        now, before = rest.until, length
    assert rest.failures == len(rolls)


@given(st.integers(1, 50), rolls)
def test_of_calls_under_way_together_one_failure_counts(calls: int, roll: float) -> None:
    rest = AWAKE
    for i in range(calls):
        rest = after_failure(rest, sent=0.0, now=1.0 + i / 100, roll=roll)
    assert rest == after_failure(AWAKE, 0.0, 1.0, roll)


@given(rolls, seconds)
def test_an_answer_wakes_a_server_unless_it_was_sent_before_the_failure(roll: float, later: float) -> None:
    rest = after_failure(AWAKE, sent=5.0, now=6.0, roll=roll)
    assert after_answer(rest, sent=5.5) is rest
    assert after_answer(rest, sent=6.0 + later) == AWAKE


@given(seconds, seconds)
def test_a_refusal_is_believed_counts_as_no_failure_and_never_shortens_a_rest(first: float, second: float) -> None:
    rest = after_refusal(after_refusal(AWAKE, 10.0, first), 10.0, second)
    assert (rest.failures, rest.until) == (0, 10.0 + max(first, second))
