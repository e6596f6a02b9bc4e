"""Children of a round: names that other objects have, children that are deleted, sizes that change."""

from __future__ import annotations

import json

import yaml
from rstar_testbed.kubelet import Run

from rstar.cluster.api import AUTOSCALERS, CONFIG_MAPS, DEPLOYMENTS, PODS, PYTORCH_JOBS, SERVICES, Json, Kind
from rstar.rounds.observed import Stage
from tests.support.cluster.round_namespace import RoundNamespace
from tests.support.cluster.rounds import result_of

FOREVER = Run()
KINDS = {"PyTorchJob": PYTORCH_JOBS, "ConfigMap": CONFIG_MAPS, "Deployment": DEPLOYMENTS, "Service": SERVICES}


def foreign_objects(rollout: str, service: str) -> list[Json]:
    """Return objects that belong to no round, although they have a round's label."""
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


def test_foreign_objects_are_reported_and_never_changed(rounds: RoundNamespace) -> None:
    rounds.script.set(FOREVER, round="mine", stage=Stage.ROLLOUT)
    rounds.script.set(FOREVER, round="configmap", stage=Stage.ROLLOUT)
    rounds.submit("mine")
    rounds.wait_for_running("mine", "rollout")
    # The same settings have the same digest in every round's names.
    service = next(name for name in rounds.names(DEPLOYMENTS, "mine") if "policy" in name).removeprefix("mine-")
    theirs = foreign_objects("rollout-1", service)
    rounds.kubectl("create", "-f", "-", input=yaml.safe_dump_all(theirs))
    before = [specification_of(rounds, body) for body in theirs]
    for kind in KINDS:
        rounds.submit(kind.lower())
    for body in theirs:
        name, kind = body["metadata"]["name"], body["kind"]
        status = rounds.wait_for_reason(kind.lower(), "NameConflict", f"{kind} {name} is in the way")
        conflict = status.condition("NameConflict")
        assert conflict is not None
        assert conflict.status == "True"
        columns = rounds.columns(kind.lower())
        assert (columns["READY"], columns["REASON"]) == ("False", "NameConflict")
    assert [specification_of(rounds, body) for body in theirs] == before
    rounds.kubectl("delete", "-f", "-", input=yaml.safe_dump_all(theirs))
    for name in ("mine", "configmap"):
        pod = rounds.wait_for_pod(name, "rollout")
        rounds.wait_for_object(CONFIG_MAPS, f"{name}-rollout-1")
        rounds.kubelet.end(rounds.namespace, pod["metadata"]["name"], message=result_of(pod))
    for kind in KINDS:
        conflict = rounds.wait_for_success(kind.lower()).condition("NameConflict")
        assert conflict is not None
        assert conflict.status == "False"


def specification_of(rounds: RoundNamespace, body: Json) -> Json:
    """Return an object without the fields that controllers write."""
    found = rounds.get(KINDS[body["kind"]], body["metadata"]["name"])
    assert found is not None
    head = found["metadata"]
    kept = {key: head.get(key) for key in ("uid", "generation", "labels", "ownerReferences", "deletionTimestamp")}
    return {"metadata": kept, "spec": found.get("spec"), "data": found.get("data")}


