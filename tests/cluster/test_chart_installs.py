"""The charts on a real API server: installed, upgraded and uninstalled, by users with no more rights than they need.

These tests have a control plane of their own, because they uninstall cluster-wide objects that other tests need.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rstar_testbed.cluster import Testbed
from rstar_testbed.errors import CommandError
from rstar_testbed.modules import pytorchjob_crd

from rstar.store.s3_store import S3Store
from rstar.store.store import StoreError
from tests.support.cluster.established import await_established
from tests.support.cluster.releases import (
    HELMS,
    WITHOUT_PROMETHEUS,
    bind,
    install,
    installed,
    new_namespace,
    of_release,
    secret,
)
from tests.support.cluster.rendering import (
    CHARTS,
    COMBINATIONS,
    FOREIGN_KINDS,
    chart_of,
    kind_of,
    rendered,
)

RSTAR, TENANT = CHARTS / "rstar", CHARTS / "rstar-tenant"
CRD = "evolutionrounds.rstar.dev"
ROUND = {
    "apiVersion": "rstar.dev/v1alpha1",
    "kind": "EvolutionRound",
    "metadata": {"name": "r1"},
    "spec": {"round": 1, "baseModel": "store:models/base", "problems": {"uri": "store:data/train.jsonl"}},
}
Data = dict[str, Any]

every_helm = pytest.mark.parametrize("helm", HELMS)


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """A control plane with the CRD of the training operator."""
    with Testbed.start(tmp_path_factory.mktemp("charts"), training_operator=False) as bed:
        bed.kubectl("apply", "--server-side", "-f", str(pytorchjob_crd()))
        yield bed


@pytest.fixture
def namespace(bed: Testbed) -> str:
    return new_namespace(bed)


@pytest.fixture
def cluster_parts(bed: Testbed) -> Iterator[None]:
    """Install what a cluster admin installs once: the CRD, the roles, the operator."""
    place = new_namespace(bed)
    install(bed, RSTAR, "rstar", place, "operator", WITHOUT_PROMETHEUS)
    yield
    bed.helm("uninstall", "rstar", "-n", place)


@pytest.mark.parametrize("values", ["dev", "namespaced"])
def test_an_upgrade_with_the_same_values_changes_nothing(bed: Testbed, namespace: str, values: str) -> None:
    release = f"r-{uuid.uuid4().hex[:6]}"
    notes = install(bed, RSTAR, release, namespace, values)
    assert "kubectl -n " + namespace in notes
    before = installed(bed, release, namespace)
    assert before
    install(bed, RSTAR, release, namespace, values)
    assert installed(bed, release, namespace) == before
    bed.helm("uninstall", release, "-n", namespace)


@every_helm
def test_an_uninstall_leaves_the_crd_and_every_round(bed: Testbed, namespace: str, helm: str) -> None:
    install(bed, RSTAR, "leaving", namespace, "dev", program=helm)
    await_established(bed, CRD)
    bed.kubectl("apply", "-n", namespace, "-f", "-", input=json.dumps(ROUND))
    bed.helm("uninstall", "leaving", "-n", namespace, "--wait", program=helm)
    kinds = (CRD, "evolutions.rstar.dev")
    assert of_release(bed, "leaving") == {f"customresourcedefinition.apiextensions.k8s.io/{kind}" for kind in kinds}
    assert bed.kubectl("get", "er", "-n", namespace, "-o", "name").split() == ["evolutionround.rstar.dev/r1"]
    # The next installation takes the CRD over, whatever the name of its release.
    install(bed, RSTAR, "leaving", namespace, "dev", program=helm)
    bed.helm("uninstall", "leaving", "-n", namespace, program=helm)


@pytest.mark.parametrize("values", COMBINATIONS, ids=lambda path: f"{chart_of(path).name}-{path.stem}")
def test_the_api_server_accepts_the_manifests(bed: Testbed, values: Path) -> None:
    documents = [d for d in rendered(values, "default") if kind_of(d) not in FOREIGN_KINDS]
    places = {d["metadata"].get("namespace", "default") for d in documents}
    for missing in places - set(bed.kubectl("get", "namespaces", "-o", "jsonpath={.items[*].metadata.name}").split()):
        new_namespace(bed, name=missing)
    text = yaml.safe_dump_all(documents)
    bed.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", input=text)


@pytest.fixture(scope="module")
def restricted(bed: Testbed) -> str:
    """A namespace that admits restricted pods only, with the objects that the charts' pods refer to."""
    name = new_namespace(bed, "pod-security.kubernetes.io/enforce=restricted")
    bed.kubectl("create", "serviceaccount", "rstar-operator", "-n", name)
    for runtime in ("nvidia", "kata"):
        body = {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": runtime},
            "handler": runtime,
        }
        bed.kubectl("apply", "-f", "-", input=json.dumps(body))
    return name


