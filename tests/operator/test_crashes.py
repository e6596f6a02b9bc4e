"""The operator is killed after every single write, sees old worlds, or runs twice: the round ends the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rstar_operator.cache import Cache

from rstar.rounds.status import RoundStatus
from tests.support.operator.driving import Operator, live_well, world
from tests.support.operator.simulated import Fate, SimulatedCluster, round_body


def plain(status: RoundStatus) -> dict[str, Any]:
    """Return a status without its times."""
    found = status.model_dump(mode="json")
    for condition in found["conditions"]:
        del condition["last_transition_time"]
    for attempt in found["attempts"]:
        del attempt["started_at"], attempt["finished_at"]
    return found


def undisturbed() -> tuple[dict[str, list[str]], dict[str, Any], int]:
    cluster, fate, operator = world(round_body())
    live_well(operator, fate)
    cluster.settle()
    operator.settle()
    return cluster.children(), plain(operator.status()), cluster.writes


CHILDREN, STATUS, WRITES = undisturbed()


def test_a_round_takes_a_bounded_number_of_writes() -> None:
    assert WRITES <= 75


@pytest.mark.parametrize("write", range(1, WRITES + 1))
def test_killed_after_any_write_the_round_ends_with_the_same_children_and_status(write: int) -> None:
    cluster, fate, operator = world(round_body())
    cluster.killed_after = write
    live_well(operator, fate)
    cluster.settle()
    operator.settle()
    assert cluster.children() == CHILDREN
    assert plain(operator.status()) == STATUS
    assert cluster.killed_after is None, "it was killed"


def test_killed_after_every_write_the_round_still_ends() -> None:
    cluster, fate, operator = world(round_body())
    for _ in range(400):
        cluster.killed_after = cluster.writes + 1
        if not operator.one_pass():
            if operator.status().phase == "Succeeded":
                break
            fate.kindly()
    cluster.settle()
    operator.settle()
    assert cluster.children() == CHILDREN
    assert plain(operator.status()) == STATUS


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=20, max_size=80))
def test_views_of_the_cluster_that_are_old_change_nothing(ages: list[int]) -> None:
    cluster, fate, operator = world(round_body())
    views = [cluster.snapshot()]
    _with_old_views(cluster, fate, operator, views, ages)
    live_well(operator, fate)
    cluster.settle()
    operator.settle()
    assert cluster.children() == CHILDREN
    assert plain(operator.status()) == STATUS


def _with_old_views(
    cluster: SimulatedCluster, fate: Fate, operator: Operator, views: list[Cache], ages: list[int]
) -> None:
    for age in ages:
        for back in (age, age // 2, 0):
            operator.one_pass(cache=views[max(0, len(views) - 1 - back)])
            views.append(cluster.snapshot())
        if age % 3 == 0:
            fate.kindly()
            views.append(cluster.snapshot())


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=30, max_size=120))
def test_two_operators_at_once_change_nothing(turns: list[tuple[bool, bool]]) -> None:
    cluster, fate, first = world(round_body())
    second = Operator(cluster)
    seen = cluster.snapshot()
    for which, happens in turns:
        # Both have looked before either writes: the second one acts on what the first has changed.
        (first if which else second).one_pass(cache=seen)
        (second if which else first).one_pass(cache=seen)
        if happens:
            fate.kindly()
        seen = cluster.snapshot()
    live_well(first, fate)
    live_well(second, fate)
    cluster.settle()
    first.settle()
    assert cluster.children() == CHILDREN
    assert plain(first.status()) == STATUS
