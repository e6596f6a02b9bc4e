"""The chart gives the operator exactly the rights that it uses: none is missing, none is superfluous."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml
from rstar_operator.deciding.deletion import ARTIFACTS_KEPT, FINALIZER
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import Kubelet, Run

from rstar.cluster.api import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVOLUTIONS,
    JOBS,
    PODS,
    PYTORCH_JOBS,
    ROUNDS,
    SERVICES,
    Json,
)
from rstar.rounds.observed import Stage
from tests.support.cluster.chart_operator import CHART, audit_entries, chart_operator, forbidden_requests
from tests.support.cluster.operators import operator_in_process
from tests.support.cluster.pods import wait_until
from tests.support.cluster.releases import new_name
from tests.support.cluster.round_namespace import PodScript, RoundNamespace
from tests.support.cluster.rounds import install_crds, round_body

FOREVER = Run()
Right = tuple[str, str, str]
"""API group, resource with its subresource, verb."""

UNAUDITED: set[Right] = {
    ("rstar.dev", "evolutions/finalizers", "update"),
    ("rstar.dev", "evolutionrounds/finalizers", "update"),
    ("rstar.dev", "evolutionrounds", "delete"),
}
"""Checked by the admission of owner references, which sends no request of its own."""


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
    for entry in audit_entries(bed, user):
        if target := entry.get("objectRef"):
            resource = "/".join(filter(None, [target["resource"], target.get("subresource")]))
            found.add((target.get("apiGroup", ""), resource, entry["verb"]))
    return found


@dataclass
class Installation:
    """The chart installed in one namespace, with nothing outside it."""

    rounds: RoundNamespace
    user: str


@pytest.fixture
def installation(testbed: Testbed) -> Iterator[Installation]:
    """Install the chart for a namespace, and run its operator with the chart's rights, settings and arguments."""
    install_crds(testbed)
    namespace, script = new_name("lab"), PodScript()
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
        rounds = RoundNamespace(testbed, namespace, script, kubelet)
        yield Installation(rounds, f"system:serviceaccount:{namespace}:rstar-operator")
    testbed.kubectl("delete", "namespace", namespace, "--wait=false", "--ignore-not-found")


def use_every_right(installation: Installation) -> None:
    """Let a round cause every kind of write of an operator, and other objects take every name that it needs."""
    rounds = installation.rounds
    rounds.script.set(FOREVER, stage=Stage.ROLLOUT, attempt="1")
    scaled = {"policy": {"autoscaling": {"maxReplicas": 2}}}
    cluster = {"deletionPolicy": "DeleteArtifacts"}
    rounds.submit("r1", services=scaled, trainPolicy={"nodes": 2}, cluster=cluster)
    add_finalizer(rounds, "r1")
    rounds.wait_for_running("r1", "rollout")
    service = next(name for name in rounds.names(DEPLOYMENTS, "r1") if "policy" in name).removeprefix("r1-")
    take_names(rounds, service)
    rounds.edit("r1", services={"policy": {"autoscaling": {"maxReplicas": 3}}})
    rounds.wait_until(
        lambda: rounds.wait_for_object(AUTOSCALERS, f"r1-{service}")["spec"]["maxReplicas"] == 3,
        "a scaler that follows",
    )
    rounds.edit("r1", services={"policy": {"autoscaling": None, "replicas": 2}})
    rounds.wait_until(
        lambda: rounds.wait_for_object(DEPLOYMENTS, f"r1-{service}")["spec"]["replicas"] == 2, "two policy servers"
    )
    rounds.wait_until_gone(AUTOSCALERS, f"r1-{service}")
    rounds.edit("r1", suspend=True)
    rounds.wait_for_reason("r1", "Suspended")
    rounds.wait_until_released("r1")
    rounds.edit("r1", suspend=False)
    rounds.wait_for_success("r1")
    assert len(rounds.events("r1")) > 10
    evolve(installation)
    rounds.kubectl("delete", "er", "r1", "--wait=false")
    rounds.wait_for_object(JOBS, "r1-cleanup")
    (pod,) = rounds.wait_until(lambda: running_cleanup_pods(rounds, "r1"), "a pod that cleans up")
    rounds.kubelet.end(rounds.namespace, pod["metadata"]["name"])
    rounds.wait_until_gone(ROUNDS, "r1")
    # Without its ServiceAccount a stage has no pods, and only Events have the reason.
    rounds.kubectl("delete", "serviceaccount", "rstar-stage")
    rounds.submit("podless")
    rounds.wait_for_reason("podless", "StagePending", 'serviceaccount "rstar-stage" not found')


