from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from rstar.interfaces import Execution, ExecutionStatus
from rstar.rpc.suspects import COPIES, Suspects

OK = Execution(ExecutionStatus.OK, "1\n")
INTERNAL = Execution(ExecutionStatus.INTERNAL, reason="zygote lost")

sizes = st.integers(1, 12)


@given(sizes, st.data())
def test_programs_that_kill_their_executor_run_twice_and_the_others_of_the_batch_get_their_results(
    n: int, data: st.DataObject
) -> None:
    poison = data.draw(st.sets(st.integers(0, n - 1)))
    suspects, runs = Suspects(n), Counter[int]()
    open_copies = [tuple(range(n))]
    while open_copies:
        group = open_copies.pop(data.draw(st.integers(0, len(open_copies) - 1)))
        runs.update(group)
        if poison.intersection(group):
            again = suspects.lost(group, "Socket closed")
        else:
            again = suspects.answered(group, [OK] * len(group))
        open_copies += [(i,) for i in again]
    assert suspects.done
    assert max(runs.values()) <= COPIES
    crashed = {i for i, e in enumerate(suspects.results()) if e.status is ExecutionStatus.CRASHED}
    assert crashed == poison == set(suspects.given_up)


@given(sizes, st.data())
def test_internal_is_a_loss_of_one_program_only(n: int, data: st.DataObject) -> None:
    broken = sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1)))
    suspects = Suspects(n)
    assert suspects.answered(range(n), [INTERNAL if i in broken else OK for i in range(n)]) == broken
    for i in broken:
        assert not suspects.done
        assert suspects.answered((i,), [INTERNAL]) == []
    reasons = {e.reason for e in suspects.results() if e.status is ExecutionStatus.CRASHED}
    assert reasons == {"given up after 2 tries; its executor failed while it ran: zygote lost"}


@given(sizes, st.data())
def test_no_program_runs_more_than_twice_and_each_gets_one_result(n: int, data: st.DataObject) -> None:
    suspects, runs = Suspects(n), Counter[int](range(n))
    open_copies = [tuple(range(n))]
    while not suspects.done:
        group = open_copies.pop(data.draw(st.integers(0, len(open_copies) - 1)))
        event = data.draw(st.sampled_from(["answered", "lost", "internal"]))
        if event == "lost":
            again = suspects.lost(group, "gone")
        else:
            again = suspects.answered(group, [OK if event == "answered" else INTERNAL] * len(group))
        runs.update(again)
        open_copies += [(i,) for i in again]
    assert max(runs.values()) <= COPIES
    assert len(suspects.results()) == n
    assert not open_copies