def test_deleted_children_are_created_again_and_the_round_succeeds(rounds: RoundNamespace) -> None:
    rounds.script.set(FOREVER, stage=Stage.ROLLOUT)
    rounds.submit("r1", services={"policy": {"autoscaling": {"maxReplicas": 3}}}, lifecycle={"maxAttempts": 1})
    rounds.wait_for_running("r1", "rollout")
    service = next(name for name in rounds.names(DEPLOYMENTS, "r1") if "policy" in name)
    children: list[tuple[Kind, str]] = [
        (CONFIG_MAPS, "r1-rollout-1"),
        (AUTOSCALERS, service),
        (SERVICES, service),
        (DEPLOYMENTS, service),
        (PYTORCH_JOBS, "r1-rollout-1"),
    ]
    old = {child: rounds.wait_for_object(*child)["metadata"]["uid"] for child in children}
    for kind, name in children:
        rounds.kubectl("delete", kind.plural, name, "--wait=false")
    for child in children:
        rounds.wait_for_object(*child, other_than=old[child])
    rounds.wait_for_running("r1", "rollout")
    job = rounds.wait_for_object(PYTORCH_JOBS, "r1-rollout-1")

    def pods() -> list[Json]:
        found = rounds.list_objects(PODS, "r1", stage="rollout")
        return [p for p in found if p["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]]

    (pod,) = rounds.wait_until(pods, "a pod of the new job")
    rounds.wait_until(lambda: pods()[0]["status"]["phase"] == "Running", "a running pod")
    rounds.kubelet.end(rounds.namespace, pod["metadata"]["name"], message=result_of(pod))
    status = rounds.wait_for_success("r1")
    assert [(r.number, r.state) for r in status.attempts] == [(1, "succeeded")] * 5


def test_services_change_their_size_while_a_stage_runs(rounds: RoundNamespace) -> None:
    rounds.script.set(FOREVER, stage=Stage.ROLLOUT)
    rounds.submit("r1", services={"policy": {"autoscaling": {"minReplicas": 1, "maxReplicas": 3}}})
    rounds.wait_for_running("r1", "rollout")
    names = rounds.names(DEPLOYMENTS, "r1")
    service = next(name for name in names if "policy" in name)
    job = rounds.wait_for_object(PYTORCH_JOBS, "r1-rollout-1")["metadata"]["uid"]
    scaler = rounds.wait_for_object(AUTOSCALERS, service)["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": service}
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (1, 3)
    # As the autoscaler does under load; the operator leaves its number of replicas alone.
    rounds.kubectl("scale", "deployment", service, "--replicas=2")
    rounds.edit("r1", services={"policy": {"autoscaling": {"maxReplicas": 4, "targetCpuPercent": 50}}})
    rounds.wait_until(lambda: sizes(rounds, service)[:2] == (4, 50), "a changed autoscaler")
    assert sizes(rounds, service) == (4, 50, 2)
    rounds.edit("r1", services={"policy": {"autoscaling": None, "replicas": 3}})
    rounds.wait_until(lambda: sizes(rounds, service) == (None, None, 3), "three policy servers")
    rounds.wait_until_gone(AUTOSCALERS, service)
    rounds.wait_until(lambda: len(rounds.list_objects(PODS, "r1", component="policy")) == 3, "their pods")
    rounds.edit("r1", services={"policy": {"replicas": 1}, "search": {"replicas": 2}})
    rounds.wait_until(lambda: len(rounds.list_objects(PODS, "r1", component="policy")) == 1, "one policy server")
    rounds.wait_until(lambda: len(rounds.list_objects(PODS, "r1", component="search")) == 2, "two coordinators")
    rounds.edit("r1", services={"policy": {"replicas": None, "autoscaling": {"maxReplicas": 2}}})
    rounds.wait_until(lambda: sizes(rounds, service)[:2] == (2, 80), "a new autoscaler")
    assert rounds.names(DEPLOYMENTS, "r1") == rounds.names(SERVICES, "r1") == names
    assert rounds.wait_for_object(PYTORCH_JOBS, "r1-rollout-1")["metadata"]["uid"] == job
    pod = rounds.wait_for_pod("r1", "rollout")
    rounds.kubelet.end(rounds.namespace, pod["metadata"]["name"], message=result_of(pod))
    status = rounds.wait_for_success("r1")
    assert {record.number for record in status.attempts} == {1}


def sizes(rounds: RoundNamespace, service: str) -> tuple[int | None, int | None, int]:
    """Return maximum and target CPU of the autoscaler, if there is one, and the replicas of the Deployment."""
    scaler, deployment = rounds.get(AUTOSCALERS, service), rounds.wait_for_object(DEPLOYMENTS, service)
    replicas: int = deployment["spec"]["replicas"]
    if scaler is None:
        return None, None, replicas
    target = scaler["spec"]["metrics"][0]["resource"]["target"]
    return scaler["spec"]["maxReplicas"], target["averageUtilization"], replicas


def test_the_progress_of_the_running_stage_is_in_the_status(rounds: RoundNamespace) -> None:
    rounds.script.set(FOREVER, stage=Stage.ROLLOUT)
    rounds.submit("r1")
    rounds.wait_for_running("r1", "rollout")
    rounds.wait_for_object(CONFIG_MAPS, "r1-rollout-1")
    # As the stage's program writes it.
    progress = json.dumps({"done": 42, "total": 100, "solved": 21})
    patch = json.dumps({"data": {"progress.json": progress}})
    rounds.kubectl("patch", "configmap", "r1-rollout-1", "--type=merge", f"--patch={patch}")
    status = rounds.wait_for("r1", lambda status: status.progress_text != "")
    assert status.progress == {"done": 42, "total": 100, "solved": 21}
    columns = rounds.columns("r1")
    assert (columns["STAGE"], columns["PROGRESS"], columns["SOLVED %"]) == ("rollout", "42/100", "50.0")
    assert (columns["READY"], columns["REASON"]) == ("True", "StageRunning")