def test_every_pod_is_admitted_where_only_restricted_pods_are(bed: Testbed, restricted: str) -> None:
    pods: dict[str, Data] = {}
    for values in COMBINATIONS:
        for document in rendered(values):
            if document["kind"] == "Pod" or "template" in document.get("spec", {}):
                body = document if document["kind"] == "Pod" else document["spec"]["template"]
                labels = body["metadata"]["labels"]
                name = f"{len(pods)}-{labels['app.kubernetes.io/name']}"
                pods[name] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}}
                # In a Deployment this is the default.
                pods[name]["spec"] = {"restartPolicy": "Always", **body["spec"]}
    assert len(pods) > 20
    bed.kubectl("create", "-n", restricted, "--dry-run=server", "-f", "-", input=yaml.safe_dump_all(pods.values()))
    loose = next(iter(pods.values()))
    del loose["spec"]["securityContext"]["seccompProfile"]
    with pytest.raises(CommandError, match="violates PodSecurity"):
        bed.kubectl("create", "-n", restricted, "--dry-run=server", "-f", "-", input=yaml.safe_dump(loose))


@every_helm
@pytest.mark.usefixtures("cluster_parts")
def test_a_namespaces_admin_can_install_an_operator_there(bed: Testbed, namespace: str, helm: str) -> None:
    admin = bind(bed, namespace, f"admin-of-{namespace}", "admin")
    for _ in range(2):
        install(bed, RSTAR, "mine", namespace, "namespaced", "--set=minio.enabled=true", kubeconfig=admin, program=helm)
    bed.helm("uninstall", "mine", "-n", namespace, kubeconfig=admin, program=helm)


@pytest.mark.usefixtures("cluster_parts")
def test_a_user_with_the_role_edit_cannot_install_an_operator(bed: Testbed, namespace: str) -> None:
    editor = bind(bed, namespace, f"editor-of-{namespace}", "edit")
    with pytest.raises(CommandError, match=r"cannot get resource \"roles\""):
        install(bed, RSTAR, "mine", namespace, "namespaced", kubeconfig=editor)


@pytest.fixture
def tenant(bed: Testbed, cluster_parts: None) -> Iterator[tuple[str, str, Path]]:
    """A tenant that the admin has set up: its namespace, the admin's, and the kubeconfig of one of its users."""
    name, admin = f"lab-{uuid.uuid4().hex[:6]}", new_namespace(bed)
    assert bed.minio is not None
    install(
        bed, TENANT, "tenant", admin, "default",
        f"--set=namespace={name},access.groups={{{name}}},storage.endpoint={bed.minio.endpoint}",
        f"--set=storage.secretKey={uuid.uuid4().hex},minioUser.enabled=true,storage.bucket=bucket-{name}",
    )  # fmt: skip
    bed.kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}", "--timeout=180s")
    yield name, admin, bed.user_kubeconfig(f"user-of-{name}", (name,))
    bed.helm("uninstall", "tenant", "-n", admin)
    # The namespace stays, with its rounds, until an admin deletes it.
    assert bed.kubectl("get", "namespace", name, "-o", "name").strip() == f"namespace/{name}"


@every_helm
def test_a_tenant_installs_executors_and_rounds_with_the_role_edit(
    bed: Testbed, tenant: tuple[str, str, Path], helm: str
) -> None:
    name, _, user = tenant
    for _ in range(2):
        install(bed, RSTAR, "rstar", name, "tenant", kubeconfig=user, program=helm)
    bed.kubectl("apply", "-n", name, "-f", "-", input=json.dumps(ROUND), kubeconfig=user)
    with pytest.raises(CommandError, match="cannot be imported into the current release"):
        bed.helm("install", "again", str(RSTAR), "-n", name, "--set=executor.enabled=false", program=helm)
    bed.helm("uninstall", "rstar", "-n", name, kubeconfig=user, program=helm)