def evolve(installation: Installation) -> None:
    """Let an evolution make a round, change it, and adopt it once its owner is gone; and let another one be refused."""
    rounds = installation.rounds
    rounds.script.set(FOREVER, round="evo-r1")
    template = {key: value for key, value in round_body("x", 1)["spec"].items() if key != "round"}
    body = {"apiVersion": "rstar.dev/v1alpha1", "kind": "Evolution", "metadata": {"name": "evo"}}
    rounds.api.create(EVOLUTIONS, rounds.namespace, {**body, "spec": {"template": template}})
    rounds.wait_for_running("evo-r1", "rollout")
    services = {"spec": {"template": {"services": {"search": {"replicas": 2}}}}}
    rounds.kubectl("patch", "evo", "evo", "--type=merge", f"--patch={json.dumps(services)}")
    rounds.wait_until(
        lambda: rounds.wait_for_object(ROUNDS, "evo-r1")["spec"]["services"]["search"].get("replicas") == 2,
        "a round that follows the template",
    )
    rounds.kubectl("delete", "evo", "evo", "--cascade=orphan")
    rounds.api.create(EVOLUTIONS, rounds.namespace, {**body, "spec": {"template": template}})
    rounds.wait_until(
        lambda: rounds.wait_for_object(ROUNDS, "evo-r1")["metadata"].get("ownerReferences"), "an adopted round"
    )
    rounds.kubectl("delete", "evo", "evo", "--wait=false")
    rounds.wait_until_gone(ROUNDS, "evo-r1")
    # A refused round is tried again with an unchanged status, so that the version is compared by a read.
    unreadable = [{"round": 2, "spec": {"problems": {"uri": "of-a-laptop.jsonl"}}}]
    spec = {"template": template, "perRound": unreadable}
    rounds.api.create(EVOLUTIONS, rounds.namespace, {**body, "metadata": {"name": "late"}, "spec": spec})
    read = ("rstar.dev", "evolutions", "get")
    rounds.wait_until(lambda: read in used(rounds.bed, installation.user), "another try")


def add_finalizer(rounds: RoundNamespace, name: str) -> None:
    """Let the round's deletion wait for its artefacts, which an operator of one namespace does not do by itself."""
    finalizers = {"metadata": {"finalizers": [FINALIZER]}}
    rounds.kubectl("patch", "er", name, "--type=merge", f"--patch={json.dumps(finalizers)}")


def running_cleanup_pods(rounds: RoundNamespace, name: str) -> list[Json]:
    found = rounds.api.list(PODS, rounds.namespace, f"batch.kubernetes.io/job-name={name}-cleanup")
    return [pod for pod in found if pod["status"]["phase"] == "Running"]


def take_names(rounds: RoundNamespace, service: str) -> None:
    """For each kind of child, create a round and first another object with that child's name."""
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
        rounds.api.create(kind, rounds.namespace, body | ({"spec": specs[name]} if name in specs else {}))
        services = {"policy": {"autoscaling": {"maxReplicas": 2}}} if name == "scaler" else {}
        policy = "DeleteArtifacts" if name == "cleanup" else "Keep"
        rounds.submit(name, services=services, cluster={"deletionPolicy": policy})
    add_finalizer(rounds, "cleanup")
    rounds.wait_for_running("cleanup", "rollout")
    rounds.kubectl("delete", "er", "cleanup", "--wait=false")
    for name, (_, _, word, suffix) in taken.items():
        rounds.wait_for_reason(name, "NameConflict", f"{word} {name}-{suffix} is in the way")


