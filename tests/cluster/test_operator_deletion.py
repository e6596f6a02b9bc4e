"""Deletion of rounds on a real API server: what is deleted with them, what stays, and what never blocks it."""

from __future__ import annotations

import json

import yaml
from rstar_testbed.kubelet import Run

from rstar.cluster.api import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    JOBS,
    PODS,
    PYTORCH_JOBS,
    ROUNDS,
    SERVICES,
    Json,
)
from rstar.rounds.observed import Stage
from tests.support.cluster.round_namespace import RoundNamespace

FOREVER = Run()
CHILDREN = (PYTORCH_JOBS, DEPLOYMENTS, SERVICES, AUTOSCALERS, CONFIG_MAPS, JOBS, PODS)
FINALIZER = "rstar.dev/artifacts"


def remaining(rounds: RoundNamespace, *names: str) -> list[str]:
    """Return the names of these rounds' children."""
    return [name for kind in CHILDREN for round_name in names for name in rounds.names(kind, round_name)]


def finalizers(rounds: RoundNamespace, name: str) -> list[str]:
    return rounds.wait_for_object(ROUNDS, name)["metadata"].get("finalizers", [])  # type: ignore[no-any-return]


def test_a_round_deleted_in_the_middle_leaves_no_child(rounds: RoundNamespace) -> None:
    names = {"searching": Stage.ROLLOUT, "training": Stage.TRAIN_POLICY, "foreground": Stage.ROLLOUT}
    for name, stage in names.items():
        rounds.script.set(FOREVER, round=name, stage=stage)
        rounds.submit(name, services={"policy": {"autoscaling": {"maxReplicas": 2}}}, trainPolicy={"nodes": 2})
    for name, stage in names.items():
        rounds.wait_for_running(name, stage)
        assert finalizers(rounds, name) == []
    rounds.kubectl("delete", "er", "searching", "training", "--wait=false")
    # kubectl returns when all children are gone; none is created again meanwhile.
    rounds.kubectl("delete", "er", "foreground", "--cascade=foreground", "--timeout=180s")
    assert remaining(rounds, "foreground") == []
    for name in names:
        rounds.wait_until_gone(ROUNDS, name)
    rounds.wait_until(lambda: remaining(rounds, *names) == [], "no children of the rounds")
    assert {event for event, _ in rounds.events("searching")} >= {"StageRunning"}


def cleanup_pod(rounds: RoundNamespace, name: str) -> str:
    """Return the running pod of the Job that deletes a round's artefacts."""

    def running() -> list[Json]:
        selector = f"batch.kubernetes.io/job-name={name}-cleanup"
        return [p for p in rounds.api.list(PODS, rounds.namespace, selector) if p["status"]["phase"] == "Running"]

    pod: str = rounds.wait_until(running, "a pod that cleans up")[0]["metadata"]["name"]
    return pod


def wait_for_message(rounds: RoundNamespace, name: str, words: str) -> None:
    rounds.wait_for(name, lambda status: words in status.message)


def test_artefacts_are_deleted_with_the_round_only_if_its_spec_says_so(rounds: RoundNamespace) -> None:
    rounds.script.set(FOREVER, stage=Stage.ROLLOUT)
    for name in ("deleted", "failing", "kept"):
        rounds.submit(name, cluster={"deletionPolicy": "DeleteArtifacts", "storageSecret": "other-keys"})
        rounds.wait_for_running(name, "rollout")
        assert finalizers(rounds, name) == [FINALIZER]
    rounds.edit("kept", cluster={"deletionPolicy": "Keep"})
    rounds.wait_until(lambda: finalizers(rounds, "kept") == [], "no finalizer")
    rounds.kubectl("delete", "er", "deleted", "failing", "kept", "--wait=false")
    rounds.wait_until_gone(ROUNDS, "kept")
    for name in ("deleted", "failing"):
        pod = cleanup_pod(rounds, name)
        # At that time nothing writes artefacts any more.
        assert [each["metadata"]["name"] for each in rounds.live_pods(name)] == [pod]
        wait_for_message(rounds, name, "the artefacts are being deleted")
    job = rounds.wait_for_object(JOBS, "deleted-cleanup")
    container = job["spec"]["template"]["spec"]["containers"][0]
    command = "python -m rstar_jobs.delete_artifacts --store $(RSTAR_STORE) --round deleted"
    assert container["command"] == command.split()
    assert container["envFrom"] == [{"secretRef": {"name": "other-keys"}}]
    rounds.kubelet.end(rounds.namespace, cleanup_pod(rounds, "deleted"))
    # The Job would be tried for an hour; here it fails at once.
    patch = json.dumps({"spec": {"backoffLimit": 0}})
    rounds.kubectl("patch", "job", "failing-cleanup", "--type=merge", f"--patch={patch}")
    rounds.kubelet.end(rounds.namespace, cleanup_pod(rounds, "failing"), code=1, message="the store does not answer")
    rounds.wait_until_gone(ROUNDS, "deleted")
    wait_for_message(rounds, "failing", "job failing-cleanup could not delete the artefacts")
    assert finalizers(rounds, "failing") == [FINALIZER]
    rounds.edit("failing", cluster={"deletionPolicy": "Keep"})
    rounds.wait_until_gone(ROUNDS, "failing")
    rounds.wait_until(lambda: remaining(rounds, "deleted", "failing", "kept") == [], "no children of the rounds")


def test_a_quota_that_refuses_the_cleanup_is_reported_and_the_cleanup_follows_later(rounds: RoundNamespace) -> None:
    hard = {"count/jobs.batch": "0"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "lab"}, "spec": {"hard": hard}}
    rounds.kubectl("apply", "-f", "-", input=yaml.safe_dump(quota))
    rounds.submit("r1", suspend=True, cluster={"deletionPolicy": "DeleteArtifacts"})
    rounds.wait_until(lambda: finalizers(rounds, "r1") == [FINALIZER], "a finalizer")
    rounds.kubectl("delete", "er", "r1", "--wait=false")
    wait_for_message(rounds, "r1", "Job r1-cleanup was refused")
    assert finalizers(rounds, "r1") == [FINALIZER]
    rounds.kubectl("delete", "resourcequota", "lab")
    # The operator tries again by itself, and at once after a change of the round.
    rounds.edit("r1", lifecycle={"ttlSeconds": 60})
    rounds.kubelet.end(rounds.namespace, cleanup_pod(rounds, "r1"))
    rounds.wait_until_gone(ROUNDS, "r1")


def test_a_namespace_is_deleted_with_all_its_rounds(rounds: RoundNamespace) -> None:
    rounds.script.set(FOREVER, stage=Stage.ROLLOUT)
    for policy in ("Keep", "DeleteArtifacts"):
        rounds.submit(f"running-{policy.lower()}", cluster={"deletionPolicy": policy})
        rounds.submit(f"suspended-{policy.lower()}", cluster={"deletionPolicy": policy}, suspend=True)
    for policy in ("keep", "deleteartifacts"):
        rounds.wait_for_running(f"running-{policy}", "rollout")
        rounds.wait_for_reason(f"suspended-{policy}", "Suspended")
    rounds.bed.kubectl("delete", "namespace", rounds.namespace, "--timeout=180s")
    assert rounds.bed.kubectl("get", "namespace", rounds.namespace, "--ignore-not-found") == ""
