"""The deletion of rounds that ask for the deletion of their artefacts, with and without a finalizer."""

from __future__ import annotations

from rstar_operator.deciding.deletion import ARTIFACTS_KEPT, FINALIZER

from rstar.cluster.api import JOBS, PYTORCH_JOBS, ROUNDS
from tests.operator.test_decisions import names
from tests.operator.test_observing import running_rollout
from tests.support.operator.driving import simulation
from tests.support.operator.simulated import round_body


def test_artefacts_are_deleted_only_if_asked_and_before_the_round() -> None:
    cluster, controllers, operator = running_rollout()
    assert "finalizers" not in operator.body()["metadata"]
    cluster.edit("r1", cluster={"deletionPolicy": "DeleteArtifacts"})
    operator.settle()
    assert operator.body()["metadata"]["finalizers"] == [FINALIZER]
    cluster.remove(ROUNDS, "r1")
    for _ in range(3):
        operator.settle()
        cluster.settle()
    assert (JOBS, "r1-cleanup") in cluster.objects
    assert not names(cluster, PYTORCH_JOBS), "nothing writes while the artefacts are deleted"
    controllers.complete_cleanup()
    operator.settle()
    cluster.settle()
    assert (ROUNDS, "r1") not in cluster.objects


def test_a_failed_cleanup_is_reported_and_deletion_policy_keep_ends_the_deletion() -> None:
    cluster, _, operator = simulation(round_body(cluster={"deletionPolicy": "DeleteArtifacts"}))
    operator.settle()
    cluster.remove(ROUNDS, "r1")
    for _ in range(3):
        operator.settle()
        cluster.settle()
    cluster.objects[JOBS, "r1-cleanup"]["status"] = {"conditions": [{"type": "Failed", "status": "True"}]}
    cluster.touch(JOBS, "r1-cleanup")
    operator.settle()
    assert "could not delete the artefacts" in operator.status().message
    cluster.edit("r1", cluster={"deletionPolicy": "Keep"})
    operator.settle()
    assert (ROUNDS, "r1") not in cluster.objects


def test_the_finalizer_does_not_block_the_deletion_of_a_namespace() -> None:
    cluster, _, operator = simulation(round_body(cluster={"deletionPolicy": "DeleteArtifacts"}))
    operator.settle()
    cluster.terminating = True
    cluster.remove(ROUNDS, "r1")
    for _ in range(3):
        operator.settle()
        cluster.settle()
    assert (ROUNDS, "r1") not in cluster.objects


def test_an_operator_whose_rights_are_in_the_namespace_adds_no_finalizer_and_reports_it() -> None:
    cluster, _, operator = simulation(round_body(cluster={"deletionPolicy": "DeleteArtifacts"}))
    operator.rights_in_namespace = True
    operator.settle()
    assert "finalizers" not in operator.body()["metadata"]
    kept = operator.status().condition(ARTIFACTS_KEPT)
    assert kept is not None
    assert (kept.status, kept.observed_generation) == ("True", 1)
    assert FINALIZER in kept.message
    cluster.edit("r1", cluster={"deletionPolicy": "Keep"})
    operator.settle()
    kept = operator.status().condition(ARTIFACTS_KEPT)
    assert kept is not None
    assert (kept.status, kept.reason) == ("False", "Cleared")


def test_a_finalizer_added_by_the_user_makes_any_operator_delete_the_artefacts() -> None:
    body = round_body(cluster={"deletionPolicy": "DeleteArtifacts"})
    body["metadata"]["finalizers"] = [FINALIZER]
    cluster, controllers, operator = simulation(body)
    operator.rights_in_namespace = True
    operator.settle()
    assert operator.status().condition(ARTIFACTS_KEPT) is None
    cluster.remove(ROUNDS, "r1")
    for _ in range(3):
        operator.settle()
        cluster.settle()
    controllers.complete_cleanup()
    operator.settle()
    cluster.settle()
    assert (ROUNDS, "r1") not in cluster.objects


def test_a_round_stays_until_a_quota_admits_its_cleanup() -> None:
    cluster, controllers, operator = simulation(round_body(cluster={"deletionPolicy": "DeleteArtifacts"}))
    operator.settle()
    cluster.refuse = {JOBS}
    cluster.remove(ROUNDS, "r1")
    for _ in range(3):
        operator.settle()
        cluster.settle()
    assert "exceeded quota" in operator.status().message
    cluster.refuse = set()
    operator.settle()
    controllers.complete_cleanup()
    operator.settle()
    assert (ROUNDS, "r1") not in cluster.objects
