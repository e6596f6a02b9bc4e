"""The operator works with exactly the rights that the chart gives it: none is missing, and none is superfluous."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml
from rstar_operator.deciding.deletion import ARTIFACTS_KEPT, FINALIZER
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import Kubelet, Run

from rstar.cluster.api import AUTOSCALERS, CONFIG_MAPS, DEPLOYMENTS, JOBS, PODS, PYTORCH_JOBS, ROUNDS, SERVICES, Json
from rstar.rounds.observed import Stage
from tests.support.cluster.lab import CHART, Lab, Script, audited, chart_operator, forbidden
from tests.support.cluster.operating import install_crd, operator_in_process
from tests.support.cluster.pods import until

FOREVER = Run()
Right = tuple[str, str, str]
"""API group, resource with its subresource, verb."""

UNSEEN: set[Right] = {("rstar.dev", "evolutionrounds/finalizers", "update")}
"""Asked for by the admission of children whose owner waits for them, which is no request of its own."""


def rights(role: Json) -> set[Right]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(bed: Testbed, user: str) -> set[Right]:
    found = set()
    for note in audited(bed, user):
        if thing := note.get("objectRef"):
            resource = "/".join(filter(None, [thing["resource"], thing.get("subresource")]))
            found.add((thing.get("apiGroup", ""), resource, note["verb"]))
    return found


@dataclass
class Installation:
    """The chart in one namespace, without anything outside of it."""

    lab: Lab
    user: str


@pytest.fixture
def installation(testbed: Testbed) -> Iterator[Installation]:
    """Install the chart for a namespace, and run its operator with the rights, the settings and the arguments it gives."""
    install_crd(testbed)
    namespace, script = f"lab-{uuid.uuid4().hex[:8]}", Script()
    testbed.kubectl("create", "namespace", namespace)
    values = CHART / "ci" / "namespaced-values.yaml"
    testbed.helm("install", "rstar", str(CHART), "-n", namespace, "-f", str(values))
    settings = testbed.kubectl(
        "get", "configmap", "rstar-operator", "-n", namespace, "-o", r"jsonpath={.data.config\.yaml}"
    )
    deployment = json.loads(testbed.kubectl("get", "deployment", "rstar-operator", "-n", namespace, "-o", "json"))
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert [a for a in arguments if a.startswith("--namespace")] == [f"--namespace={namespace}"]
    kubeconfig = testbed.service_account_kubeconfig(namespace, "rstar-operator")
    running = operator_in_process(kubeconfig, namespace, settings=yaml.safe_load(settings))
    with Kubelet(testbed.kubeconfig, script, namespace=namespace) as kubelet, running:
        lab = Lab(testbed, namespace, script, kubelet)
        yield Installation(lab, f"system:serviceaccount:{namespace}:rstar-operator")
    testbed.kubectl("delete", "namespace", namespace, "--wait=false", "--ignore-not-found")


def live_through_everything(lab: Lab) -> None:
    """Have a round do all that makes an operator write, and its rivals hold all the names that it asks for."""
    lab.script.on(FOREVER, stage=Stage.ROLLOUT, attempt="1")
    scaled = {"policy": {"autoscaling": {"maxReplicas": 2}}}
    cluster = {"deletionPolicy": "DeleteArtifacts"}
    lab.submit("r1", services=scaled, trainPolicy={"nodes": 2}, cluster=cluster)
    hold(lab, "r1")
    lab.runs("r1", "rollout")
    service = next(name for name in lab.names(DEPLOYMENTS, "r1") if "policy" in name).removeprefix("r1-")
    rivals(lab, service)
    lab.edit("r1", services={"policy": {"autoscaling": {"maxReplicas": 3}}})
    lab.becomes(lambda: lab.there(AUTOSCALERS, f"r1-{service}")["spec"]["maxReplicas"] == 3, "a scaler that follows")
    lab.edit("r1", services={"policy": {"autoscaling": None, "replicas": 2}})
    lab.becomes(lambda: lab.there(DEPLOYMENTS, f"r1-{service}")["spec"]["replicas"] == 2, "two policy servers")
    lab.gone(AUTOSCALERS, f"r1-{service}")
    lab.edit("r1", suspend=True)
    lab.ready_is("r1", "Suspended")
    lab.released("r1")
    lab.edit("r1", suspend=False)
    lab.succeeds("r1")
    assert len(lab.events("r1")) > 10
    lab.kubectl("delete", "er", "r1", "--wait=false")
    lab.there(JOBS, "r1-cleanup")
    (pod,) = lab.becomes(lambda: cleaning(lab, "r1"), "a pod that cleans up")
    lab.kubelet.end(lab.namespace, pod["metadata"]["name"])
    lab.gone(ROUNDS, "r1")
    # Without its account a stage has no pods, and only Events say why.
    lab.kubectl("delete", "serviceaccount", "rstar-stage")
    lab.submit("podless")
    lab.ready_is("podless", "StagePending", 'serviceaccount "rstar-stage" not found')


def hold(lab: Lab, name: str) -> None:
    """Have the round wait for the deletion of its artefacts, which an operator of a namespace leaves to the user."""
    held = {"metadata": {"finalizers": [FINALIZER]}}
    lab.kubectl("patch", "er", name, "--type=merge", f"--patch={json.dumps(held)}")


def cleaning(lab: Lab, name: str) -> list[Json]:
    found = lab.api.list(PODS, lab.namespace, f"batch.kubernetes.io/job-name={name}-cleanup")
    return [pod for pod in found if pod["status"]["phase"] == "Running"]


def rivals(lab: Lab, service: str) -> None:
    """Make a round for each kind of child whose name somebody else holds."""
    rollout = "rollout-1"
    taken = {
        "job": (PYTORCH_JOBS, "kubeflow.org/v1", "PyTorchJob", rollout),
        "map": (CONFIG_MAPS, "v1", "ConfigMap", rollout),
        "deployment": (DEPLOYMENTS, "apps/v1", "Deployment", service),
        "service": (SERVICES, "v1", "Service", service),
        "scaler": (AUTOSCALERS, "autoscaling/v2", "HorizontalPodAutoscaler", service),
        "cleanup": (JOBS, "batch/v1", "Job", "cleanup"),
    }
    labels = {"app": "other"}
    pod: Json = {"containers": [{"name": "pytorch", "image": "other:1"}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    replica = {"replicas": 1, "restartPolicy": "Never", "template": template}
    once = {"metadata": {}, "spec": {**pod, "restartPolicy": "Never"}}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "other"}
    specs: dict[str, Json] = {
        "job": {"pytorchReplicaSpecs": {"Master": replica}, "runPolicy": {"suspend": True}},
        "deployment": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
        "service": {"clusterIP": "None", "ports": [{"port": 80}]},
        "scaler": {"maxReplicas": 1, "scaleTargetRef": target},
        "cleanup": {"suspend": True, "template": once},
    }
    for name, (kind, version, word, suffix) in taken.items():
        body = {"apiVersion": version, "kind": word, "metadata": {"name": f"{name}-{suffix}"}}
        lab.api.create(kind, lab.namespace, body | ({"spec": specs[name]} if name in specs else {}))
        services = {"policy": {"autoscaling": {"maxReplicas": 2}}} if name == "scaler" else {}
        policy = "DeleteArtifacts" if name == "cleanup" else "Keep"
        lab.submit(name, services=services, cluster={"deletionPolicy": policy})
    hold(lab, "cleanup")
    lab.runs("cleanup", "rollout")
    lab.kubectl("delete", "er", "cleanup", "--wait=false")
    for name, (_, _, word, suffix) in taken.items():
        lab.ready_is(name, "NameConflict", f"{word} {name}-{suffix} is in the way")


def test_in_a_namespace_the_operator_uses_all_of_its_role_and_asks_for_no_more(installation: Installation) -> None:
    lab = installation.lab
    live_through_everything(lab)
    role = json.loads(lab.kubectl("get", "role", "rstar-operator", "-o", "json"))
    assert rights(role) - used(lab.bed, installation.user) == UNSEEN
    assert forbidden(lab.bed, installation.user) == []
    # Not by another binding either.
    words = lab.bed.kubectl(
        "auth", "can-i", "get", "secrets", "-n", lab.namespace, f"--as={installation.user}", check=False
    )
    assert words.startswith("no")


def test_in_a_cluster_it_has_the_same_rights_and_sees_kinds_come(testbed: Testbed) -> None:
    with chart_operator(testbed) as user:
        role = json.loads(testbed.kubectl("get", "clusterrole", "rstar-operator", "-o", "json"))
        options = (
            "--set=operator.scope=namespace",
            "--show-only=templates/operator/rbac.yaml",
            "--kube-version=v1.35.0",
        )
        rendered = testbed.helm("template", "rstar", str(CHART), *options)
        of_a_namespace = next(d for d in yaml.safe_load_all(rendered) if d["kind"] == "Role")
        beyond = rights(role) - rights(of_a_namespace)
        assert {resource for _, resource, _ in beyond} == {"customresourcedefinitions"}
        until(lambda: beyond <= used(testbed, user), "a look at the kinds")
        assert rights(of_a_namespace) <= rights(role)


def test_a_namespace_goes_with_its_rounds_though_the_operators_rights_go_first(installation: Installation) -> None:
    lab = installation.lab
    lab.script.on(FOREVER, stage=Stage.ROLLOUT)
    lab.submit("running", cluster={"deletionPolicy": "DeleteArtifacts"})
    lab.submit("resting", cluster={"deletionPolicy": "DeleteArtifacts"}, suspend=True)
    lab.runs("running", "rollout")
    lab.ready_is("resting", "Suspended")
    for name in ("running", "resting"):
        told = lab.once(name, lambda status: status.condition(ARTIFACTS_KEPT) is not None).condition(ARTIFACTS_KEPT)
        assert told is not None
        assert (told.status, told.reason) == ("True", "OperatorMayGoFirst")
        assert "finalizers" not in lab.there(ROUNDS, name)["metadata"]
    # In which order a namespace's objects go is nobody's to choose.
    lab.kubectl("delete", "rolebinding", "rstar-operator")
    lab.bed.kubectl("delete", "namespace", lab.namespace, "--timeout=120s")
    assert lab.bed.kubectl("get", "namespace", lab.namespace, "--ignore-not-found") == ""


def test_where_owners_must_be_asked_the_operator_needs_the_rounds_finalizers(
    testbed: Testbed, installation: Installation
) -> None:
    lab = installation.lab
    lab.submit("r1", suspend=True)
    owner = {
        "apiVersion": "rstar.dev/v1alpha1",
        "kind": "EvolutionRound",
        "name": "r1",
        "uid": lab.there(ROUNDS, "r1")["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    head = {"name": "child", "ownerReferences": [owner]}
    body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": head})
    role = json.loads(lab.kubectl("get", "role", "rstar-operator", "-o", "json"))
    for name, rules in (("all", role["rules"]), ("fewer", [r for r in role["rules"] if "finalizers" not in str(r)])):
        made = {"apiVersion": role["apiVersion"], "kind": "Role", "metadata": {"name": name}, "rules": rules}
        lab.kubectl("create", "-f", "-", input=yaml.safe_dump(made))
        lab.kubectl("create", "rolebinding", name, f"--role={name}", f"--user={name}")
    create = ("-n", lab.namespace, "create", "--dry-run=server", "-f", "-")
    assert "child" in testbed.kubectl(*create, "--as=all", input=body)
    refused = testbed.kubectl(*create, "--as=fewer", input=body, check=False)
    assert "cannot set blockOwnerDeletion" in refused