def test_a_tenant_has_no_access_to_the_namespaces_of_others(bed: Testbed, tenant: tuple[str, str, Path]) -> None:
    name, admin, user = tenant
    other = new_namespace(bed)

    def may(verb: str, kind: str, namespace: str) -> bool:
        kind, _, part = kind.partition("/")
        question = ("auth", "can-i", verb, kind, f"--subresource={part}", "-n", namespace)
        return bed.kubectl(*question, kubeconfig=user, check=False).split()[0] == "yes"

    for kind in (CRD, f"{CRD}/status", "pods/log", "secrets", "configmaps", "pytorchjobs.kubeflow.org"):
        assert may("get", kind, name)
        assert not may("get", kind, other)
        assert not may("get", kind, admin)
    assert may("create", CRD, name)
    for verb, kind in (
        ("update", "resourcequotas"),
        ("delete", "limitranges"),
        ("create", "rolebindings"),
        ("update", f"{CRD}/status"),
        ("create", "pytorchjobs.kubeflow.org"),
    ):
        assert not may(verb, kind, name)


def test_a_tenants_namespace_refuses_pods_that_are_not_restricted(bed: Testbed, tenant: tuple[str, str, Path]) -> None:
    name, _, user = tenant
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root"},
        "spec": {"containers": [{"name": "root", "image": "x", "securityContext": {"privileged": True}}]},
    }
    with pytest.raises(CommandError, match="violates PodSecurity"):
        bed.kubectl("create", "-n", name, "-f", "-", input=json.dumps(pod), kubeconfig=user)


def make_tenant(bed: Testbed, name: str, admin: str, folder: Path) -> str:
    """Run the program of the chart's Job with the Job's arguments and environment, and return its output."""
    assert bed.minio is not None
    (job,) = json.loads(bed.kubectl("get", "jobs", "-n", admin, "-o", "json"))["items"]
    container = job["spec"]["template"]["spec"]["containers"][0]
    policy = bed.kubectl(
        "get", "configmap", f"rstar-tenant-{name}", "-n", admin, "-o", r"jsonpath={.data.policy\.json}"
    )
    (folder / "policy.json").write_text(policy)
    bucket, policy_name = container["args"][1:3]
    environment = {
        **os.environ,
        **secret(bed, f"rstar-tenant-{name}", admin),
        "RSTAR_S3_ENDPOINT": bed.minio.endpoint,
        "MINIO_ADMIN_USER": bed.minio.access_key,
        "MINIO_ADMIN_PASSWORD": bed.minio.secret_key,
    }
    command = [sys.executable, "-c", container["args"][0], bucket, policy_name, str(folder / "policy.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_tenants_keys_give_access_to_its_own_folder_alone(
    bed: Testbed, tenant: tuple[str, str, Path], tmp_path: Path
) -> None:
    name, admin, _ = tenant
    for _ in range(2):
        assert make_tenant(bed, name, admin, tmp_path) == (
            f"user {name} has policy rstar-tenant-{name} for bucket bucket-{name}\n"
        )
    environment = secret(bed, "rstar-storage", name)
    assert environment["RSTAR_STORE"] == f"s3://bucket-{name}/{name}"
    store = S3Store.from_environment(environment["RSTAR_STORE"], environment)
    store.write("rounds/r1/x", b"mine")
    assert (store.read("rounds/r1/x"), list(store.list("rounds/"))) == (b"mine", ["rounds/r1/x"])
    big = tmp_path / "big"
    big.write_bytes(bytes(12 << 20))
    store.upload("rounds/r1/big", big)
    store.delete("rounds/r1/x")
    assert bed.minio is not None
    bed.minio.client().put_object(f"bucket-{name}", "other/rounds/r1/x", big.open("rb"), 3)
    for prefix in ("", "/other", f"/{name}-b"):
        with pytest.raises(StoreError):
            S3Store.from_environment(f"s3://bucket-{name}{prefix}", environment)
    for wrong in ("other/rounds/r1/x", f"{name}-b/x"):
        with pytest.raises(Exception, match="Access"):
            client(environment).get_object(f"bucket-{name}", wrong)
        with pytest.raises(Exception, match="Access"):
            client(environment).put_object(f"bucket-{name}", wrong, big.open("rb"), 3)


def client(environment: dict[str, str]) -> Any:
    from minio import Minio

    return Minio(
        environment["RSTAR_S3_ENDPOINT"].removeprefix("http://"),
        access_key=environment["AWS_ACCESS_KEY_ID"],
        secret_key=environment["AWS_SECRET_ACCESS_KEY"],
        secure=False,
    )
