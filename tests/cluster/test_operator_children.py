"""What belongs to a round and what does not: names that are taken, children that vanish, sizes that change."""

from __future__ import annotations

import json

import yaml
from rstar_testbed.kubelet import Run

from rstar.cluster.api import AUTOSCALERS, CONFIG_MAPS, DEPLOYMENTS, PODS, PYTORCH_JOBS, SERVICES, Json, Kind
from rstar.rounds.observed import Stage
from tests.support.cluster.lab import Lab
from tests.support.cluster.operating import result_of

FOREVER = Run()
KINDS = {"PyTorchJob": PYTORCH_JOBS, "ConfigMap": CONFIG_MAPS, "Deployment": DEPLOYMENTS, "Service": SERVICES}


def strangers(rollout: str, service: str) -> list[Json]:
    """Return objects of somebody else; the label of a round makes nothing a round's."""
    labels = {"app": "other", "rstar.dev/round": "job", "app.kubernetes.io/part-of": "rstar"}
    container = {"name": "pytorch", "image": "other:1", "command": ["true"]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    replica = {"replicas": 1, "restartPolicy": "Never", "template": template}
    specs = {
        "PyTorchJob": {"pytorchReplicaSpecs": {"Master": replica}, "runPolicy": {"suspend": True}},
        "Deployment": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
        "Service": {"clusterIP": "None", "ports": [{"port": 80}]},
    }
    versions = {"PyTorchJob": "kubeflow.org/v1", "Deployment": "apps/v1"}
    bodies = []
    for kind in KINDS:
        name = f"{kind.lower()}-{rollout if kind in {'PyTorchJob', 'ConfigMap'} else service}"
        head = {"name": name, "labels": labels}
        body = {"apiVersion": versions.get(kind, "v1"), "kind": kind, "metadata": head}
        bodies.append(body | ({"spec": specs[kind]} if kind in specs else {"data": {"theirs": "1"}}))
    return bodies


def test_what_is_somebody_elses_is_told_and_never_touched(lab: Lab) -> None:
    lab.script.on(FOREVER, round="mine", stage=Stage.ROLLOUT)
    lab.script.on(FOREVER, round="configmap", stage=Stage.ROLLOUT)
    lab.submit("mine")
    lab.runs("mine", "rollout")
    # The same settings have the same digest in every round's names.
    service = next(name for name in lab.names(DEPLOYMENTS, "mine") if "policy" in name).removeprefix("mine-")
    theirs = strangers("rollout-1", service)
    lab.kubectl("create", "-f", "-", input=yaml.safe_dump_all(theirs))
    before = [specified(lab, body) for body in theirs]
    for kind in KINDS:
        lab.submit(kind.lower())
    for body in theirs:
        name, kind = body["metadata"]["name"], body["kind"]
        status = lab.ready_is(kind.lower(), "NameConflict", f"{kind} {name} is in the way")
        conflict = status.condition("NameConflict")
        assert conflict is not None
        assert conflict.status == "True"
        columns = lab.columns(kind.lower())
        assert (columns["READY"], columns["REASON"]) == ("False", "NameConflict")
    assert [specified(lab, body) for body in theirs] == before
    lab.kubectl("delete", "-f", "-", input=yaml.safe_dump_all(theirs))
    for name in ("mine", "configmap"):
        pod = lab.pod(name, "rollout")
        lab.there(CONFIG_MAPS, f"{name}-rollout-1")
        lab.kubelet.end(lab.namespace, pod["metadata"]["name"], message=result_of(pod))
    for kind in KINDS:
        conflict = lab.succeeds(kind.lower()).condition("NameConflict")
        assert conflict is not None
        assert conflict.status == "False"


def specified(lab: Lab, body: Json) -> Json:
    """Return what an object is, without what controllers note in it."""
    found = lab.get(KINDS[body["kind"]], body["metadata"]["name"])
    assert found is not None
    head = found["metadata"]
    kept = {key: head.get(key) for key in ("uid", "generation", "labels", "ownerReferences", "deletionTimestamp")}
    return {"metadata": kept, "spec": found.get("spec"), "data": found.get("data")}


def test_children_that_are_deleted_by_hand_come_back_and_the_round_goes_on(lab: Lab) -> None:
    lab.script.on(FOREVER, stage=Stage.ROLLOUT)
    lab.submit("r1", services={"policy": {"autoscaling": {"maxReplicas": 3}}}, lifecycle={"maxAttempts": 1})
    lab.runs("r1", "rollout")
    service = next(name for name in lab.names(DEPLOYMENTS, "r1") if "policy" in name)
    children: list[tuple[Kind, str]] = [
        (CONFIG_MAPS, "r1-rollout-1"),
        (AUTOSCALERS, service),
        (SERVICES, service),
        (DEPLOYMENTS, service),
        (PYTORCH_JOBS, "r1-rollout-1"),
    ]
    old = {child: lab.there(*child)["metadata"]["uid"] for child in children}
    for kind, name in children:
        lab.kubectl("delete", kind.plural, name, "--wait=false")
    for child in children:
        lab.there(*child, other_than=old[child])
    lab.runs("r1", "rollout")
    job = lab.there(PYTORCH_JOBS, "r1-rollout-1")

    def pods() -> list[Json]:
        found = lab.of(PODS, "r1", stage="rollout")
        return [p for p in found if p["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]]

    (pod,) = lab.becomes(pods, "a pod of the new job")
    lab.becomes(lambda: pods()[0]["status"]["phase"] == "Running", "a running pod")
    lab.kubelet.end(lab.namespace, pod["metadata"]["name"], message=result_of(pod))
    status = lab.succeeds("r1")
    assert [(r.number, r.state) for r in status.attempts] == [(1, "succeeded")] * 5


def test_services_change_their_size_while_a_stage_runs_on(lab: Lab) -> None:
    lab.script.on(FOREVER, stage=Stage.ROLLOUT)
    lab.submit("r1", services={"policy": {"autoscaling": {"minReplicas": 1, "maxReplicas": 3}}})
    lab.runs("r1", "rollout")
    names = lab.names(DEPLOYMENTS, "r1")
    service = next(name for name in names if "policy" in name)
    job = lab.there(PYTORCH_JOBS, "r1-rollout-1")["metadata"]["uid"]
    scaler = lab.there(AUTOSCALERS, service)["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": service}
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (1, 3)
    # As the scaler does under load: its number is not the operator's business.
    lab.kubectl("scale", "deployment", service, "--replicas=2")
    lab.edit("r1", services={"policy": {"autoscaling": {"maxReplicas": 4, "targetCpuPercent": 50}}})
    lab.becomes(lambda: sizes(lab, service)[:2] == (4, 50), "a scaler that follows")
    assert sizes(lab, service) == (4, 50, 2)
    lab.edit("r1", services={"policy": {"autoscaling": None, "replicas": 3}})
    lab.becomes(lambda: sizes(lab, service) == (None, None, 3), "three policy servers")
    lab.gone(AUTOSCALERS, service)
    lab.becomes(lambda: len(lab.of(PODS, "r1", component="policy")) == 3, "their pods")
    lab.edit("r1", services={"policy": {"replicas": 1}, "search": {"replicas": 2}})
    lab.becomes(lambda: len(lab.of(PODS, "r1", component="policy")) == 1, "one policy server")
    lab.becomes(lambda: len(lab.of(PODS, "r1", component="search")) == 2, "two coordinators")
    lab.edit("r1", services={"policy": {"replicas": None, "autoscaling": {"maxReplicas": 2}}})
    lab.becomes(lambda: sizes(lab, service)[:2] == (2, 80), "a scaler again")
    assert lab.names(DEPLOYMENTS, "r1") == lab.names(SERVICES, "r1") == names
    assert lab.there(PYTORCH_JOBS, "r1-rollout-1")["metadata"]["uid"] == job
    pod = lab.pod("r1", "rollout")
    lab.kubelet.end(lab.namespace, pod["metadata"]["name"], message=result_of(pod))
    status = lab.succeeds("r1")
    assert {record.number for record in status.attempts} == {1}


def sizes(lab: Lab, service: str) -> tuple[int | None, int | None, int]:
    """Return the most replicas and the CPU use of the scaler, if there is one, and the replicas of the Deployment."""
    scaler, deployment = lab.get(AUTOSCALERS, service), lab.there(DEPLOYMENTS, service)
    replicas: int = deployment["spec"]["replicas"]
    if scaler is None:
        return None, None, replicas
    target = scaler["spec"]["metrics"][0]["resource"]["target"]
    return scaler["spec"]["maxReplicas"], target["averageUtilization"], replicas


def test_progress_of_the_running_stage_is_told(lab: Lab) -> None:
    lab.script.on(FOREVER, stage=Stage.ROLLOUT)
    lab.submit("r1")
    lab.runs("r1", "rollout")
    lab.there(CONFIG_MAPS, "r1-rollout-1")
    # As the stage's program writes it.
    told = json.dumps({"done": 42, "total": 100, "solved": 21})
    patch = json.dumps({"data": {"progress.json": told}})
    lab.kubectl("patch", "configmap", "r1-rollout-1", "--type=merge", f"--patch={patch}")
    status = lab.once("r1", lambda status: status.progress_text != "")
    assert status.progress == {"done": 42, "total": 100, "solved": 21}
    columns = lab.columns("r1")
    assert (columns["STAGE"], columns["PROGRESS"], columns["SOLVED %"]) == ("rollout", "42/100", "50.0")
    assert (columns["READY"], columns["REASON"]) == ("True", "StageRunning")
