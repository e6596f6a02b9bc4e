"""Attempts whose pods end one by one, vanish, or are ended by others: what is awaited, and what counts as a failure."""

from __future__ import annotations

from datetime import timedelta

import pytest
from rstar_operator.backend import PyTorchJobBackend
from rstar_operator.observing.pods import disrupted

from rstar.cluster.api import PODS, Json
from rstar.rounds.observed import AttemptState
from tests.operator.test_observing import running_rollout
from tests.support.operator.simulated import SimulatedCluster


def second_pod(cluster: SimulatedCluster, status: Json) -> None:
    """Give the rollout's job one more pod, as elastic training has."""
    first = cluster.objects[PODS, "r1-rollout-1-master-0"]
    head = {**first["metadata"], "name": "r1-rollout-1-worker-1"}
    for key in ("uid", "resourceVersion"):
        head.pop(key, None)
    cluster.put(PODS, {"kind": "Pod", "metadata": head, "status": status})


def end_second(cluster: SimulatedCluster, message: str) -> None:
    terminated = {"exitCode": 0, "reason": "Completed", "message": message}
    cluster.objects[PODS, "r1-rollout-1-worker-1"]["status"] = {
        "phase": "Succeeded",
        "containerStatuses": [{"state": {"terminated": terminated}}],
    }
    cluster.touch(PODS, "r1-rollout-1-worker-1")


def test_a_job_that_succeeds_before_all_its_pods_have_ended_waits_for_their_messages() -> None:
    cluster, controllers, operator = running_rollout()
    job = controllers.live_jobs()[0]
    second_pod(cluster, {"phase": "Running"})
    controllers.finish(job, 0)
    operator.settle()
    assert operator.status().attempts[0].state == "running"
    digest = "5" * 64
    end_second(cluster, f'{{"manifest": "rounds/r1/rollout/0/manifest.json", "digest": "{digest}"}}')
    operator.settle()
    assert operator.status().attempts[0].state == "succeeded"
    output = operator.status().stages[0].output
    assert output is not None
    assert output.digest == digest


def test_a_success_whose_pods_all_ended_without_a_manifest_is_a_failure() -> None:
    cluster, controllers, operator = running_rollout()
    second_pod(cluster, {"phase": "Running"})
    controllers.finish(controllers.live_jobs()[0], 0)
    end_second(cluster, "")
    operator.settle()
    assert operator.status().attempts[0].reason == "it exited with code 0 but left no manifest"


def test_a_stage_is_pending_while_one_of_its_pods_finds_no_node() -> None:
    cluster, _, operator = running_rollout()
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/9 nodes are available"}
    second_pod(cluster, {"phase": "Pending", "conditions": [waits]})
    operator.settle()
    attempt = operator.status().attempts[0]
    assert (attempt.state, attempt.reason) == (AttemptState.PENDING, "0/9 nodes are available")


def test_an_attempt_that_ran_and_whose_pods_are_gone_is_lost() -> None:
    cluster, controllers, operator = running_rollout()
    controllers.finish(controllers.live_jobs()[0], 143)
    cluster.vanish(PODS, "r1-rollout-1-master-0")
    operator.settle()
    status = operator.status()
    assert (status.attempts[0].state, status.attempts[0].ending) == ("failed", "lost")
    assert status.stages[0].attempts == 0
    assert (status.stages[0].state, controllers.live_jobs()) == ("retrying", [])
    cluster.now += timedelta(seconds=60)
    operator.settle()
    assert [job["metadata"]["name"] for job in controllers.live_jobs()] == ["r1-rollout-2"]


@pytest.mark.parametrize(
    ("condition", "status", "whose"),
    [
        ("PreemptionByScheduler", {}, "the cluster's"),
        ("EvictionByEvictionAPI", {}, "the cluster's"),
        ("DeletionByTaintManager", {}, "the cluster's"),
        # A node that shuts down; a node that is short of memory, perhaps because of the pod.
        ("TerminationByKubelet", {"reason": "Terminated"}, "the cluster's"),
        ("TerminationByKubelet", {"reason": "Evicted"}, "its own"),
    ],
)
def test_a_pod_ended_by_the_cluster_is_not_the_fault_of_its_stage(condition: str, status: Json, whose: str) -> None:
    target = {"type": "DisruptionTarget", "status": "True", "reason": condition}
    assert disrupted({"status": {"conditions": [target], **status}}) == (whose == "the cluster's")
    assert not disrupted({"status": {"conditions": [{**target, "status": "False"}], **status}})
    assert not disrupted({"status": status})


def test_pods_that_still_run_when_their_job_is_over_are_ended_once() -> None:
    backend = PyTorchJobBackend()
    head = {"creationTimestamp": "2030-01-01T00:00:00Z"}
    job: Json = {"metadata": head, "spec": {"runPolicy": {"cleanPodPolicy": "None"}}}
    patch = backend.read(job).stop_patch
    assert patch == {"spec": {"runPolicy": {"cleanPodPolicy": "Running"}}}
    assert backend.read({**job, **patch}).stop_patch is None
