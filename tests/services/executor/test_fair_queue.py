from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rstar_executor.server.fair_queue import FairQueue, QueueFullError

Entry = tuple[str, str, int]

names = st.sampled_from("abcd")
arrivals = st.lists(st.tuples(names, names), max_size=60)


def queue_of(places: list[tuple[str, str]]) -> tuple[FairQueue[Entry], list[Entry]]:
    queue: FairQueue[Entry] = FairQueue(1_000)
    entries = [(tenant, problem, i) for i, (tenant, problem) in enumerate(places)]
    for entry in entries:
        queue.push(entry, entry[0], entry[1])
    return queue, entries


def drained(queue: FairQueue[Entry]) -> list[Entry]:
    return [queue.pop() for _ in range(len(queue))]


@given(arrivals)
def test_every_entry_is_popped_once_and_those_of_a_problem_in_order(places: list[tuple[str, str]]) -> None:
    queue, entries = queue_of(places)
    out = drained(queue)
    assert sorted(out) == sorted(entries)
    by_problem = defaultdict(list)
    for tenant, problem, i in out:
        by_problem[tenant, problem].append(i)
    assert all(order == sorted(order) for order in by_problem.values())


@given(arrivals, st.data())
def test_of_two_that_wait_neither_gets_more_than_one_turn_ahead(
    places: list[tuple[str, str]], data: st.DataObject
) -> None:
    queue, entries = queue_of(places)
    left = Counter(tenant for tenant, _, _ in entries)
    left_problems = Counter((tenant, problem) for tenant, problem, _ in entries)
    turns, turns_of_problems = Counter[str](), Counter[tuple[str, str]]()
    for tenant, problem, _ in drained(queue):
        waiting = [other for other in left if left[other]]
        turns[tenant] += 1
        assert all(turns[tenant] <= turns[other] + 1 for other in waiting)
        waiting_problems = [place for place in left_problems if place[0] == tenant and left_problems[place]]
        turns_of_problems[tenant, problem] += 1
        assert all(turns_of_problems[tenant, problem] <= turns_of_problems[place] + 1 for place in waiting_problems)
        left[tenant] -= 1
        left_problems[tenant, problem] -= 1


@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_no_entry_starves_whatever_others_keep_sending(tenants: int, problems: int, data: st.DataObject) -> None:
    queue: FairQueue[Entry] = FairQueue(1_000)
    number = 0
    for t in range(tenants):
        for p in range(problems):
            queue.push((f"{t}", f"{p}", number), f"{t}", f"{p}")
            number += 1
    waiting = ("patient", "p", -1)
    queue.push(waiting, "0", "patient")
    for _ in range((problems + 1) * tenants):
        entry = queue.pop()
        if entry == waiting:
            return
        queue.push((entry[0], entry[1], number), entry[0], entry[1])  # the others always send another
        number += 1
    pytest.fail("it waited longer than one turn of every problem of every tenant")


@settings(max_examples=200)
@given(st.data())
def test_a_removed_entry_is_gone_and_the_others_keep_their_order(data: st.DataObject) -> None:
    places = data.draw(arrivals)
    leaving = data.draw(st.sets(st.integers(0, 59)))
    queue, entries = queue_of(places)
    staying = [entry for entry in entries if entry[2] not in leaving]
    for entry in entries:
        if entry[2] in leaving:
            assert queue.remove(entry)
            assert not queue.remove(entry)
    assert len(queue) == len(staying)
    order = drained(queue)
    for tenant, problem in set(places):
        mine = [entry for entry in order if entry[:2] == (tenant, problem)]
        assert mine == sorted(mine)
    assert sorted(order) == sorted(staying)


def test_a_full_queue_refuses_entries_until_one_is_popped() -> None:
    queue: FairQueue[int] = FairQueue(2)
    queue.push(1)
    queue.push(2)
    with pytest.raises(QueueFullError, match="2 entries are queued"):
        queue.push(3)
    assert queue.pop() == 1
    queue.push(3)
    with pytest.raises(ValueError, match="is queued already"):
        queue.push(3)
    assert [queue.pop(), queue.pop()] == [2, 3]
    with pytest.raises(IndexError):
        queue.pop()


def test_a_tenant_with_many_entries_does_not_delay_one_with_few() -> None:
    queue: FairQueue[str] = FairQueue(1_000)
    for i in range(100):
        queue.push(f"much {i}", "much", f"{i % 10}")
    queue.push("little", "little", "p")
    assert "little" in [queue.pop(), queue.pop()]
