"""``rstar doctor -n NAMESPACE`` and ``kubectl rstar`` on a real API server, as an admin and as users with fewer rights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import yaml
from rstar_testbed.cluster import Testbed

from rstar.cluster.api import Cluster
from rstar.doctor.cluster_facts import cluster_findings
from rstar.doctor.finding import Finding
from rstar.rounds.spec import EvolutionRound
from tests.support.cluster.chart_operator import chart_operator
from tests.support.cluster.pods import NamespaceClient
from tests.support.cluster.releases import bind
from tests.support.cluster.rounds import install_crds
from tests.support.cluster.user_shell import IN_STORE, UserShell
from tests.support.commands import Finished

QUOTA = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "small"},
    "spec": {"hard": {"requests.cpu": "2", "pods": "50"}},
}
DENY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
}

KIND = {"apiVersion": "rstar.dev/v1alpha1", "kind": "EvolutionRound"}


@pytest.fixture(scope="module", autouse=True)
def crd(testbed: Testbed) -> None:
    install_crds(testbed)
    testbed.kubectl("get", "er", "-A")


def found(kubeconfig: Path, namespace: str, *rounds: EvolutionRound) -> dict[str, Finding]:
    cluster = Cluster.connect(kubeconfig, user_agent="rstar-tests")
    return {finding.name: finding for finding in cluster_findings(cluster, namespace, rounds)}


def results(findings: dict[str, Finding]) -> dict[str, str]:
    return {name: finding.result for name, finding in findings.items()}


def test_an_admin_sees_what_is_there_and_what_is_missing(testbed: Testbed, namespace: str) -> None:
    findings = found(testbed.kubeconfig, namespace)
    assert results(findings) == {
        "api server": "ok",
        "namespace": "ok",
        "pod security": "warning",
        "crd EvolutionRound": "ok",
        "crd Evolution": "ok",
        "operator": "failed",
        "images": "skipped",
        "rights": "ok",
        "quota": "ok",
        "training backend": "ok",
        "storage secret": "failed",
        "executors": "warning",
        "gpus": "ok",
        "network policies": "warning",
        "autoscaling": "warning",
    }, [findings[name] for name in findings]
    assert "schema" in findings["crd EvolutionRound"].found
    assert all(one.mend for one in findings.values() if one.result in {"warning", "failed"})


def test_quota_policies_labels_and_the_store_of_the_secret_are_judged(
    testbed: Testbed, client: NamespaceClient
) -> None:
    assert testbed.minio is not None
    name = client.namespace
    bucket = f"doctor-{uuid.uuid4().hex[:8]}"
    testbed.minio.client().make_bucket(bucket)
    settings = testbed.minio.environment(f"s3://{bucket}/{name}")
    pairs = [f"--from-literal={key}={value}" for key, value in settings.items()]
    testbed.kubectl("create", "secret", "generic", "rstar-storage", "-n", name, *pairs)
    testbed.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    for body in (QUOTA, DENY):
        testbed.kubectl("create", "-n", name, "-f", "-", input=json.dumps(body))
    testbed.kubectl("wait", "-n", name, "quota/small", "--for=jsonpath={.status.hard.pods}=50", "--timeout=180s")
    resources = {"policy": {"cpu": 4, "gpus": 1}}
    spec = {"round": 1, "cluster": {"resources": resources}, **IN_STORE}
    item = EvolutionRound.model_validate({**KIND, "metadata": {"name": "big"}, "spec": spec})
    findings = found(testbed.kubeconfig, name, item)
    good = {"pod security", "network policies", "storage secret", "store", "store: conditional writes"}
    assert {findings[one].result for one in good} == {"ok"}, [findings[one] for one in good]
    assert "round big needs 6 of requests.cpu (2 are left)" in findings["quota"].found
    assert "the rounds need 1 nvidia.com/gpu" in findings["gpus"].found
    assert list(testbed.minio.client().list_objects(bucket, recursive=True)) == []


def test_a_user_is_told_what_is_hidden_or_forbidden_and_sees_the_published_schema(
    testbed: Testbed, namespace: str
) -> None:
    viewer = found(bind(testbed, namespace, f"viewer-{namespace}", "view"), namespace)
    assert viewer["crd EvolutionRound"].result == "ok", viewer["crd EvolutionRound"]
    assert "published" in viewer["crd EvolutionRound"].found
    for name in ("operator", "images", "storage secret", "gpus"):
        assert viewer[name].result == "skipped", viewer[name]
    stranger = found(testbed.user_kubeconfig(f"stranger-{namespace}"), namespace)
    assert stranger["rights"].result == "failed"
    assert {stranger[name].result for name in ("quota", "network policies", "namespace", "executors")} == {"skipped"}


def test_the_charts_operator_its_images_and_its_backend_are_found(testbed: Testbed, namespace: str) -> None:
    with chart_operator(testbed):
        findings = found(testbed.kubeconfig, namespace)
    assert "0 of 1 ready" in findings["operator"].found  # no kubelet runs its pod; the test runs its program
    assert findings["images"].result == "ok", findings["images"]
    assert findings["training backend"].found == "pytorchjob is served"


def test_a_crd_of_another_version_fails_and_is_named(testbed: Testbed, namespace: str) -> None:
    path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/fresh"
    patch = json.dumps([{"op": "add", "path": path, "value": {"type": "string"}}])
    testbed.kubectl("patch", "crd", "evolutionrounds.rstar.dev", "--type=json", "-p", patch)
    try:
        finding = found(testbed.kubeconfig, namespace)["crd EvolutionRound"]
    finally:
        install_crds(testbed)
    assert (finding.result, "this code does not know spec.fresh" in finding.found) == ("failed", True)


def test_an_api_server_that_is_gone_is_one_finding(testbed: Testbed, tmp_path: Path) -> None:
    content = yaml.safe_load(testbed.kubeconfig.read_text())
    content["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(content))
    assert results(found(file, "lab")) == {"api server": "failed"}


@pytest.fixture
def path_with_plugin(testbed: Testbed, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with kubectl and the plugin's two programs, as an installation writes them."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "kubectl").symlink_to(testbed.binaries["kubectl"])
    for name, entry in (("kubectl-rstar", "run"), ("kubectl_complete-rstar", "complete")):
        program = folder / name
        program.write_text(f"#!{sys.executable}\nfrom rstar.cli.kubectl_plugin import {entry}\n{entry}()\n")
        program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_kubectl_finds_the_plugin_which_uses_the_namespace_of_the_context(
    client: NamespaceClient, tmp_path: Path, path_with_plugin: str, testbed: Testbed
) -> None:
    shell = UserShell(client, tmp_path, tmp_path / "bytecode")
    shell.submit()
    content = yaml.safe_load(shell.kubeconfig.read_text())
    content["contexts"][0]["context"]["namespace"] = client.namespace
    own = tmp_path / "kubeconfig"
    own.write_text(yaml.safe_dump(content))

    def kubectl(*arguments: str, kubeconfig: Path = own) -> Finished:
        environment = shell.environment({"PATH": path_with_plugin, "KUBECONFIG": str(kubeconfig)})
        done = subprocess.run(
            ["kubectl", *arguments], capture_output=True, text=True, timeout=300, env=environment, check=False
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    assert "kubectl-rstar" in kubectl("plugin", "list").out
    assert "suspend" in kubectl("rstar", "--help").out
    assert list(json.loads(kubectl("rstar", "status", "--json").out)["statuses"]) == ["r1", "r2"]
    admin = testbed.kubeconfig
    assert "r2" in kubectl("rstar", "status", "-n", client.namespace, kubeconfig=admin).out
    assert "r2" in kubectl("rstar", "-n", client.namespace, "status", kubeconfig=admin).out
    assert json.loads(kubectl("rstar", "suspend", "r1", "--json").out)["changed"] is True
    assert shell.spec()["suspend"] is True
    completed = kubectl("__complete", "rstar", "suspend", "r")
    assert [line.partition("\t")[0] for line in completed.out.splitlines()] == ["r1", "r2", ":4"], completed.err
    doctor = kubectl("rstar", "doctor", "--json")
    assert (doctor.code, json.loads(doctor.out)["checks"][0]["name"]) == (1, "api server")
