"""Children, sizes, queues, chains of rounds: decided on bodies, carried out in memory."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rstar.cluster.api import AUTOSCALERS, CONFIG_MAPS, DEPLOYMENTS, EVENTS, PYTORCH_JOBS, ROUNDS, SERVICES, Kind
from tests.operator.test_observing import running_rollout
from tests.support.operator.driving import run_to_end, simulation
from tests.support.operator.simulated import Controllers, SimulatedCluster, round_body


def names(cluster: SimulatedCluster, kind: Kind) -> list[str]:
    return sorted(name for k, name in cluster.objects if k == kind and name.startswith("r1-"))


def policy_deployment(cluster: SimulatedCluster) -> dict[str, object]:
    return next(b["spec"] for (k, n), b in cluster.objects.items() if k == DEPLOYMENTS and "r1-policy" in n)


@pytest.mark.parametrize("kind", [PYTORCH_JOBS, CONFIG_MAPS, DEPLOYMENTS, SERVICES])
def test_children_deleted_by_hand_are_created_again_under_the_same_names(kind: Kind) -> None:
    cluster, controllers, operator = running_rollout()
    before = names(cluster, kind)
    for name in before:
        cluster.remove(kind, name)
    operator.settle()
    controllers.ready()
    operator.settle()
    assert names(cluster, kind) == before
    run_to_end(operator, controllers)
    assert operator.status().phase == "Succeeded"


def test_deleting_a_round_deletes_all_its_children() -> None:
    cluster, _, operator = running_rollout()
    cluster.remove(ROUNDS, "r1")
    operator.settle()
    cluster.settle()
    assert set(cluster.children()) == {"deployments"}
    assert names(cluster, DEPLOYMENTS) == []


def test_services_are_resized_in_place_while_the_stage_runs() -> None:
    cluster, controllers, operator = running_rollout()
    before = (names(cluster, DEPLOYMENTS), names(cluster, PYTORCH_JOBS))
    cluster.edit("r1", services={"policy": {"replicas": 4}})
    operator.settle()
    assert policy_deployment(cluster)["replicas"] == 4
    cluster.edit("r1", services={"policy": {"autoscaling": {"minReplicas": 2, "maxReplicas": 6}}})
    operator.settle()
    assert names(cluster, AUTOSCALERS)
    cluster.edit("r1", services={"policy": {"autoscaling": {"minReplicas": 2, "maxReplicas": 9}}})
    operator.settle()
    assert cluster.objects[AUTOSCALERS, names(cluster, AUTOSCALERS)[0]]["spec"]["maxReplicas"] == 9
    cluster.edit("r1", services={})
    operator.settle()
    assert not names(cluster, AUTOSCALERS)
    assert policy_deployment(cluster)["replicas"] == 1
    assert (names(cluster, DEPLOYMENTS), names(cluster, PYTORCH_JOBS)) == before
    run_to_end(operator, controllers)


def test_an_autoscaled_deployment_starts_with_its_fewest_replicas_and_is_never_resized_by_the_operator() -> None:
    scaling = {"minReplicas": 2, "maxReplicas": 3}
    cluster, controllers, operator = simulation(round_body(services={"policy": {"autoscaling": scaling}}))
    operator.settle()
    deployment = policy_deployment(cluster)
    assert deployment["replicas"] == 2
    deployment["replicas"] = 3
    controllers.ready()
    operator.settle()
    assert policy_deployment(cluster)["replicas"] == 3


def test_a_queued_job_is_created_suspended_with_the_queues_label_and_its_wait_does_not_count() -> None:
    cluster, controllers, operator = simulation(round_body(cluster={"queue": "gpus"}))
    for _ in range(3):
        operator.settle()
        controllers.ready()
    operator.settle()
    job = cluster.objects[PYTORCH_JOBS, "r1-rollout-1"]
    assert job["spec"]["runPolicy"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    cluster.now += timedelta(days=30)
    operator.settle()
    assert operator.status().condition("Ready").reason == "StageQueued"  # type: ignore[union-attr]
    job["spec"]["runPolicy"]["suspend"] = False
    cluster.touch(PYTORCH_JOBS, "r1-rollout-1")
    run_to_end(operator, controllers)
    assert operator.status().phase == "Succeeded"


def test_finished_jobs_are_deleted_after_their_ttl_and_the_status_stays() -> None:
    lifecycle = {**round_body()["spec"]["lifecycle"], "ttlSeconds": 1_000}
    cluster, controllers, operator = simulation(round_body(lifecycle=lifecycle))
    run_to_end(operator, controllers)
    before = operator.status()
    assert len(names(cluster, PYTORCH_JOBS)) == 5
    cluster.now += timedelta(seconds=2_000)
    operator.settle()
    cluster.settle()
    operator.settle()
    assert not names(cluster, PYTORCH_JOBS)
    assert operator.status() == before


def test_a_later_round_waits_for_the_previous_round_and_reads_its_outputs() -> None:
    cluster, controllers, operator = simulation(round_body("r1"), round_body("r2", 2))
    operator.settle("r2")
    assert operator.status("r2").phase == "Waiting"
    assert "r1 is still running" in operator.status("r2").message
    run_to_end(operator, controllers, "r1")
    run_to_end(operator, controllers, "r2")
    status = operator.status("r2")
    assert status.inputs["policy"].manifest == "rounds/r1/train-policy/0/manifest.json"
    cluster.remove(ROUNDS, "r1")
    operator.settle("r2")
    assert operator.status("r2").inputs == status.inputs, "the inputs stay when the previous round is deleted"


def test_a_missing_or_failed_previous_round_is_reported() -> None:
    cluster, controllers, operator = simulation(round_body("r2", 2))
    operator.settle("r2")
    assert "does not exist yet" in operator.status("r2").message
    cluster.put(ROUNDS, round_body("r1", cancel=True))
    operator.settle("r1")
    operator.settle("r2")
    assert operator.status("r2").condition("Failed").reason == "PreviousRoundFailed"  # type: ignore[union-attr]
    assert not controllers.live_jobs()


def test_attempts_past_their_deadline_or_pending_too_long_are_ended_and_repeated() -> None:
    cluster, controllers, operator = running_rollout()
    cluster.now += timedelta(seconds=1_001)
    operator.settle()
    assert operator.status().attempts[0].ending == "deadline"
    cluster.settle()
    operator.settle()
    assert operator.status().stages[0].attempts == 1
    cluster.now += timedelta(seconds=10)
    operator.settle()
    assert [j["metadata"]["name"] for j in controllers.live_jobs()] == ["r1-rollout-2"]
    cluster.now += timedelta(seconds=501)
    operator.settle()
    assert operator.status().attempts[1].ending == "unscheduled"


def test_every_transition_posts_one_event() -> None:
    cluster, controllers, operator = simulation(round_body())
    run_to_end(operator, controllers)
    reasons = [b["reason"] for (kind, _), b in cluster.objects.items() if kind == EVENTS]
    assert reasons.count("StageDone") == 5
    assert reasons.count("AllStagesDone") == 1


def test_a_spec_that_this_version_cannot_read_is_reported_and_nothing_is_created() -> None:
    cluster, controllers, operator = simulation(round_body(round="one"))
    operator.settle()
    assert operator.status().phase == "Failed"
    assert "spec.round" in operator.status().message
    assert not cluster.children().get("services")
    assert isinstance(controllers, Controllers)
