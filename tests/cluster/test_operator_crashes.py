"""On a real API server: the operator is killed after every write, sees old worlds, or runs twice. Rounds end the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from rstar_testbed.cluster import Testbed

from tests.support.cluster.crashes import (
    History,
    Scene,
    kill_after_every_write,
    kill_every_write_once,
    undisturbed,
)
from tests.support.cluster.endings import Ending
from tests.support.cluster.injection import Belated, Target
from tests.support.cluster.operating import OperatorProcess, furnish, install_crd, operator_in_process

# Histories in real time, on whatever machine.
pytestmark = pytest.mark.timeout(1200)

NAMESPACE = "crashes"
MOST_WRITES_OLD = 12


@pytest.fixture(scope="module")
def scene(testbed: Testbed) -> Iterator[Scene]:
    install_crd(testbed)
    testbed.kubectl("create", "namespace", NAMESPACE)
    furnish(testbed, NAMESPACE)
    yield Scene(testbed, NAMESPACE)
    testbed.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def calm(scene: Scene) -> tuple[Ending, list[Target]]:
    """How a round ends undisturbed, and what is written on the way."""
    return undisturbed(scene)


def missed(writes: list[Target], histories: list[History]) -> set[Target]:
    """Return the writes that no operator was killed after. Statuses and Events depend on the pace: some may not come."""
    killed = {kill for history in histories for kill in history.kills}
    return {each for each in writes if each not in killed and each.kind not in {"events", "evolutionrounds/status"}}


def test_a_round_takes_a_bounded_number_of_writes(calm: tuple[Ending, list[Target]]) -> None:
    assert len(calm[1]) <= 90


def test_killed_after_any_write_the_round_ends_with_the_same_children_and_status(
    scene: Scene, calm: tuple[Ending, list[Target]]
) -> None:
    like, writes = calm
    histories = kill_every_write_once(scene, like, writes, kills_per_round=8)
    assert {each.round: each.differences for each in histories if each.differences} == {}
    assert not missed(writes, histories)


def test_a_process_killed_by_sigkill_after_every_write_of_a_round_ends_it_the_same(
    scene: Scene, calm: tuple[Ending, list[Target]], tmp_path: Path
) -> None:
    like, writes = calm
    history = kill_after_every_write(scene, like, tmp_path)
    assert not history.differences
    assert not missed(writes, [history])


@pytest.mark.parametrize("seed", range(2))
def test_views_up_to_twelve_writes_old_change_nothing(
    scene: Scene, calm: tuple[Ending, list[Target]], seed: int
) -> None:
    belated = Belated(MOST_WRITES_OLD, seed)
    names = [f"late-{seed}-{n}" for n in range(4)]
    with scene.kubelet(), operator_in_process(scene.bed.kubeconfig, scene.namespace, reconciling=belated):
        scene.begin(*names)
        differences = {name: scene.differences(name, calm[0]) for name in names}
    assert {name: lines for name, lines in differences.items() if lines} == {}
    assert belated.made > 20 * len(names)
    assert 0 < belated.refused < belated.made, "some old views are refused, some do no harm"


def test_two_operators_at_once_change_nothing(scene: Scene, calm: tuple[Ending, list[Target]], tmp_path: Path) -> None:
    names = [f"twin-{n:02}" for n in range(10)]
    with ExitStack() as stack:
        stack.enter_context(scene.kubelet())
        for folder in ("first", "second"):
            stack.enter_context(OperatorProcess(scene.bed.kubeconfig, scene.namespace, folder=tmp_path / folder))
        scene.begin(*names)
        differences = {name: scene.differences(name, calm[0]) for name in names}
    assert {name: lines for name, lines in differences.items() if lines} == {}
    assert all(scene.book.of(name) == calm[0].pods for name in names)
    assert all((tmp_path / folder / "operator.log").read_text() for folder in ("first", "second")), "both were at it"
