"""Writes that fail: foreign objects with the names of children, and refusals by quotas."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rstar.cluster.api import CONFIG_MAPS, DEPLOYMENTS, PYTORCH_JOBS, ROUNDS, SERVICES, Kind
from tests.operator.test_decisions import names
from tests.operator.test_observing import running_rollout
from tests.support.operator.driving import run_to_end, simulation
from tests.support.operator.simulated import round_body


@pytest.mark.parametrize(("kind", "name"), [(PYTORCH_JOBS, "r1-rollout-1"), (CONFIG_MAPS, "r1-rollout-1")])
def test_a_foreign_object_with_the_name_of_a_child_is_reported_and_not_touched(kind: Kind, name: str) -> None:
    cluster, controllers, operator = simulation(round_body())
    foreign = cluster.put(kind, {"kind": "Theirs", "metadata": {"name": name}, "data": {"theirs": "1"}})
    version = foreign["metadata"]["resourceVersion"]
    for _ in range(4):
        operator.settle()
        controllers.ready()
    operator.settle()
    status = operator.status()
    conflict = status.condition("NameConflict")
    ready = status.condition("Ready")
    assert conflict is not None
    assert ready is not None
    assert (conflict.status, ready.status, ready.reason) == ("True", "False", "NameConflict")
    assert name in status.message
    assert cluster.objects[kind, name]["metadata"]["resourceVersion"] == version
    before = cluster.objects[ROUNDS, "r1"]["metadata"]["resourceVersion"]
    operator.one_pass()
    assert cluster.objects[ROUNDS, "r1"]["metadata"]["resourceVersion"] == before, "the status does not flap"
    cluster.vanish(kind, name)
    run_to_end(operator, controllers)
    assert operator.status().phase == "Succeeded"
    cleared = operator.status().condition("NameConflict")
    assert cleared is not None
    assert cleared.status == "False"


def test_a_foreign_object_met_while_a_stage_runs_does_not_change_the_status_in_every_pass() -> None:
    cluster, _, operator = running_rollout()
    cluster.vanish(CONFIG_MAPS, "r1-rollout-1")
    cluster.put(CONFIG_MAPS, {"kind": "ConfigMap", "metadata": {"name": "r1-rollout-1"}})
    operator.settle()
    assert operator.status().condition("Ready").reason == "NameConflict"  # type: ignore[union-attr]
    status = operator.status()
    for _ in range(3):
        cluster.now += timedelta(seconds=1)
        assert operator.one_pass() == 0
    assert operator.status() == status


def test_a_second_kind_of_write_failure_takes_the_place_of_the_first() -> None:
    cluster, controllers, operator = simulation(round_body())
    cluster.refuse = {DEPLOYMENTS}
    operator.settle()
    assert operator.status().condition("CreationRefused").status == "True"  # type: ignore[union-attr]
    cluster.refuse = set()
    service = names(cluster, SERVICES)[0]
    cluster.put(DEPLOYMENTS, {"kind": "Deployment", "metadata": {"name": service}})
    operator.settle()
    assert operator.status().condition("NameConflict").status == "True"  # type: ignore[union-attr]
    assert operator.status().condition("CreationRefused").status == "False"  # type: ignore[union-attr]
    cluster.vanish(DEPLOYMENTS, service)
    run_to_end(operator, controllers)
    assert operator.status().phase == "Succeeded"


def test_a_refusal_by_a_quota_is_reported_and_tried_again() -> None:
    cluster, controllers, operator = simulation(round_body())
    cluster.refuse = {DEPLOYMENTS}
    operator.settle()
    assert "exceeded quota" in operator.status().message
    assert operator.status().condition("Ready").reason == "CreationRefused"  # type: ignore[union-attr]
    cluster.refuse = set()
    run_to_end(operator, controllers)
    assert operator.status().phase == "Succeeded"
