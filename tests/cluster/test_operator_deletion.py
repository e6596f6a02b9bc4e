"""The end of rounds on a real API server: what goes with them, what stays, and what is never held up."""

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
from tests.support.cluster.lab import Lab

FOREVER = Run()
CHILDREN = (PYTORCH_JOBS, DEPLOYMENTS, SERVICES, AUTOSCALERS, CONFIG_MAPS, JOBS, PODS)
FINALIZER = "rstar.dev/artifacts"


def left(lab: Lab, *names: str) -> list[str]:
    """Return what is there of these rounds."""
    return [name for kind in CHILDREN for round_name in names for name in lab.names(kind, round_name)]


def finalizers(lab: Lab, name: str) -> list[str]:
    return lab.there(ROUNDS, name)["metadata"].get("finalizers", [])  # type: ignore[no-any-return]


def test_a_round_that_is_deleted_half_way_leaves_nothing_behind(lab: Lab) -> None:
    names = {"searching": Stage.ROLLOUT, "training": Stage.TRAIN_POLICY, "waited-for": Stage.ROLLOUT}
    for name, stage in names.items():
        lab.script.on(FOREVER, round=name, stage=stage)
        lab.submit(name, services={"policy": {"autoscaling": {"maxReplicas": 2}}}, trainPolicy={"nodes": 2})
    for name, stage in names.items():
        lab.runs(name, stage)
        assert finalizers(lab, name) == []
    lab.kubectl("delete", "er", "searching", "training", "--wait=false")
    # The client waits until all children are gone; none is made anew meanwhile.
    lab.kubectl("delete", "er", "waited-for", "--cascade=foreground", "--timeout=120s")
    assert left(lab, "waited-for") == []
    for name in names:
        lab.gone(ROUNDS, name)
    lab.becomes(lambda: left(lab, *names) == [], "nothing left of the rounds")
    assert {event for event, _ in lab.events("searching")} >= {"StageRunning"}


def cleanup_pod(lab: Lab, name: str) -> str:
    """Return the running pod of the Job that deletes a round's artefacts."""

    def running() -> list[Json]:
        selector = f"batch.kubernetes.io/job-name={name}-cleanup"
        return [p for p in lab.api.list(PODS, lab.namespace, selector) if p["status"]["phase"] == "Running"]

    pod: str = lab.becomes(running, "a pod that cleans up")[0]["metadata"]["name"]
    return pod


def message_is(lab: Lab, name: str, words: str) -> None:
    lab.once(name, lambda status: words in status.message)


def test_artefacts_go_with_the_round_only_when_it_asks_for_it(lab: Lab) -> None:
    lab.script.on(FOREVER, stage=Stage.ROLLOUT)
    for name in ("going", "failing", "kept"):
        lab.submit(name, cluster={"deletionPolicy": "DeleteArtifacts", "storageSecret": "other-keys"})
        lab.runs(name, "rollout")
        assert finalizers(lab, name) == [FINALIZER]
    lab.edit("kept", cluster={"deletionPolicy": "Keep"})
    lab.becomes(lambda: finalizers(lab, "kept") == [], "a round that nothing holds")
    lab.kubectl("delete", "er", "going", "failing", "kept", "--wait=false")
    lab.gone(ROUNDS, "kept")
    for name in ("going", "failing"):
        pod = cleanup_pod(lab, name)
        # By then nothing writes artefacts any more.
        assert [each["metadata"]["name"] for each in lab.live_pods(name)] == [pod]
        message_is(lab, name, "the artefacts are being deleted")
    job = lab.there(JOBS, "going-cleanup")
    container = job["spec"]["template"]["spec"]["containers"][0]
    command = "python -m rstar_jobs.delete_artifacts --store $(RSTAR_STORE) --round going"
    assert container["command"] == command.split()
    assert container["envFrom"] == [{"secretRef": {"name": "other-keys"}}]
    lab.kubelet.end(lab.namespace, cleanup_pod(lab, "going"))
    # The cluster would try for an hour; here it gives up at once.
    patch = json.dumps({"spec": {"backoffLimit": 0}})
    lab.kubectl("patch", "job", "failing-cleanup", "--type=merge", f"--patch={patch}")
    lab.kubelet.end(lab.namespace, cleanup_pod(lab, "failing"), code=1, message="the store does not answer")
    lab.gone(ROUNDS, "going")
    message_is(lab, "failing", "job failing-cleanup could not delete the artefacts")
    assert finalizers(lab, "failing") == [FINALIZER]
    lab.edit("failing", cluster={"deletionPolicy": "Keep"})
    lab.gone(ROUNDS, "failing")
    lab.becomes(lambda: left(lab, "going", "failing", "kept") == [], "nothing left of the rounds")


def test_a_quota_that_refuses_the_cleanup_is_told_and_loses_no_wish(lab: Lab) -> None:
    hard = {"count/jobs.batch": "0"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "lab"}, "spec": {"hard": hard}}
    lab.kubectl("apply", "-f", "-", input=yaml.safe_dump(quota))
    lab.submit("r1", suspend=True, cluster={"deletionPolicy": "DeleteArtifacts"})
    lab.becomes(lambda: finalizers(lab, "r1") == [FINALIZER], "a finalizer")
    lab.kubectl("delete", "er", "r1", "--wait=false")
    message_is(lab, "r1", "Job r1-cleanup was refused")
    assert finalizers(lab, "r1") == [FINALIZER]
    lab.kubectl("delete", "resourcequota", "lab")
    # It is tried again by itself, and at once when the round changes.
    lab.edit("r1", lifecycle={"ttlSeconds": 60})
    lab.kubelet.end(lab.namespace, cleanup_pod(lab, "r1"))
    lab.gone(ROUNDS, "r1")


def test_a_namespace_goes_with_all_its_rounds(lab: Lab) -> None:
    lab.script.on(FOREVER, stage=Stage.ROLLOUT)
    for policy in ("Keep", "DeleteArtifacts"):
        lab.submit(f"running-{policy.lower()}", cluster={"deletionPolicy": policy})
        lab.submit(f"resting-{policy.lower()}", cluster={"deletionPolicy": policy}, suspend=True)
    for policy in ("keep", "deleteartifacts"):
        lab.runs(f"running-{policy}", "rollout")
        lab.ready_is(f"resting-{policy}", "Suspended")
    lab.bed.kubectl("delete", "namespace", lab.namespace, "--timeout=120s")
    assert lab.bed.kubectl("get", "namespace", lab.namespace, "--ignore-not-found") == ""
