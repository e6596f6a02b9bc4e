"""On a real API server: the operator is killed after every write, reads stale state, or runs twice. Rounds end the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from rstar_testbed.cluster import Testbed

from tests.support.cluster.crash_injection import StaleReader, Write
from tests.support.cluster.crashes import (
    CrashNamespace,
    History,
    kill_after_every_write,
    kill_every_write_once,
    undisturbed,
)
from tests.support.cluster.operators import OperatorProcess, operator_in_process
from tests.support.cluster.outcomes import RoundOutcome
from tests.support.cluster.rounds import install_crds, install_prerequisites

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

NAMESPACE = "crashes"
MAX_WRITES_OLD = 12


@pytest.fixture(scope="module")
def space(testbed: Testbed) -> Iterator[CrashNamespace]:
    install_crds(testbed)
    testbed.kubectl("create", "namespace", NAMESPACE)
    install_prerequisites(testbed, NAMESPACE)
    yield CrashNamespace(testbed, NAMESPACE)
    testbed.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def reference(space: CrashNamespace) -> tuple[RoundOutcome, list[Write]]:
    """The outcome of an undisturbed round, and its operator's writes."""
    return undisturbed(space)


def writes_without_kill(writes: list[Write], histories: list[History]) -> set[Write]:
    """Return the writes that no kill followed, except statuses and Events, whose number depends on the timing."""
    killed = {kill for history in histories for kill in history.kills}
    return {each for each in writes if each not in killed and each.kind not in {"events", "evolutionrounds/status"}}


def test_a_round_takes_a_bounded_number_of_writes(reference: tuple[RoundOutcome, list[Write]]) -> None:
    assert len(reference[1]) <= 90


def test_a_kill_after_any_write_leaves_the_same_children_and_status(
    space: CrashNamespace, reference: tuple[RoundOutcome, list[Write]]
) -> None:
    expected, writes = reference
    histories = kill_every_write_once(space, expected, writes, kills_per_round=8)
    assert {each.round: each.differences for each in histories if each.differences} == {}
    assert not writes_without_kill(writes, histories)


def test_an_operator_process_killed_after_each_of_its_writes_leaves_the_same_outcome(
    space: CrashNamespace, reference: tuple[RoundOutcome, list[Write]], tmp_path: Path
) -> None:
    expected, writes = reference
    history = kill_after_every_write(space, expected, tmp_path)
    assert not history.differences
    assert not writes_without_kill(writes, [history])


@pytest.mark.parametrize("seed", range(2))
def test_snapshots_up_to_twelve_writes_old_change_nothing(
    space: CrashNamespace, reference: tuple[RoundOutcome, list[Write]], seed: int
) -> None:
    stale_reader = StaleReader(MAX_WRITES_OLD, seed)
    names = [f"late-{seed}-{n}" for n in range(4)]
    with space.kubelet(), operator_in_process(space.bed.kubeconfig, space.namespace, make_reconciler=stale_reader):
        space.create_rounds(*names)
        differences = {name: space.differences(name, reference[0]) for name in names}
    assert {name: lines for name, lines in differences.items() if lines} == {}
    assert stale_reader.made > 20 * len(names)
    assert 0 < stale_reader.refused < stale_reader.made, (
        "some passes on stale snapshots are refused, the others change nothing"
    )


def test_two_operators_at_once_change_nothing(
    space: CrashNamespace, reference: tuple[RoundOutcome, list[Write]], tmp_path: Path
) -> None:
    names = [f"twin-{n:02}" for n in range(10)]
    with ExitStack() as stack:
        stack.enter_context(space.kubelet())
        for folder in ("first", "second"):
            stack.enter_context(OperatorProcess(space.bed.kubeconfig, space.namespace, folder=tmp_path / folder))
        space.create_rounds(*names)
        differences = {name: space.differences(name, reference[0]) for name in names}
    assert {name: lines for name, lines in differences.items() if lines} == {}
    assert all(space.pods.pods_of(name) == reference[0].pods for name in names)
    assert all((tmp_path / folder / "operator.log").read_text() for folder in ("first", "second")), "both operators ran"
