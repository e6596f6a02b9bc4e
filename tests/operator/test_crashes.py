"""The operator is killed after every single write, reads old snapshots, or runs twice: the round ends the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rstar_operator.backend import PyTorchJobBackend, TrainingBackend
from rstar_operator.cache import Cache
from rstar_operator.trainjob import TrainJobBackend

from rstar.rounds.status import RoundStatus
from tests.support.operator.driving import Operator, run_to_end, simulation
from tests.support.operator.simulated import Controllers, SimulatedCluster, round_body

pytestmark = pytest.mark.slow


def plain(status: RoundStatus) -> dict[str, Any]:
    """Return a status without its times."""
    found = status.model_dump(mode="json")
    for condition in found["conditions"]:
        del condition["last_transition_time"]
    for attempt in found["attempts"]:
        del attempt["started_at"], attempt["finished_at"]
    return found


def undisturbed(backend: TrainingBackend) -> tuple[dict[str, list[str]], dict[str, Any], int]:
    cluster, controllers, operator = simulation(round_body(), backend=backend)
    run_to_end(operator, controllers)
    cluster.settle()
    operator.settle()
    return cluster.children(), plain(operator.status()), cluster.writes


BACKENDS: dict[str, TrainingBackend] = {"pytorchjob": PyTorchJobBackend(), "trainjob": TrainJobBackend()}
EXPECTED = {name: undisturbed(backend) for name, backend in BACKENDS.items()}
CHILDREN, STATUS, WRITES = EXPECTED["pytorchjob"]
KILLS = [(name, write) for name, (_, _, writes) in EXPECTED.items() for write in range(1, writes + 1)]


def test_a_round_takes_a_bounded_number_of_writes() -> None:
    assert WRITES <= 75
    # A TrainingRuntime for each of the five attempts.
    assert EXPECTED["trainjob"][2] == WRITES + 5


@pytest.mark.parametrize(("backend", "write"), KILLS)
def test_killed_after_any_write_the_round_ends_with_the_same_children_and_status(backend: str, write: int) -> None:
    children, status, _ = EXPECTED[backend]
    cluster, controllers, operator = simulation(round_body(), backend=BACKENDS[backend])
    cluster.killed_after = write
    run_to_end(operator, controllers)
    cluster.settle()
    operator.settle()
    assert cluster.children() == children
    assert plain(operator.status()) == status
    assert cluster.killed_after is None, "the operator was killed"


@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_after_every_write_the_round_still_ends(backend: str) -> None:
    children, status, _ = EXPECTED[backend]
    cluster, controllers, operator = simulation(round_body(), backend=BACKENDS[backend])
    for _ in range(400):
        cluster.killed_after = cluster.writes + 1
        if not operator.one_pass():
            if operator.status().phase == "Succeeded":
                break
            controllers.advance()
    cluster.settle()
    operator.settle()
    assert cluster.children() == children
    assert plain(operator.status()) == status


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=30, deadline=None)
@given(ages=st.lists(st.integers(0, 12), min_size=20, max_size=80))
def test_passes_on_old_snapshots_change_nothing(backend: str, ages: list[int]) -> None:
    children, status, _ = EXPECTED[backend]
    cluster, controllers, operator = simulation(round_body(), backend=BACKENDS[backend])
    views = [cluster.cache()]
    _with_old_views(cluster, controllers, operator, views, ages)
    run_to_end(operator, controllers)
    cluster.settle()
    operator.settle()
    assert cluster.children() == children
    assert plain(operator.status()) == status


def _with_old_views(
    cluster: SimulatedCluster, controllers: Controllers, operator: Operator, views: list[Cache], ages: list[int]
) -> None:
    for age in ages:
        for back in (age, age // 2, 0):
            operator.one_pass(cache=views[max(0, len(views) - 1 - back)])
            views.append(cluster.cache())
        if age % 3 == 0:
            controllers.advance()
            views.append(cluster.cache())


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=30, max_size=120))
def test_two_operators_at_once_change_nothing(turns: list[tuple[bool, bool]]) -> None:
    cluster, controllers, first = simulation(round_body())
    second = Operator(cluster)
    seen = cluster.cache()
    for which, advances in turns:
        # Both read before either writes, so that the second one acts on an old snapshot.
        (first if which else second).one_pass(cache=seen)
        (second if which else first).one_pass(cache=seen)
        if advances:
            controllers.advance()
        seen = cluster.cache()
    run_to_end(first, controllers)
    run_to_end(second, controllers)
    cluster.settle()
    first.settle()
    assert cluster.children() == CHILDREN
    assert plain(first.status()) == STATUS