def test_in_a_namespace_the_operator_uses_every_right_of_its_role_and_needs_no_other(
    installation: Installation,
) -> None:
    rounds = installation.rounds
    use_every_right(installation)
    role = json.loads(rounds.kubectl("get", "role", "rstar-operator", "-o", "json"))
    assert rights(role) - used(rounds.bed, installation.user) == UNAUDITED
    assert forbidden_requests(rounds.bed, installation.user) == []
    # No other binding gives it more.
    words = rounds.bed.kubectl(
        "auth", "can-i", "get", "secrets", "-n", rounds.namespace, f"--as={installation.user}", check=False
    )
    assert words.startswith("no")


def test_for_a_whole_cluster_it_has_the_same_rights_and_watches_crds(testbed: Testbed) -> None:
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
        wait_until(lambda: beyond <= used(testbed, user), "a request for CRDs")
        assert rights(of_a_namespace) <= rights(role)


def test_a_namespace_is_deleted_with_its_rounds_after_the_operators_rights(installation: Installation) -> None:
    rounds = installation.rounds
    rounds.script.set(FOREVER, stage=Stage.ROLLOUT)
    rounds.submit("running", cluster={"deletionPolicy": "DeleteArtifacts"})
    rounds.submit("suspended", cluster={"deletionPolicy": "DeleteArtifacts"}, suspend=True)
    rounds.wait_for_running("running", "rollout")
    rounds.wait_for_reason("suspended", "Suspended")
    for name in ("running", "suspended"):
        kept = rounds.wait_for(name, lambda status: status.condition(ARTIFACTS_KEPT) is not None).condition(
            ARTIFACTS_KEPT
        )
        assert kept is not None
        assert (kept.status, kept.reason) == ("True", "OperatorMayGoFirst")
        assert "finalizers" not in rounds.wait_for_object(ROUNDS, name)["metadata"]
    # Kubernetes deletes a namespace's objects in any order.
    rounds.kubectl("delete", "rolebinding", "rstar-operator")
    rounds.bed.kubectl("delete", "namespace", rounds.namespace, "--timeout=120s")
    assert rounds.bed.kubectl("get", "namespace", rounds.namespace, "--ignore-not-found") == ""


def test_blockownerdeletion_needs_the_right_to_set_the_rounds_finalizers(
    testbed: Testbed, installation: Installation
) -> None:
    rounds = installation.rounds
    rounds.submit("r1", suspend=True)
    owner = {
        "apiVersion": "rstar.dev/v1alpha1",
        "kind": "EvolutionRound",
        "name": "r1",
        "uid": rounds.wait_for_object(ROUNDS, "r1")["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    head = {"name": "child", "ownerReferences": [owner]}
    body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": head})
    role = json.loads(rounds.kubectl("get", "role", "rstar-operator", "-o", "json"))
    for name, rules in (("all", role["rules"]), ("fewer", [r for r in role["rules"] if "finalizers" not in str(r)])):
        made = {"apiVersion": role["apiVersion"], "kind": "Role", "metadata": {"name": name}, "rules": rules}
        rounds.kubectl("create", "-f", "-", input=yaml.safe_dump(made))
        rounds.kubectl("create", "rolebinding", name, f"--role={name}", f"--user={name}")
    create = ("-n", rounds.namespace, "create", "--dry-run=server", "-f", "-")
    assert "child" in testbed.kubectl(*create, "--as=all", input=body)
    refused = testbed.kubectl(*create, "--as=fewer", input=body, check=False)
    assert "cannot set blockOwnerDeletion" in refused
